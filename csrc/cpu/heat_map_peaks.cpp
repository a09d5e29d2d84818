// Where heat maps, resized to their boxes by bicubic interpolation, are highest, on the CPU.
//
// The resized map is never made: its rows are, one after the other, and of most of them it is clear
// from the highest and the lowest value of the blended row of the heat map that no pixel reaches
// what was found already. The row through the heat map's own peak comes first, so that this is
// nearly the final value.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "common/parallel.h"
#include "common/peak_inputs.h"

namespace {

using maskrcnn::CubicTaps;
using maskrcnn::mul;
using maskrcnn::Peak;
using maskrcnn::PeakInputs;
using maskrcnn::PeakSide;
using torch::stable::Tensor;

// Finds the peaks of all maps of one box.
template <typename T>
class PeakFinder {
 public:
  PeakFinder(const T* box, int64_t size)
      : columns(box[0], box[2], size), rows(box[1], box[3], size), size_(size), row_(size + 4) {
    column_taps_.reserve(columns.pixels);
    for (int64_t x = 0; x < columns.pixels; ++x) column_taps_.emplace_back(x, columns.step);
  }

  Peak<T> find(const T* map) {
    Peak<T> best{-std::numeric_limits<T>::infinity(), 0};
    const int64_t peak_row = (std::max_element(map, map + size_ * size_) - map) / size_;
    const auto likely = static_cast<int64_t>((static_cast<T>(peak_row) + T(0.5)) / rows.step);
    scan_row(map, std::min(likely, rows.pixels - 1), best);
    for (int64_t y = 0; y < rows.pixels; ++y) scan_row(map, y, best);
    return best;
  }

  PeakSide<T> columns, rows;

 private:
  void scan_row(const T* map, int64_t y, Peak<T>& best) {
    if (blend_row(map, y) < best.value) return;
    for (int64_t x = 0; x < columns.pixels; ++x) {
      const CubicTaps<T>& taps = column_taps_[x];
      const T* values = row_.data() + taps.first + kMargin;
      T value = mul(taps.weights[0], values[0]);
      for (int64_t tap = 1; tap < 4; ++tap) value += mul(taps.weights[tap], values[tap]);
      best.update(value, y * columns.pixels + x);
    }
  }

  // Blends the rows of the map that row y of the resized map lies between, with the border's values
  // beyond the border; returns a value that no pixel of row y exceeds.
  T blend_row(const T* map, int64_t y) {
    const CubicTaps<T> taps(y, rows.step);
    T* row = row_.data() + kMargin;
    for (int64_t tap = 0; tap < 4; ++tap) {
      const int64_t index = std::clamp<int64_t>(taps.first + tap, 0, size_ - 1);
      const T* values = map + index * size_;
      const T weight = taps.weights[tap];
      for (int64_t x = 0; x < size_; ++x) {
        row[x] = tap == 0 ? mul(weight, values[x]) : row[x] + mul(weight, values[x]);
      }
    }
    row_[0] = row_[1] = row[0];
    row[size_] = row[size_ + 1] = row[size_ - 1];
    const auto [low, high] = std::minmax_element(row, row + size_);
    const T rounding = kRounding * std::max(std::abs(*low), std::abs(*high));
    return *high + static_cast<T>(maskrcnn::kMostNegative) * (*high - *low) + rounding;
  }

  static constexpr int64_t kMargin = 2;    // values beyond the border on either side
  static constexpr T kRounding = T(1e-5);  // relative; far more than four products lose

  int64_t size_;
  std::vector<T> row_;
  std::vector<CubicTaps<T>> column_taps_;
};

template <typename T>
void check_boxes(const T* boxes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T* box = boxes + 4 * i;
    for (int64_t edge = 0; edge < 4; ++edge) {
      STD_TORCH_CHECK(box[edge] - box[edge] == 0, "boxes must be finite, but box ", i, " is not");
    }
    STD_TORCH_CHECK(std::max(box[2] - box[0], box[3] - box[1]) <= maskrcnn::kLongestBoxSide,
                    "boxes must be at most ", maskrcnn::kLongestBoxSide,
                    " pixels wide and high, but box ", i, " is not");
  }
}

Tensor heat_map_peaks(const Tensor& maps, const Tensor& boxes) {
  const PeakInputs inputs = maskrcnn::check_peaks(maps, boxes);
  const Tensor result = torch::stable::new_empty(inputs.maps, {inputs.count, inputs.points, 3});
  maskrcnn::with_data(inputs.maps, [&](auto* values) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(values)>>;
    const T* edges = inputs.boxes.const_data_ptr<T>();
    auto* out = static_cast<T*>(result.mutable_data_ptr());
    check_boxes(edges, inputs.count);
    maskrcnn::for_each_piece(inputs.count, 1, [&](int64_t box, int64_t) {
      PeakFinder<T> finder(edges + 4 * box, inputs.size);
      for (int64_t i = box * inputs.points; i < (box + 1) * inputs.points; ++i) {
        const Peak<T> peak = finder.find(values + i * inputs.size * inputs.size);
        maskrcnn::write_peak(peak, finder.columns, finder.rows, out + 3 * i);
      }
    });
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("heat_map_peaks", TORCH_BOX(&heat_map_peaks));
}
