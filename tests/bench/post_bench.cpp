// Time and memory of post-processing on one thread: a case of the size of BraTS, and organs that
// fill a CT of 512x512x600, both with false specks and holes. Prints "case voxels milliseconds
// MiB": the median, and what the rules take beside the label map.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/random.h"
#include "segmamba/metrics/mask.h"
#include "segmamba/post/postprocess_config.h"

namespace {

using namespace segmamba;
using metrics::Size;

struct Ball {
  std::array<double, 3> center;
  double radius;
  std::uint8_t label;
};

void draw(std::vector<std::uint8_t>& labels, const Size& size, const Ball& ball) {
  const auto [cx, cy, cz] = ball.center;
  const auto reach = static_cast<std::int64_t>(ball.radius) + 1;
  const auto clamp = [](double value, std::int64_t count) {
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(value), 0, count);
  };
  for (auto z = clamp(cz - reach, size[2]); z < clamp(cz + reach, size[2]); ++z) {
    for (auto y = clamp(cy - reach, size[1]); y < clamp(cy + reach, size[1]); ++y) {
      for (auto x = clamp(cx - reach, size[0]); x < clamp(cx + reach, size[0]); ++x) {
        const double dx = static_cast<double>(x) - cx, dy = static_cast<double>(y) - cy,
                     dz = static_cast<double>(z) - cz;
        if (dx * dx + dy * dy + dz * dz > ball.radius * ball.radius) continue;
        labels[static_cast<std::size_t>((z * size[1] + y) * size[0] + x)] = ball.label;
      }
    }
  }
}

// `balls` with `specks` small balls of labels from 0 (holes) to `most` anywhere.
std::vector<std::uint8_t> make_map(const Size& size, const std::vector<Ball>& balls, int specks,
                                   std::uint8_t most) {
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(metrics::voxel_count(size)));
  for (const Ball& ball : balls) draw(labels, size, ball);
  Random random(1);
  for (int i = 0; i < specks; ++i) {
    const auto place = [&](int axis) { return random.uniform(0, static_cast<double>(size[axis])); };
    const double x = place(0), y = place(1), z = place(2);
    const double radius = random.uniform(0.6, 2.5);
    draw(labels, size, {{x, y, z}, radius, static_cast<std::uint8_t>(random.integer(most + 1))});
  }
  return labels;
}

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void time_rules(const char* name, const Size& size, const std::vector<std::uint8_t>& map,
                const std::vector<post::Rule>& rules) {
  std::vector<double> times;
  std::vector<std::uint8_t> labels = map;
  const double before = peak_mib();
  std::int64_t changed = 0;
  for (int i = 0; i < 5; ++i) {
    labels = map;
    const auto start = std::chrono::steady_clock::now();
    for (const auto& change : post::postprocess(labels, {size, {1, 1, 1}}, rules)) {
      changed += change.voxels;
    }
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count());
  }
  if (changed == 0) throw Error("the rules have changed nothing");
  std::sort(times.begin(), times.end());
  std::printf("%s %zu %.1f %.0f\n", name, map.size(), times[times.size() / 2], peak_mib() - before);
}

}  // namespace

int main() {
  try {
    const std::vector<std::string> brats = {"background", "necrosis", "oedema", "enhancing"};
    post::PostprocessConfig config;
    config.fill_holes = {"WT", "ET->necrosis"};
    config.remove_below_ml = {"WT=0.5", "TC=0.1", "ET=0.05"};
    config.largest_only = {"WT"};
    config.replace_below_ml = {"ET=0.3->necrosis"};
    const Size head = {240, 240, 155};
    time_rules(
        "brats", head,
        make_map(head, {{{110, 130, 80}, 40, 2}, {{110, 130, 80}, 25, 3}, {{110, 130, 80}, 15, 1}},
                 300, 3),
        post::make_rules(config, brats));

    const std::vector<std::string> organs = {"background", "body", "liver", "spleen", "kidney"};
    post::PostprocessConfig of_organs;
    of_organs.fill_holes = {"body+liver+spleen+kidney", "liver"};
    of_organs.remove_below_ml = {"liver=5", "spleen=2", "kidney=1"};
    of_organs.largest_only = {"liver", "spleen", "kidney=2"};
    const Size body = {512, 512, 600};
    time_rules("ct", body,
               make_map(body,
                        {{{256, 256, 300}, 240, 1},
                         {{180, 220, 300}, 100, 2},
                         {{350, 250, 330}, 50, 3},
                         {{190, 360, 250}, 40, 4},
                         {{330, 360, 250}, 40, 4}},
                        20000, 4),
               post::make_rules(of_organs, organs));
  } catch (const Error& error) {
    std::fprintf(stderr, "bench_post: %s\n", error.what());
    return 1;
  }
}
