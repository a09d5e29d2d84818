// RoIAlign as two small sparse matrices per RoI.
//
// The bilinear samples of a RoI form a grid, so pooling is  out = Y F X^T  per channel, with Y
// (bins x rows of the map) and X (bins x columns). Samples of one bin that read the same pixel are
// merged here, once for all channels. Backward is  Y^T G X.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/roi_geometry.h"

namespace maskrcnn {

// Rows of weights: row r has the entries begin[r] .. begin[r + 1].
template <class T>
struct AxisWeights {
  std::vector<int32_t> begin{0};
  std::vector<int32_t> index;
  std::vector<T> weight;

  int64_t rows() const { return static_cast<int64_t>(begin.size()) - 1; }
  void add(int64_t at, T value);
  void end_row() { begin.push_back(static_cast<int32_t>(index.size())); }
};

// Adds to an entry of the current row, or makes one. Samples come in ascending order, so that an
// entry for the same pixel can only be one of the last two.
template <class T>
inline void AxisWeights<T>::add(int64_t at, T value) {
  const size_t first = static_cast<size_t>(begin.back());
  for (size_t back = 1; back <= 2 && first + back <= index.size(); ++back) {
    if (index[index.size() - back] == at) {
      weight[weight.size() - back] += value;
      return;
    }
  }
  index.push_back(static_cast<int32_t>(at));
  weight.push_back(value);
}

// Weights of pixels (entries) per bin (rows).
template <class T>
AxisWeights<T> bin_weights(const RoiAxis<T>& axis, int64_t bins, int64_t size) {
  AxisWeights<T> weights;
  for (int64_t bin = 0; bin < bins; ++bin) {
    if (axis.grid > 0) {
      const T share = T(1) / static_cast<T>(axis.grid);
      const SampleRange range = samples_within(axis, bin, -1.0, static_cast<double>(size));
      for (int64_t i = range.begin; i < range.end; ++i) {
        const int64_t sample = axis.bin < T(0) ? axis.grid - 1 - i : i;
        BilinearTap<T> tap;
        if (!bilinear_tap(sample_position(axis, bin, sample), size, &tap)) continue;
        weights.add(tap.low, tap.low_weight * share);
        if (tap.high_weight != T(0)) weights.add(tap.high, tap.high_weight * share);
      }
    }
    weights.end_row();
  }
  return weights;
}

// The same weights by pixel: row r belongs to pixel[r], the pixels ascend, entries are bins.
template <class T>
struct PixelWeights {
  std::vector<int32_t> pixel;
  AxisWeights<T> weights;
};

template <class T>
PixelWeights<T> transpose(const AxisWeights<T>& by_bin) {
  PixelWeights<T> by_pixel;
  if (by_bin.index.empty()) return by_pixel;
  const auto [low, high] = std::minmax_element(by_bin.index.begin(), by_bin.index.end());
  const int32_t first = *low;
  std::vector<int32_t> end(static_cast<size_t>(*high - first) + 1, 0);
  for (int32_t pixel : by_bin.index) ++end[static_cast<size_t>(pixel - first)];
  int32_t total = 0;
  for (size_t offset = 0; offset < end.size(); ++offset) {
    const int32_t count = end[offset];
    end[offset] = total;  // grows to the end of this pixel's entries below
    total += count;
    if (count == 0) continue;
    by_pixel.pixel.push_back(first + static_cast<int32_t>(offset));
    by_pixel.weights.begin.push_back(total);
  }
  by_pixel.weights.index.resize(static_cast<size_t>(total));
  by_pixel.weights.weight.resize(static_cast<size_t>(total));
  for (int64_t bin = 0; bin < by_bin.rows(); ++bin) {
    for (int32_t entry = by_bin.begin[bin]; entry < by_bin.begin[bin + 1]; ++entry) {
      const auto at = static_cast<size_t>(end[static_cast<size_t>(by_bin.index[entry] - first)]++);
      by_pixel.weights.index[at] = static_cast<int32_t>(bin);
      by_pixel.weights.weight[at] = by_bin.weight[entry];
    }
  }
  return by_pixel;
}

}  // namespace maskrcnn
