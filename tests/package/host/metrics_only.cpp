#include <cstdint>
#include <iostream>
#include <vector>

#include "segmamba/metrics/score.h"

int main() {
  const std::vector<std::uint8_t> prediction = {0, 1, 1, 0}, reference = {0, 0, 1, 1};
  for (const auto& score :
       segmamba::metrics::score_case({prediction, reference, {{4, 1, 1}, {1, 1, 1}}}, {{"WT", {1}}},
                                     {segmamba::metrics::find_convention("medpy")}, {"dice"})) {
    std::cout << "Dice " << score.value << "\n";
  }
}
