// Inputs of the mask target operators, checked by their metadata: cheap on every device.
#pragma once

#include <cstdint>

#include "common/inputs.h"

namespace maskrcnn {

constexpr int64_t kLargestTarget = 256;  // cells along a side: what fits into fast memory

// RoIs and the instances that belong to them.
struct TargetRois {
  torch::stable::Tensor boxes, instances;  // (R, 4) float64 and (R,) int64, contiguous
  int64_t count;
  int32_t size;
};

struct PolygonInputs {
  // (P, 2) float64; (Q + 1,) and (G + 1,) int64; contiguous.
  torch::stable::Tensor points, polygon_offsets, instance_offsets;
  int64_t point_count, polygon_count, instance_count;
};

inline void check_offsets(const torch::stable::Tensor& offsets, const char* name) {
  STD_TORCH_CHECK(offsets.dim() == 1 && offsets.size(0) > 0 &&
                      offsets.scalar_type() == torch::headeronly::ScalarType::Long,
                  name, " must be one-dimensional, int64, and one longer than what it counts");
}

inline TargetRois check_rois(const torch::stable::Tensor& boxes,
                             const torch::stable::Tensor& instances,
                             const torch::stable::Tensor& source, int64_t size) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must have shape (R, 4)");
  STD_TORCH_CHECK(is_floating(boxes), "boxes must be floating point");
  STD_TORCH_CHECK(instances.dim() == 1 && instances.size(0) == boxes.size(0),
                  "instances must have shape (R,)");
  STD_TORCH_CHECK(instances.scalar_type() == ScalarType::Long, "instances must be int64");
  STD_TORCH_CHECK(size >= 1 && size <= kLargestTarget, "size must be from 1 to ", kLargestTarget);
  STD_TORCH_CHECK(on_one_device(boxes, source) && on_one_device(boxes, instances),
                  "boxes, instances and masks must be on one device");
  return {torch::stable::contiguous(torch::stable::to(boxes, ScalarType::Double)),
          torch::stable::contiguous(instances), boxes.size(0), static_cast<int32_t>(size)};
}

inline PolygonInputs check_polygons(const torch::stable::Tensor& points,
                                    const torch::stable::Tensor& polygon_offsets,
                                    const torch::stable::Tensor& instance_offsets) {
  STD_TORCH_CHECK(points.dim() == 2 && points.size(1) == 2 &&
                      points.scalar_type() == torch::headeronly::ScalarType::Double,
                  "points must be float64 of shape (P, 2)");
  check_offsets(polygon_offsets, "polygon_offsets");
  check_offsets(instance_offsets, "instance_offsets");
  STD_TORCH_CHECK(on_one_device(points, polygon_offsets) && on_one_device(points, instance_offsets),
                  "points and offsets must be on one device");
  return {torch::stable::contiguous(points),
          torch::stable::contiguous(polygon_offsets),
          torch::stable::contiguous(instance_offsets),
          points.size(0),
          polygon_offsets.size(0) - 1,
          instance_offsets.size(0) - 1};
}

// Returns the bitmaps contiguous.
inline torch::stable::Tensor check_bitmaps(const torch::stable::Tensor& bitmaps) {
  STD_TORCH_CHECK(
      bitmaps.dim() == 3 && bitmaps.scalar_type() == torch::headeronly::ScalarType::Bool,
      "bitmaps must be bool of shape (G, H, W)");
  return torch::stable::contiguous(bitmaps);
}

}  // namespace maskrcnn
