// The CUDA kernels against the CPU path. Needs a GPU; scripts/gpu_check.sh runs it.
#include "augment_cuda.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/augment_case.h"
#include "segmamba/core/error.h"

namespace segmamba::kernels {
namespace {

using segmamba::testing::AugmentCase;
using segmamba::testing::copied;
using segmamba::testing::deform;
using segmamba::testing::turned;

void check(cudaError_t status) {
  if (status != cudaSuccess) throw Error(cudaGetErrorString(status));
}

// Memory of the device, filled with 0xff or with numbers of the host.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) : bytes_(bytes) {
    check(cudaMalloc(&at_, bytes + 1));
    check(cudaMemset(at_, 0xff, bytes + 1));
  }
  template <class T>
  explicit DeviceMemory(const std::vector<T>& from) : DeviceMemory(from.size() * sizeof(T)) {
    check(cudaMemcpy(at_, from.data(), bytes_, cudaMemcpyHostToDevice));
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { cudaFree(at_); }

  template <class T>
  T* as() const {
    return static_cast<T*>(at_);
  }
  template <class T>
  std::vector<T> read() const {
    std::vector<T> to(bytes_ / sizeof(T));
    check(cudaMemcpy(to.data(), at_, bytes_, cudaMemcpyDeviceToHost));
    return to;
  }

 private:
  void* at_ = nullptr;
  std::size_t bytes_;
};

class CudaAugment : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no GPU on this machine";
    }
  }

  // `tolerance` absolute, of values around 1. A displaced position may round to the neighbouring
  // 2^-16 voxel, and so move a label in a voxel or two.
  static void expect_cpu(const AugmentCase& item, const PatchTransform& transform, double tolerance,
                         int other_labels = 0) {
    SCOPED_TRACE(::testing::Message() << item.view.channels << " channels");
    const SpatialMap& map = transform.map;
    const std::size_t voxels = static_cast<std::size_t>(map.size[0]) *
                               static_cast<std::size_t>(map.size[1]) *
                               static_cast<std::size_t>(map.size[2]);
    std::vector<float> image(voxels * static_cast<std::size_t>(item.view.channels));
    std::vector<std::uint8_t> labels(voxels);
    AugmentScratch scratch;
    augment_patch_cpu(item.view, transform, image.data(), labels.data(), scratch);

    std::vector<float> outside(static_cast<std::size_t>(item.view.channels), 0);
    if (item.view.outside != nullptr) {
      outside.assign(item.view.outside, item.view.outside + item.view.channels);
    }
    const DeviceMemory case_image(item.image), case_labels(item.labels), case_outside(outside);
    CaseView from = item.view;
    from.image = case_image.as<std::uint16_t>();
    from.labels = item.view.labels == nullptr ? nullptr : case_labels.as<std::uint8_t>();
    from.outside = case_outside.as<float>();
    std::vector<float> first;
    for (int run = 0; run < 2; ++run) {
      const DeviceMemory to(image.size() * sizeof(float)), to_labels(voxels),
          workspace(augment_workspace_cuda(transform));
      augment_patch_cuda(from, transform, to.as<float>(), to_labels.as<std::uint8_t>(),
                         workspace.as<void>(), nullptr);
      check(cudaDeviceSynchronize());
      const auto got = to.read<float>();
      const auto got_labels = to_labels.read<std::uint8_t>();
      if (run == 1) {
        EXPECT_EQ(std::memcmp(got.data(), first.data(), got.size() * sizeof(float)), 0)
            << "other bits the second time";
        break;
      }
      first = got;
      double worst = 0;
      std::size_t where = 0;
      for (std::size_t i = 0; i < image.size(); ++i) {
        const double error = std::abs(got[i] - image[i]);
        if (!(error <= worst)) worst = error, where = i;
      }
      EXPECT_LE(worst, tolerance) << "value " << where << " of " << image.size();
      int different = 0;
      for (std::size_t i = 0; i < voxels; ++i) different += got_labels[i] != labels[i] ? 1 : 0;
      EXPECT_LE(different, other_labels);
    }
  }
};

// What compute-sanitizer can run in a minute.
class CudaSmallAugment : public CudaAugment {};

const std::vector<float> kOutside = {-0.8F, 0.3F, 1.2F, -2.0F, 0.0F, 5.0F};

TEST_F(CudaSmallAugment, EveryStepEqualsTheCpu) {
  for (const std::int32_t channels : {1, 4, 6}) {
    AugmentCase item(19, 23, 29, channels);
    item.view.outside = kOutside.data();
    for (int kind = 0; kind < 6; ++kind) {
      SCOPED_TRACE(kind);
      PatchTransform transform =
          kind < 2 ? copied(item, 15, 17, 27, 5 * kind) : turned(item, 15, 17, 27);
      transform.cubic_image = kind % 2 == 0;
      transform.linear_labels = kind < 4;
      transform.cubic_upsampling = kind < 3;
      transform.gamma_retains = kind != 5;
      transform.noise_seed = 99;
      for (std::size_t c = 0; c < transform.channels.size(); ++c) {
        auto& channel = transform.channels[c];
        channel = {0.1F, c % 2 == 0 ? 0.8F : 0.0F, 0.9F, 0.2F, 0.8F, {}, 1.3F, 0.75F};
        if (c < 2) {
          for (int a = 0; a < 3; ++a) channel.low[a] = transform.map.size[a] * 2 / 3;
        }
      }
      if (kind >= 4) deform(transform);
      expect_cpu(item, transform, kind >= 4 ? 1e-3 : 1e-4, kind >= 4 ? 8 : 0);
    }
  }
}

TEST_F(CudaAugment, CopiesExactly) {
  for (const std::int32_t channels : {1, 3, 4, 6}) {
    AugmentCase item(13, 17, 37, channels);
    item.view.outside = kOutside.data();
    for (int mirrored = 0; mirrored < 8; ++mirrored) {
      expect_cpu(item, copied(item, 12, 16, 41, mirrored), 0);
    }
    item.view.labels = nullptr;
    expect_cpu(item, copied(item, 3, 4, 5, 1), 0);
  }
}

TEST_F(CudaAugment, AddsTheNoiseOfTheCpu) {
  const AugmentCase item(13, 17, 37, 5);
  PatchTransform transform = copied(item, 40, 50, 61, 0);
  transform.noise_seed = 0x123456789abcdefU;
  for (auto& channel : transform.channels) channel.noise = 0.7F;
  expect_cpu(item, transform, 1e-5);
}

// As in training: a patch of 128^3 and four channels.
TEST_F(CudaAugment, LargePatchesEqualTheCpu) {
  AugmentCase item(140, 150, 130, 4);
  item.view.outside = kOutside.data();
  PatchTransform transform = turned(item, 128, 128, 128);
  transform.cubic_image = true;
  transform.noise_seed = 5;
  transform.channels[0] = {0.1F, 1.0F, 1.2F, 0.1F, 1.2F, {}, 1, 0.8F};
  transform.channels[1].contrast = 0.8F;
  for (int a = 0; a < 3; ++a) transform.channels[2].low[a] = 77;
  transform.channels[3].gamma_inverted = 1.4F;
  // The CPU path adds up squares in floats, which shows in its standard deviations.
  expect_cpu(item, transform, 5e-4);
}

TEST_F(CudaAugment, RefusesWhatDoesNotFit) {
  const AugmentCase item(4, 4, 4, 2);
  PatchTransform transform = copied(item, 4, 4, 4, 0);
  transform.channels[0].blur = 20;
  EXPECT_THROW(augment_patch_cuda(item.view, transform, nullptr, nullptr, nullptr, nullptr), Error);
  transform.channels.pop_back();
  EXPECT_THROW(augment_patch_cuda(item.view, transform, nullptr, nullptr, nullptr, nullptr), Error);
}

}  // namespace
}  // namespace segmamba::kernels
