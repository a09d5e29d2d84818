// Bins of whole pixels: how position-sensitive RoI pooling reads a RoI.
//
// Dai et al., "R-FCN" (https://arxiv.org/abs/1605.06409), equation 1. The RoI's corners are rounded
// to pixels of the map, and a bin averages the pixels that it touches.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/exact.h"
#include "common/roi_geometry.h"

namespace maskrcnn {

// One axis of a RoI; its first pixel is a whole number.
template <class T>
struct WholeAxis {
  T start;
  T bin;
};

// Pixels [begin, end) of a bin.
struct PixelRange {
  int64_t begin;
  int64_t end;

  MASKRCNN_HOST_DEVICE int64_t size() const { return end > begin ? end - begin : 0; }
};

template <class T>
MASKRCNN_HOST_DEVICE inline WholeAxis<T> make_whole_axis(T low, T high, T scale, int64_t bins) {
  const T start = std::round(low * scale);
  const T length = larger(std::round(high * scale) - start, T(1));
  return {start, length / static_cast<T>(bins)};
}

// What is out of reach, or NaN, becomes the nearest end of the map.
template <class T>
MASKRCNN_HOST_DEVICE inline PixelRange pixels_of_bin(const WholeAxis<T>& axis, int64_t bin,
                                                     int64_t size) {
  const T limit = static_cast<T>(size);
  const T begin = std::floor(static_cast<T>(bin) * axis.bin) + axis.start;
  const T end = std::ceil(static_cast<T>(bin + 1) * axis.bin) + axis.start;
  return {static_cast<int64_t>(smaller(larger(begin, T(0)), limit)),
          static_cast<int64_t>(smaller(larger(end, T(0)), limit))};
}

// A RoI on its map.
template <class T>
struct WholeRoi {
  int64_t image;
  WholeAxis<T> y;
  WholeAxis<T> x;
};

// row: (batch index, x1, y1, x2, y2), with a valid batch index.
template <class T>
MASKRCNN_HOST_DEVICE inline WholeRoi<T> place_whole_roi(const T* row, const RoiProblem& problem) {
  const T scale = static_cast<T>(problem.maps[0].scale);
  return {static_cast<int64_t>(row[0]),
          make_whole_axis(row[2], row[4], scale, problem.sampling.pooled_height),
          make_whole_axis(row[1], row[3], scale, problem.sampling.pooled_width)};
}

}  // namespace maskrcnn
