// Mask targets of RoIs on the CPU: polygons or bitmaps straight into the RoIs' grids.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "common/bitmap_window.h"
#include "common/mask_target_inputs.h"
#include "common/parallel.h"
#include "common/polygon_grid.h"
#include "cpu/polygon_values.h"

namespace {

using maskrcnn::Bitmap;
using maskrcnn::GridPoint;
using maskrcnn::GridWindow;
using maskrcnn::kLargestTarget;
using maskrcnn::mul;
using maskrcnn::PolygonInputs;
using maskrcnn::TargetRois;
using maskrcnn::WindowAxis;
using maskrcnn::WindowSample;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kRoisPerPiece = 8;

// The bits of each byte, lowest first.
constexpr auto kSpreadBits = [] {
  std::array<std::array<bool, 8>, 256> table{};
  for (size_t byte = 0; byte < table.size(); ++byte) {
    for (size_t bit = 0; bit < 8; ++bit) table[byte][bit] = byte >> bit & 1;
  }
  return table;
}();

// A grid of bits. Rows are words, bit c of which is column c.
class BitGrid {
 public:
  explicit BitGrid(int32_t size) : size_(size), words_((size + kBits - 1) / kBits) { clear(); }

  void clear() { std::fill_n(bits_, size_ * words_, uint64_t{0}); }

  void toggle(int32_t row, int32_t column) {
    bits_[row * words_ + column / kBits] ^= uint64_t{1} << (column % kBits);
  }

  // Adds what `changes` encloses: its bits say from which rows on columns change sides.
  void unite(const BitGrid& changes) {
    uint64_t inside[kMostWords] = {};
    for (int32_t row = 0; row < size_; ++row) {
      for (int32_t word = 0; word < words_; ++word) {
        inside[word] ^= changes.bits_[row * words_ + word];
        bits_[row * words_ + word] |= inside[word];
      }
    }
  }

  void write(bool* cells) const {
    for (int32_t row = 0; row < size_; ++row) {
      for (int32_t column = 0; column < size_; column += 8) {
        const uint64_t word = bits_[row * words_ + column / kBits];
        const auto& spread = kSpreadBits[word >> (column % kBits) & 0xff];
        const int32_t count = std::min(size_ - column, 8);
        std::memcpy(cells, spread.data(), static_cast<size_t>(count));
        cells += count;
      }
    }
  }

 private:
  static constexpr int32_t kBits = 64;
  static constexpr int32_t kMostWords = kLargestTarget / kBits;

  int32_t size_, words_;
  uint64_t bits_[kLargestTarget * kMostWords];  // of which size * words are used
};

// Marks in `changes`, which is clear, the crossings of a closed outline with the columns of the
// grid; returns whether there are any.
bool cross_outline(const double* points, int64_t count, const GridWindow& window, int32_t size,
                   BitGrid& changes) {
  if (count == 0) return false;
  bool any = false;
  GridPoint previous = window.place(points + 2 * (count - 1));
  for (int64_t i = 0; i < count; ++i) {
    const GridPoint point = window.place(points + 2 * i);
    maskrcnn::cross_columns(previous, point, size, [&](int32_t row, int32_t column) {
      changes.toggle(row, column);
      any = true;
    });
    previous = point;
  }
  return any;
}

// Reads a bitmap through a window: row by row, each interpolated between columns once.
class WindowReader {
 public:
  WindowReader(const Bitmap& bitmap, const double* box, int32_t size)
      : bitmap_(bitmap), rows_(box[1], box[3], size), size_(size) {
    const WindowAxis columns(box[0], box[2], size);
    for (int32_t x = 0; x < size; ++x) {
      const WindowSample sample = columns.sample(x);
      place(sample.first, sample.first_weight, first_[x], first_weight_[x]);
      place(sample.second, sample.second_weight, second_[x], second_weight_[x]);
    }
  }

  void write(bool* cells) {
    float* upper = values_[0];
    float* lower = values_[1];
    int64_t upper_row = kNone, lower_row = kNone;
    for (int32_t y = 0; y < size_; ++y, cells += size_) {
      const WindowSample sample = rows_.sample(y);
      if (sample.first == lower_row) {
        std::swap(upper, lower);
        std::swap(upper_row, lower_row);
      }
      if (sample.first != upper_row) read(upper_row = sample.first, upper);
      if (sample.second != lower_row) read(lower_row = sample.second, lower);
      for (int32_t x = 0; x < size_; ++x) {
        const float value =
            mul(sample.first_weight, upper[x]) + mul(sample.second_weight, lower[x]);
        cells[x] = value >= 0.5f;
      }
    }
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::min();

  // A column outside of the bitmap is zero: any other one without weight.
  void place(int64_t column, float weight, int64_t& index, float& index_weight) const {
    const bool inside = column >= 0 && column < bitmap_.width;
    index = inside ? column : 0;
    index_weight = inside ? weight : 0.0f;
  }

  void read(int64_t y, float* values) const {
    if (y < 0 || y >= bitmap_.height || bitmap_.width == 0) {
      std::fill_n(values, size_, 0.0f);
      return;
    }
    const bool* row = bitmap_.pixels + y * bitmap_.width;
    for (int32_t x = 0; x < size_; ++x) {
      values[x] = mul(first_weight_[x], static_cast<float>(row[first_[x]])) +
                  mul(second_weight_[x], static_cast<float>(row[second_[x]]));
    }
  }

  Bitmap bitmap_;
  WindowAxis rows_;
  int32_t size_;
  int64_t first_[kLargestTarget], second_[kLargestTarget];
  float first_weight_[kLargestTarget], second_weight_[kLargestTarget];
  float values_[2][kLargestTarget];
};

void check_values(const TargetRois& rois, int64_t instance_count) {
  const auto* boxes = rois.boxes.const_data_ptr<double>();
  const auto* instances = rois.instances.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rois.count * 4; ++i) {
    STD_TORCH_CHECK(boxes[i] - boxes[i] == 0, "boxes must be finite, but coordinate ", i % 4,
                    " of box ", i / 4, " is ", boxes[i]);
  }
  for (int64_t i = 0; i < rois.count; ++i) {
    STD_TORCH_CHECK(instances[i] < instance_count, "instances must be below ", instance_count,
                    ", the number of instances, but entry ", i, " is ", instances[i]);
  }
}

// Calls draw(instance, box, cells) for every RoI that has an instance; the others' cells are false.
template <typename Draw>
Tensor draw_targets(const TargetRois& rois, const Draw& draw) {
  const int64_t area = int64_t{rois.size} * rois.size;
  const Tensor result =
      torch::stable::new_empty(rois.boxes, {rois.count, rois.size, rois.size}, ScalarType::Bool);
  auto* cells = static_cast<bool*>(result.mutable_data_ptr());
  const auto* boxes = rois.boxes.const_data_ptr<double>();
  const auto* instances = rois.instances.const_data_ptr<int64_t>();
  maskrcnn::for_each_piece(rois.count, kRoisPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (instances[i] < 0) {
        std::memset(cells + i * area, 0, static_cast<size_t>(area));
      } else {
        draw(instances[i], boxes + 4 * i, cells + i * area);
      }
    }
  });
  return result;
}

Tensor polygon_mask_targets(const Tensor& points, const Tensor& polygon_offsets,
                            const Tensor& instance_offsets, const Tensor& boxes,
                            const Tensor& instances, int64_t size) {
  const PolygonInputs polygons =
      maskrcnn::check_polygons(points, polygon_offsets, instance_offsets);
  const TargetRois rois = maskrcnn::check_rois(boxes, instances, points, size);
  maskrcnn::check_values(polygons);
  check_values(rois, polygons.instance_count);
  const auto* xy = polygons.points.const_data_ptr<double>();
  const auto* polygon_begin = polygons.polygon_offsets.const_data_ptr<int64_t>();
  const auto* instance_begin = polygons.instance_offsets.const_data_ptr<int64_t>();
  return draw_targets(rois, [&](int64_t instance, const double* box, bool* cells) {
    const GridWindow window(box, rois.size);
    BitGrid covered(rois.size), changes(rois.size);
    for (int64_t i = instance_begin[instance]; i < instance_begin[instance + 1]; ++i) {
      const int64_t first = polygon_begin[i];
      const int64_t count = polygon_begin[i + 1] - first;
      if (!cross_outline(xy + 2 * first, count, window, rois.size, changes)) continue;
      covered.unite(changes);
      changes.clear();
    }
    covered.write(cells);
  });
}

Tensor bitmap_mask_targets(const Tensor& bitmaps, const Tensor& boxes, const Tensor& instances,
                           int64_t size) {
  const Tensor masks = maskrcnn::check_bitmaps(bitmaps);
  const TargetRois rois = maskrcnn::check_rois(boxes, instances, bitmaps, size);
  check_values(rois, masks.size(0));
  const auto* pixels = static_cast<const bool*>(masks.const_data_ptr());
  const int64_t height = masks.size(1), width = masks.size(2);
  return draw_targets(rois, [&](int64_t instance, const double* box, bool* cells) {
    const Bitmap bitmap{pixels + instance * height * width, height, width};
    WindowReader(bitmap, box, rois.size).write(cells);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("polygon_mask_targets", TORCH_BOX(&polygon_mask_targets));
  m.impl("bitmap_mask_targets", TORCH_BOX(&bitmap_mask_targets));
}
