// Time to cut a training patch from a prepared case and augment it, on one thread: as a plain crop,
// with each transform alone (always, on every channel, with parameters drawn from the default
// ranges), and by the recipe of the published code, whose probabilities leave most patches alone.
//
//   bench_data [--size N] [--channels C] [--repeats N] [--set baseline|avx2|avx512]
//              [--interpolation linear|cubic] [--only TRANSFORM]
//
// prints JSON: {"size": ..., "seconds": {"crop": ..., "rotation+scaling": ..., ...}}, the median
// over the repeats; of the recipe, the mean.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "aligned_vector.h"
#include "cpu_lanes.h"
#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/data/augment.h"

namespace {

using namespace segmamba;
using data::AugmentConfig;
using data::Index3;

// Smooth structure within a ball, 0 around it as in a skull-stripped head, and a tumour of three
// classes.
data::PreparedCase make_case(std::int64_t channels) {
  data::PreparedCase item;
  item.name = "synthetic";
  item.size = {150, 180, 150};
  item.channels = channels;
  struct Memory {
    std::vector<Half> image;
    std::vector<std::uint8_t> labels;
  };
  auto memory = std::make_shared<Memory>();
  memory->image.reserve(static_cast<std::size_t>(data::volume_of(item.size) * channels));
  prefer_huge_pages(memory->image.data(), memory->image.capacity() * sizeof(Half));
  for (std::int64_t z = 0; z < item.size[0]; ++z) {
    for (std::int64_t y = 0; y < item.size[1]; ++y) {
      for (std::int64_t x = 0; x < item.size[2]; ++x) {
        const auto distance = [&](double cz, double cy, double cx) {
          return std::hypot(static_cast<double>(z) - cz, 0.85 * (static_cast<double>(y) - cy),
                            static_cast<double>(x) - cx);
        };
        const bool inside = distance(75, 90, 75) < 74;
        const double tumour = distance(90, 70, 60);
        memory->labels.push_back(tumour < 8 ? 1 : tumour < 15 ? 3 : tumour < 24 ? 2 : 0);
        for (std::int64_t c = 0; c < channels; ++c) {
          const double value =
              std::sin(0.2 * static_cast<double>(z + 3 * c)) +
              std::cos(0.13 * static_cast<double>(y)) * std::sin(0.31 * static_cast<double>(x + c));
          memory->image.push_back(to_half(inside ? static_cast<float>(value) : 0));
        }
      }
    }
  }
  item.image = memory->image;
  item.labels = memory->labels;
  item.outside.assign(static_cast<std::size_t>(channels), 0);
  item.storage = memory;
  return item;
}

AugmentConfig nothing() {
  AugmentConfig config;
  config.rotation.probability = config.scaling.probability = config.elastic.probability = 0;
  config.mirror.probability = config.noise.probability = config.blur.probability = 0;
  config.brightness_multiplicative.probability = config.brightness_additive.probability = 0;
  config.contrast.probability = config.low_resolution.probability = 0;
  config.gamma_inverted.probability = config.gamma.probability = 0;
  return config;
}

template <class Section>
void always(Section& section) {
  section.probability = 1;
  if constexpr (requires { section.channel_probability; }) section.channel_probability = 1;
}

const std::vector<std::pair<std::string, std::function<void(AugmentConfig&)>>>& transforms() {
  static const std::vector<std::pair<std::string, std::function<void(AugmentConfig&)>>> list = {
      {"crop", [](AugmentConfig&) {}},
      {"rotation+scaling",
       [](AugmentConfig& config) {
         always(config.rotation);
         always(config.scaling);
       }},
      {"elastic",
       [](AugmentConfig& config) {
         always(config.elastic);
         config.elastic.displacement = {4, 4};
       }},
      {"mirror", [](AugmentConfig& config) { always(config.mirror); }},
      {"noise", [](AugmentConfig& config) { always(config.noise); }},
      {"blur", [](AugmentConfig& config) { always(config.blur); }},
      {"brightness_multiplicative",
       [](AugmentConfig& config) { always(config.brightness_multiplicative); }},
      {"brightness_additive", [](AugmentConfig& config) { always(config.brightness_additive); }},
      {"contrast", [](AugmentConfig& config) { always(config.contrast); }},
      {"low_resolution", [](AugmentConfig& config) { always(config.low_resolution); }},
      {"gamma", [](AugmentConfig& config) { always(config.gamma); }},
      {"gamma_inverted", [](AugmentConfig& config) { always(config.gamma_inverted); }},
  };
  return list;
}

std::vector<double> times(const data::PreparedCase& item, const AugmentConfig& config,
                          std::int64_t size, int repeats) {
  const auto voxels = static_cast<std::size_t>(size * size * size);
  // On cache lines, as tensors are.
  kernels::AlignedVector<float> image(voxels * static_cast<std::size_t>(item.channels));
  std::vector<std::uint8_t> labels(voxels);
  data::PatchScratch scratch;
  Random random(1);
  const Index3 box = {size, size, size};
  std::vector<double> seconds;
  for (int i = -1; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    Index3 begin{};
    for (std::size_t a = 0; a < 3; ++a) {
      begin[a] = random.integer(std::max<std::int64_t>(item.size[a] - size, 0) + 1);
    }
    const auto plan = data::draw_augmentation(config, box, item.channels, random);
    data::render_patch(item, begin, plan, image.data(), labels.data(), scratch);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (i >= 0) seconds.push_back(time.count());  // the first touches memory
  }
  return seconds;
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t size = 128, channels = 4;
  int repeats = 15;
  std::string set, only, interpolation = "linear";
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--size") size = std::max(1, std::atoi(argv[i + 1]));
    if (option == "--channels") channels = std::max(1, std::atoi(argv[i + 1]));
    if (option == "--repeats") repeats = std::max(1, std::atoi(argv[i + 1]));
    if (option == "--set") set = argv[i + 1];
    if (option == "--only") only = argv[i + 1];
    if (option == "--interpolation") interpolation = argv[i + 1];
  }
  try {
    using kernels::InstructionSet;
    for (const auto& [name, value] : {std::pair{"baseline", InstructionSet::kBaseline},
                                      {"avx2", InstructionSet::kAvx2},
                                      {"avx512", InstructionSet::kAvx512}}) {
      if (set == name && !kernels::set_instruction_set(value)) {
        throw Error(concat("this processor lacks ", set));
      }
    }
    const data::PreparedCase item = make_case(channels);
    Json seconds;
    for (const auto& [name, change] : transforms()) {
      if (!only.empty() && name != only) continue;
      AugmentConfig config = nothing();
      config.interpolation = interpolation;
      change(config);
      std::vector<double> all = times(item, config, size, repeats);
      std::sort(all.begin(), all.end());
      seconds[name] = all[all.size() / 2];
    }
    if (only.empty() || only == "upstream-code") {
      // Linear as batchgeneratorsv2 does it, then as the published code does it.
      AugmentConfig linear;
      linear.interpolation = linear.low_resolution.upsample = "linear";
      for (const auto& [name, config] :
           {std::pair{"upstream-code", linear}, {"upstream-code, cubic", AugmentConfig{}}}) {
        const std::vector<double> recipe = times(item, config, size, 8 * repeats);
        seconds[name] =
            std::accumulate(recipe.begin(), recipe.end(), 0.0) / static_cast<double>(recipe.size());
      }
    }
    const Json result = {{"size", size},
                         {"channels", channels},
                         {"repeats", repeats},
                         {"interpolation", interpolation},
                         {"seconds", seconds}};
    std::printf("%s\n", result.dump(2).c_str());
  } catch (const Error& error) {
    std::fprintf(stderr, "bench_data: %s\n", error.what());
    return 1;
  }
}
