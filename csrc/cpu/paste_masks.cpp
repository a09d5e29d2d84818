// Masks of M x M probabilities to pixels of the image, as bitmaps or as run lengths, on the CPU.
//
// Both outputs evaluate common/mask_paste.h's definition of a pixel, so they are equal bit by bit.
// Both use that along a column a pixel's value is monotonic between two rows of the mask: where the
// first and the last pixel in between agree, so do all others.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "common/box.h"
#include "common/inputs.h"
#include "common/mask_paste.h"
#include "cpu/simd.h"

namespace {

using maskrcnn::Box;
using maskrcnn::kMaskPadding;
using maskrcnn::PasteAxis;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMostBytes = std::numeric_limits<int64_t>::max();
constexpr int64_t kLongestSide = std::numeric_limits<int32_t>::max();

struct Image {
  int64_t height, width;
};

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

// ---- Bitmaps: rows of the mask are widened once, then blended row by row. ----

template <typename T>
MASKRCNN_ALWAYS_INLINE void widen_row(const T* row, const int32_t* index, const T* weight,
                                      int64_t n, T* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = row[index[i]] + weight[i] * (row[index[i] + 1] - row[index[i]]);
  }
}

template <typename T>
MASKRCNN_ALWAYS_INLINE void blend_rows(const T* upper, const T* lower, T weight, T threshold,
                                       int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = upper[i] + weight * (lower[i] - upper[i]) >= threshold;
  }
}

#define MASKRCNN_ROW_KERNELS(T)                                                                  \
  MASKRCNN_MULTIVERSION(                                                                         \
      void, widen_row_of, widen_row,                                                             \
      (const T* row, const int32_t* index, const T* weight, int64_t n, T* out),                  \
      (row, index, weight, n, out))                                                              \
  MASKRCNN_MULTIVERSION(                                                                         \
      void, blend_rows_of, blend_rows,                                                           \
      (const T* upper, const T* lower, T weight, T threshold, int64_t n, uint8_t* out),          \
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

// ---- Run lengths: column by column, one step per row of the mask. ----

// Blends two columns of the mask to `values` (n + 1 of them), and tests the first and the last
// pixel of each span: bit 0 and bit 1 of its flag.
template <typename T, typename Flag>
MASKRCNN_ALWAYS_INLINE void test_column(const T* left, const T* right, T weight,
                                        const T* first_weight, const T* last_weight, int64_t n,
                                        T threshold, T* values, Flag* flags) {
  for (int64_t i = 0; i <= n; ++i) values[i] = left[i] + weight * (right[i] - left[i]);
  for (int64_t i = 0; i < n; ++i) {
    const T step = values[i + 1] - values[i];
    const Flag first = values[i] + first_weight[i] * step >= threshold ? 1 : 0;
    const Flag last = values[i] + last_weight[i] * step >= threshold ? 2 : 0;
    flags[i] = first | last;
  }
}

#define MASKRCNN_COLUMN_KERNEL(T, Flag)                                                          \
  MASKRCNN_MULTIVERSION(void, test_column_of, test_column,                                       \
                        (const T* left, const T* right, T weight, const T* first_weight,         \
                         const T* last_weight, int64_t n, T threshold, T* values, Flag* flags),  \
                        (left, right, weight, first_weight, last_weight, n, threshold, values,   \
                         flags))

MASKRCNN_COLUMN_KERNEL(float, int32_t)
MASKRCNN_COLUMN_KERNEL(double, int64_t)
#undef MASKRCNN_COLUMN_KERNEL

// Lengths of alternating runs of zeros and ones in column-major order, zeros first.
class RunLengths {
 public:
  explicit RunLengths(std::vector<int64_t>& runs) : runs_(runs) {}
  // Ones in [begin, end); intervals come in order.
  void add(int64_t begin, int64_t end) {
    if (begin == position_ && !runs_.empty()) {
      runs_.back() += end - begin;
    } else {
      runs_.push_back(begin - position_);
      runs_.push_back(end - begin);
    }
    position_ = end;
  }
  void finish(int64_t pixels) {
    if (position_ < pixels || runs_.empty()) runs_.push_back(pixels - position_);
  }

 private:
  std::vector<int64_t>& runs_;
  int64_t position_ = 0;
};

template <typename T>
class RunEncoder {
 public:
  RunEncoder(const Image& image, T threshold) : image_(image), threshold_(threshold) {}

  void encode(const Placement<T>& mask, std::vector<int64_t>& runs) {
    RunLengths lengths(runs);
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

  void encode_column(const Placement<T>& mask, int64_t column, RunLengths& lengths) {
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
      const bool is_inside = maskrcnn::blend(value[0], value[1], weight[row]) >= threshold_;
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

// ---- Operators ----

struct Inputs {
  Tensor masks, boxes;  // (N, M, M) and (N, 4), contiguous, of one type: float or double
  int64_t count, size;
  Image image;
};

void check_finite(const Inputs& inputs) {
  maskrcnn::with_data(inputs.boxes, [&](auto* boxes) {
    for (int64_t i = 0; i < inputs.count * 4; ++i) {
      STD_TORCH_CHECK(boxes[i] - boxes[i] == 0, "boxes must be finite, but coordinate ", i % 4,
                      " of box ", i / 4, " is ", boxes[i]);
    }
  });
}

Inputs check(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width,
             double threshold) {
  STD_TORCH_CHECK(masks.dim() == 3 && masks.size(1) == masks.size(2) && masks.size(1) > 0,
                  "masks must have shape (N, M, M)");
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(0) == masks.size(0) && boxes.size(1) == 4,
                  "boxes must have shape (N, 4)");
  STD_TORCH_CHECK(maskrcnn::is_floating(masks), "masks must be floating point");
  STD_TORCH_CHECK(maskrcnn::is_floating(boxes), "boxes must be floating point");
  STD_TORCH_CHECK(maskrcnn::on_one_device(masks, boxes), "masks and boxes must be on one device");
  STD_TORCH_CHECK(height >= 0 && width >= 0, "image_size must not be negative");
  STD_TORCH_CHECK(height <= kLongestSide && width <= kLongestSide, "image_size is too large");
  STD_TORCH_CHECK(std::isfinite(threshold), "threshold must be finite");
  const Tensor wide_masks = maskrcnn::widen(masks);
  const Tensor wide_boxes =
      torch::stable::contiguous(torch::stable::to(boxes, wide_masks.scalar_type()));
  const Inputs inputs{wide_masks, wide_boxes, masks.size(0), masks.size(1), {height, width}};
  check_finite(inputs);
  return inputs;
}

// The least value that belongs to the mask: >= threshold if `aligned`, > threshold if not.
template <typename T>
T least_inside(double threshold, bool aligned) {
  const T value = static_cast<T>(threshold);
  return aligned ? value : std::nextafter(value, std::numeric_limits<T>::infinity());
}

// Calls make(T()) for a consumer of placements per thread, and consumer(placement, i) per mask.
template <typename Make>
void for_each_mask(const Inputs& inputs, bool aligned, bool transposed, const Make& make) {
  maskrcnn::with_data(inputs.masks, [&](auto* masks) {
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

// Asks for memory in pages of 2 MB instead of 4 KB: far fewer to be fetched on first touch.
void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr int64_t kWorthwhile = int64_t(1) << 23;
  if (bytes < kWorthwhile) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // advice may be refused
#endif
}

// Bitmaps of N x height x width zeros. Memory of this size comes from the operating system, where
// it is zero already, so only what the masks cover is ever touched: that is most of the time here.
Tensor zero_bitmaps(const Inputs& inputs) {
  const auto [height, width] = inputs.image;
  STD_TORCH_CHECK(width == 0 || inputs.count * height <= kMostBytes / width,
                  "image_size is too large for ", inputs.count, " bitmaps");
  const int64_t pixels = inputs.count * height * width;
  void* memory = std::calloc(std::max<int64_t>(pixels, 1), sizeof(bool));
  STD_TORCH_CHECK(memory != nullptr, "paste_masks: no memory for ", pixels, " bytes of bitmaps");
  prefer_huge_pages(memory, pixels);
  return torch::stable::from_blob(memory, {inputs.count, height, width},
                                  {height * width, width, 1}, inputs.masks.device(), ScalarType::Bool, &std::free);
}

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width,
                   double threshold, bool aligned) {
  const Inputs inputs = check(masks, boxes, height, width, threshold);
  const Tensor result = zero_bitmaps(inputs);
  auto* bitmaps = static_cast<uint8_t*>(result.mutable_data_ptr());
  for_each_mask(inputs, aligned, false, [&](auto zero) {
    using T = decltype(zero);
    return [&, writer = BitmapWriter<T>(inputs.image, least_inside<T>(threshold, aligned))](
               const Placement<T>& placement, int64_t i) mutable {
      writer.write(placement, bitmaps + i * height * width);
    };
  });
  return result;
}

std::tuple<Tensor, Tensor> masks_to_rle(const Tensor& masks, const Tensor& boxes, int64_t height,
                                        int64_t width, double threshold, bool aligned) {
  const Inputs inputs = check(masks, boxes, height, width, threshold);
  std::vector<std::vector<int64_t>> runs(inputs.count);
  for_each_mask(inputs, aligned, true, [&](auto zero) {
    using T = decltype(zero);
    return [&, encoder = RunEncoder<T>(inputs.image, least_inside<T>(threshold, aligned))](
               const Placement<T>& placement, int64_t i) mutable {
      encoder.encode(placement, runs[i]);
    };
  });
  Tensor offsets = torch::stable::new_empty(inputs.masks, {inputs.count + 1}, ScalarType::Long);
  auto* offset = offsets.mutable_data_ptr<int64_t>();
  offset[0] = 0;
  for (int64_t i = 0; i < inputs.count; ++i) {
    offset[i + 1] = offset[i] + static_cast<int64_t>(runs[i].size());
  }
  Tensor joined = torch::stable::new_empty(inputs.masks, {offset[inputs.count]}, ScalarType::Long);
  auto* out = joined.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < inputs.count; ++i) {
    std::copy(runs[i].begin(), runs[i].end(), out + offset[i]);
  }
  return {joined, offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("paste_masks", TORCH_BOX(&paste_masks));
  m.impl("masks_to_rle", TORCH_BOX(&masks_to_rle));
}
