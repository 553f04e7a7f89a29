#include "augment_blocks.cuh"
#include "augment_cuda.h"
#include "cuda_launch.cuh"

namespace segmamba::kernels {

namespace {

void check_augment(const CaseView& from, const PatchTransform& transform) {
  if (static_cast<std::size_t>(from.channels) != transform.channels.size()) {
    throw Error("a case of " + std::to_string(from.channels) +
                " channels cannot be augmented by a transform of " +
                std::to_string(transform.channels.size()));
  }
  for (const ChannelTransform& channel : transform.channels) {
    if (gaussian_radius(channel.blur) > kMaxBlurRadius) {
      throw Error("a blur by a Gaussian of standard deviation " + std::to_string(channel.blur) +
                  " is too wide for the GPU: it reaches " + std::to_string(kMaxBlurRadius) +
                  " voxels at most");
    }
  }
}

}  // namespace

std::size_t augment_workspace_cuda(const PatchTransform& transform) {
  return AugmentLayout(transform).bytes;
}

void augment_patch_cuda(const CaseView& from, const PatchTransform& transform, float* image,
                        std::uint8_t* labels, void* workspace, CudaStream stream) {
  check_augment(from, transform);
  const std::vector<float>& displacements = transform.displacements;
  if (!displacements.empty()) {
    // From memory that is not pinned: it has been read when the call returns.
    check_cuda(cudaMemcpyAsync(
                   static_cast<unsigned char*>(workspace) + AugmentLayout(transform).displacements,
                   displacements.data(), displacements.size() * sizeof(float),
                   cudaMemcpyHostToDevice, stream),
               "the copy of a patch's displacements");
  }
  AugmentPasses<CudaLauncher>(from, transform, image, labels, workspace,
                              CudaLauncher("the augmentation of a patch", stream))
      .run();
}

}  // namespace segmamba::kernels
