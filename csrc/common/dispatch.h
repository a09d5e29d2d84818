// From a tensor's dtype to a C++ type.
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

namespace maskrcnn {

template <class T>
struct TypeTag {
  using type = T;
};

// Type of coordinates, weights and sums for data of type T.
template <class T>
struct Arithmetic {
  using type = float;
};
template <>
struct Arithmetic<double> {
  using type = double;
};

// Calls body(TypeTag<T>{}) for the C++ type of a floating point dtype.
template <class Body>
auto dispatch_floating(torch::headeronly::ScalarType type, const char* name, const Body& body) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Float:
      return body(TypeTag<float>{});
    case ScalarType::Double:
      return body(TypeTag<double>{});
    case ScalarType::Half:
      return body(TypeTag<torch::headeronly::Half>{});
    case ScalarType::BFloat16:
      return body(TypeTag<torch::headeronly::BFloat16>{});
    default:
      STD_TORCH_CHECK(false, name, ": expected dtype float32, float64, float16 or bfloat16");
  }
}

}  // namespace maskrcnn
