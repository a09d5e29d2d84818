// Masks of M x M probabilities to bitmaps of the image, on the CPU.
//
// The rows of a mask are widened to the box once, then blended row by row. Between two rows of the
// mask every column's values are monotonic, so where the first and the last row of the bitmap in
// between are equal, so are all others.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "common/memory.h"
#include "cpu/mask_placement.h"
#include "cpu/simd.h"

namespace {

using maskrcnn::blend;
using maskrcnn::Image;
using maskrcnn::least_inside;
using maskrcnn::PasteInputs;
using maskrcnn::Placement;
using maskrcnn::Span;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T>
MASKRCNN_ALWAYS_INLINE void widen_row(const T* row, const int32_t* index, const T* weight,
                                      int64_t n, T* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = blend(row[index[i]], row[index[i] + 1], weight[i]);
  }
}

template <typename T>
MASKRCNN_ALWAYS_INLINE void blend_rows(const T* upper, const T* lower, T weight, T threshold,
                                       int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = blend(upper[i], lower[i], weight) >= threshold;
  }
}

#define MASKRCNN_ROW_KERNELS(T)                                                                   \
  MASKRCNN_MULTIVERSION(void, widen_row_of, widen_row,                                            \
                        (const T* row, const int32_t* index, const T* weight, int64_t n, T* out), \
                        (row, index, weight, n, out))                                             \
  MASKRCNN_MULTIVERSION(                                                                          \
      void, blend_rows_of, blend_rows,                                                            \
      (const T* upper, const T* lower, T weight, T threshold, int64_t n, uint8_t* out),           \
      (upper, lower, weight, threshold, n, out))

MASKRCNN_ROW_KERNELS(float)
MASKRCNN_ROW_KERNELS(double)
#undef MASKRCNN_ROW_KERNELS

// Draws masks into bitmaps that are all zero.
template <typename T>
class BitmapWriter {
 public:
  BitmapWriter(const Image& image, T threshold) : stride_(image.width), threshold_(threshold) {}

  void write(const Placement<T>& mask, uint8_t* bitmap) {
    if (mask.empty()) return;
    count_ = mask.columns.size();
    widened_[0].resize(count_);
    widened_[1].resize(count_);
    uint8_t* corner = bitmap + mask.rows.begin * stride_ + mask.columns.begin;
    int64_t lower_index = -1;
    for (const Span& span : mask.row_spans) {
      if (span.index == lower_index) {
        widened_[0].swap(widened_[1]);
      } else {
        widen(mask, span.index, widened_[0]);
      }
      lower_index = span.index + 1;
      widen(mask, lower_index, widened_[1]);
      uint8_t* rows = corner + span.begin * stride_;
      const T* weights = mask.rows.weight.data() + span.begin;
      const int64_t last = span.end - span.begin - 1;
      write_row(rows, weights[0]);
      if (last > 0) write_row(rows + last * stride_, weights[last]);
      write_between(rows, weights, 0, last);
    }
  }

 private:
  void widen(const Placement<T>& mask, int64_t index, std::vector<T>& out) {
    widen_row_of(mask.padded.data() + index * mask.stride, mask.columns.index.data(),
                 mask.columns.weight.data(), count_, out.data());
  }

  void write_row(uint8_t* row, T weight) {
    blend_rows_of(widened_[0].data(), widened_[1].data(), weight, threshold_, count_, row);
  }

  // Rows `first` and `last` are written; between equal rows all rows are equal.
  void write_between(uint8_t* rows, const T* weights, int64_t first, int64_t last) {
    if (last - first < 2) return;
    if (std::memcmp(rows + first * stride_, rows + last * stride_, count_) == 0) {
      for (int64_t row = first + 1; row < last; ++row) {
        std::memcpy(rows + row * stride_, rows + first * stride_, count_);
      }
      return;
    }
    const int64_t middle = (first + last) / 2;
    write_row(rows + middle * stride_, weights[middle]);
    write_between(rows, weights, first, middle);
    write_between(rows, weights, middle, last);
  }

  int64_t stride_;
  T threshold_;
  int64_t count_ = 0;
  std::vector<T> widened_[2];  // the two rows of the mask that a span lies between
};

// Bitmaps of N x height x width zeros. Memory of this size comes from the operating system, where
// it is zero already, so only what the masks cover is ever touched: that is most of the time here.
Tensor zero_bitmaps(const PasteInputs& inputs) {
  const auto [height, width] = inputs.image;
  const int64_t pixels = maskrcnn::count_pixels(inputs);
  void* memory = std::calloc(std::max<int64_t>(pixels, 1), sizeof(bool));
  STD_TORCH_CHECK(memory != nullptr, "paste_masks: no memory for ", pixels, " bytes of bitmaps");
  maskrcnn::prefer_huge_pages(memory, static_cast<size_t>(pixels));
  return torch::stable::from_blob(memory, {inputs.count, height, width}, {height * width, width, 1},
                                  inputs.masks.device(), ScalarType::Bool, &std::free);
}

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width,
                   double threshold, bool aligned) {
  const PasteInputs inputs = maskrcnn::check_paste(masks, boxes, height, width, threshold);
  maskrcnn::check_finite(inputs);
  const Tensor result = zero_bitmaps(inputs);
  auto* bitmaps = static_cast<uint8_t*>(result.mutable_data_ptr());
  maskrcnn::for_each_mask(inputs, aligned, false, [&](auto zero) {
    using T = decltype(zero);
    return [&, writer = BitmapWriter<T>(inputs.image, least_inside<T>(threshold, aligned))](
               const Placement<T>& placement, int64_t i) mutable {
      writer.write(placement, bitmaps + i * height * width);
    };
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) { m.impl("paste_masks", TORCH_BOX(&paste_masks)); }
