#include "segmamba/data/phantom.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <mutex>
#include <vector>

#include "brain.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/data/cases.h"

namespace segmamba::data {
namespace {

constexpr std::int64_t kModalities = 4;
// A stream of random numbers each, so that a change in one part leaves the others as they were.
enum Purpose : std::uint64_t { kAnatomy, kTumour, kAppearance, kNoise };

float uniform(Random& random, double low, double high) {
  return static_cast<float>(random.uniform(low, high));
}

// Where voxels lie in the coordinates of Brain.
class Frame {
 public:
  Frame(std::array<std::int64_t, 3> size, Random& random) : size_(size) {
    // Half axes of the brain (with the cerebellum) against the grid, with a small margin.
    const double unit = 0.95 * std::min({static_cast<double>(size[0]) / (2 * 0.83),
                                         static_cast<double>(size[1]) / 2.0,
                                         static_cast<double>(size[2]) / (2 * 0.80)});
    voxel_ = static_cast<float>(1 / unit);
    // The head's pose: up to 5 degrees about each axis, and the room that is left around it.
    const float a = uniform(random, -0.09, 0.09);
    const float b = uniform(random, -0.09, 0.09);
    const float c = uniform(random, -0.09, 0.09);
    rows_ = {{{std::cos(a), -std::sin(a), b}, {std::sin(a), std::cos(a), c}, {-b, -c, 1}}};
    for (Vec3& row : rows_) row = (1 / length(row)) * row;
    shift_ = {uniform(random, -0.02, 0.02), uniform(random, -0.01, 0.01),
              uniform(random, -0.01, 0.01)};
  }

  float voxel() const { return voxel_; }

  // BraTS stores x from right to left, y from front to back and z upwards.
  Vec3 position(std::int64_t z, std::int64_t y, std::int64_t x) const {
    const Vec3 p{voxel_ * (static_cast<float>(x) - 0.5f * static_cast<float>(size_[2] - 1)),
                 -voxel_ * (static_cast<float>(y) - 0.5f * static_cast<float>(size_[1] - 1)),
                 voxel_ * (static_cast<float>(z) - 0.5f * static_cast<float>(size_[0] - 1))};
    return Vec3{dot(rows_[0], p), dot(rows_[1], p), dot(rows_[2], p)} + shift_;
  }

 private:
  std::array<std::int64_t, 3> size_;
  float voxel_ = 0;
  std::array<Vec3, 3> rows_;
  Vec3 shift_;
};

// One focus: an ellipsoid in a random pose around a random place.
struct Focus {
  Vec3 centre;
  float radius;              // of the whole focus with its oedema, before perturbation
  std::array<Vec3, 3> axes;  // orthogonal, of length 1 / (relative half axis)
  Vec3 core_shift;           // the core does not sit in the middle of its oedema

  // Distance from the centre, 1 at about the border of the focus.
  float distance(Vec3 p) const {
    const Vec3 d = p - centre;
    const Vec3 q{dot(axes[0], d), dot(axes[1], d), dot(axes[2], d)};
    return length(q) / radius;
  }
  float core_distance(Vec3 p) const { return distance(p - core_shift); }
};

Focus make_focus(const Brain& brain, float radius, Random& random) {
  Focus focus;
  focus.radius = radius;
  // In the hemispheres, below the cortex and beside the midline.
  float depth = 0;
  do {
    focus.centre = {uniform(random, -0.6, 0.6), uniform(random, -0.75, 0.75),
                    uniform(random, -0.25, 0.6)};
    depth = brain.cerebrum_depth(focus.centre);
  } while (depth < 0.16f || depth > 0.45f || std::abs(focus.centre.x) < 0.16f);
  const Vec3 first = random_direction(random);
  Vec3 second = random_direction(random);
  second = second - dot(first, second) * first;
  second = (1 / std::max(length(second), 1e-6f)) * second;
  const Vec3 third{first.y * second.z - first.z * second.y, first.z * second.x - first.x * second.z,
                   first.x * second.y - first.y * second.x};
  focus.axes = {(1 / uniform(random, 0.8, 1.35)) * first, (1 / uniform(random, 0.8, 1.25)) * second,
                (1 / uniform(random, 0.8, 1.25)) * third};
  focus.core_shift = uniform(random, 0, 0.25) * radius * random_direction(random);
  return focus;
}

// Fields whose level sets are the borders of the tumour's parts, and the sizes of these parts.
struct Tumour {
  std::vector<Focus> foci;
  RandomWaves coarse, fine, rim;
  double whole_share;     // of the brain
  double core_share;      // of the whole tumour
  double necrosis_share;  // of the core
  float mass_effect;

  Tumour(const Brain& brain, Random& random)
      : coarse(random, 5, 9),
        fine(random, 12, 40),
        rim(random, 9, 28),
        whole_share(random.uniform(0.055, 0.098)),
        core_share(random.uniform(0.35, 0.6)),
        necrosis_share(random.uniform(0.2, 0.55)),
        mass_effect(uniform(random, 0.05, 0.3)) {
    // About one in eight gliomas does not enhance.
    if (random.chance(0.125)) necrosis_share = 1;
    // The brain's volume is near 2 cubic units.
    const double radius = std::cbrt(whole_share * 2.0 * 3 / (4 * 3.14159265));
    foci.push_back(make_focus(brain, static_cast<float>(radius), random));
    if (random.chance(0.15)) {
      const auto more = 1 + random.integer(2);
      for (std::int64_t i = 0; i < more; ++i) {
        foci.push_back(
            make_focus(brain, static_cast<float>(radius * random.uniform(0.5, 0.75)), random));
      }
    }
  }

  float distance(Vec3 p) const {
    float nearest = std::numeric_limits<float>::infinity();
    for (const Focus& focus : foci) nearest = std::min(nearest, focus.distance(p));
    return nearest;
  }
  float core_distance(Vec3 p) const {
    float nearest = std::numeric_limits<float>::infinity();
    for (const Focus& focus : foci) nearest = std::min(nearest, focus.core_distance(p));
    return nearest;
  }

  // Where the tissue that is now at p was before the tumour pushed it away.
  Vec3 origin(Vec3 p) const {
    for (const Focus& focus : foci) {
      const float r = focus.distance(p);
      if (r < 2.5f) p = p - mass_effect * std::exp(-r * r) * (p - focus.centre);
    }
    return p;
  }
};

// A voxel of the brain.
struct Voxel {
  std::int64_t index;
  Vec3 position;
  Mixture mixture;
  // Distances in units of the tumour, of the oedema's, the core's and the necrosis' level sets.
  float oedema, core, necrosis;
};

// The `rank`-th smallest of `values` as a level: `rank` values lie below it.
float level(std::vector<float> values, double rank) {
  if (values.empty()) return -std::numeric_limits<float>::infinity();
  const auto n = static_cast<std::int64_t>(values.size());
  const auto nth =
      std::clamp(static_cast<std::int64_t>(std::llround(rank)), std::int64_t{0}, n - 1);
  std::nth_element(values.begin(), values.begin() + nth, values.end());
  return values[static_cast<std::size_t>(nth)];
}

std::vector<Voxel> voxels_of(const Brain& brain, const Tumour& tumour, const Frame& frame,
                             std::array<std::int64_t, 3> size) {
  std::vector<Voxel> voxels;
  voxels.reserve(static_cast<std::size_t>(size[0] * size[1] * size[2] / 3));
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) {
        const Vec3 p = frame.position(z, y, x);
        if (brain.depth(p) < 0) continue;
        const float distance = tumour.distance(p);
        const float compression = std::exp(-0.4f * distance * distance);
        Voxel voxel{(z * size[1] + y) * size[2] + x,
                    p,
                    brain.at(tumour.origin(p), frame.voxel(), compression),
                    0,
                    0,
                    0};
        const float coarse = tumour.coarse(p);
        const float fine = tumour.fine(p);
        const auto& share = voxel.mixture.share;
        // Oedema spreads along the white matter, tarries at grey matter and stops at the fluid.
        const float barrier = 0.08f * (share[kCortex] + share[kDeepGrey]) + 0.6f * share[kCsf];
        voxel.oedema = distance + 0.12f * coarse + 0.02f * fine + barrier;
        const float core = tumour.core_distance(p);
        voxel.core = core + 0.07f * coarse + 0.05f * fine + 0.4f * share[kCsf];
        voxel.necrosis = core + 0.07f * coarse + 0.1f * tumour.rim(p);
        voxels.push_back(voxel);
      }
    }
  }
  return voxels;
}

// Draws the tumour into labels and tissue mixtures.
void grow(std::vector<Voxel>& voxels, const Tumour& tumour, float voxel_edge,
          std::vector<std::uint8_t>& labels) {
  // The levels are chosen so that the parts have their share of the volume exactly.
  const double whole_voxels = tumour.whole_share * static_cast<double>(voxels.size());
  const double core_voxels = tumour.core_share * whole_voxels;
  std::vector<float> values;
  values.reserve(voxels.size());
  for (const Voxel& voxel : voxels) values.push_back(voxel.core);
  const float core_level = level(values, core_voxels);
  values.clear();
  for (const Voxel& voxel : voxels) {
    if (voxel.core >= core_level) values.push_back(voxel.oedema);
  }
  const float oedema_level = level(values, whole_voxels - core_voxels);
  values.clear();
  for (const Voxel& voxel : voxels) {
    if (voxel.core < core_level) values.push_back(voxel.necrosis);
  }
  const bool enhances = tumour.necrosis_share < 1;
  const float necrosis_level = enhances ? level(values, tumour.necrosis_share * core_voxels)
                                        : std::numeric_limits<float>::infinity();

  const float scale = tumour.foci.front().radius / voxel_edge;
  const auto coverage = [scale](float inside) {
    return std::clamp(0.5f + inside * scale, 0.0f, 1.0f);
  };
  for (Voxel& voxel : voxels) {
    auto& label = labels[static_cast<std::size_t>(voxel.index)];
    const float core = core_level - voxel.core;
    const float oedema = oedema_level - voxel.oedema;
    const float necrosis = enhances ? necrosis_level - voxel.necrosis : 1.0f;
    if (core > 0) {
      label = necrosis > 0 ? kNecrosis : kEnhancing;
    } else if (oedema > 0) {
      label = kOedema;
    }
    voxel.mixture.lay(kOedematousTissue, coverage(oedema));
    const float core_coverage = coverage(core);
    voxel.mixture.lay(kEnhancingTissue, core_coverage);
    voxel.mixture.lay(kNecroticTissue, core_coverage * coverage(necrosis));
  }
}

// Mean intensities by tissue and modality (t1n, t1c, t2w, t2f), normal white matter near 0.6.
// Ranked after the usual contrasts of BraTS: necrosis dark in t1n, rim bright in t1c, oedema and
// fluid bright in t2w, oedema bright and fluid dark in t2f.
constexpr std::array<std::array<float, kModalities>, kTissueCount> kMeanIntensity = {{
    {0.24f, 0.25f, 0.92f, 0.22f},   // fluid
    {0.48f, 0.50f, 0.58f, 0.61f},   // cortex
    {0.64f, 0.65f, 0.42f, 0.48f},   // white matter
    {0.56f, 0.58f, 0.47f, 0.54f},   // deep grey matter
    {0.45f, 1.05f, 0.25f, 0.30f},   // vessels
    {0.42f, 0.95f, 0.72f, 0.58f},   // choroid plexus
    {0.56f, 0.58f, 0.58f, 0.82f},   // hyperintensities
    {0.28f, 0.36f, 0.82f, 0.44f},   // necrosis
    {0.42f, 0.44f, 0.79f, 0.745f},  // oedema
    {0.49f, 0.95f, 0.64f, 0.64f},   // enhancing tumour
}};

// Smooth multiplicative field of the receive coils: exp of a random quadratic polynomial.
class BiasField {
 public:
  BiasField(Random& random, double strength) {
    for (float& c : coefficients_) c = static_cast<float>(strength * random.normal());
  }
  float operator()(Vec3 p) const {
    const std::array<float, 9> terms = {p.x,       p.y,       p.z,       p.x * p.y, p.y * p.z,
                                        p.z * p.x, p.x * p.x, p.y * p.y, p.z * p.z};
    float sum = 0;
    for (std::size_t i = 0; i < terms.size(); ++i) sum += coefficients_[i] * terms[i];
    return std::exp(std::clamp(sum, -0.7f, 0.7f));
  }

 private:
  std::array<float, 9> coefficients_;
};

// In-place separable blur with the kernel (w, 1 - 2w, w): the point spread of the scanner.
void blur(std::vector<float>& image, std::array<std::int64_t, 3> size, float w) {
  const std::array<std::int64_t, 3> stride = {size[1] * size[2], size[2], 1};
  std::vector<float> line;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t n = size[axis];
    line.resize(static_cast<std::size_t>(n));
    const std::size_t u = axis == 0 ? 1 : 0;
    const std::size_t v = axis == 2 ? 1 : 2;
    for (std::int64_t i = 0; i < size[u]; ++i) {
      for (std::int64_t j = 0; j < size[v]; ++j) {
        float* start = image.data() + i * stride[u] + j * stride[v];
        for (std::int64_t k = 0; k < n; ++k)
          line[static_cast<std::size_t>(k)] = start[k * stride[axis]];
        for (std::int64_t k = 0; k < n; ++k) {
          const float before = line[static_cast<std::size_t>(std::max<std::int64_t>(k - 1, 0))];
          const float after = line[static_cast<std::size_t>(std::min(k + 1, n - 1))];
          start[k * stride[axis]] =
              (1 - 2 * w) * line[static_cast<std::size_t>(k)] + w * (before + after);
        }
      }
    }
  }
}

// One modality of the mixtures.
std::vector<float> acquire(const std::vector<Voxel>& voxels, std::array<std::int64_t, 3> size,
                           std::int64_t modality, float tumour_contrast, Random& random,
                           Random& noise) {
  // Tissues differ from case to case, and the oedema and core may come close to normal tissue.
  std::array<float, kTissueCount> mean{};
  const auto m = static_cast<std::size_t>(modality);
  for (std::size_t t = 0; t < kTissueCount; ++t) {
    mean[t] = kMeanIntensity[t][m] * (1 + 0.05f * static_cast<float>(random.normal()));
  }
  const float grey = 0.5f * (mean[kCortex] + mean[kWhiteMatter]);
  const float contrast = tumour_contrast * uniform(random, 0.8, 1.1);
  mean[kOedematousTissue] = grey + contrast * (mean[kOedematousTissue] - grey);
  mean[kNecroticTissue] = grey + uniform(random, 0.85, 1.15) * (mean[kNecroticTissue] - grey);
  mean[kEnhancingTissue] = grey + uniform(random, 0.75, 1.1) * (mean[kEnhancingTissue] - grey);

  const BiasField bias(random, 0.09);
  const RandomWaves texture(random, 4, 14, 12);
  const RandomWaves tumour_texture(random, 10, 35, 12);
  const float gamma = uniform(random, 0.85, 1.2);
  const float gain = uniform(random, 400, 1600);
  const float sigma = uniform(random, 0.025, 0.045);

  std::vector<float> image(static_cast<std::size_t>(size[0] * size[1] * size[2]), 0.0f);
  for (const Voxel& voxel : voxels) {
    float value = 0;
    for (std::size_t t = 0; t < kTissueCount; ++t) value += voxel.mixture.share[t] * mean[t];
    const auto& share = voxel.mixture.share;
    const float abnormal =
        share[kNecroticTissue] + share[kOedematousTissue] + share[kEnhancingTissue];
    value *= 1 + 0.05f * texture(voxel.position);
    if (abnormal > 0) value *= 1 + 0.07f * abnormal * tumour_texture(voxel.position);
    image[static_cast<std::size_t>(voxel.index)] =
        std::pow(std::max(value, 0.02f), gamma) * bias(voxel.position);
  }
  blur(image, size, 0.13f);
  std::vector<float> measured(image.size(), 0.0f);
  for (const Voxel& voxel : voxels) {
    const auto i = static_cast<std::size_t>(voxel.index);
    // Magnitude images have Rician noise: that of a complex signal with Gaussian noise.
    const float real = image[i] + sigma * static_cast<float>(noise.normal());
    const float imaginary = sigma * static_cast<float>(noise.normal());
    const float magnitude = std::sqrt(real * real + imaginary * imaginary);
    // At least 1: zero means outside the brain.
    measured[i] = std::clamp(std::round(gain * magnitude), 1.0f, 32767.0f);
  }
  return measured;
}

std::string case_name(std::int64_t index) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "BraTS-GLI-9%04lld-000", static_cast<long long>(index));
  return name.data();
}

void check(const PhantomConfig& config, std::int64_t index) {
  for (const std::int64_t n : config.size) {
    if (n < 32 || n > 1024) {
      throw Error(concat("phantom: each side must lie between 32 and 1024 voxels, got ",
                         config.size[0], "x", config.size[1], "x", config.size[2]));
    }
  }
  if (index < 0 || index > 9999) {
    throw Error(concat("phantom: a data set holds at most 10000 cases, asked for number ", index));
  }
}

}  // namespace

Phantom make_phantom(const PhantomConfig& config, std::int64_t index) {
  check(config, index);
  const auto random_for = [&](Purpose purpose) {
    return Random::keyed(config.seed, {static_cast<std::uint64_t>(index), purpose});
  };
  Random anatomy = random_for(kAnatomy);
  Random pathology = random_for(kTumour);
  Random appearance = random_for(kAppearance);
  Random noise = random_for(kNoise);

  const Frame frame(config.size, anatomy);
  const Brain brain(anatomy);
  const Tumour tumour(brain, pathology);
  std::vector<Voxel> voxels = voxels_of(brain, tumour, frame, config.size);

  io::Geometry geometry;
  geometry.size = {config.size[2], config.size[1], config.size[0]};
  // As in BraTS: the first row of voxels at the origin of the right-left and up-down axes.
  geometry.origin = {0, -static_cast<double>(config.size[1] - 1), 0};

  Phantom phantom;
  phantom.name = case_name(index);
  phantom.labels = {geometry,
                    std::vector<std::uint8_t>(static_cast<std::size_t>(geometry.voxel_count()), 0)};
  grow(voxels, tumour, frame.voxel(), phantom.labels.voxels);
  const float tumour_contrast = uniform(appearance, 0.75, 1.05);
  for (std::int64_t m = 0; m < kModalities; ++m) {
    phantom.images[static_cast<std::size_t>(m)] = {
        geometry, acquire(voxels, config.size, m, tumour_contrast, appearance, noise)};
  }
  return phantom;
}

void write_phantoms(const std::filesystem::path& output, const PhantomConfig& config,
                    const std::function<void(std::int64_t done)>& progress) {
  if (config.cases < 1) throw Error(concat("phantom: asked for ", config.cases, " cases"));
  check(config, config.cases - 1);
  std::mutex mutex;
  std::int64_t done = 0;
  parallel_for(config.cases, [&](std::int64_t index) {
    const Phantom phantom = make_phantom(config, index);
    const auto folder = output / phantom.name;
    make_folders(folder);
    remove_stale_temporaries(folder);
    for (std::size_t m = 0; m < phantom.images.size(); ++m) {
      io::write_image(folder / (phantom.name + "-" + kBratsChannels[m] + ".nii.gz"),
                      phantom.images[m]);
    }
    io::write_labels(folder / (phantom.name + "-seg.nii.gz"), phantom.labels);
    const std::lock_guard lock(mutex);
    ++done;
    if (progress) progress(done);
  });
}

}  // namespace segmamba::data
