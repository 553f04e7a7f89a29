// Libraries in C that get no memory (zlib, libpng, OpenJPEG beneath GDCM, libdeflate, the system's
// own): that reaches the caller as std::bad_alloc, and never as a fault of the file at hand. A
// program of its own, because it replaces malloc.

#include <gtest/gtest.h>
#include <malloc.h>
#include <zlib.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "dicom_series_test.h"
#include "dicom_structure.h"
#include "display_grid.h"
#include "nifti_bytes.h"
#include "segmamba/core/parallel.h"
#include "segmamba/io/dicom.h"
#include "segmamba/io/png.h"
#include "segmamba/io/volume.h"
#include "viewer_volumes.h"

namespace {

// Which allocations fail: of those of at least `least_bytes`, so many after `before` others.
struct Fault {
  std::int64_t before = 0;
  std::int64_t count = 1;
  std::size_t least_bytes = 0;
};

constexpr std::int64_t kAll = INT64_MAX / 2;
constexpr std::size_t kNone = SIZE_MAX;

std::atomic<std::size_t> least_bytes{kNone};
std::atomic<std::int64_t> first_refused{0}, end_refused{0}, counted{0};

bool is_refused(std::size_t bytes) {
  if (bytes < least_bytes.load(std::memory_order_relaxed)) return false;
  const auto place = counted++;
  if (place < first_refused || place >= end_refused) return false;
  errno = ENOMEM;
  return true;
}

}  // namespace

// As in fuzz/memory_meter.cpp.
extern "C" {

void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* block, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) { return is_refused(bytes) ? nullptr : __libc_malloc(bytes); }
void* calloc(std::size_t count, std::size_t bytes) {
  return is_refused(count * bytes) ? nullptr : __libc_calloc(count, bytes);
}
void* realloc(void* block, std::size_t bytes) {
  return is_refused(bytes) ? nullptr : __libc_realloc(block, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  return is_refused(bytes) ? nullptr : __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  void* const taken = memalign(alignment, bytes);
  if (taken == nullptr) return ENOMEM;
  *block = taken;
  return 0;
}

}  // extern "C"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace tag = test::tag;
using test::DicomBytes;

struct Outcome {
  bool was_reached = false;  // an allocation that was to fail
  std::string error;         // "" where there was none
};

// Nothing of GoogleTest may happen meanwhile.
template <class Action>
Outcome run(const Fault& fault, const Action& action) {
  std::exception_ptr failure;
  counted = 0;
  first_refused = fault.before;
  end_refused = fault.before + fault.count;
  least_bytes = fault.least_bytes;
  try {
    action();
  } catch (...) {
    failure = std::current_exception();
  }
  least_bytes = kNone;
  Outcome outcome{counted > fault.before, ""};
  if (!failure) return outcome;
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    outcome.error = error.what();
  }
  return outcome;
}

constexpr auto kShortMemory = "std::bad_alloc";

// Lets the allocations of `action` fail one by one. Returns how many of them it cannot do without.
template <class Action>
std::int64_t fail_each(const Action& action) {
  action();  // what is made once and kept
  std::int64_t needed = 0;
  for (std::int64_t before = 0;; ++before) {
    const Outcome outcome = run({.before = before}, action);
    if (!outcome.was_reached) return needed;
    if (outcome.error.empty()) continue;
    EXPECT_EQ(outcome.error, kShortMemory) << "allocation " << before;
    ++needed;
  }
}

// Where no more than small pieces are left.
template <class Action>
std::string error_in_pieces(std::size_t smaller_than, const Action& action) {
  return run({.count = kAll, .least_bytes = smaller_than}, action).error;
}

std::string deflated(std::string content) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, MAX_MEM_LEVEL,
                         Z_DEFAULT_STRATEGY),
            Z_OK);
  std::string bytes(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(content.data());
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  bytes.resize(stream.total_out);
  deflateEnd(&stream);
  return bytes;
}

class CAllocationFailures : public test::DicomSeriesTest {
 protected:
  void SetUp() override { set_thread_count(1); }
  void TearDown() override { set_thread_count(threads_); }

 private:
  const int threads_ = thread_count();
};

TEST_F(CAllocationFailures, OfADeflatedDicomFile) {
  const DicomBytes slice = test::dicom_slice(0);
  const std::string set = slice.encode();
  std::string file = slice.file("1.2.840.10008.1.2.1.99");
  file.resize(file.size() - set.size());
  const fs::path path = folder_.path() / "deflated.dcm";
  test::write_bytes(path, file + deflated(set));
  EXPECT_GT(fail_each([&] { const DicomContent content(path); }), 3);
  EXPECT_GT(fail_each([&] { has_dicom_mark(path); }), 0);
}

TEST_F(CAllocationFailures, OfAPackedNiftiFile) {
  const fs::path path = folder_.path() / "labels.nii.gz";
  LabelMap labels;
  labels.geometry.size = {4, 3, 2};
  labels.voxels.assign(24, 1);
  write_labels(path, labels);
  EXPECT_GT(fail_each([&] { read_labels(path); }), 3);
}

TEST_F(CAllocationFailures, OfJpeg2000) {
  constexpr std::uint16_t kSize = 32;
  DicomBytes slice = test::dicom_slice(0);
  slice.text(tag::kThickness, "DS", "2").number(tag::kSigned, 0);
  slice.number(tag::kRows, kSize).number(tag::kColumns, kSize);
  slice.number(tag::kBitsStored, 12).number(tag::kHighBit, 11);
  std::vector<std::uint16_t> values;
  for (int i = 0; i < kSize * kSize; ++i) {
    values.push_back(static_cast<std::uint16_t>((i * i / 7) % 200));
  }
  slice.numbers(tag::kPixels, "OW", values);
  slice.write(file(0));
  test::compress(file(0), gdcm::TransferSyntax::JPEG2000Lossless);
  EXPECT_EQ(error(), "");
  EXPECT_EQ(error_in_pieces(std::size_t{1} << 16, [&] { read_dicom(series_); }), kShortMemory);
}

// For which the system takes 32 KiB, or 8 where it must.
TEST_F(CAllocationFailures, OfTheListOfAFolder) {
  write_series();
  EXPECT_EQ(error_in_pieces(std::size_t{1} << 13, [&] { is_dicom_series(series_); }), kShortMemory);
}

TEST_F(CAllocationFailures, OfAPicture) {
  Picture picture(9, 7);
  for (std::int64_t x = 0; x < picture.width; ++x) {
    picture.at(x, 3) = {static_cast<std::uint8_t>(x), 0, 5};
  }
  EXPECT_GT(fail_each([&] { encode_png(picture); }), 10);
}

TEST_F(CAllocationFailures, OfThePageOfAViewer) {
  LabelMap labels;
  labels.geometry.size = {4, 3, 2};
  labels.voxels.assign(24, 1);
  const auto grid = display_grid(labels.geometry, content_box(labels, {}), 1);
  EXPECT_EQ(error_in_pieces(std::size_t{1} << 16, [&] { viewer_volumes(labels, {}, grid); }),
            kShortMemory);
}

}  // namespace
}  // namespace segmamba::io
