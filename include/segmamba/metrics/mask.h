#pragma once
// Binary masks on a voxel grid. Index order is (x, y, z), x fastest in memory: the order of a NIfTI
// file and of io::Volume.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace segmamba::metrics {

using Size = std::array<std::int64_t, 3>;  // (x, y, z), voxels
using Spacing = std::array<double, 3>;     // (x, y, z), mm

struct Grid {
  Size size{};
  Spacing spacing{1, 1, 1};
};

inline std::int64_t voxel_count(const Size& size) { return size[0] * size[1] * size[2]; }

// Half open: low <= index < high along each axis. Empty where high <= low on any axis.
struct Box {
  Size low{}, high{};

  bool empty() const { return high[0] <= low[0] || high[1] <= low[1] || high[2] <= low[2]; }
  Size size() const { return {high[0] - low[0], high[1] - low[1], high[2] - low[2]}; }
  // The smallest box that holds both; an empty box adds nothing.
  Box united(const Box& other) const;
  // Grown by `margin` voxels on every side, but not beyond a grid of `size`.
  Box grown(std::int64_t margin, const Size& size) const;
};

// Memory that is zero without having been touched: grids are mostly empty.
template <class T>
struct ZeroedAllocator {
  using value_type = T;

  ZeroedAllocator() = default;
  template <class U>
  ZeroedAllocator(const ZeroedAllocator<U>&) {}  // NOLINT: allocators convert
  T* allocate(std::size_t count) {
    void* memory = std::calloc(count, sizeof(T));
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t) { std::free(memory); }
  void construct(T*) {}  // is zero already
  template <class... Args>
  void construct(T* place, Args&&... args) {
    ::new (static_cast<void*>(place)) T(std::forward<Args>(args)...);
  }
  bool operator==(const ZeroedAllocator&) const { return true; }
};
// Grows from empty to its size at once; what is added later need not be zero.
template <class T>
using ZeroedVector = std::vector<T, ZeroedAllocator<T>>;

// Which rows along x may hold something, [z * size y + y]. Null: any may.
using Rows = std::shared_ptr<const std::vector<std::uint8_t>>;

struct Mask {
  Size size{};
  ZeroedVector<std::uint8_t> voxels;  // 0 or 1
  Rows rows;                          // a hint: all other rows are empty

  Mask() = default;
  explicit Mask(const Size& mask_size)
      : size(mask_size), voxels(static_cast<std::size_t>(voxel_count(mask_size))) {}
  std::int64_t index(std::int64_t x, std::int64_t y, std::int64_t z) const {
    return (z * size[1] + y) * size[0] + x;
  }
  std::int64_t row_count() const { return size[1] * size[2]; }
  // False where the row is known to be empty, without a look at it.
  bool may_hold(std::int64_t row) const {
    return !rows || (*rows)[static_cast<std::size_t>(row)] != 0;
  }
};

// True where any of the values differs from 0. Masks are mostly empty rows: asking this first (a
// plain OR, which compilers vectorise) is what makes sweeps over a whole grid cheap.
template <class T>
bool any_set(const T* values, std::int64_t length) {
  T any = 0;
  for (std::int64_t i = 0; i < length; ++i) any |= values[i];
  return any != 0;
}

std::int64_t count(const Mask& mask);
std::int64_t count_common(const Mask& a, const Mask& b);

// The box of non-zero values of an array of `size`.
Box bounding_box(std::span<const std::uint8_t> values, const Size& size);
// Copies a box out of an array of `size`.
std::vector<std::uint8_t> crop(std::span<const std::uint8_t> values, const Size& size,
                               const Box& box);

// A set of label values that is scored as one binary mask.
struct Region {
  std::string name;
  std::vector<std::uint8_t> labels;
};

// BraTS: whole tumour WT = {1, 2, 3}, tumour core TC = {1, 3}, enhancing tumour ET = {3}.
const std::vector<Region>& brats_regions();
// The tissues of BraTS-GLI 2024: NETC = {1}, SNFH = {2}, RC = {4} (resection cavity).
const std::vector<Region>& brats_tissues();

// The rows of labels of `size` that hold any.
Rows labelled_rows(std::span<const std::uint8_t> labels, const Size& size);

// The mask of a region in labels of `size`. `rows`: the rows to look at, as labelled_rows gives
// them.
Mask region_mask(std::span<const std::uint8_t> labels, const Size& size, const Region& region,
                 Rows rows = nullptr);

// 2 |p and g| / (|p| + |g|) of one region, without making masks; `both_empty` where neither holds
// it. Throws Error where the lengths differ.
double dice(std::span<const std::uint8_t> prediction, std::span<const std::uint8_t> reference,
            const Region& region, double both_empty = 1);

}  // namespace segmamba::metrics
