// Time to score one case of the size of BraTS, by convention, on one thread, without reading files:
// Dice and HD95 of three regions; all metrics of the lesion-wise conventions.
//
//   bench_eval [--repeats N] [--write FOLDER] [--case NAME] [--convention NAME]
//
// prints "case convention milliseconds" (the median) a line; --write puts the cases into FOLDER as
// NIfTI (reference/CASE.nii.gz, prediction/CASE.nii.gz), for other tools to score the same masks.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/random.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/score.h"

namespace {

using namespace segmamba;

constexpr std::array<std::int64_t, 3> kSize = {240, 240, 155};

// Smooth noise of about unit size: random values on a lattice, interpolated between.
class Noise {
 public:
  Noise(std::uint64_t seed, double step) : step_(step) {
    for (int axis = 0; axis < 3; ++axis) {
      count_[axis] = static_cast<std::int64_t>(static_cast<double>(kSize[axis]) / step) + 2;
    }
    Random random(seed);
    values_.resize(static_cast<std::size_t>(count_[0] * count_[1] * count_[2]));
    for (double& value : values_) value = random.normal();
  }

  double at(double x, double y, double z) const {
    const double position[3] = {x / step_, y / step_, z / step_};
    std::int64_t low[3];
    double weight[3];
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = static_cast<std::int64_t>(position[axis]);
      weight[axis] = position[axis] - static_cast<double>(low[axis]);
    }
    double sum = 0;
    for (int corner = 0; corner < 8; ++corner) {
      double share = 1;
      std::int64_t index[3];
      for (int axis = 0; axis < 3; ++axis) {
        const int high = corner >> axis & 1;
        index[axis] = low[axis] + high;
        share *= high == 1 ? weight[axis] : 1 - weight[axis];
      }
      sum += share * values_[(index[2] * count_[1] + index[1]) * count_[0] + index[0]];
    }
    return sum;
  }

 private:
  double step_;
  std::int64_t count_[3];
  std::vector<double> values_;
};

struct Ball {
  double x, y, z, radius;
};

// Necrosis within enhancing tumour within oedema, with borders `roughness` voxels rough.
std::vector<std::uint8_t> draw(const std::vector<Ball>& balls, double roughness,
                               std::uint64_t seed) {
  const Noise coarse(1, 14);  // the same on both sides: it is the tumour's shape
  const Noise fine(seed, 4);
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(kSize[0] * kSize[1] * kSize[2]));
  std::size_t i = 0;
  for (std::int64_t z = 0; z < kSize[2]; ++z) {
    for (std::int64_t y = 0; y < kSize[1]; ++y) {
      for (std::int64_t x = 0; x < kSize[0]; ++x, ++i) {
        for (const Ball& ball : balls) {
          const double dx = static_cast<double>(x) - ball.x, dy = static_cast<double>(y) - ball.y,
                       dz = static_cast<double>(z) - ball.z;
          const double reach = 1.6 * ball.radius + 4;
          const double squared = dx * dx + dy * dy + dz * dz;
          if (squared > reach * reach) continue;
          const auto px = static_cast<double>(x), py = static_cast<double>(y),
                     pz = static_cast<double>(z);
          const double depth = std::sqrt(squared) + 0.16 * ball.radius * coarse.at(px, py, pz) +
                               roughness * fine.at(px, py, pz);
          if (depth < 0.35 * ball.radius) {
            labels[i] = 1;
          } else if (depth < 0.7 * ball.radius) {
            labels[i] = 3;
          } else if (depth < ball.radius && labels[i] == 0) {
            labels[i] = 2;
          }
        }
      }
    }
  }
  return labels;
}

struct Case {
  std::string name;
  std::vector<std::uint8_t> prediction, reference;
};

std::vector<Case> make_cases() {
  const std::vector<Ball> one = {{110, 130, 80, 33}, {150, 95, 70, 9}};
  std::vector<Case> cases;
  cases.push_back({"tumour", draw(one, 1.3, 2), draw(one, 1.0, 3)});

  // False positives far away stretch the box of all labels over the grid.
  cases.push_back({"specks", cases[0].prediction, cases[0].reference});
  for (const auto& [x, y, z] : {std::array{20, 30, 10}, {210, 35, 140}, {30, 215, 130}}) {
    for (int dz = 0; dz < 3; ++dz) {
      for (int dy = 0; dy < 2; ++dy) {
        for (int dx = 0; dx < 3; ++dx) {
          cases[1].prediction[((z + dz) * kSize[1] + y + dy) * kSize[0] + x + dx] = 3;
        }
      }
    }
  }

  Random random(5);
  std::vector<Ball> many, found;
  for (int i = 0; i < 24; ++i) {
    many.push_back({random.uniform(60, 180), random.uniform(60, 180), random.uniform(35, 120),
                    random.uniform(3, 9)});
    if (i % 5 != 0) found.push_back(many.back());
  }
  found.push_back({70, 180, 60, 5});
  cases.push_back({"metastases", draw(found, 0.7, 6), draw(many, 0.5, 7)});
  return cases;
}

void write_cases(const std::vector<Case>& cases, const std::filesystem::path& folder) {
  for (const Case& item : cases) {
    for (const auto& [side, labels] :
         {std::pair{"prediction", &item.prediction}, {"reference", &item.reference}}) {
      io::LabelMap map;
      map.geometry.size = kSize;
      map.voxels = *labels;
      make_folders(folder / side);
      io::write_labels(folder / side / (item.name + ".nii.gz"), map);
    }
  }
}

double median_milliseconds(const Case& item, const metrics::Convention& convention, int repeats) {
  std::vector<std::string> metrics;
  if (!convention.lesions) metrics = {"dice", "hd95"};
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto scores = metrics::score_case({item.prediction, item.reference, {kSize, {1, 1, 1}}},
                                            metrics::brats_regions(), {convention}, metrics);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    if (scores.empty()) std::abort();
    times.push_back(time.count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  int repeats = 5;
  std::filesystem::path folder;
  std::string only_case, only_convention;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--repeats") repeats = std::max(1, std::atoi(argv[i + 1]));
    if (option == "--write") folder = argv[i + 1];
    if (option == "--case") only_case = argv[i + 1];
    if (option == "--convention") only_convention = argv[i + 1];
  }
  try {
    const std::vector<Case> cases = make_cases();
    if (!folder.empty()) write_cases(cases, folder);
    for (const Case& item : cases) {
      if (!only_case.empty() && item.name != only_case) continue;
      for (const metrics::Convention& convention : metrics::conventions()) {
        if (!only_convention.empty() && convention.name != only_convention) continue;
        std::printf("%s %s %.2f\n", item.name.c_str(), convention.name.c_str(),
                    median_milliseconds(item, convention, repeats));
        std::fflush(stdout);
      }
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "bench_eval: %s\n", error.what());
    return 1;
  }
}
