#pragma once
// ElementOf<V>: V itself for a number, the type of a lane for a vector of lanes.

#include <type_traits>
#include <utility>

namespace segmamba::kernels {

template <class V, class = void>
struct ElementOfTrait {
  using type = V;
};
template <class V>
struct ElementOfTrait<V, std::void_t<decltype(std::declval<V>()[0])>> {
  using type = std::remove_cv_t<std::remove_reference_t<decltype(std::declval<V>()[0])>>;
};
template <class V>
using ElementOf = typename ElementOfTrait<V>::type;

}  // namespace segmamba::kernels
