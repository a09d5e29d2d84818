// Arguments of the RoIAlign operators, checked and made uniform for the kernels of both devices.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/roi_geometry.h"

namespace maskrcnn {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// One feature map; strides count elements.
struct FeatureMap {
  int64_t height;
  int64_t width;
  double scale;  // map pixels per image pixel
  int64_t batch_stride;
  int64_t channel_stride;
  int64_t row_stride;
  int64_t column_stride;
};

// How RoIs are assigned to the levels of a pyramid; with one level there is nothing to assign.
struct PyramidRule {
  double canonical_size;
  int64_t canonical_level;
  int64_t first_level;
};

inline PyramidRule make_pyramid_rule(const std::vector<double>& scales, double canonical_size,
                                     int64_t canonical_level) {
  const auto first = static_cast<int64_t>(std::lround(-std::log2(scales.front())));
  return {canonical_size, canonical_level, first};
}

inline bool is_supported(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

// Type of coordinates, weights and sums.
inline ScalarType arithmetic_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Whether the channels of a pixel lie side by side. A tensor that is contiguous in both senses
// (one channel, one pixel) counts as channels first. layers/roi_align.py has the same rule.
inline bool is_channels_last(const Tensor& map) {
  return map.stride(1) == 1 && !map.is_contiguous();
}

inline void check_rois(const Tensor& rois, const Tensor& beside, const char* name) {
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5,
                  "rois: expected shape (K, 5) with rows (batch index, x1, y1, x2, y2), got ",
                  rois.dim(), " dimensions", rois.dim() == 2 ? " of another size" : "");
  STD_TORCH_CHECK(is_supported(rois.scalar_type()), "rois: expected a floating point dtype");
  STD_TORCH_CHECK(
      rois.is_cuda() == beside.is_cuda() && rois.get_device_index() == beside.get_device_index(),
      "rois: expected on the same device as ", name);
}

inline void check_sampling(const std::vector<double>& scales, const RoiSampling& sampling) {
  for (double scale : scales) {
    STD_TORCH_CHECK(std::isfinite(scale) && scale > 0, "scales: expected numbers > 0, got ", scale);
  }
  STD_TORCH_CHECK(sampling.pooled_height > 0 && sampling.pooled_width > 0,
                  "output_size: expected sizes > 0, got ", sampling.pooled_height, " x ",
                  sampling.pooled_width);
}

inline void check_features(const std::vector<Tensor>& features, const std::vector<double>& scales) {
  STD_TORCH_CHECK(!features.empty(), "features: expected at least one feature map");
  STD_TORCH_CHECK(features.size() == scales.size(), "scales: expected one per feature map, got ",
                  scales.size(), " for ", features.size());
  const Tensor& first = features.front();
  for (size_t i = 0; i < features.size(); ++i) {
    const Tensor& map = features[i];
    STD_TORCH_CHECK(map.dim() == 4, "features[", i, "]: expected shape (N, C, H, W), got ",
                    map.dim(), " dimensions");
    STD_TORCH_CHECK(is_supported(map.scalar_type()), "features[", i,
                    "]: expected dtype float32, float64, float16 or bfloat16");
    STD_TORCH_CHECK(map.scalar_type() == first.scalar_type() &&
                        map.is_cuda() == first.is_cuda() &&
                        map.get_device_index() == first.get_device_index() &&
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
  STD_TORCH_CHECK(is_supported(grad.scalar_type()),
                  "grad: expected dtype float32, float64, float16 or bfloat16");
  STD_TORCH_CHECK(grad.dim() == 4 && rois.dim() == 2 && grad.size(0) == rois.size(0) &&
                      grad.size(1) == sizes[1],
                  "grad: expected shape (K, C, height, width) for K rois and C channels");
}

// Contiguous rois in the kernels' arithmetic.
inline Tensor uniform_rois(const Tensor& rois, ScalarType type) {
  const ScalarType wanted = arithmetic_type(type);
  return torch::stable::contiguous(rois.scalar_type() == wanted
                                       ? rois
                                       : torch::stable::to(rois, wanted));
}

// The map itself where the kernels can read it, else a copy: channels (channels last) or columns
// (channels first) must lie side by side. Other strides are free.
inline Tensor uniform_layout(const Tensor& map, bool channels_last) {
  if (channels_last) {
    return map.stride(1) == 1 ? map : torch::stable::contiguous(map, MemoryFormat::ChannelsLast);
  }
  return map.stride(3) == 1 || map.size(3) == 1 ? map : torch::stable::contiguous(map);
}

inline FeatureMap describe(const Tensor& map, double scale) {
  return {map.size(2),   map.size(3),   scale,        map.stride(0),
          map.stride(1), map.stride(2), map.stride(3)};
}

inline Tensor empty_like_layout(const Tensor& like, const std::vector<int64_t>& size,
                                ScalarType type, bool channels_last) {
  return torch::stable::empty(size, type, std::nullopt, like.device(), std::nullopt,
                              channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

}  // namespace maskrcnn
