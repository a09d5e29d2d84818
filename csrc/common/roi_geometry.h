// Where RoIAlign samples: shared by the CPU and the CUDA kernels.
//
// He et al., "Mask R-CNN" (https://arxiv.org/abs/1703.06870), section 3. A RoI is cut into bins;
// each bin averages `grid` x `grid` bilinear samples. Both axes are alike and independent, so
// everything here is about one axis.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define MASKRCNN_HOST_DEVICE __host__ __device__
#else
#define MASKRCNN_HOST_DEVICE
#endif

namespace maskrcnn {

// How RoIs are read and cut into bins.
struct RoiSampling {
  int64_t pooled_height;
  int64_t pooled_width;
  int64_t sampling_ratio;  // samples per bin and axis; 0 or less: as many as the bin has pixels
  bool aligned;            // pixel centres at integers + 0.5, no smallest size
  double box_end_offset;   // added to x2 and y2 before sampling
};

// How RoIs are assigned to the levels of a pyramid; with one level there is nothing to assign.
struct PyramidRule {
  double canonical_size;
  int64_t canonical_level;
  int64_t first_level;
};

// A feature map or its gradient; strides count elements.
struct FeatureMap {
  int64_t height;
  int64_t width;
  double scale;  // map pixels per image pixel
  int64_t batch_stride;
  int64_t channel_stride;
  int64_t row_stride;
  int64_t column_stride;
};

constexpr int64_t kMostLevels = 8;

// All that an operator call says beside its data.
struct RoiProblem {
  int64_t rois;
  int64_t images;
  int64_t channels;
  int64_t levels;
  FeatureMap maps[kMostLevels];
  PyramidRule rule;
  RoiSampling sampling;

  MASKRCNN_HOST_DEVICE int64_t bins() const {
    return sampling.pooled_height * sampling.pooled_width;
  }
};

// One axis of a RoI in pixels of its feature map.
template <class T>
struct RoiAxis {
  T start;
  T bin;
  int64_t grid;  // samples per bin; 0: this RoI pools to zeros
};

constexpr int64_t kMaxGrid = int64_t{1} << 30;

template <class T>
MASKRCNN_HOST_DEVICE inline RoiAxis<T> make_roi_axis(T low, T high, T scale, int64_t bins,
                                                     const RoiSampling& sampling) {
  const T shift = sampling.aligned ? T(0.5) : T(0);
  const T start = low * scale - shift;
  const T end = (high + static_cast<T>(sampling.box_end_offset)) * scale - shift;
  T length = end - start;
  if (!sampling.aligned && !(length > T(1))) length = T(1);
  RoiAxis<T> axis{start, length / static_cast<T>(bins), sampling.sampling_ratio};
  if (axis.grid <= 0) {
    const T wanted = std::ceil(axis.bin);
    axis.grid = wanted < static_cast<T>(kMaxGrid) ? static_cast<int64_t>(wanted) : kMaxGrid;
    if (axis.grid < 0) axis.grid = 0;
  }
  // False for infinite and NaN alike: such a RoI samples nothing.
  if (!(std::abs(start) < T(1e30)) || !(std::abs(axis.bin) < T(1e30))) axis.grid = 0;
  return axis;
}

template <class T>
MASKRCNN_HOST_DEVICE inline T sample_position(const RoiAxis<T>& axis, int64_t bin, int64_t sample) {
  return axis.start + static_cast<T>(bin) * axis.bin +
         (static_cast<T>(sample) + T(0.5)) * axis.bin / static_cast<T>(axis.grid);
}

// Samples of a bin that can lie within [low, high] pixels: [begin, end), never too few. It keeps
// the work bounded where a RoI is very much larger than the map.
struct SampleRange {
  int64_t begin;
  int64_t end;
};

template <class T>
MASKRCNN_HOST_DEVICE inline SampleRange samples_within(const RoiAxis<T>& axis, int64_t bin,
                                                       double low, double high) {
  const double step = static_cast<double>(axis.bin) / static_cast<double>(axis.grid);
  if (!(step > 0)) return {0, axis.grid};
  const double base = static_cast<double>(axis.start) +
                      static_cast<double>(bin) * static_cast<double>(axis.bin) + 0.5 * step;
  // Two samples more on each side cover the rounding of positions.
  const double first = std::floor((low - base) / step) - 2;
  const double last = std::ceil((high - base) / step) + 3;
  const double grid = static_cast<double>(axis.grid);
  return {first > 0 ? static_cast<int64_t>(first < grid ? first : grid) : 0,
          last > 0 ? static_cast<int64_t>(last < grid ? last : grid) : 0};
}

// The two neighbouring pixels of a sample and their weights.
template <class T>
struct BilinearTap {
  int64_t low;
  int64_t high;
  T low_weight;
  T high_weight;
};

// Returns whether the sample counts: more than one pixel outside the map it is zero.
template <class T>
MASKRCNN_HOST_DEVICE inline bool bilinear_tap(T position, int64_t size, BilinearTap<T>* tap) {
  if (size == 0 || !(position >= T(-1) && position <= static_cast<T>(size))) return false;
  if (position < T(0)) position = T(0);
  int64_t low = static_cast<int64_t>(position);
  T fraction = position - static_cast<T>(low);
  int64_t high = low + 1;
  if (low >= size - 1) {
    low = high = size - 1;
    fraction = T(0);
  }
  *tap = {low, high, T(1) - fraction, fraction};
  return true;
}

// Level of a feature pyramid for a box: floor(canonical_level + log2(sqrt(w h) / canonical_size +
// 1e-6)) (Lin et al., https://arxiv.org/abs/1612.03144, equation 1), as an index from 0 and clamped
// to the levels there are. Written with powers of two instead of log2, which rounds differently
// from one library to the next.
template <class T>
MASKRCNN_HOST_DEVICE inline int64_t pyramid_level(T width, T height, const PyramidRule& rule,
                                                  int64_t levels) {
  const T size = std::sqrt(width * height) / static_cast<T>(rule.canonical_size) + T(1e-6);
  const int64_t exponent = rule.first_level - rule.canonical_level;
  int64_t level = 0;
  while (level + 1 < levels && size >= std::ldexp(T(1), static_cast<int>(exponent + level + 1))) {
    ++level;
  }
  return level;
}

// A RoI on its map.
template <class T>
struct PlacedRoi {
  int64_t index;  // row of rois
  int64_t image;
  int64_t level;
  RoiAxis<T> y;
  RoiAxis<T> x;
};

// row: (batch index, x1, y1, x2, y2), with a valid batch index.
template <class T>
MASKRCNN_HOST_DEVICE inline PlacedRoi<T> place_roi(const T* row, int64_t index,
                                                   const RoiProblem& problem) {
  const RoiSampling& sampling = problem.sampling;
  const int64_t level =
      pyramid_level(row[3] - row[1], row[4] - row[2], problem.rule, problem.levels);
  const T scale = static_cast<T>(problem.maps[level].scale);
  return {index, static_cast<int64_t>(row[0]), level,
          make_roi_axis(row[2], row[4], scale, sampling.pooled_height, sampling),
          make_roi_axis(row[1], row[3], scale, sampling.pooled_width, sampling)};
}

}  // namespace maskrcnn
