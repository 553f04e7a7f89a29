#include "segmamba/data/phantom.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <vector>

#include "brain.h"
#include "phantom_files.h"
#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "tumour.h"

namespace segmamba::data {
namespace {

constexpr std::int64_t kModalities = 4;
// A stream of random numbers each, so that a change in one part leaves the others as they were.
enum Purpose : std::uint64_t { kAnatomy, kTumour, kAppearance, kNoise, kFiles };

Random random_for(const PhantomConfig& config, std::int64_t index, Purpose purpose) {
  return Random::keyed(config.seed, {static_cast<std::uint64_t>(index), purpose});
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

std::vector<BrainVoxel> voxels_of(const Brain& brain, const Tumour& tumour, const Frame& frame,
                                  std::array<std::int64_t, 3> size) {
  std::vector<BrainVoxel> voxels;
  voxels.reserve(static_cast<std::size_t>(size[0] * size[1] * size[2] / 3));
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) {
        const Vec3 p = frame.position(z, y, x);
        if (brain.depth(p) < 0) continue;
        const float distance = tumour.distance(p);
        const float compression = std::exp(-0.4f * distance * distance);
        voxels.push_back({(z * size[1] + y) * size[2] + x, p,
                          brain.at(tumour.origin(p), frame.voxel(), compression)});
      }
    }
  }
  return voxels;
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
std::vector<float> acquire(const std::vector<BrainVoxel>& voxels, std::array<std::int64_t, 3> size,
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
  for (const BrainVoxel& voxel : voxels) {
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
  for (const BrainVoxel& voxel : voxels) {
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
  Random anatomy = random_for(config, index, kAnatomy);
  Random pathology = random_for(config, index, kTumour);
  Random appearance = random_for(config, index, kAppearance);
  Random noise = random_for(config, index, kNoise);

  const Frame frame(config.size, anatomy);
  const Brain brain(anatomy);
  const Tumour tumour(brain, frame.voxel(), pathology);
  std::vector<BrainVoxel> voxels = voxels_of(brain, tumour, frame, config.size);

  io::Geometry geometry;
  geometry.size = {config.size[2], config.size[1], config.size[0]};
  // As in BraTS: the first row of voxels at the origin of the right-left and up-down axes.
  geometry.origin = {0, -static_cast<double>(config.size[1] - 1), 0};

  Phantom phantom;
  phantom.name = case_name(index);
  phantom.labels = {geometry,
                    std::vector<std::uint8_t>(static_cast<std::size_t>(geometry.voxel_count()), 0)};
  phantom.lesions = tumour.grow(voxels, config.size, phantom.labels.voxels);
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
    Random random = random_for(config, index, kFiles);
    write_phantom(output, make_phantom(config, index), config.conventions, random);
    const std::lock_guard lock(mutex);
    ++done;
    if (progress) progress(done);
  });
}

}  // namespace segmamba::data
