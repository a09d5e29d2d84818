// Arguments of the RoIAlign operators, checked and made uniform for the kernels of both devices.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/inputs.h"
#include "common/roi_geometry.h"

namespace maskrcnn {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Whether the channels of a pixel lie side by side. A tensor that is contiguous in both senses
// (one channel, one pixel) counts as channels first. layers/roi_align.py has the same rule.
inline bool is_channels_last(const Tensor& map) {
  return map.stride(1) == 1 && !map.is_contiguous();
}

inline void check_rois(const Tensor& rois, const Tensor& beside, const char* name) {
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5,
                  "rois: expected shape (K, 5) with rows (batch index, x1, y1, x2, y2)");
  STD_TORCH_CHECK(is_floating(rois), "rois: expected a floating point dtype");
  STD_TORCH_CHECK(on_one_device(rois, beside), "rois: expected on the same device as ", name);
}

inline void check_features(const std::vector<Tensor>& features) {
  for (size_t i = 0; i < features.size(); ++i) {
    const Tensor& map = features[i];
    const Tensor& first = features.front();
    STD_TORCH_CHECK(map.dim() == 4, "features[", i, "]: expected shape (N, C, H, W), got ",
                    map.dim(), " dimensions");
    STD_TORCH_CHECK(is_floating(map), "features[", i,
                    "]: expected dtype float32, float64, float16 or bfloat16");
    STD_TORCH_CHECK(map.scalar_type() == first.scalar_type() && on_one_device(map, first) &&
                        map.size(0) == first.size(0) && map.size(1) == first.size(1),
                    "features[", i,
                    "]: expected the dtype, device, batch size and channels of features[0]");
  }
}

// `sizes`: batch size, channels, then height and width of each level.
inline void check_gradient(const Tensor& grad, const Tensor& rois,
                           const std::vector<int64_t>& sizes, size_t levels) {
  STD_TORCH_CHECK(sizes.size() == 2 + 2 * levels, "feature_sizes: expected ", 2 + 2 * levels,
                  " numbers, got ", sizes.size());
  for (int64_t size : sizes) STD_TORCH_CHECK(size >= 0, "feature_sizes: got a negative size");
  STD_TORCH_CHECK(is_floating(grad), "grad: expected dtype float32, float64, float16 or bfloat16");
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == sizes[1],
                  "grad: expected shape (K, C, height, width) for K rois and C channels");
}

// The problem without its maps.
inline RoiProblem make_problem(const Tensor& rois, int64_t images, int64_t channels,
                               const std::vector<double>& scales, double canonical_size,
                               int64_t canonical_level, const RoiSampling& sampling) {
  const auto levels = static_cast<int64_t>(scales.size());
  STD_TORCH_CHECK(levels > 0 && levels <= kMostLevels, "scales: expected 1 to ", kMostLevels,
                  " levels, got ", levels);
  for (double scale : scales) {
    STD_TORCH_CHECK(std::isfinite(scale) && scale > 0, "scales: expected numbers > 0, got ", scale);
  }
  STD_TORCH_CHECK(sampling.pooled_height > 0 && sampling.pooled_width > 0,
                  "output_size: expected sizes > 0, got ", sampling.pooled_height, " x ",
                  sampling.pooled_width);
  const auto first_level = static_cast<int64_t>(std::lround(-std::log2(scales.front())));
  return {rois.size(0), images, channels,
          levels,       {},     {canonical_size, canonical_level, first_level},
          sampling};
}

inline FeatureMap describe(const Tensor& map, double scale) {
  return {map.size(2),   map.size(3),   scale,        map.stride(0),
          map.stride(1), map.stride(2), map.stride(3)};
}

// The map itself where the kernels can read it, else a copy: channels (channels last) or columns
// (channels first) must lie side by side. Other strides are free.
inline Tensor uniform_layout(const Tensor& map, bool channels_last) {
  if (channels_last) {
    return map.stride(1) == 1 ? map : torch::stable::contiguous(map, MemoryFormat::ChannelsLast);
  }
  return map.stride(3) == 1 || map.size(3) == 1 ? map : torch::stable::contiguous(map);
}

// Contiguous rois in the kernels' arithmetic for data of this type.
inline Tensor uniform_rois(const Tensor& rois, ScalarType type) {
  const bool is_double = type == ScalarType::Double;
  return torch::stable::contiguous(
      torch::stable::to(rois, is_double ? ScalarType::Double : ScalarType::Float));
}

inline Tensor empty_map(const Tensor& like, const std::vector<int64_t>& size, ScalarType type,
                        bool channels_last) {
  return torch::stable::empty(
      size, type, std::nullopt, like.device(), std::nullopt,
      channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

// What the forward kernels of both devices begin with.
struct ForwardInputs {
  RoiProblem problem;
  bool channels_last;
  std::vector<Tensor> features;
  Tensor rois;
  Tensor out;
};

inline ForwardInputs forward_inputs(const std::vector<Tensor>& features, const Tensor& rois,
                                    const std::vector<double>& scales, double canonical_size,
                                    int64_t canonical_level, const RoiSampling& sampling) {
  STD_TORCH_CHECK(!features.empty() && features.size() == scales.size(),
                  "scales: expected one per feature map, got ", scales.size(), " for ",
                  features.size());
  check_features(features);
  const Tensor& first = features.front();
  check_rois(rois, first, "features");
  ForwardInputs inputs{make_problem(rois, first.size(0), first.size(1), scales, canonical_size,
                                    canonical_level, sampling),
                       is_channels_last(first),
                       {},
                       uniform_rois(rois, first.scalar_type()),
                       {}};
  for (size_t i = 0; i < features.size(); ++i) {
    inputs.features.push_back(uniform_layout(features[i], inputs.channels_last));
    inputs.problem.maps[i] = describe(inputs.features[i], scales[i]);
  }
  inputs.out =
      empty_map(first, {rois.size(0), first.size(1), sampling.pooled_height, sampling.pooled_width},
                first.scalar_type(), inputs.channels_last);
  return inputs;
}

// What the backward kernels of both devices begin with. `gradients` are not set to anything.
struct BackwardInputs {
  RoiProblem problem;
  bool channels_last;
  Tensor grad;  // contiguous in the memory format of the features, or in any: see below
  Tensor rois;
  std::vector<Tensor> gradients;
};

// `sampling`: its pooled size is taken from grad. `sum_type`: dtype of the gradients.
// `any_format`: kernels for channels last read a gradient that is channels first as it is, too.
inline BackwardInputs backward_inputs(const Tensor& grad, const Tensor& rois,
                                      const std::vector<int64_t>& sizes,
                                      const std::vector<double>& scales, double canonical_size,
                                      int64_t canonical_level, RoiSampling sampling,
                                      bool channels_last, ScalarType sum_type,
                                      bool any_format = false) {
  check_rois(rois, grad, "grad");
  check_gradient(grad, rois, sizes, scales.size());
  sampling.pooled_height = grad.size(2);
  sampling.pooled_width = grad.size(3);
  const bool as_it_is = any_format && grad.is_contiguous();
  BackwardInputs inputs{
      make_problem(rois, sizes[0], sizes[1], scales, canonical_size, canonical_level, sampling),
      channels_last,
      torch::stable::contiguous(
          grad, channels_last && !as_it_is ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous),
      uniform_rois(rois, grad.scalar_type()),
      {}};
  for (size_t i = 0; i < scales.size(); ++i) {
    inputs.gradients.push_back(empty_map(
        grad, {sizes[0], sizes[1], sizes[2 + 2 * i], sizes[3 + 2 * i]}, sum_type, channels_last));
    inputs.problem.maps[i] = describe(inputs.gradients[i], scales[i]);
  }
  return inputs;
}

}  // namespace maskrcnn
