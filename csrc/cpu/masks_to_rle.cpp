// Masks of M x M probabilities to run lengths of their bitmaps, on the CPU, without the bitmaps.
//
// Column by column of the image. Between two rows of the mask a column's values are monotonic, so
// it is enough to test the first and the last pixel in between, and to search where they differ.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cpu/mask_placement.h"
#include "cpu/run_lengths.h"
#include "cpu/simd.h"

namespace {

using maskrcnn::blend;
using maskrcnn::Image;
using maskrcnn::least_inside;
using maskrcnn::PasteInputs;
using maskrcnn::Placement;
using maskrcnn::Span;
using torch::stable::Tensor;

// Blends two columns of the mask to `values` (n + 1 of them), and tests the first and the last
// pixel of each span: bit 0 and bit 1 of its flag.
template <typename T, typename Flag>
MASKRCNN_ALWAYS_INLINE void test_column(const T* left, const T* right, T weight,
                                        const T* first_weight, const T* last_weight, int64_t n,
                                        T threshold, T* values, Flag* flags) {
  for (int64_t i = 0; i <= n; ++i) values[i] = blend(left[i], right[i], weight);
  for (int64_t i = 0; i < n; ++i) {
    const Flag first = blend(values[i], values[i + 1], first_weight[i]) >= threshold ? 1 : 0;
    const Flag last = blend(values[i], values[i + 1], last_weight[i]) >= threshold ? 2 : 0;
    flags[i] = first | last;
  }
}

#define MASKRCNN_COLUMN_KERNEL(T, Flag)                                                      \
  MASKRCNN_MULTIVERSION(                                                                     \
      void, test_column_of, test_column,                                                     \
      (const T* left, const T* right, T weight, const T* first_weight, const T* last_weight, \
       int64_t n, T threshold, T* values, Flag* flags),                                      \
      (left, right, weight, first_weight, last_weight, n, threshold, values, flags))

MASKRCNN_COLUMN_KERNEL(float, int32_t)
MASKRCNN_COLUMN_KERNEL(double, int64_t)
#undef MASKRCNN_COLUMN_KERNEL

template <typename T>
class RunEncoder {
 public:
  RunEncoder(const Image& image, T threshold) : image_(image), threshold_(threshold) {}

  void encode(const Placement<T>& mask, std::vector<int64_t>& runs) {
    maskrcnn::RunLengths lengths(runs);
    if (!mask.empty()) {
      prepare(mask);
      for (int64_t i = 0; i < mask.columns.size(); ++i) encode_column(mask, i, lengths);
    }
    lengths.finish(image_.height * image_.width);
  }

 private:
  using Flag = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

  // Weights of the spans' first and last pixels, by row of the mask.
  void prepare(const Placement<T>& mask) {
    first_row_ = mask.row_spans.front().index;
    const int64_t n = mask.row_spans.back().index - first_row_ + 1;
    first_weight_.assign(n, T(0));
    last_weight_.assign(n, T(0));
    values_.resize(n + 1);
    flags_.resize(n);
    for (const Span& span : mask.row_spans) {
      first_weight_[span.index - first_row_] = mask.rows.weight[span.begin];
      last_weight_[span.index - first_row_] = mask.rows.weight[span.end - 1];
    }
  }

  void encode_column(const Placement<T>& mask, int64_t column, maskrcnn::RunLengths& lengths) {
    const T* left = mask.padded.data() + mask.columns.index[column] * mask.stride + first_row_;
    test_column_of(left, left + mask.stride, mask.columns.weight[column], first_weight_.data(),
                   last_weight_.data(), static_cast<int64_t>(flags_.size()), threshold_,
                   values_.data(), flags_.data());
    const int64_t top = (mask.columns.begin + column) * image_.height + mask.rows.begin;
    bool inside = false;
    int64_t begin = 0;
    const auto cross = [&](int64_t row) {
      if (inside) {
        lengths.add(top + begin, top + row);
      } else {
        begin = row;
      }
      inside = !inside;
    };
    for (const Span& span : mask.row_spans) {
      const Flag flag = flags_[span.index - first_row_];
      if (flag == (inside ? 3 : 0)) continue;
      if (((flag & 1) != 0) != inside) cross(span.begin);
      if (((flag & 2) != 0) != inside) cross(find_crossing(mask, span, inside));
    }
    if (inside) cross(mask.rows.size());
  }

  // The first pixel of the span that is not `inside` like the pixel before it. The first and the
  // last one differ: a search by halves, after two looks at where a straight line would cross.
  int64_t find_crossing(const Placement<T>& mask, const Span& span, bool inside) const {
    const T* value = values_.data() + (span.index - first_row_);
    const T* weight = mask.rows.weight.data();
    int64_t before = span.begin, after = span.end - 1;
    const auto look = [&](int64_t row) {
      if (row <= before || row >= after) return;
      const bool is_inside = blend(value[0], value[1], weight[row]) >= threshold_;
      (is_inside == inside ? before : after) = row;
    };
    const T part = ((threshold_ - value[0]) / (value[1] - value[0]) - weight[before]) /
                   (weight[after] - weight[before]);
    const T rows = static_cast<T>(after - before);
    if (part > T(0) && part < T(1)) {
      const int64_t guess = before + static_cast<int64_t>(part * rows);
      look(guess);
      look(guess + 1);
    }
    while (after - before > 1) look((before + after) / 2);
    return after;
  }

  Image image_;
  T threshold_;
  int64_t first_row_ = 0;
  std::vector<T> first_weight_, last_weight_, values_;
  std::vector<Flag> flags_;
};

std::tuple<Tensor, Tensor> masks_to_rle(const Tensor& masks, const Tensor& boxes, int64_t height,
                                        int64_t width, double threshold, bool aligned) {
  const PasteInputs inputs = maskrcnn::check_paste(masks, boxes, height, width, threshold);
  maskrcnn::check_finite(inputs);
  std::vector<std::vector<int64_t>> runs(inputs.count);
  maskrcnn::for_each_mask(inputs, aligned, true, [&](auto zero) {
    using T = decltype(zero);
    return [&, encoder = RunEncoder<T>(inputs.image, least_inside<T>(threshold, aligned))](
               const Placement<T>& placement, int64_t i) mutable {
      encoder.encode(placement, runs[i]);
    };
  });
  return maskrcnn::join_runs(runs, inputs.masks);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) { m.impl("masks_to_rle", TORCH_BOX(&masks_to_rle)); }
