#include "segmamba/data/augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "augment.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

using Matrix3 = std::array<std::array<double, 3>, 3>;
constexpr double kMaxDisplacement = 0.4;  // of the spacing; see ElasticConfig

void visit_probability(ConfigVisitor& visitor, double& probability) {
  visitor.value({.name = "probability", .help = "Share of patches", .min = 0, .max = 1},
                probability);
}
void visit_channels(ConfigVisitor& visitor, double& probability) {
  visitor.value({.name = "channel_probability",
                 .help = "Share of channels within such a patch",
                 .min = 0,
                 .max = 1},
                probability);
}
void visit_range(ConfigVisitor& visitor, std::string_view name, std::string_view help, double min,
                 double max, std::vector<double>& range) {
  visitor.value(
      {.name = name, .help = help, .min = min, .max = max, .min_items = 2, .max_items = 2}, range);
}

// Uniform, with half of the draws on either side of 1 where the range holds 1. The range is that of
// batchgenerators; draws two numbers.
double draw_around_one(const std::vector<double>& range, Random& random) {
  const bool lower = random.chance(0.5);
  const double along = random.uniform();
  const double pivot = std::clamp(1.0, range[0], range[1]);
  const double low = lower ? range[0] : pivot, high = lower ? pivot : range[1];
  // A range on one side of 1 has one half only.
  if (low == high) return range[0] + along * (range[1] - range[0]);
  return low + along * (high - low);
}

double draw_in(const std::vector<double>& range, Random& random) {
  return random.uniform(range[0], range[1]);
}

// For every channel: draw(), and keep(channel, value) where the patch and the channel are chosen.
template <class Draw, class Keep>
void draw_channels(AugmentPlan& plan, Random& random, double probability,
                   double channel_probability, const Draw& draw, const Keep& keep) {
  const bool used = random.chance(probability);
  for (ChannelPlan& channel : plan.channels) {
    const bool chosen = random.chance(channel_probability);
    const double value = draw();
    if (used && chosen) keep(channel, value);
  }
}

void draw_deformation(const ElasticConfig& config, Random& random, AugmentPlan& plan) {
  const bool used = random.chance(config.probability);
  const double spacing = draw_in(config.spacing, random);
  const double displacement = draw_in(config.displacement, random);
  // How many numbers follow depends on the spacing: they have a generator of their own.
  Random displacements(random.next_u64());
  if (!used || displacement == 0) return;
  plan.spacing = spacing;
  plan.displacement = displacement;
  for (std::size_t b = 0; b < 3; ++b) {
    plan.points[b] = static_cast<std::int64_t>(static_cast<double>(plan.size[b] - 1) / spacing) + 5;
  }
  const double limit = kMaxDisplacement * spacing;
  plan.displacements.resize(static_cast<std::size_t>(3 * volume_of(plan.points)));
  for (float& value : plan.displacements) {
    value = static_cast<float>(std::clamp(displacement * displacements.normal(), -limit, limit));
  }
}

// Of the patch's voxel at offset o from its centre, the case's at offset matrix * o: scaling, then
// rotations about z, y and x in this order.
Matrix3 spatial_matrix(const AugmentPlan& plan) {
  Matrix3 matrix{};
  for (std::size_t a = 0; a < 3; ++a) matrix[a][a] = plan.scale[a];
  for (std::size_t axis = 0; axis < 3; ++axis) {
    // A rotation about one axis mixes the other two rows.
    const std::size_t u = axis == 0 ? 1 : 0, v = axis == 2 ? 1 : 2;
    const double angle = plan.degrees[axis] * std::numbers::pi / 180;
    const double cosine = std::cos(angle), sine = std::sin(angle);
    for (std::size_t b = 0; b < 3; ++b) {
      const double first = matrix[u][b], second = matrix[v][b];
      matrix[u][b] = cosine * first - sine * second;
      matrix[v][b] = sine * first + cosine * second;
    }
  }
  return matrix;
}

bool is_copy(const AugmentPlan& plan) {
  return plan.spacing == 0 && plan.degrees == std::array<double, 3>{} &&
         plan.scale == std::array<double, 3>{1, 1, 1};
}

// Smallest and largest position along each axis of the case, in voxels.
std::array<std::array<double, 2>, 3> reached(const kernels::PatchTransform& transform) {
  const kernels::SpatialMap& map = transform.map;
  std::array<double, 3> moved{};
  for (std::size_t i = 0; i < transform.displacements.size(); ++i) {
    const auto a = i / static_cast<std::size_t>(map.points[2]) % 3;
    moved[a] = std::max(moved[a], static_cast<double>(std::abs(transform.displacements[i])));
  }
  std::array<std::array<double, 2>, 3> range{};
  for (std::size_t a = 0; a < 3; ++a) {
    double low = map.origin[a], high = map.origin[a];
    for (std::size_t b = 0; b < 3; ++b) {
      const double end = static_cast<double>(map.step[a][b]) * (map.size[b] - 1);
      low += std::min(end, 0.0);
      high += std::max(end, 0.0);
    }
    // Weights of a cubic B-spline are not negative and add up to 1, but for rounding.
    if (moved[a] > 0) moved[a] += 1.0 / kernels::kPositionOne;
    range[a] = {low / kernels::kPositionOne - moved[a], high / kernels::kPositionOne + moved[a]};
  }
  return range;
}

std::string list_channels(const AugmentPlan& plan, double ChannelPlan::*value, double nothing,
                          int digits) {
  std::vector<std::string> parts;
  for (std::size_t c = 0; c < plan.channels.size(); ++c) {
    const double drawn = plan.channels[c].*value;
    if (drawn != nothing) parts.push_back(concat("channel ", c, ": ", format_fixed(drawn, digits)));
  }
  return join(parts, ", ");
}

}  // namespace

void RotationConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visitor.value({.name = "degrees",
                 .help = "Largest angle about each of the axes z, y and x",
                 .min = 0,
                 .max = 180},
                degrees);
}
void ScalingConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_range(visitor, "range",
              "Factors of the field of view, half of them on either side of 1; below 1 objects get "
              "larger",
              0.1, 10, range);
  visitor.value({.name = "per_axis", .help = "A factor for each axis"}, per_axis);
}
void ElasticConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_range(visitor, "spacing", "Voxels between control points", 4, 1000, spacing);
  visit_range(visitor, "displacement",
              "Standard deviation of their displacements, voxels (cut at 0.4 of the spacing)", 0,
              400, displacement);
}
void MirrorConfig::visit(ConfigVisitor& visitor) {
  visitor.value({.name = "probability", .help = "Of each axis by itself", .min = 0, .max = 1},
                probability);
  visitor.value({.name = "axes",
                 .help = "Axes that may be mirrored, of [D, H, W]",
                 .min = 0,
                 .max = 2,
                 .max_items = 3},
                axes);
}
void NoiseConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_channels(visitor, channel_probability);
  visit_range(visitor, "variance",
              "Of normal noise; used as its standard deviation, as in batchgenerators", 0, 1000,
              variance);
}
void BlurConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_channels(visitor, channel_probability);
  visit_range(visitor, "sigma", "Standard deviation of the Gaussian, voxels", 0, 16, sigma);
}
void MultiplicativeBrightnessConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_channels(visitor, channel_probability);
  visit_range(visitor, "range", "Factors", 0.01, 100, range);
}
void AdditiveBrightnessConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_channels(visitor, channel_probability);
  visitor.value({.name = "sigma", .help = "Standard deviation of the shift", .min = 0, .max = 1000},
                sigma);
}
void ContrastConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_channels(visitor, channel_probability);
  visit_range(visitor, "range", "Factors, half of them on either side of 1", 0.01, 100, range);
  visitor.value({.name = "preserve_range", .help = "Cut at the smallest and largest value before"},
                preserve_range);
}
void LowResolutionConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_channels(visitor, channel_probability);
  visit_range(visitor, "zoom", "Factors of the size", 0.01, 1, zoom);
  visitor.value(
      {.name = "upsample", .help = "Interpolation on the way back", .choices = {"cubic", "linear"}},
      upsample);
}
void GammaConfig::visit(ConfigVisitor& visitor) {
  visit_probability(visitor, probability);
  visit_range(visitor, "range", "Exponents, half of them on either side of 1", 0.2, 20, range);
  visitor.value(
      {.name = "retain_statistics", .help = "Restore mean and standard deviation of the channel"},
      retain_statistics);
}

void AugmentConfig::visit(ConfigVisitor& visitor) {
  visitor.value({.name = "interpolation",
                 .help = "Of the image where a patch is turned, scaled or deformed",
                 .choices = {"linear", "cubic"}},
                interpolation);
  visitor.value({.name = "label_interpolation",
                 .help = "Of the labels there: linear takes the label with the largest weight",
                 .choices = {"nearest", "linear"}},
                label_interpolation);
  visitor.section("rotation", "Rotation about all three axes", rotation);
  visitor.section("scaling", "Scaling", scaling);
  visitor.section("elastic", "Elastic deformation by cubic B-splines", elastic);
  visitor.section("mirror", "Mirroring", mirror);
  visitor.section("noise", "Normal noise", noise);
  visitor.section("blur", "Gaussian blur", blur);
  visitor.section("brightness_multiplicative", "A factor for each channel",
                  brightness_multiplicative);
  visitor.section("brightness_additive", "A normal shift of each channel", brightness_additive);
  visitor.section("contrast", "Factor of the distance from the channel's mean", contrast);
  visitor.section("low_resolution", "Fewer voxels, and back", low_resolution);
  visitor.section("gamma_inverted", "Gamma of the negative image", gamma_inverted);
  visitor.section("gamma", "Gamma", gamma);
}

namespace {

// The ranges that random numbers are drawn from: [low, high].
class RangeChecker final : public ConfigVisitor {
 public:
  void value(const ConfigKey&, bool&) override {}
  void value(const ConfigKey&, std::int64_t&) override {}
  void value(const ConfigKey&, double&) override {}
  void value(const ConfigKey&, std::string&) override {}
  void value(const ConfigKey&, std::vector<std::int64_t>&) override {}
  void value(const ConfigKey& key, std::vector<double>& value) override {
    if (value[0] > value[1]) {
      throw Error(concat("augment.", section_, ".", key.name, ": ", format_double(value[0]),
                         " is above ", format_double(value[1]), "; the lower end comes first"));
    }
  }
  void value(const ConfigKey&, std::vector<std::string>&) override {}
  void value(const ConfigKey&, std::vector<std::vector<std::int64_t>>&) override {}

 protected:
  bool begin_section(std::string_view name, std::string_view) override {
    section_ = name;
    return true;
  }
  void end_section() override { section_.clear(); }

 private:
  std::string section_;
};

}  // namespace

void check(const AugmentConfig& config) {
  check_limits(config, "augment");
  AugmentConfig copy = config;
  RangeChecker checker;
  copy.visit(checker);
}

AugmentPlan no_augmentation(const Index3& size, std::int64_t channels) {
  if (std::min({size[0], size[1], size[2], channels}) < 1) {
    throw Error(concat("a patch must have a positive size and channels, got ", join(size, "x"),
                       " and ", channels, " channels"));
  }
  AugmentPlan plan;
  plan.size = size;
  plan.channels.resize(static_cast<std::size_t>(channels));
  return plan;
}

AugmentPlan draw_augmentation(const AugmentConfig& config, const Index3& size,
                              std::int64_t channels, Random& random) {
  AugmentPlan plan = no_augmentation(size, channels);
  plan.cubic_image = config.interpolation == "cubic";
  plan.linear_labels = config.label_interpolation == "linear";

  const bool rotates = random.chance(config.rotation.probability);
  for (double& angle : plan.degrees) {
    const double drawn = random.uniform(-1, 1) * config.rotation.degrees;
    if (rotates) angle = drawn;
  }
  const bool scales = random.chance(config.scaling.probability);
  for (std::size_t a = 0; a < 3; ++a) {
    const double drawn = draw_around_one(config.scaling.range, random);
    if (scales) plan.scale[a] = a > 0 && !config.scaling.per_axis ? plan.scale[0] : drawn;
  }
  draw_deformation(config.elastic, random, plan);
  for (std::size_t a = 0; a < 3; ++a) {
    const auto& axes = config.mirror.axes;
    plan.mirror[a] =
        random.chance(config.mirror.probability) &&
        std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(a)) != axes.end();
  }

  plan.noise_seed = random.next_u64();
  const double deviation = draw_in(config.noise.variance, random);
  draw_channels(
      plan, random, config.noise.probability, config.noise.channel_probability,
      [&] { return deviation; }, [](ChannelPlan& c, double value) { c.noise = value; });
  draw_channels(
      plan, random, config.blur.probability, config.blur.channel_probability,
      [&] { return draw_in(config.blur.sigma, random); },
      [](ChannelPlan& c, double value) { c.blur = value; });
  draw_channels(
      plan, random, config.brightness_multiplicative.probability,
      config.brightness_multiplicative.channel_probability,
      [&] { return draw_in(config.brightness_multiplicative.range, random); },
      [](ChannelPlan& c, double value) { c.factor = value; });
  draw_channels(
      plan, random, config.brightness_additive.probability,
      config.brightness_additive.channel_probability,
      [&] { return config.brightness_additive.sigma * random.normal(); },
      [](ChannelPlan& c, double value) { c.shift = value; });
  draw_channels(
      plan, random, config.contrast.probability, config.contrast.channel_probability,
      [&] { return draw_around_one(config.contrast.range, random); },
      [](ChannelPlan& c, double value) { c.contrast = value; });
  plan.contrast_preserves_range = config.contrast.preserve_range;
  draw_channels(
      plan, random, config.low_resolution.probability, config.low_resolution.channel_probability,
      [&] { return draw_in(config.low_resolution.zoom, random); },
      [](ChannelPlan& c, double value) { c.zoom = value; });
  plan.cubic_upsampling = config.low_resolution.upsample == "cubic";
  draw_channels(
      plan, random, config.gamma_inverted.probability, 1,
      [&] { return draw_around_one(config.gamma_inverted.range, random); },
      [](ChannelPlan& c, double value) { c.gamma_inverted = value; });
  plan.gamma_inverted_retains = config.gamma_inverted.retain_statistics;
  draw_channels(
      plan, random, config.gamma.probability, 1,
      [&] { return draw_around_one(config.gamma.range, random); },
      [](ChannelPlan& c, double value) { c.gamma = value; });
  plan.gamma_retains = config.gamma.retain_statistics;
  return plan;
}

std::vector<std::pair<std::string, std::string>> describe(const AugmentPlan& plan) {
  std::vector<std::pair<std::string, std::string>> lines;
  if (plan.degrees != std::array<double, 3>{}) {
    lines.emplace_back("rotation", concat("z ", format_fixed(plan.degrees[0], 1), ", y ",
                                          format_fixed(plan.degrees[1], 1), ", x ",
                                          format_fixed(plan.degrees[2], 1), " degrees"));
  }
  if (plan.scale != std::array<double, 3>{1, 1, 1}) {
    const bool same = plan.scale[0] == plan.scale[1] && plan.scale[0] == plan.scale[2];
    lines.emplace_back("scaling", same ? concat("view times ", format_fixed(plan.scale[0], 2))
                                       : concat("view times z ", format_fixed(plan.scale[0], 2),
                                                ", y ", format_fixed(plan.scale[1], 2), ", x ",
                                                format_fixed(plan.scale[2], 2)));
  }
  if (plan.spacing != 0) {
    lines.emplace_back(
        "elastic",
        concat("control points every ", format_fixed(plan.spacing, 1), " voxels, displaced by ",
               format_fixed(plan.displacement, 1), " voxels (standard deviation)"));
  }
  std::vector<std::string> axes;
  for (std::size_t a = 0; a < 3; ++a) {
    if (plan.mirror[a]) axes.emplace_back(1, "zyx"[a]);
  }
  if (!axes.empty()) lines.emplace_back("mirror", join(axes, ", "));

  const auto add = [&](const char* name, double ChannelPlan::*value, double nothing, int digits) {
    if (const auto text = list_channels(plan, value, nothing, digits); !text.empty()) {
      lines.emplace_back(name, text);
    }
  };
  add("noise", &ChannelPlan::noise, 0, 3);
  add("blur", &ChannelPlan::blur, 0, 2);
  add("brightness_multiplicative", &ChannelPlan::factor, 1, 2);
  add("brightness_additive", &ChannelPlan::shift, 0, 3);
  add("contrast", &ChannelPlan::contrast, 1, 2);
  add("low_resolution", &ChannelPlan::zoom, 1, 2);
  add("gamma_inverted", &ChannelPlan::gamma_inverted, 1, 2);
  add("gamma", &ChannelPlan::gamma, 1, 2);
  return lines;
}

kernels::PatchTransform lower(const AugmentPlan& plan, const Index3& begin) {
  kernels::PatchTransform result;
  kernels::SpatialMap& map = result.map;
  const auto too_far = [&] {
    return Error(concat("a patch of ", join(plan.size, "x"), " voxels at voxel (",
                        join(begin, ", "), ") reaches beyond ", kernels::kLargestPosition,
                        " voxels"));
  };
  for (std::size_t b = 0; b < 3; ++b) {
    if (static_cast<double>(std::max(std::abs(begin[b]), plan.size[b])) >=
        kernels::kLargestPosition) {
      throw too_far();
    }
    map.size[b] = static_cast<std::int32_t>(plan.size[b]);
  }
  map.is_copy = is_copy(plan);
  const Matrix3 matrix = spatial_matrix(plan);
  for (std::size_t a = 0; a < 3; ++a) {
    const double middle = static_cast<double>(begin[a]) + 0.5 * (map.size[a] - 1);
    double origin = middle * kernels::kPositionOne;
    for (std::size_t b = 0; b < 3; ++b) {
      const auto step =
          static_cast<std::int32_t>(std::lround(matrix[a][b] * kernels::kPositionOne));
      map.step[a][b] = plan.mirror[b] ? -step : step;
      // From the middle, so that rounded steps err least.
      origin -= 0.5 * map.step[a][b] * (map.size[b] - 1);
    }
    if (!(std::abs(origin) < kernels::kLargestPosition * kernels::kPositionOne)) throw too_far();
    // Halves upwards on either side of 0: a patch has the same positions in a part of its case.
    map.origin[a] = static_cast<std::int32_t>(std::floor(origin + 0.5));
    map.mirror[a] = plan.mirror[a];
  }
  if (plan.spacing != 0) {
    map.per_spacing = static_cast<float>(1 / plan.spacing);
    for (std::size_t b = 0; b < 3; ++b) map.points[b] = static_cast<std::int32_t>(plan.points[b]);
    // Displaced before it is turned and scaled: position = middle + matrix * (offset + moved).
    const auto columns = static_cast<std::size_t>(plan.points[2]);
    const auto rows = plan.displacements.size() / 3 / columns;
    result.displacements.resize(plan.displacements.size());
    for (std::size_t i = 0; i < rows * columns; ++i) {
      for (std::size_t a = 0; a < 3; ++a) {
        double sum = 0;
        for (std::size_t b = 0; b < 3; ++b) sum += matrix[a][b] * plan.displacements[3 * i + b];
        result.displacements[(i / columns * 3 + a) * columns + i % columns] =
            static_cast<float>(sum);
      }
    }
  }
  for (const auto& range : reached(result)) {
    if (std::max(std::abs(range[0]), std::abs(range[1])) >= kernels::kLargestPosition) {
      throw too_far();
    }
  }

  result.cubic_image = plan.cubic_image;
  result.linear_labels = plan.linear_labels;
  result.noise_seed = plan.noise_seed;
  result.contrast_preserves_range = plan.contrast_preserves_range;
  result.cubic_upsampling = plan.cubic_upsampling;
  result.gamma_inverted_retains = plan.gamma_inverted_retains;
  result.gamma_retains = plan.gamma_retains;
  for (const ChannelPlan& from : plan.channels) {
    kernels::ChannelTransform channel;
    channel.noise = static_cast<float>(from.noise);
    channel.blur = static_cast<float>(from.blur);
    channel.factor = static_cast<float>(from.factor);
    channel.shift = static_cast<float>(from.shift);
    channel.contrast = static_cast<float>(from.contrast);
    channel.gamma_inverted = static_cast<float>(from.gamma_inverted);
    channel.gamma = static_cast<float>(from.gamma);
    for (std::size_t b = 0; b < 3 && from.zoom != 1; ++b) {
      channel.low[b] = static_cast<std::int32_t>(
          std::max(std::lround(from.zoom * static_cast<double>(plan.size[b])), 1L));
    }
    result.channels.push_back(channel);
  }
  return result;
}

Box needed_box(const AugmentPlan& plan, const Index3& begin) {
  if (is_copy(plan)) return {begin, plan.size};
  const auto range = reached(lower(plan, begin));
  // Labels need the voxels on either side of a position, a cubic image two.
  const std::int64_t before = plan.cubic_image ? 1 : 0, after = plan.cubic_image ? 2 : 1;
  Box box;
  for (std::size_t a = 0; a < 3; ++a) {
    box.begin[a] = static_cast<std::int64_t>(std::floor(range[a][0])) - before;
    box.size[a] = static_cast<std::int64_t>(std::floor(range[a][1])) + after + 1 - box.begin[a];
  }
  return box;
}

Box part_inside(const PreparedCase& item, const Box& box) {
  Box part;
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t end = box.begin[a] + box.size[a];
    part.begin[a] = std::clamp<std::int64_t>(box.begin[a], 0, item.size[a] - 1);
    part.size[a] = std::clamp<std::int64_t>(end, part.begin[a] + 1, item.size[a]) - part.begin[a];
  }
  return part;
}

void copy_box(const PreparedCase& item, const Box& box, Half* image, std::uint8_t* labels) {
  for (std::size_t a = 0; a < 3; ++a) {
    if (box.begin[a] < 0 || box.size[a] < 1 || box.begin[a] + box.size[a] > item.size[a]) {
      throw Error(concat(item.name, ": a box of ", join(box.size, "x"), " voxels at voxel (",
                         join(box.begin, ", "), ") does not lie in the case of ",
                         join(item.size, "x"), " voxels"));
    }
  }
  const std::int64_t row = box.size[2] * item.channels;
  for (std::int64_t z = 0; z < box.size[0]; ++z) {
    for (std::int64_t y = 0; y < box.size[1]; ++y) {
      const std::int64_t voxel =
          ((box.begin[0] + z) * item.size[1] + box.begin[1] + y) * item.size[2] + box.begin[2];
      image = std::copy_n(item.image.data() + voxel * item.channels, row, image);
      if (item.labels.empty()) continue;
      labels = std::copy_n(item.labels.data() + voxel, box.size[2], labels);
    }
  }
}

PreparedCase cut(const PreparedCase& item, const Box& box) {
  struct Memory {
    std::vector<Half> image;
    std::vector<std::uint8_t> labels;
  };
  const auto memory = std::make_shared<Memory>();
  const auto voxels = static_cast<std::size_t>(std::max<std::int64_t>(volume_of(box.size), 0));
  memory->image.resize(voxels * static_cast<std::size_t>(item.channels));
  memory->labels.resize(item.labels.empty() ? 0 : voxels);
  copy_box(item, box, memory->image.data(), memory->labels.data());
  PreparedCase part;
  part.name = item.name;
  part.spacing = item.spacing;
  part.size = box.size;
  part.channels = item.channels;
  part.image = memory->image;
  part.labels = memory->labels;
  part.outside = item.outside;
  part.classes = item.classes;
  part.storage = memory;
  return part;
}

kernels::CaseView view_of(const PreparedCase& item) {
  if (!item.outside.empty() && item.outside.size() != static_cast<std::size_t>(item.channels)) {
    throw Error(concat(item.name, ": has ", item.channels, " channels, but ", item.outside.size(),
                       " values of what lies outside"));
  }
  if (volume_of(item.size) >= (std::int64_t{1} << 31) ||
      static_cast<double>(std::max({item.size[0], item.size[1], item.size[2]})) >=
          kernels::kLargestPosition) {
    throw Error(concat(item.name, ": ", join(item.size, "x"),
                       " voxels are more than patches can be", " cut from"));
  }
  kernels::CaseView view;
  view.image = &item.image.data()->bits;
  view.labels = item.labels.empty() ? nullptr : item.labels.data();
  view.channels = static_cast<std::int32_t>(item.channels);
  for (std::size_t a = 0; a < 3; ++a) view.size[a] = static_cast<std::int32_t>(item.size[a]);
  view.outside = item.outside.empty() ? nullptr : item.outside.data();
  return view;
}

PatchScratch::PatchScratch() : memory_(std::make_unique<kernels::AugmentScratch>()) {}
PatchScratch::~PatchScratch() = default;
PatchScratch::PatchScratch(PatchScratch&&) noexcept = default;
PatchScratch& PatchScratch::operator=(PatchScratch&&) noexcept = default;

void render_patch(const PreparedCase& item, const Index3& begin, const AugmentPlan& plan,
                  float* image, std::uint8_t* labels, PatchScratch& scratch) {
  if (item.channels != static_cast<std::int64_t>(plan.channels.size())) {
    throw Error(concat(item.name, ": has ", item.channels,
                       " channels, but the patch is planned for ", plan.channels.size()));
  }
  kernels::augment_patch_cpu(view_of(item), lower(plan, begin), image, labels, scratch.memory());
}

}  // namespace segmamba::data
