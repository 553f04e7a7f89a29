#include "checks.h"

#include <algorithm>
#include <array>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::ops {
namespace {

std::string shape_text(at::IntArrayRef sizes) {
  std::string text = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(sizes[i]);
  }
  return text + "]";
}

// True where the steps of `order` are a mixed-radix count through [0, length): sorted by stride,
// each stride is the product of the extents below it.
bool visits_each_token_once(const ScanOrder& order, std::int64_t length) {
  std::array<int, 3> by_stride{0, 1, 2};
  std::sort(by_stride.begin(), by_stride.end(), [&](int a, int b) {
    return order.extent[a] == 1 || order.extent[b] == 1 ? order.extent[a] < order.extent[b]
                                                        : order.stride[a] < order.stride[b];
  });
  std::int64_t visited = 1;
  for (const int i : by_stride) {
    if (order.extent[i] < 1) return false;
    if (order.extent[i] == 1) continue;
    if (order.stride[i] != visited || order.extent[i] > length / visited) return false;
    visited *= order.extent[i];
  }
  return visited == length;
}

}  // namespace

void check_shape(const char* op, const char* name, const at::Tensor& tensor,
                 std::initializer_list<Dimension> expected) {
  bool fits = tensor.defined() && tensor.dim() == static_cast<std::int64_t>(expected.size());
  std::string letters, sizes;
  std::int64_t i = 0;
  for (const auto& dimension : expected) {
    letters += (i ? ", " : "") + std::string(dimension.letter);
    sizes +=
        (i ? ", " : "") + (dimension.size < 0 ? dimension.letter : std::to_string(dimension.size));
    fits = fits && (dimension.size == kAnySize ? true
                    : dimension.size < 0       ? tensor.size(i) > 0
                                               : tensor.size(i) == dimension.size);
    ++i;
  }
  if (fits) return;
  throw Error(concat(op, ": ", name, " must have shape [", letters, "]",
                     sizes == letters ? "" : concat(" = [", sizes, "]"), ", got ",
                     tensor.defined() ? shape_text(tensor.sizes()) : "an undefined tensor"));
}

void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                const at::Tensor& like, const char* like_name) {
  if (tensor.scalar_type() != dtype) {
    throw Error(concat(op, ": ", name, " must be ", c10::toString(dtype), " (", like_name, " is ",
                       c10::toString(like.scalar_type()), "), got ",
                       c10::toString(tensor.scalar_type())));
  }
  if (tensor.device() != like.device()) {
    throw Error(concat(op, ": ", name, " must be on ", like.device().str(), ", where ", like_name,
                       " is, got ", tensor.device().str()));
  }
}

at::ScalarType state_type(const char* op, const char* name, at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return at::kDouble;
    case at::kFloat:
    case at::kBFloat16:
    case at::kHalf:
      return at::kFloat;
    default:
      throw Error(concat(op, ": ", name, " must be Float, Double, BFloat16 or Half, got ",
                         c10::toString(dtype)));
  }
}

std::vector<kernels::ScanMap> scan_maps(const char* op, const std::vector<ScanOrder>& orders,
                                        std::int64_t length) {
  if (orders.empty() || orders.size() > kernels::kMaxDirections) {
    throw Error(concat(op, ": orders must name 1 to ", kernels::kMaxDirections, " directions, got ",
                       orders.size()));
  }
  if (length > std::numeric_limits<std::int32_t>::max()) {
    throw Error(concat(op, ": x must have fewer than 2^31 tokens, got ", length));
  }
  std::vector<kernels::ScanMap> maps;
  if (length == 0) return maps;  // there is nothing to visit
  for (std::size_t k = 0; k < orders.size(); ++k) {
    const ScanOrder& order = orders[k];
    if (!visits_each_token_once(order, length)) {
      throw Error(concat(op, ": orders[", k, "] must visit each of ", length,
                         " tokens once, got extent ", shape_text(order.extent), " and stride ",
                         shape_text(order.stride)));
    }
    kernels::ScanMap map{};
    for (int i = 0; i < 3; ++i) {
      map.extent[i] = static_cast<std::int32_t>(order.extent[i]);
      map.stride[i] = order.extent[i] == 1 ? 0 : static_cast<std::int32_t>(order.stride[i]);
    }
    map.length = static_cast<std::int32_t>(length);
    map.reversed = order.reversed;
    maps.push_back(map);
  }
  return maps;
}

std::vector<std::int64_t> flatten_orders(const std::vector<ScanOrder>& orders) {
  std::vector<std::int64_t> flat;
  for (const auto& order : orders) {
    flat.insert(flat.end(), std::begin(order.extent), std::end(order.extent));
    flat.insert(flat.end(), std::begin(order.stride), std::end(order.stride));
    flat.push_back(order.reversed ? 1 : 0);
  }
  return flat;
}

std::vector<ScanOrder> unflatten_orders(const char* op, at::IntArrayRef flat) {
  if (flat.size() % 7 != 0) {
    throw Error(concat(op,
                       ": orders must have 7 integers a direction (extent[3], stride[3], "
                       "reversed), got ",
                       flat.size(), " integers"));
  }
  std::vector<ScanOrder> orders;
  for (std::size_t i = 0; i < flat.size(); i += 7) {
    orders.push_back({{flat[i], flat[i + 1], flat[i + 2]},
                      {flat[i + 3], flat[i + 4], flat[i + 5]},
                      flat[i + 6] != 0});
  }
  return orders;
}

std::int32_t row_stride(const at::Tensor& tensor) {
  // The CUDA kernels count rows in bytes, of 8 to a number at most.
  constexpr std::int64_t kLimit = std::int64_t{1} << 28;
  const auto stride = tensor.size(-2) == 1 ? 0 : tensor.stride(-2);
  if (stride >= kLimit) {
    throw Error(concat("the rows of a tensor of shape ", shape_text(tensor.sizes()), " lie ",
                       stride, " numbers apart, 2^28 or more: make it contiguous first"));
  }
  return static_cast<std::int32_t>(stride);
}

at::Tensor with_unit_stride(const at::Tensor& tensor) {
  return tensor.size(-1) == 1 || tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

}  // namespace segmamba::ops
