#include "segmamba/io/volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "nifti_bytes.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
using test::NiftiBytes;
using ::testing::HasSubstr;

const fs::path kData = fs::path(SEGMAMBA_TEST_DATA) / "io";

class VolumeTest : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  fs::path file(const std::string& name) const { return folder_.path() / name; }
  fs::path write(const NiftiBytes& bytes, const std::string& name = "volume.nii") const {
    bytes.write(file(name));
    return file(name);
  }
  // The message of the Error that reading throws; "" where it throws none.
  template <class Read>
  static std::string error_of(Read read) {
    try {
      read();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  static std::string image_error(const fs::path& path) {
    return error_of([&] { read_image(path); });
  }

  test::TemporaryFolder folder_;
};

std::vector<float> counting(std::size_t count, float scale = 1, float offset = 0) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = scale * static_cast<float>(i) + offset;
  return values;
}

void expect_near(const std::array<double, 9>& got, const std::array<double, 9>& expected,
                 double tolerance) {
  for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(got[i], expected[i], tolerance) << "entry " << i;
}

// The files that nibabel wrote (tests/data/io/make_volumes.py): RAS axes turned by 30 degrees, so
// that LPS has the same turn with the first two rows negated.
TEST_F(VolumeTest, ReadsWhatNibabelWrote) {
  const double cos = std::sqrt(3) / 2, sin = 0.5;
  for (const char* name : {"oblique_int16.nii.gz", "nifti2_uint8.nii.gz",
                           "big_endian_float64.nii.gz", "scaled_int32.nii.gz"}) {
    SCOPED_TRACE(name);
    const Image image = read_image(kData / name);
    EXPECT_EQ(image.geometry.size, (std::array<std::int64_t, 3>{3, 4, 5}));
    const std::array<double, 3> spacing = {0.5, 1, 2.5}, origin = {90, -126, -72};
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(image.geometry.spacing[i], spacing[i], 1e-7);
      EXPECT_NEAR(image.geometry.origin[i], origin[i], 1e-7);
    }
    expect_near(image.geometry.direction, {-cos, sin, 0, -sin, -cos, 0, 0, 0, 1}, 1e-7);
    const bool scaled = std::string(name) == "scaled_int32.nii.gz";
    EXPECT_EQ(image.voxels, scaled ? counting(60, 0.5f, -3) : counting(60));
    EXPECT_EQ(geometry_difference(read_geometry(kData / name), image.geometry, 0), "");
  }
  const LabelMap labels = read_labels(kData / "big_endian_float64.nii.gz");
  std::vector<std::uint8_t> expected(60);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(labels.voxels, expected);
}

TEST_F(VolumeTest, ReadsEveryScalarType) {
  const auto check = [&]<class T>(std::int16_t code, const std::vector<T>& values) {
    NiftiBytes bytes({2, 2, 1});
    bytes.set_type(code, static_cast<std::int16_t>(8 * sizeof(T)));
    bytes.set_voxels(values);
    const Image image = read_image(write(bytes));
    ASSERT_EQ(image.voxels.size(), 4);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(image.voxels[i], static_cast<float>(values[i])) << "type " << code;
    }
  };
  check(2, std::vector<std::uint8_t>{0, 1, 128, 255});
  check(256, std::vector<std::int8_t>{-128, -1, 0, 127});
  check(512, std::vector<std::uint16_t>{0, 1, 40000, 65535});
  check(4, std::vector<std::int16_t>{-32768, -1, 0, 32767});
  check(768, std::vector<std::uint32_t>{0, 1, 3000000000u, 4294967295u});
  check(8, std::vector<std::int32_t>{-2147483647, -1, 0, 2147483647});
  check(1280, std::vector<std::uint64_t>{0, 1, 1ull << 40, 1ull << 63});
  check(1024, std::vector<std::int64_t>{-(1ll << 40), -1, 0, 1ll << 62});
  check(16, std::vector<float>{-1.5f, 0, 1e-30f, 1e30f});
  check(64, std::vector<double>{-1.25, 0, 0.1, 1e30});
}

TEST_F(VolumeTest, ReadsPairsExtensionsAndAFourthAxisOfOne) {
  NiftiBytes pair({3, 4, 5});
  pair.bytes().replace(344, 3, "ni1");
  pair.put<float>(108, 0);
  test::write_bytes(file("pair.hdr"), pair.bytes().substr(0, 348));
  test::write_bytes(file("pair.img"), pair.bytes().substr(352));
  EXPECT_EQ(read_image(file("pair.hdr")).voxels, counting(60));
  EXPECT_EQ(read_image(file("pair.img")).voxels, counting(60));

  NiftiBytes extended({3, 4, 5});
  extended.bytes()[348] = 1;
  extended.put<float>(108, 368);
  extended.bytes().insert(352, std::string("\x10\0\0\0\4\0\0\0comment\0", 16));
  EXPECT_EQ(read_image(write(extended)).voxels, counting(60));

  NiftiBytes four({3, 4, 5});
  four.put<std::int16_t>(40, 4);
  EXPECT_EQ(read_image(write(four)).voxels, counting(60));
}

TEST_F(VolumeTest, PrefersSformThenQformThenSpacing) {
  NiftiBytes bytes({3, 4, 5});
  bytes.set_sform({2, 0, 0, 7, 0, 3, 0, 8, 0, 0, 4, 9});
  bytes.put<float>(264, 1);  // quatern_d: half a turn about z
  bytes.put<float>(268, 10);
  bytes.put<float>(84, 1.5f);
  EXPECT_EQ(read_geometry(write(bytes)).spacing, (std::array<double, 3>{2, 3, 4}));
  EXPECT_EQ(read_geometry(write(bytes)).origin, (std::array<double, 3>{-7, -8, 9}));
  bytes.put<std::int16_t>(254, 0);
  const Geometry qform = read_geometry(write(bytes));
  EXPECT_EQ(qform.spacing, (std::array<double, 3>{1, 1.5, 1}));
  EXPECT_EQ(qform.origin, (std::array<double, 3>{-10, 0, 0}));
  expect_near(qform.direction, {1, 0, 0, 0, 1, 0, 0, 0, 1}, 1e-15);
  bytes.put<std::int16_t>(252, 0);
  const Geometry bare = read_geometry(write(bytes));
  EXPECT_EQ(bare.spacing, (std::array<double, 3>{1, 1.5, 1}));
  EXPECT_EQ(bare.origin, (std::array<double, 3>{0, 0, 0}));
}

TEST_F(VolumeTest, RepairsDirectionsUpToTheBoundOnly) {
  NiftiBytes bytes({3, 4, 5});
  bytes.put<std::int16_t>(252, 0);
  bytes.set_sform({1, 0.008f, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0});
  const auto direction = read_geometry(write(bytes)).direction;
  // A shear by s is nearest to a rotation by s / 2.
  expect_near(direction, {-1, -0.004, 0, 0.004, -1, 0, 0, 0, 1}, 2e-5);
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t b = 0; b < 3; ++b) {
      double dot = 0;
      for (std::size_t row = 0; row < 3; ++row)
        dot += direction[3 * row + a] * direction[3 * row + b];
      EXPECT_NEAR(dot, a == b ? 1 : 0, 1e-14);
    }
  }
  EXPECT_EQ(read_image(file("volume.nii")).voxels, counting(60));

  bytes.set_sform({1, 0.1f, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0});
  EXPECT_THAT(image_error(write(bytes)), HasSubstr("sheared"));
  // Two forms of one code: one of them is damaged. Of different codes: the atlas may be sheared.
  bytes.put<std::int16_t>(252, 1);
  EXPECT_THAT(image_error(write(bytes)), HasSubstr("sheared"));
  bytes.put<std::int16_t>(254, 4);
  expect_near(read_geometry(write(bytes)).direction, {-1, 0, 0, 0, -1, 0, 0, 0, 1}, 1e-15);
}

TEST_F(VolumeTest, RefusesWhatItCannotReadWithTheReason) {
  const auto error_with = [&](const std::function<void(NiftiBytes&)>& change) {
    NiftiBytes bytes({3, 4, 5});
    change(bytes);
    const std::string message = image_error(write(bytes));
    EXPECT_THAT(message, HasSubstr("volume.nii"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message;
  };
  using B = NiftiBytes;
  EXPECT_THAT(error_with([](B& b) { b.bytes().resize(100); }), HasSubstr("not a NIfTI file"));
  EXPECT_THAT(error_with([](B& b) { b.bytes()[344] = 'x'; }), HasSubstr("no NIfTI mark"));
  EXPECT_THAT(error_with([](B& b) { b.bytes()[345] = 'i'; }), HasSubstr("mark does not fit"));
  EXPECT_THAT(error_with([](B& b) { b.put<std::int16_t>(40, 2); }), HasSubstr("2-D"));
  EXPECT_THAT(error_with([](B& b) {
                b.put<std::int16_t>(40, 4);
                b.put<std::int16_t>(48, 2);
              }),
              HasSubstr("2 volumes along axis 4"));
  EXPECT_THAT(error_with([](B& b) { b.put<std::int16_t>(42, -3); }), HasSubstr("size -3"));
  EXPECT_THAT(error_with([](B& b) { b.set_type(32, 64); }), HasSubstr("complex"));
  EXPECT_THAT(error_with([](B& b) { b.set_type(128, 24); }), HasSubstr("RGB"));
  EXPECT_THAT(error_with([](B& b) { b.set_type(4, 8); }), HasSubstr("bitpix"));
  EXPECT_THAT(error_with([](B& b) { b.set_type(77, 8); }), HasSubstr("data type 77"));
  EXPECT_THAT(error_with([](B& b) { b.put<float>(108, 10); }), HasSubstr("vox_offset"));
  EXPECT_THAT(error_with([](B& b) { b.put<float>(112, INFINITY); }), HasSubstr("scl_slope"));
  EXPECT_THAT(error_with([](B& b) { b.put<float>(280, NAN); }), HasSubstr("not finite"));
  EXPECT_THAT(error_with([](B& b) { b.put<float>(280, 0); }), HasSubstr("spacing of 0 mm"));
  EXPECT_THAT(error_with([](B& b) { b.bytes()[123] = 1; }), HasSubstr("metres"));
  EXPECT_THAT(error_with([](B& b) { b.bytes().pop_back(); }),
              HasSubstr("promises 472 bytes, it holds 471"));
  // Terabytes promised by a file of 472 bytes.
  EXPECT_THAT(error_with([](B& b) {
                for (std::size_t i = 0; i < 3; ++i) b.put<std::int16_t>(42 + 2 * i, 10000);
              }),
              HasSubstr("promises 2000000000352 bytes"));
  EXPECT_THAT(error_with([](B& b) {
                for (std::size_t i = 0; i < 3; ++i) b.put<std::int16_t>(42 + 2 * i, 32767);
              }),
              HasSubstr("more than 2^40 voxels"));
  EXPECT_THAT(image_error(file("absent.nii.gz")), HasSubstr("does not exist"));
  EXPECT_THAT(image_error(folder_.path()), HasSubstr("is a folder without DICOM images"));
  fs::create_symlink("loop.nii.gz", file("loop.nii.gz"));
  EXPECT_EQ(image_error(file("loop.nii.gz")),
            file("loop.nii.gz").string() + ": cannot be read: Too many levels of symbolic links");
  ASSERT_EQ(::mkfifo(file("pipe.nii.gz").c_str(), 0600), 0);
  EXPECT_EQ(image_error(file("pipe.nii.gz")),
            file("pipe.nii.gz").string() + ": is a pipe, not a NIfTI file");
  fs::create_directory(file("folder.nii"));
  EXPECT_THAT(image_error(file("folder.nii")), HasSubstr("is a folder"));
  test::write_bytes(file("empty.nii"), "");
  EXPECT_THAT(image_error(file("empty.nii")), HasSubstr("it holds 0 bytes"));
}

TEST_F(VolumeTest, NamesAndContentMustAgreeOnCompression) {
  const NiftiBytes bytes({3, 4, 5});
  bytes.write_gzip(file("compressed.nii"));
  EXPECT_THAT(image_error(file("compressed.nii")), HasSubstr("name it .nii.gz"));
  EXPECT_THAT(image_error(write(bytes, "plain.nii.gz")), HasSubstr("not compressed"));
}

TEST_F(VolumeTest, CountsVoxelsThatAreNotFinite) {
  NiftiBytes bytes({2, 2, 1});
  bytes.set_type(16, 32);
  bytes.set_voxels<float>({1, NAN, INFINITY, 2});
  EXPECT_THAT(image_error(write(bytes)), HasSubstr("2 of 4 voxels are NaN or infinite"));
  bytes.set_type(64, 64);
  bytes.set_voxels<double>({1, 1e300, 0, 2});
  EXPECT_THAT(image_error(write(bytes)), HasSubstr("1 of 4 voxels are too large for float"));
}

TEST_F(VolumeTest, LabelsMustBeWholeNumbersFrom0To255) {
  NiftiBytes bytes({2, 2, 1});
  const auto labels_error = [&] { return error_of([&] { read_labels(write(bytes)); }); };
  bytes.set_type(64, 64);
  bytes.set_voxels<double>({0, 1, 2, 255});
  EXPECT_EQ(read_labels(write(bytes)).voxels, (std::vector<std::uint8_t>{0, 1, 2, 255}));
  bytes.set_voxels<double>({0, NAN, 2, 3});
  EXPECT_THAT(labels_error(), HasSubstr("1 of 4 voxels are NaN"));
  bytes.set_voxels<double>({0, 1.5, 2, 256});
  EXPECT_THAT(labels_error(), HasSubstr("2 of 4 voxels are not whole numbers from 0 to 255 (the "
                                        "first is 1.5)"));
  bytes.set_type(4, 16);
  bytes.set_voxels<std::int16_t>({0, 256, -1, 3});
  EXPECT_THAT(labels_error(), HasSubstr("2 of 4 voxels"));
  EXPECT_THROW(read_labels(file("volume.nii")), NotLabelsError);
  // Unreadable is something else.
  bytes.bytes().pop_back();
  try {
    read_labels(write(bytes));
    ADD_FAILURE() << "a truncated file was read";
  } catch (const NotLabelsError& error) {
    ADD_FAILURE() << error.what();
  } catch (const Error&) {
  }
  bytes.set_type(256, 8);
  bytes.set_voxels<std::int8_t>({0, 1, -1, 3});
  EXPECT_THAT(labels_error(), HasSubstr("the first is -1"));
}

// Whatever is cut off, the file is refused; a gzip stream with any bit flipped either still gives
// the voxels (the flip was in a time stamp or the like) or is refused.
TEST_F(VolumeTest, DamagedFilesAreRefusedOrReadRightly) {
  const NiftiBytes bytes({3, 4, 5});
  for (std::size_t length = 0; length < bytes.bytes().size(); length += 7) {
    test::write_bytes(file("cut.nii"), bytes.bytes().substr(0, length));
    EXPECT_NE(image_error(file("cut.nii")), "") << length;
  }
  bytes.write_gzip(file("whole.nii.gz"));
  const std::string compressed = test::read_bytes(file("whole.nii.gz"));
  for (std::size_t length = 0; length < compressed.size(); ++length) {
    test::write_bytes(file("cut.nii.gz"), compressed.substr(0, length));
    EXPECT_NE(image_error(file("cut.nii.gz")), "") << length;
  }
  for (std::size_t bit = 0; bit < 8 * compressed.size(); ++bit) {
    std::string flipped = compressed;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    test::write_bytes(file("flip.nii.gz"), flipped);
    try {
      EXPECT_EQ(read_image(file("flip.nii.gz")).voxels, counting(60)) << "bit " << bit;
    } catch (const Error&) {
    }
  }
}

// A flipped bit of the header is refused, or changes only what the flipped field says: voxels stay
// the right ones unless the flip is in the type, the sizes, the offset or the scaling.
TEST_F(VolumeTest, FlippedHeaderBitsAreRefusedOrReadAsTheySay) {
  const NiftiBytes good({3, 4, 5});
  const auto changes_voxels = [](std::size_t byte) {
    return (byte >= 40 && byte < 56) || (byte >= 70 && byte < 74) || (byte >= 108 && byte < 120);
  };
  int read = 0;
  for (std::size_t bit = 0; bit < 8 * 348; ++bit) {
    NiftiBytes bytes = good;
    bytes.bytes()[bit / 8] = static_cast<char>(bytes.bytes()[bit / 8] ^ (1 << (bit % 8)));
    try {
      const Image image = read_image(write(bytes));
      ++read;
      const auto& size = image.geometry.size;
      for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(size[i], bytes.get<std::int16_t>(42 + 2 * i));
      EXPECT_EQ(static_cast<std::size_t>(size[0] * size[1] * size[2]), image.voxels.size());
      if (!changes_voxels(bit / 8)) {
        EXPECT_EQ(image.voxels, counting(60)) << "bit " << bit;
      }
    } catch (const Error&) {
    }
  }
  EXPECT_GT(read, 1000);
}

// Bytes of the header that say where the volume lies: dim[1..3], pixdim, units, codes, quaternion,
// offsets, srow.
void expect_same_place(const NiftiBytes& got, const NiftiBytes& expected) {
  for (const auto& [begin, end] :
       {std::pair{42, 48}, {76, 108}, {123, 124}, {252, 328}, {39, 40}}) {
    EXPECT_EQ(got.bytes().substr(begin, end - begin), expected.bytes().substr(begin, end - begin))
        << "bytes " << begin << " to " << end;
  }
}

// Volume v of a 4-D file counts on from 60 v.
NiftiBytes four_dimensional(std::int16_t volumes) {
  NiftiBytes bytes({3, 4, 5});
  bytes.put<std::int16_t>(40, 4);
  bytes.put<std::int16_t>(48, volumes);
  for (int i = 60; i < 60 * volumes; ++i) bytes.append(static_cast<std::int16_t>(i));
  return bytes;
}

TEST_F(VolumeTest, ReadsTheVolumesOfA4dFile) {
  const NiftiBytes bytes = four_dimensional(3);
  bytes.write_gzip(file("four.nii.gz"));
  write(bytes, "four.nii");
  for (const char* name : {"four.nii", "four.nii.gz"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(count_volumes(file(name)), 3);
    const auto images = read_images(file(name));
    ASSERT_EQ(images.size(), 3);
    for (std::size_t v = 0; v < 3; ++v) {
      const auto expected = counting(60, 1, static_cast<float>(60 * v));
      EXPECT_EQ(images[v].voxels, expected);
      EXPECT_EQ(images[v].geometry.size, (std::array<std::int64_t, 3>{3, 4, 5}));
      EXPECT_EQ(read_image(file(name), static_cast<std::int64_t>(v)).voxels, expected);
    }
    EXPECT_THAT(error_of([&] { read_image(file(name), 3); }),
                HasSubstr("has no volume 3; its volumes are 0 to 2"));
    // Who asks for the only volume, a label map or the grid means a 3-D file.
    EXPECT_THAT(image_error(file(name)), HasSubstr("is 4-D (3 volumes along axis 4)"));
    EXPECT_THAT(error_of([&] { read_labels(file(name)); }), HasSubstr("is 4-D"));
    EXPECT_THAT(error_of([&] { read_geometry(file(name)); }), HasSubstr("is 4-D"));
    EXPECT_EQ(read_geometry(file(name), 2).size, (std::array<std::int64_t, 3>{3, 4, 5}));
    EXPECT_THAT(error_of([&] { read_geometry(file(name), 3); }),
                HasSubstr("has no volume 3; its volumes are 0 to 2"));
  }
  write_image(file("one.nii"), read_image(file("four.nii"), 2));
  EXPECT_EQ(read_image(file("one.nii")).voxels, counting(60, 1, 120));
  EXPECT_EQ(read_images(file("one.nii")).at(0).voxels, counting(60, 1, 120));
  EXPECT_EQ(read_image(file("one.nii"), 0).voxels, counting(60, 1, 120));
  EXPECT_EQ(count_volumes(file("one.nii")), 1);

  NiftiBytes shorter = bytes;
  shorter.bytes().resize(shorter.bytes().size() - 2);
  write(shorter);
  // Also where the missing voxel is of another volume.
  EXPECT_THROW(read_image(file("volume.nii"), 0), DamagedFileError);
  EXPECT_THROW(read_images(file("volume.nii")), DamagedFileError);
  NiftiBytes five = bytes;
  five.put<std::int16_t>(40, 5);
  five.put<std::int16_t>(50, 2);
  EXPECT_THAT(error_of([&] { read_images(write(five)); }), HasSubstr("is 5-D"));
}

TEST_F(VolumeTest, AFileHasAtMost65536Volumes) {
  NiftiBytes bytes(kData / "nifti2_uint8.nii.gz");
  for (std::size_t axis = 0; axis < 3; ++axis) bytes.put<std::int64_t>(24 + 8 * axis, 1);
  bytes.put<std::int64_t>(16, 4);
  constexpr std::int64_t kMost = 65536;
  const auto with_volumes = [&](std::int64_t count) {
    bytes.put<std::int64_t>(48, count);
    bytes.bytes().resize(544 + static_cast<std::size_t>(count), '\7');
    return write(bytes);
  };
  const auto images = read_images(with_volumes(kMost));
  ASSERT_EQ(std::ssize(images), kMost);
  EXPECT_EQ(images.back().voxels, std::vector<float>{7});
  EXPECT_EQ(count_volumes(file("volume.nii")), kMost);

  const auto path = with_volumes(kMost + 1);
  const auto expected = path.string() + ": has 65537 volumes along axis 4; at most 65536 are read";
  EXPECT_EQ(error_of([&] { read_images(path); }), expected);
  EXPECT_EQ(error_of([&] { read_image(path, 1); }), expected);
  EXPECT_EQ(error_of([&] { count_volumes(path); }), expected);
}

// Deflate could make what the header promises of as many bytes as these files have.
TEST_F(VolumeTest, PackedFilesThatHoldLessThanTheyPromise) {
  constexpr std::uint32_t kPromised = 352 + 400 * 400 * 400, kNoise = 70'000, kHeld = 700'352;
  NiftiBytes bytes({400, 1, 1});
  bytes.set_type(2, 8);
  for (const std::size_t offset : {44U, 46U}) bytes.put<std::int16_t>(offset, 400);
  bytes.bytes().resize(352);
  std::mt19937 random(1);
  for (std::uint32_t i = 0; i < kNoise; ++i) bytes.append(static_cast<std::uint8_t>(random()));
  bytes.bytes().resize(kHeld);
  const auto path = file("volume.nii.gz");
  bytes.write_gzip(path);
  const auto truncated =
      path.string() + ": is truncated: its header promises 64000352 bytes, it holds 700352";
  EXPECT_EQ(image_error(path), truncated);
  EXPECT_EQ(error_of([&] { read_labels(path); }), truncated);

  // The end of the stream tells the same lie as the header.
  std::string packed = test::read_bytes(path);
  ASSERT_GT(packed.size(), kPromised / 1032);
  std::memcpy(&packed[packed.size() - sizeof(kPromised)], &kPromised, sizeof(kPromised));
  test::write_bytes(path, packed);
  EXPECT_EQ(image_error(path), path.string() + ": is damaged: gzip reports \"" + path.string() +
                                   ": incorrect length check\"");
}

TEST_F(VolumeTest, PackedFilesOfSeveralMembers) {
  const NiftiBytes bytes({3, 4, 5});
  std::string packed;
  for (const auto& [begin, end] : {std::pair{0, 100}, {100, 400}, {400, 472}, {472, 472}}) {
    NiftiBytes member = bytes;
    member.bytes() = bytes.bytes().substr(begin, end - begin);
    member.write_gzip(file("member"));
    packed += test::read_bytes(file("member"));
  }
  test::write_bytes(file("volume.nii.gz"), packed);
  EXPECT_EQ(read_image(file("volume.nii.gz")).voxels, counting(60));
}

TEST_F(VolumeTest, TellsErrorsApart) {
  NiftiBytes bytes({3, 4, 5});
  bytes.set_type(16, 32);
  std::vector<float> voxels = counting(60);
  voxels[7] = std::numeric_limits<float>::quiet_NaN();
  bytes.set_voxels(voxels);
  EXPECT_THROW(read_image(write(bytes)), NotFiniteError);
  NiftiBytes({3, 4, 5}).write_gzip(file("volume.nii.gz"));
  const std::string good = test::read_bytes(file("volume.nii.gz"));
  test::write_bytes(file("volume.nii.gz"), good.substr(0, good.size() - 3));
  EXPECT_THROW(read_image(file("volume.nii.gz")), DamagedFileError);
  std::string bad = good;
  bad[good.size() / 2] = static_cast<char>(bad[good.size() / 2] ^ 0x55);
  test::write_bytes(file("volume.nii.gz"), bad);
  EXPECT_THROW(read_image(file("volume.nii.gz")), DamagedFileError);
}

TEST_F(VolumeTest, TellsHowDirectionsWereRepaired) {
  NiftiBytes bytes({3, 4, 5});
  EXPECT_EQ(direction_repair(read_geometry(write(bytes))).largest_change, 0);
  EXPECT_EQ(direction_repair(Geometry{}).largest_change, 0);
  // A shear by s is shared by both axes: each turns by s / 2.
  bytes.set_sform({1, 0.008f, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0});
  DirectionRepair repair = direction_repair(read_geometry(write(bytes)));
  EXPECT_NEAR(repair.largest_change, 0.004, 1e-5);
  EXPECT_FALSE(repair.sheared_sform);
  bytes.set_sform({1, 0.5f, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0});
  bytes.put<std::int16_t>(252, 2);
  repair = direction_repair(read_geometry(write(bytes)));
  EXPECT_EQ(repair.largest_change, 0);
  EXPECT_TRUE(repair.sheared_sform);
}

TEST_F(VolumeTest, OutputsKeepTheInputsHeader) {
  NiftiBytes left_handed({3, 4, 5});
  left_handed.put<float>(76, -1);  // qfac
  left_handed.put<float>(80, 0.7f);
  left_handed.put<float>(84, 0.9f);
  left_handed.put<float>(88, 5);
  left_handed.put<float>(256, 0.1f);  // quaternion and offsets
  left_handed.put<float>(260, -0.2f);
  left_handed.put<float>(264, 0.3f);
  left_handed.put<float>(268, -91.2f);
  left_handed.bytes()[123] = 10;
  left_handed.bytes()[39] = 57;
  NiftiBytes qform_only = left_handed, bare = left_handed, two_spaces = left_handed,
             nearly_orthonormal = left_handed;
  qform_only.put<std::int16_t>(254, 0);
  bare.put<std::int16_t>(252, 0);
  bare.put<std::int16_t>(254, 0);
  two_spaces.put<std::int16_t>(254, 4);
  two_spaces.set_sform({0, -1.5f, 0, 4, 0, 0, 2, 5, 3, 0, 0, 6});
  nearly_orthonormal.set_sform({1, 0.003f, 0, 1, 0, 1, 0, 2, 0.001f, 0, 1, 3});
  for (const auto& input : {left_handed, qform_only, bare, two_spaces, nearly_orthonormal}) {
    const Image image = read_image(write(input));
    for (const char* name : {"out.nii", "out.nii.gz"}) {
      write_image(file(name), image);
      const NiftiBytes output{file(name)};
      expect_same_place(output, input);
      EXPECT_EQ(output.get<std::int16_t>(70), 16);  // float32
      EXPECT_THAT(output.bytes().substr(148, 80), HasSubstr("segmamba "));
      const Image again = read_image(file(name));
      EXPECT_EQ(again.voxels, image.voxels);
      EXPECT_EQ(geometry_difference(again.geometry, image.geometry, 0), "");

      const LabelMap labels = read_labels(file("volume.nii"));
      write_labels(file(name), labels);
      expect_same_place(NiftiBytes{file(name)}, input);
      EXPECT_EQ(NiftiBytes{file(name)}.get<std::int16_t>(70), 2);  // uint8
      EXPECT_EQ(read_labels(file(name)).voxels, labels.voxels);
    }
  }
}

// A NIfTI-2 header holds doubles, which NIfTI-1 would round.
TEST_F(VolumeTest, OutputsHaveTheVersionOfTheInput) {
  NiftiBytes input(kData / "nifti2_uint8.nii.gz");
  const double third = 1.0 / 3;
  input.put<double>(104 + 8 * 4, 2.5);  // pixdim[4]
  input.put<double>(400 + 8 * 3, third);
  input.put<double>(352, 0.1);
  input.put<std::int32_t>(348, 3);
  input.put<std::int32_t>(500, 2 + 16);
  input.bytes()[524] = 57;
  const LabelMap labels = read_labels(write(input));
  for (const char* name : {"out.nii", "out.nii.gz"}) {
    write_labels(file(name), labels);
    const NiftiBytes output(file(name));
    for (const auto& [begin, end] :
         {std::pair{0, 12}, {16, 80}, {104, 168}, {344, 348}, {348, 496}, {500, 504}, {524, 525}}) {
      EXPECT_EQ(output.bytes().substr(begin, end - begin), input.bytes().substr(begin, end - begin))
          << "bytes " << begin << " to " << end;
    }
    EXPECT_EQ(output.get<std::int16_t>(12), 2);
    EXPECT_EQ(output.get<std::int64_t>(168), 544);
    EXPECT_EQ(output.bytes().size(), 544 + labels.voxels.size());
    EXPECT_THAT(output.bytes().substr(240, 80), HasSubstr("segmamba "));
    EXPECT_EQ(read_labels(file(name)).voxels, labels.voxels);
    EXPECT_EQ(geometry_difference(read_geometry(file(name)), labels.geometry, 0), "");
  }
}

TEST_F(VolumeTest, SizesBeyondNifti1AreWritten) {
  LabelMap labels;
  labels.geometry.size = {40000, 2, 1};
  labels.voxels.assign(80000, 7);
  write_labels(file("long.nii.gz"), labels);
  EXPECT_EQ(NiftiBytes{file("long.nii.gz")}.get<std::int32_t>(0), 540);
  const LabelMap again = read_labels(file("long.nii.gz"));
  EXPECT_EQ(again.geometry.size, labels.geometry.size);
  EXPECT_EQ(again.voxels, labels.voxels);
}

// Scaling is applied on reading, so that it must not be written again.
TEST_F(VolumeTest, OutputsAreNotScaledTwice) {
  const Image image = read_image(kData / "scaled_int32.nii.gz");
  write_image(file("out.nii"), image);
  const float slope = NiftiBytes{file("out.nii")}.get<float>(112);
  EXPECT_TRUE(slope == 0 || slope == 1) << slope;
  EXPECT_EQ(read_image(file("out.nii")).voxels, image.voxels);
}

TEST_F(VolumeTest, AStaleHeaderIsNotWritten) {
  Image image = read_image(write(NiftiBytes({3, 4, 5})));
  image.geometry.spacing = {2, 2, 2};
  image.geometry.origin = {1, 2, 3};
  write_image(file("out.nii.gz"), image);
  EXPECT_EQ(geometry_difference(read_geometry(file("out.nii.gz")), image.geometry), "");
}

// Random rotations and reflections, spacings and origins, written without any input header.
TEST_F(VolumeTest, GeometryRoundTripsThroughAFile) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int trial = 0; trial < 12; ++trial) {
    std::array<double, 4> q{};
    double length = 0;
    for (double& value : q) {
      value = uniform(random);
      length += value * value;
    }
    for (double& value : q) value /= std::sqrt(length);
    const auto [a, b, c, d] = q;
    const double mirror = trial % 2 == 0 ? 1 : -1;
    Image image;
    image.geometry.size = {2, 3, 4};
    image.geometry.direction = {a * a + b * b - c * c - d * d,
                                2 * (b * c - a * d),
                                mirror * 2 * (b * d + a * c),
                                2 * (b * c + a * d),
                                a * a + c * c - b * b - d * d,
                                mirror * 2 * (c * d - a * b),
                                2 * (b * d - a * c),
                                2 * (c * d + a * b),
                                mirror * (a * a + d * d - b * b - c * c)};
    for (std::size_t i = 0; i < 3; ++i) {
      image.geometry.spacing[i] = 1.5 + uniform(random);
      image.geometry.origin[i] = 200 * uniform(random);
    }
    image.voxels = counting(24);
    write_image(file("out.nii.gz"), image);
    const Image again = read_image(file("out.nii.gz"));
    EXPECT_EQ(again.voxels, image.voxels);
    // Floats of up to 200 mm round by 8e-6.
    EXPECT_EQ(geometry_difference(again.geometry, image.geometry, 5e-5), "");
  }
}

TEST_F(VolumeTest, TheSameVolumeGivesTheSameFile) {
  const Image image = read_image(kData / "oblique_int16.nii.gz");
  write_image(file("first.nii.gz"), image);
  write_image(file("second.nii.gz"), image);
  EXPECT_EQ(test::read_bytes(file("first.nii.gz")), test::read_bytes(file("second.nii.gz")));
  // Nothing is left beside them.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 2);
}

TEST_F(VolumeTest, WritingRefusesWhatWouldNotReadBack) {
  Image image = read_image(kData / "oblique_int16.nii.gz");
  EXPECT_THAT(error_of([&] { write_image(file("out.mha"), image); }), HasSubstr(".nii.gz"));
  image.voxels.pop_back();
  EXPECT_THAT(error_of([&] { write_image(file("out.nii"), image); }),
              HasSubstr("59 voxels do not fit a grid of 3x4x5"));
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST(GeometryDifferenceTest, NamesWhatDiffers) {
  Geometry a;
  a.size = {2, 2, 2};
  Geometry b = a;
  EXPECT_EQ(geometry_difference(a, b), "");
  b.origin[0] = 0.5e-3;
  EXPECT_EQ(geometry_difference(a, b), "");
  b.origin[0] = 2e-3;
  EXPECT_EQ(geometry_difference(a, b), "origin (0, 0, 0) and (0.002, 0, 0)");
  b.direction[0] = -1;
  EXPECT_THAT(geometry_difference(a, b), HasSubstr("direction"));
  b.spacing[2] = 1.1;
  EXPECT_EQ(geometry_difference(a, b), "spacing (1, 1, 1) and (1, 1, 1.1)");
  b.size[1] = 3;
  EXPECT_EQ(geometry_difference(a, b), "size (2, 2, 2) and (2, 3, 2)");
  Geometry nan = a;
  nan.origin[1] = NAN;
  EXPECT_THAT(geometry_difference(a, nan), HasSubstr("origin"));
}

}  // namespace
}  // namespace segmamba::io
