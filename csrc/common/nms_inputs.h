// Inputs of non-maximum suppression, checked by their metadata: cheap on every device.
#pragma once

#include <cstdint>
#include <optional>

#include "common/inputs.h"

namespace maskrcnn {

// Contiguous and widened.
struct NmsInputs {
  torch::stable::Tensor boxes, scores;          // (rows, n, 4) and (rows, n)
  std::optional<torch::stable::Tensor> groups;  // (rows, n) int64
  int64_t rows, n;
};

// `dims` is the number of dimensions of the scores: 1, or 2 with rows.
inline NmsInputs check_nms(const torch::stable::Tensor& boxes, const torch::stable::Tensor& scores,
                           const std::optional<torch::stable::Tensor>& groups, int64_t dims,
                           double threshold) {
  STD_TORCH_CHECK(boxes.dim() == dims + 1 && boxes.size(dims) == 4, "boxes must have shape (",
                  dims == 2 ? "rows, " : "", "N, 4)");
  STD_TORCH_CHECK(scores.dim() == dims && scores.size(0) == boxes.size(0) &&
                      scores.size(dims - 1) == boxes.size(dims - 1),
                  "scores must have one entry per box");
  STD_TORCH_CHECK(is_floating(boxes), "boxes must be floating point");
  STD_TORCH_CHECK(is_floating(scores), "scores must be floating point");
  STD_TORCH_CHECK(on_one_device(boxes, scores), "boxes and scores must be on one device");
  STD_TORCH_CHECK(threshold >= 0 && threshold <= 1, "iou_threshold must lie in [0, 1]");
  NmsInputs inputs{widen(boxes), widen(scores), std::nullopt, dims == 2 ? boxes.size(0) : 1,
                   boxes.size(dims - 1)};
  if (groups.has_value()) {
    STD_TORCH_CHECK(groups->dim() == dims && groups->size(0) == scores.size(0) &&
                        groups->size(dims - 1) == scores.size(dims - 1),
                    "groups must have one entry per box");
    STD_TORCH_CHECK(groups->scalar_type() == torch::headeronly::ScalarType::Long,
                    "groups must be int64");
    STD_TORCH_CHECK(on_one_device(boxes, *groups), "boxes and groups must be on one device");
    inputs.groups = torch::stable::contiguous(*groups);
  }
  return inputs;
}

// How many boxes are kept. An entry with a score of -inf or NaN may be padding: no box at all.
struct NmsLimits {
  bool leave_out_padding;
  int64_t max_output, max_per_group;  // per row

  static constexpr int64_t kUnlimited = INT64_MAX;
  static NmsLimits none() { return {false, kUnlimited, kUnlimited}; }
  // 0 for max_per_group stands for any number.
  static NmsLimits padded(int64_t max_output, int64_t max_per_group) {
    STD_TORCH_CHECK(max_output >= 0, "max_output must not be negative");
    STD_TORCH_CHECK(max_per_group >= 0, "max_per_group must not be negative");
    return {true, max_output, max_per_group == 0 ? kUnlimited : max_per_group};
  }
};

}  // namespace maskrcnn
