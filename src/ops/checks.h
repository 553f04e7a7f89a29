#pragma once
// What the operators check before they touch memory, with messages that name the argument, what was
// expected and what came.

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/ops/selective_scan.h"
#include "selective_scan.h"

namespace segmamba::ops {

using OptionalTensor = std::optional<at::Tensor>;

// One dimension of an expected shape: the letter it has in the documentation and its size; size -1
// where any positive size will do, kAnySize where zero will do as well.
inline constexpr std::int64_t kAnySize = -2;
struct Dimension {
  const char* letter;
  std::int64_t size;
};

// Throws Error "selective_scan: A must have shape [D, N] = [96, 16], got [96]".
void check_shape(const char* op, const char* name, const at::Tensor& tensor,
                 std::initializer_list<Dimension> expected);
// Throws Error unless `tensor` has `dtype` and lies on the device of `like` (named `like_name`).
void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                const at::Tensor& like, const char* like_name);
// The type of the state, and of A, D, delta_bias and weights, for data of `dtype`. Throws Error for
// anything but float32, float64, bfloat16 and float16.
at::ScalarType state_type(const char* op, const char* name, at::ScalarType dtype);

// Checks that each order visits every one of `length` tokens once.
std::vector<kernels::ScanMap> scan_maps(const char* op, const std::vector<ScanOrder>& orders,
                                        std::int64_t length);

// How orders travel through operator schemas: seven integers a direction, extent[3], stride[3],
// reversed.
std::vector<std::int64_t> flatten_orders(const std::vector<ScanOrder>& orders);
std::vector<ScanOrder> unflatten_orders(const char* op, at::IntArrayRef flat);

// The tensor itself where its last dimension has unit stride, else a contiguous copy.
at::Tensor with_unit_stride(const at::Tensor& tensor);

// The distance of two rows (dimension -2) in numbers. Throws Error from 2^28 on.
std::int32_t row_stride(const at::Tensor& tensor);

// A view of [K, B, L, D] or [B, L, D] with unit stride in the last dimension.
template <class T>
kernels::Rows<const T> rows_of(const at::Tensor& tensor) {
  const bool has_directions = tensor.dim() == 4;
  const int first = has_directions ? 1 : 0;
  return {static_cast<const T*>(tensor.const_data_ptr()), has_directions ? tensor.stride(0) : 0,
          tensor.stride(first), row_stride(tensor)};
}

// body(T()) with the element type T of `tensor`, one that state_type() takes.
template <class Body>
void for_element_type(const at::Tensor& tensor, const Body& body) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return body(double());
    case at::kBFloat16:
      return body(kernels::BFloat16());
    case at::kHalf:
      return body(kernels::Float16());
    default:
      return body(float());
  }
}

template <class T>
const T* data_or_null(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr<T>() : nullptr;
}

}  // namespace segmamba::ops
