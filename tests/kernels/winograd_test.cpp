// Winograd's convolution against its formula in float64, for every type and instruction set.

#include "winograd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/volume_case.h"

namespace segmamba::kernels {
namespace {

using segmamba::testing::convert;
using segmamba::testing::on_every_instruction_set;
using segmamba::testing::random_numbers;
using segmamba::testing::to_double;
using segmamba::testing::Volumes;
using segmamba::testing::VolumeTypes;

TYPED_TEST_SUITE(Volumes, VolumeTypes);

struct ConvolutionCase {
  std::int64_t batch, depth, height, width, in, out;
  bool bias;
};

// Single voxels, odd sizes, channels around blocks and vectors, several groups of blocks.
const ConvolutionCase kConvolutions[] = {{1, 1, 1, 1, 1, 1, true},
                                         {2, 3, 5, 4, 3, 17, true},
                                         {1, 2, 2, 2, 20, 33, true},
                                         {1, 7, 6, 9, 16, 48, false},
                                         {2, 6, 4, 11, 40, 70, true}};

TYPED_TEST(Volumes, WinogradEqualsTheConvolution) {
  using T = TypeParam;
  using S = State<T>;
  on_every_instruction_set([] {
    for (const auto& s : kConvolutions) {
      SCOPED_TRACE(::testing::Message() << s.in << " -> " << s.out);
      Random random(9);
      const std::int64_t voxels = s.batch * s.depth * s.height * s.width;
      const auto x = TestFixture::data(voxels * s.in, random);
      // Results of size about 1.
      const auto weight =
          convert<S>(random_numbers(s.out * s.in * 27, 1 / std::sqrt(27.0 * s.in), 0, random));
      const auto bias = convert<S>(random_numbers(s.out, 1, 0, random));
      AlignedVector<S> transformed(winograd_weight_count(s.in, s.out));
      transform_winograd_weight(weight.data(), s.in, s.out, transformed.data());
      AlignedVector<T> out(voxels * s.out), serial(out.size());
      Winograd<T> convolution{s.batch,
                              s.depth,
                              s.height,
                              s.width,
                              s.in,
                              s.out,
                              x.data(),
                              transformed.data(),
                              s.bias ? bias.data() : nullptr,
                              out.data()};
      winograd_convolution_cpu(convolution, 2);
      convolution.out = serial.data();
      winograd_convolution_cpu(convolution, 1);
      EXPECT_EQ(std::memcmp(serial.data(), out.data(), out.size() * sizeof(T)), 0);

      double apart = 0;
      for (std::int64_t voxel = 0; voxel < voxels; ++voxel) {
        const std::int64_t at[3] = {voxel / s.width / s.height % s.depth,
                                    voxel / s.width % s.height, voxel % s.width};
        for (std::int64_t o = 0; o < s.out; ++o) {
          double sum = s.bias ? bias[o] : 0;
          for (int tap = 0; tap < 27; ++tap) {
            const std::int64_t z = at[0] + tap / 9 - 1, y = at[1] + tap / 3 % 3 - 1,
                               column = at[2] + tap % 3 - 1;
            if (z < 0 || z >= s.depth || y < 0 || y >= s.height || column < 0 ||
                column >= s.width) {
              continue;
            }
            const std::int64_t item = voxel / (s.depth * s.height * s.width);
            const std::int64_t from = ((item * s.depth + z) * s.height + y) * s.width + column;
            for (std::int64_t i = 0; i < s.in; ++i) {
              sum += to_double(x[from * s.in + i]) * weight[(o * s.in + i) * 27 + tap];
            }
          }
          apart = std::max(apart, std::abs(to_double(out[voxel * s.out + o]) - sum));
        }
      }
      EXPECT_LT(apart, TestFixture::tolerance(1e-5));
    }
  });
}

}  // namespace
}  // namespace segmamba::kernels
