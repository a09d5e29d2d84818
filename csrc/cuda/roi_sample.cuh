// The samples of a bin, as the threads of the RoIAlign kernels go through them.
#pragma once

#include <cstdint>

#include "common/roi_geometry.h"

namespace maskrcnn {

struct Bin {
  int64_t roi;
  int64_t y;
  int64_t x;
};

// item: counts the bins of all RoIs.
__device__ inline Bin locate_bin(int64_t item, const RoiProblem& problem) {
  const int64_t roi = item / problem.bins();
  const int64_t bin = item - roi * problem.bins();
  const int64_t y = bin / problem.sampling.pooled_width;
  return {roi, y, bin - y * problem.sampling.pooled_width};
}

// Whether a row of rois can be pooled. The host cannot examine it without waiting for the GPU.
template <class Acc>
__device__ inline bool is_valid(const Acc* row, const RoiProblem& problem) {
  bool valid = row[0] >= Acc(0) && row[0] < static_cast<Acc>(problem.images);  // false for NaN
  for (int i = 1; i < 5; ++i) valid = valid && row[i] - row[i] == Acc(0);  // NaN for inf and NaN
  return valid;
}

// Calls body(offset of a pixel, weight) for every pixel that a bin reads, in a fixed order.
template <class Acc, class Body>
__device__ inline void for_each_tap(const PlacedRoi<Acc>& roi, const FeatureMap& map,
                                    const Bin& bin, const Body& body) {
  if (roi.y.grid == 0 || roi.x.grid == 0) return;
  const Acc share = Acc(1) / (static_cast<Acc>(roi.y.grid) * static_cast<Acc>(roi.x.grid));
  const SampleRange range_y = samples_within(roi.y, bin.y, -1.0, static_cast<double>(map.height));
  const SampleRange range_x = samples_within(roi.x, bin.x, -1.0, static_cast<double>(map.width));
  for (int64_t sample_y = range_y.begin; sample_y < range_y.end; ++sample_y) {
    BilinearTap<Acc> y;
    if (!bilinear_tap(sample_position(roi.y, bin.y, sample_y), map.height, &y)) continue;
    const int64_t low_row = y.low * map.row_stride;
    const int64_t high_row = y.high * map.row_stride;
    const Acc low_share = y.low_weight * share;
    const Acc high_share = y.high_weight * share;
    for (int64_t sample_x = range_x.begin; sample_x < range_x.end; ++sample_x) {
      BilinearTap<Acc> x;
      if (!bilinear_tap(sample_position(roi.x, bin.x, sample_x), map.width, &x)) continue;
      const int64_t low_column = x.low * map.column_stride;
      const int64_t high_column = x.high * map.column_stride;
      body(low_row + low_column, low_share * x.low_weight);
      body(low_row + high_column, low_share * x.high_weight);
      body(high_row + low_column, high_share * x.low_weight);
      body(high_row + high_column, high_share * x.high_weight);
    }
  }
}

}  // namespace maskrcnn
