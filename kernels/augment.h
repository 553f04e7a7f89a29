#pragma once
// Augmentation of 3D patches: one pass from a case in memory to a float patch, and the changes of
// intensity on it. What is random has been drawn before (segmamba/data/augment.h): a PatchTransform
// gives the same patch wherever it runs. The maths of a voxel is in augment_math.cuh.
//
// Semantics follow batchgenerators (https://github.com/MIC-DKFZ/batchgenerators, Apache-2.0), the
// library behind nnU-Net's and SegMamba's training; the code is written from the formulae.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_vector.h"

namespace segmamba::kernels {

// A case. Fewer than 2^31 voxels. Axes are in the order of memory: z, y, x.
struct CaseView {
  const std::uint16_t* image = nullptr;  // [D, H, W, C], bits of IEEE binary16
  const std::uint8_t* labels = nullptr;  // [D, H, W]; nullptr where the case has none
  std::int32_t size[3] = {};             // D, H, W
  std::int32_t channels = 0;             // C
  // [C]: what voxels beyond the case are in the image; nullptr: 0. Their label is 0.
  const float* outside = nullptr;
};

// Positions in a case are integers in units of 2^-16 voxel: every processor computes the same ones,
// so that a label cannot depend on the processor by a rounding. Cases and patches reach less than
// kLargestPosition voxels.
inline constexpr int kPositionBits = 16;
inline constexpr std::int32_t kPositionOne = 1 << kPositionBits;
inline constexpr double kLargestPosition = 16384;

// Where the voxels of a patch lie in the case. Plain data: kernels take it by value.
struct SpatialMap {
  std::int32_t size[3] = {};  // of the patch: D, H, W
  // Position of voxel (z, y, x) along case axis a:
  //   origin[a] + step[a][0] z + step[a][1] y + step[a][2] x (+ the displacement below).
  // Mirroring is in here: a mirrored axis has a negative step.
  std::int32_t origin[3] = {};
  std::int32_t step[3][3] = {};
  // True: every step is a whole voxel along the axis itself, and nothing is interpolated.
  bool is_copy = false;

  // A free-form deformation by cubic B-splines; points[0] is 0 where there is none. Along axis b,
  // control point k belongs to voxel (k - 1) / per_spacing, counted from the other end where
  // mirror[b] is set.
  std::int32_t points[3] = {};
  float per_spacing = 0;  // 1 / (voxels between control points)
  bool mirror[3] = {};
};

// What is done to the intensities of one channel, in this order; each default does nothing.
struct ChannelTransform {
  float noise = 0;   // standard deviation of added normal noise
  float blur = 0;    // standard deviation of a Gaussian, voxels
  float factor = 1;  // brightness: x * factor + shift
  float shift = 0;
  float contrast = 1;        // (x - mean) * contrast + mean
  std::int32_t low[3] = {};  // size of the image of lower resolution; low[0] is 0 for none
  float gamma_inverted = 1;  // gamma of -x
  float gamma = 1;
};

struct PatchTransform {
  SpatialMap map;
  bool cubic_image = false;   // Keys' cubic convolution (a = -1/2), else trilinear
  bool linear_labels = true;  // the label with the largest trilinear weight, else the nearest
  // [points z, points y, 3, points x]: displacements of the control points along the case's axes
  // (z, y, x), voxels of the case.
  std::vector<float> displacements;

  std::vector<ChannelTransform> channels;  // one for each channel of the case
  std::uint64_t noise_seed = 0;
  bool contrast_preserves_range = true;  // clips to the smallest and largest value before
  bool cubic_upsampling = true;          // else linear
  bool gamma_inverted_retains = true;    // mean and standard deviation are restored
  bool gamma_retains = true;
};

// Memory that calls reuse; one thread at a time.
struct AugmentScratch {
  AlignedVector<float> floats, slice;
  AlignedVector<std::int32_t> integers;
  std::vector<float*> rows;
};

// Radius of the Gaussian's kernel: four standard deviations, as in SciPy's gaussian_filter.
int gaussian_radius(float sigma);
// Its 2 * radius + 1 weights, which add up to 1.
std::vector<float> gaussian_weights(float sigma);

// On the CPU, in the calling thread, by the functions of instruction_set(). The same bits for the
// same set; sets differ by rounding.
void augment_patch_cpu(const CaseView& from, const PatchTransform& transform,
                       float* image,          // [C, D, H, W] of the patch
                       std::uint8_t* labels,  // [D, H, W]; all 0 where the case has none
                       AugmentScratch& scratch);

}  // namespace segmamba::kernels
