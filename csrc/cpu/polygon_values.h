// Values of polygons' inputs, looked at on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/mask_target_inputs.h"

namespace maskrcnn {

inline void check_ascending(const torch::stable::Tensor& offsets, int64_t last, const char* name,
                            const char* counted) {
  const auto* values = offsets.const_data_ptr<int64_t>();
  const int64_t count = offsets.size(0);
  STD_TORCH_CHECK(
      values[0] >= 0 && values[count - 1] <= last && std::is_sorted(values, values + count), name,
      " must ascend from 0 or more to at most ", last, ", the number of ", counted);
}

inline void check_values(const PolygonInputs& polygons) {
  check_ascending(polygons.polygon_offsets, polygons.point_count, "polygon_offsets", "points");
  check_ascending(polygons.instance_offsets, polygons.polygon_count, "instance_offsets",
                  "polygons");
  const auto* points = polygons.points.const_data_ptr<double>();
  for (int64_t i = 0; i < polygons.point_count * 2; ++i) {
    STD_TORCH_CHECK(points[i] - points[i] == 0, "points must be finite, but point ", i / 2,
                    " is not");
  }
}

}  // namespace maskrcnn
