// RoIAlign on the CPU: one feature map or a whole pyramid, forward and backward.

#include "cpu/roi_align.h"

#include <torch/csrc/stable/library.h>

#include <vector>

namespace maskrcnn {
namespace {

// With one level, any rule assigns every RoI to it.
constexpr double kAnySize = 1.0;
constexpr int64_t kAnyLevel = 0;

Tensor multilevel_roi_align(std::vector<Tensor> features, const Tensor& rois,
                            std::vector<double> scales, int64_t pooled_height, int64_t pooled_width,
                            int64_t sampling_ratio, bool aligned, double canonical_size,
                            int64_t canonical_level, double box_end_offset) {
  const ForwardInputs inputs =
      forward_inputs(features, rois, scales, canonical_size, canonical_level,
                     {pooled_height, pooled_width, sampling_ratio, aligned, box_end_offset});
  if (inputs.channels_last) {
    pool_channels_last(inputs);
  } else {
    pool_channels_first(inputs);
  }
  return inputs.out;
}

std::vector<Tensor> multilevel_roi_align_backward(const Tensor& grad, const Tensor& rois,
                                                  std::vector<int64_t> feature_sizes,
                                                  std::vector<double> scales,
                                                  int64_t sampling_ratio, bool aligned,
                                                  double canonical_size, int64_t canonical_level,
                                                  double box_end_offset, bool channels_last,
                                                  bool /*deterministic: it always is*/) {
  const BackwardInputs inputs = backward_inputs(
      grad, rois, feature_sizes, scales, canonical_size, canonical_level,
      {0, 0, sampling_ratio, aligned, box_end_offset}, channels_last, grad.scalar_type(),
      /*any_format=*/true);
  if (channels_last) {
    spread_channels_last(inputs);
  } else {
    spread_channels_first(inputs);
  }
  return inputs.gradients;
}

Tensor roi_align(const Tensor& input, const Tensor& rois, double spatial_scale,
                 int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                 bool aligned) {
  return multilevel_roi_align({input}, rois, {spatial_scale}, pooled_height, pooled_width,
                              sampling_ratio, aligned, kAnySize, kAnyLevel, 0.0);
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, std::vector<int64_t> input_size,
                          double spatial_scale, int64_t sampling_ratio, bool aligned,
                          bool channels_last, bool deterministic) {
  return multilevel_roi_align_backward(grad, rois, input_size, {spatial_scale}, sampling_ratio,
                                       aligned, kAnySize, kAnyLevel, 0.0, channels_last,
                                       deterministic)
      .front();
}

}  // namespace
}  // namespace maskrcnn

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&maskrcnn::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&maskrcnn::roi_align_backward));
  m.impl("multilevel_roi_align", TORCH_BOX(&maskrcnn::multilevel_roi_align));
  m.impl("multilevel_roi_align_backward", TORCH_BOX(&maskrcnn::multilevel_roi_align_backward));
}
