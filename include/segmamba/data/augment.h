#pragma once
// Random patches for training. Three steps: a config says what may happen, a plan holds everything
// that was drawn for one patch, and rendering a plan draws nothing: it gives the same patch on any
// processor, up to rounding.
//
// Semantics follow batchgenerators, which nnU-Net and SegMamba's published code use; the defaults
// are that code's recipe (light_training/augment/train_augment.py).

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/core/random.h"
#include "segmamba/data/prepared_case.h"

namespace segmamba::kernels {
struct AugmentScratch;
struct CaseView;
struct PatchTransform;
}  // namespace segmamba::kernels

namespace segmamba::data {

// Sections of `augment`, in the order in which they are applied. `probability` is the share of
// patches, `channel_probability` the share of channels within such a patch; a probability of 0
// switches a section off. Ranges are [lowest, highest] of a uniform draw.

struct RotationConfig {
  double probability = 0.2;
  double degrees = 30;  // angles about z, y and x lie between this and its negative
  void visit(ConfigVisitor& visitor);
};
struct ScalingConfig {
  double probability = 0.2;
  std::vector<double> range = {0.7, 1.4};  // half of the factors on either side of 1; above 1 the
                                           // patch shows more of the case, and objects get smaller
  bool per_axis = false;
  void visit(ConfigVisitor& visitor);
};
// Free-form deformation by cubic B-splines. Displacements of the control points are normal, and cut
// at 0.4 of the spacing along each axis: below 1 / 2.48 of it nothing folds (Choi and Lee,
// "Injectivity conditions of 2D and 3D uniform cubic B-spline functions", Graphical Models 62,
// 2000).
struct ElasticConfig {
  double probability = 0;
  std::vector<double> spacing = {24, 48};     // of the control points, voxels
  std::vector<double> displacement = {0, 4};  // their standard deviation, voxels
  void visit(ConfigVisitor& visitor);
};
struct MirrorConfig {
  double probability = 0.5;                    // of each axis by itself
  std::vector<std::int64_t> axes = {0, 1, 2};  // of [D, H, W]
  void visit(ConfigVisitor& visitor);
};
struct NoiseConfig {
  double probability = 0.1, channel_probability = 1;
  // batchgenerators' name; the number is the standard deviation there, and here. One for all
  // channels.
  std::vector<double> variance = {0, 0.1};
  void visit(ConfigVisitor& visitor);
};
struct BlurConfig {
  double probability = 0.2, channel_probability = 0.5;
  std::vector<double> sigma = {0.5, 1};  // voxels; cut at four sigma; mirrored at the borders
  void visit(ConfigVisitor& visitor);
};
struct MultiplicativeBrightnessConfig {
  double probability = 0.15, channel_probability = 1;
  std::vector<double> range = {0.75, 1.25};
  void visit(ConfigVisitor& visitor);
};
struct AdditiveBrightnessConfig {
  double probability = 0, channel_probability = 1;
  double sigma = 0.1;  // standard deviation of a channel's shift
  void visit(ConfigVisitor& visitor);
};
// x becomes (x - mean) * factor + mean; half of the factors on either side of 1.
struct ContrastConfig {
  double probability = 0.15, channel_probability = 1;
  std::vector<double> range = {0.75, 1.25};
  bool preserve_range = true;  // cut at the channel's smallest and largest value before
  void visit(ConfigVisitor& visitor);
};
// The nearest voxels of an image of zoom times the size, upsampled again.
struct LowResolutionConfig {
  double probability = 0.25, channel_probability = 0.5;
  std::vector<double> zoom = {0.5, 1};
  std::string upsample = "cubic";  // or "linear"
  void visit(ConfigVisitor& visitor);
};
// x becomes t^gamma with t = (x - min) / (max - min + 1e-7), brought back to the old range; half of
// the exponents on either side of 1. Inverted: of -x.
struct GammaConfig {
  double probability;
  std::vector<double> range = {0.7, 1.5};
  bool retain_statistics = true;  // mean and standard deviation of the channel are restored
  void visit(ConfigVisitor& visitor);
};

// Section `augment`.
struct AugmentConfig {
  // Where a patch is turned, scaled or deformed: "cubic" (convolution by Keys, a = -1/2) or
  // "linear" for the image; "linear" (the label with the largest trilinear weight, the lowest where
  // several have it) or "nearest" for the labels.
  std::string interpolation = "cubic", label_interpolation = "linear";
  RotationConfig rotation;
  ScalingConfig scaling;
  ElasticConfig elastic;
  MirrorConfig mirror;
  NoiseConfig noise;
  BlurConfig blur;
  MultiplicativeBrightnessConfig brightness_multiplicative;
  AdditiveBrightnessConfig brightness_additive;
  ContrastConfig contrast;
  LowResolutionConfig low_resolution;
  GammaConfig gamma_inverted{0.1};
  GammaConfig gamma{0.3};

  void visit(ConfigVisitor& visitor);
};

// Throws Error naming the key where a range is reversed, or a value is none that visit() would
// read.
void check(const AugmentConfig& config);

// What happens to one channel; each default is "nothing".
struct ChannelPlan {
  double noise = 0;   // standard deviation
  double blur = 0;    // standard deviation, voxels
  double factor = 1;  // multiplicative brightness
  double shift = 0;   // additive brightness
  double contrast = 1;
  double zoom = 1;  // of the lower resolution
  double gamma_inverted = 1;
  double gamma = 1;
};

// Everything random about a patch but its place in the case.
struct AugmentPlan {
  Index3 size{};  // of the patch
  bool cubic_image = true, linear_labels = true;

  std::array<double, 3> degrees{};          // about z, y, x
  std::array<double, 3> scale = {1, 1, 1};  // of the view along z, y, x
  double spacing = 0;                       // of the control points, voxels; 0: no deformation
  double displacement = 0;                  // their standard deviation, voxels
  Index3 points{};                          // their number
  std::vector<float> displacements;         // [points, 3]: z, y, x; voxels of the patch
  std::array<bool, 3> mirror{};

  std::uint64_t noise_seed = 0;
  std::vector<ChannelPlan> channels;
  bool contrast_preserves_range = true, cubic_upsampling = true;
  bool gamma_inverted_retains = true, gamma_retains = true;
};

// Every number is drawn whether it is used or not: switching a section off leaves the draws of the
// others as they were. Throws Error where `size` or `channels` is not positive.
AugmentPlan draw_augmentation(const AugmentConfig& config, const Index3& size,
                              std::int64_t channels, Random& random);
// A plain copy.
AugmentPlan no_augmentation(const Index3& size, std::int64_t channels);

// What a person would like to know, in the order of application: ("rotation", "z 12.3, y -4.0, x
// 7.1 degrees"), ...; empty for a plain copy.
std::vector<std::pair<std::string, std::string>> describe(const AugmentPlan& plan);

// A part of a case; it may stick out.
struct Box {
  Index3 begin{}, size{};
  bool operator==(const Box&) const = default;
};
// The voxels that the plan can read for the patch whose box begins at `begin`.
Box needed_box(const AugmentPlan& plan, const Index3& begin);

// What of a case a GPU needs for a patch:
//   const Box part = part_inside(item, needed_box(plan, begin));
// and then copy_box() or cut(), and lower() with `begin` counted from part.begin. The patch is
// that of the whole case, bit by bit (on the CPU where C is a multiple of 4, else up to rounding):
// beyond the part, what the plan can read lies outside of the case.

// The voxels of the box that the case has; one voxel of the case where it has none of them.
Box part_inside(const PreparedCase& item, const Box& box);
// A part of the case's voxels, to image [box, C] and labels [box]; `labels` stays as it is where
// the case has none. Throws Error where the box sticks out.
void copy_box(const PreparedCase& item, const Box& box, Half* image, std::uint8_t* labels);
// The same as a case of its own, without geometry, crop and class counts.
PreparedCase cut(const PreparedCase& item, const Box& box);

// The case in the form that kernels take (kernels/augment.h); it must outlive the view. Throws
// Error where it has 2^31 voxels or more, or 16384 along an axis.
kernels::CaseView view_of(const PreparedCase& item);

// The plan in the form that kernels take (kernels/augment.h). Throws Error where a patch reaches
// 16384 voxels or more from the case's first voxel.
kernels::PatchTransform lower(const AugmentPlan& plan, const Index3& begin);

// Memory that rendering reuses. One thread at a time.
class PatchScratch {
 public:
  PatchScratch();
  ~PatchScratch();
  PatchScratch(PatchScratch&&) noexcept;
  PatchScratch& operator=(PatchScratch&&) noexcept;

  kernels::AugmentScratch& memory() { return *memory_; }

 private:
  std::unique_ptr<kernels::AugmentScratch> memory_;
};

// The patch whose box begins at voxel `begin` of the case (it may be negative, or the box stick
// out), in the calling thread. All that moves voxels is one resampling of the whole case, so that
// turning shows more of the case; outside of it the image is item.outside (0 where that is empty)
// and labels are 0, before intensities change. Throws Error where case and plan differ in channels,
// or the case has 2^31 voxels or more.
void render_patch(const PreparedCase& item, const Index3& begin, const AugmentPlan& plan,
                  float* image,          // [C, D, H, W]
                  std::uint8_t* labels,  // [D, H, W]; all 0 where the case has none
                  PatchScratch& scratch);

}  // namespace segmamba::data
