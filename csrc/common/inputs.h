// Checks and conversions of the small inputs (boxes, scores, masks) of an operator.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <type_traits>

namespace maskrcnn {

inline bool is_floating(const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  const ScalarType type = tensor.scalar_type();
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

inline bool on_one_device(const torch::stable::Tensor& a, const torch::stable::Tensor& b) {
  return a.is_cuda() == b.is_cuda() && a.is_cpu() == b.is_cpu() &&
         a.get_device_index() == b.get_device_index();
}

// Returns the tensor contiguous, in the precision that is computed in: float64 as it is, all else
// as float32.
inline torch::stable::Tensor widen(const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  const bool is_double = tensor.scalar_type() == ScalarType::Double;
  return torch::stable::contiguous(
      torch::stable::to(tensor, is_double ? ScalarType::Double : ScalarType::Float));
}

// Calls `body` with a pointer to the data of a widened tensor: const float* or const double*.
template <typename Body>
auto with_data(const torch::stable::Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == torch::headeronly::ScalarType::Double) {
    return body(static_cast<const double*>(tensor.const_data_ptr()));
  }
  return body(static_cast<const float*>(tensor.const_data_ptr()));
}

}  // namespace maskrcnn
