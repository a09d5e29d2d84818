// Masks laid out for the CPU: their place in the image, and their values surrounded by zeros.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <type_traits>
#include <vector>

#include "common/box.h"
#include "common/mask_paste.h"
#include "common/paste_inputs.h"

namespace maskrcnn {

// Samples of the pixels [begin, end) of one axis. Entry i belongs to pixel begin + i.
template <typename T>
struct Samples {
  int64_t begin = 0, end = 0;
  std::vector<int32_t> index;
  std::vector<T> weight;

  int64_t size() const { return end - begin; }
  void assign(const PasteAxis<T>& axis) {
    begin = axis.begin();
    end = axis.end();
    index.resize(size());
    weight.resize(size());
    for (int64_t i = 0; i < size(); ++i) {
      const auto sample = axis.sample(begin + i);
      index[i] = sample.index;
      weight[i] = sample.weight;
    }
  }
};

// Consecutive pixels of an axis with one index: entries [begin, end) of its samples.
struct Span {
  int32_t index;
  int64_t begin, end;
};

template <typename T>
void find_spans(const Samples<T>& samples, std::vector<Span>& spans) {
  spans.clear();
  for (int64_t i = 0; i < samples.size(); ++i) {
    if (spans.empty() || spans.back().index != samples.index[i]) {
      spans.push_back({samples.index[i], i, i});
    }
    spans.back().end = i + 1;
  }
}

// What the threads need per mask; kept between masks to save allocations.
template <typename T>
struct Placement {
  Samples<T> rows, columns;
  std::vector<Span> row_spans;
  std::vector<T> padded;  // (M + 3, M + 3)
  int64_t stride = 0;

  // Places one mask (M, M); `transposed` stores it by columns.
  void assign(const T* mask, int64_t size, const Box<T>& box, const Image& image, bool aligned,
              bool transposed) {
    rows.assign(PasteAxis<T>(box.y1, box.y2, size, image.height, aligned));
    columns.assign(PasteAxis<T>(box.x1, box.x2, size, image.width, aligned));
    find_spans(rows, row_spans);
    stride = size + kMaskPadding;
    padded.assign(stride * stride, T(0));
    for (int64_t y = 0; y < size; ++y) {
      for (int64_t x = 0; x < size; ++x) {
        const int64_t place = transposed ? (x + 1) * stride + y + 1 : (y + 1) * stride + x + 1;
        padded[place] = mask[y * size + x];
      }
    }
  }
  bool empty() const { return rows.size() == 0 || columns.size() == 0; }
};

inline void check_finite(const PasteInputs& inputs) {
  with_data(inputs.boxes, [&](auto* boxes) {
    for (int64_t i = 0; i < inputs.count * 4; ++i) {
      STD_TORCH_CHECK(boxes[i] - boxes[i] == 0, "boxes must be finite, but coordinate ", i % 4,
                      " of box ", i / 4, " is ", boxes[i]);
    }
  });
}

// Calls make(T()) for a consumer of placements per thread, and consumer(placement, i) per mask.
template <typename Make>
void for_each_mask(const PasteInputs& inputs, bool aligned, bool transposed, const Make& make) {
  with_data(inputs.masks, [&](auto* masks) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(masks)>>;
    const auto* boxes = static_cast<const Box<T>*>(inputs.boxes.const_data_ptr());
    const int64_t area = inputs.size * inputs.size;
    torch::stable::parallel_for(0, inputs.count, 1, [&](int64_t first, int64_t last) {
      auto consume = make(T(0));
      Placement<T> placement;
      for (int64_t i = first; i < last; ++i) {
        placement.assign(masks + i * area, inputs.size, boxes[i], inputs.image, aligned,
                         transposed);
        consume(placement, i);
      }
    });
  });
}

}  // namespace maskrcnn
