// Arguments of the position-sensitive RoI operators, checked and made uniform for both devices.
//
// Bin (i, j) of result channel c is pooled from channel (c * height + i) * width + j of the map.
#pragma once

#include <cstdint>
#include <vector>

#include "common/roi_arguments.h"

namespace maskrcnn {

// Samples lie as in aligned RoIAlign; bins of whole pixels ignore this.
inline RoiSampling ps_sampling(int64_t height, int64_t width, int64_t sampling_ratio) {
  return {height, width, sampling_ratio, true, 0.0};
}

struct PsForwardInputs {
  RoiProblem problem;  // its channels are those of the result
  Tensor features;     // any strides
  Tensor rois;
  Tensor out;  // contiguous
};

inline PsForwardInputs ps_forward_inputs(const Tensor& input, const Tensor& rois, double scale,
                                         const RoiSampling& sampling) {
  check_features({input});
  check_rois(rois, input, "input");
  RoiProblem problem = make_problem(rois, input.size(0), 0, {scale}, 1.0, 0, sampling);
  STD_TORCH_CHECK(input.size(1) % problem.bins() == 0, "input: expected a multiple of ",
                  problem.bins(), " channels, one per bin, got ", input.size(1));
  problem.channels = input.size(1) / problem.bins();
  problem.maps[0] = describe(input, scale);
  return {problem, input, uniform_rois(rois, input.scalar_type()),
          empty_map(input,
                    {rois.size(0), problem.channels, sampling.pooled_height, sampling.pooled_width},
                    input.scalar_type(), false)};
}

struct PsBackwardInputs {
  RoiProblem problem;
  Tensor grad;  // contiguous
  Tensor rois;
  Tensor gradient;  // zeros, of the arithmetic's type
};

// `sampling`: its pooled size is taken from grad.
inline PsBackwardInputs ps_backward_inputs(const Tensor& grad, const Tensor& rois,
                                           const std::vector<int64_t>& size, double scale,
                                           int64_t sampling_ratio, bool channels_last) {
  check_rois(rois, grad, "grad");
  STD_TORCH_CHECK(is_floating(grad), "grad: expected dtype float32, float64, float16 or bfloat16");
  STD_TORCH_CHECK(size.size() == 4, "input_size: expected 4 numbers, got ", size.size());
  for (int64_t length : size) STD_TORCH_CHECK(length >= 0, "input_size: got a negative size");
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) &&
                      grad.size(1) * grad.size(2) * grad.size(3) == size[1],
                  "grad: expected shape (K, C, height, width) for K rois and a map of C * height * "
                  "width channels");
  const ScalarType type = grad.scalar_type();
  RoiProblem problem = make_problem(rois, size[0], grad.size(1), {scale}, 1.0, 0,
                                    ps_sampling(grad.size(2), grad.size(3), sampling_ratio));
  Tensor gradient =
      empty_map(grad, size, type == ScalarType::Double ? type : ScalarType::Float, channels_last);
  torch::stable::zero_(gradient);
  problem.maps[0] = describe(gradient, scale);
  return {problem, torch::stable::contiguous(grad), uniform_rois(rois, type), gradient};
}

}  // namespace maskrcnn
