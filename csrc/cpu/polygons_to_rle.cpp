// Polygons to run lengths, without drawing them.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "common/mask_target_inputs.h"
#include "common/parallel.h"
#include "common/polygon_grid.h"
#include "cpu/polygon_values.h"
#include "cpu/run_lengths.h"

namespace {

using maskrcnn::GridPoint;
using maskrcnn::GridWindow;
using maskrcnn::PolygonInputs;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kInstancesPerPiece = 16;
constexpr uint64_t kRowBits = 0xffffffff;
constexpr int64_t kLongestSide = int64_t{1} << 24;

// Intervals of pixels in column-major order that the polygons of one instance cover. The grid of
// crossings is square; what is beyond the image is cut off.
class Outline {
 public:
  Outline(int64_t height, int64_t width)
      : height_(height), width_(width), size_(static_cast<int32_t>(std::max(height, width))) {}

  void add(const double* points, int64_t count) {
    if (count == 0 || size_ == 0) return;
    const double side = size_;
    const double box[] = {0, 0, side, side};
    const GridWindow window(box, size_);  // leaves points where they are
    crossings_.clear();
    GridPoint previous = window.place(points + 2 * (count - 1));
    for (int64_t i = 0; i < count; ++i) {
      const GridPoint point = window.place(points + 2 * i);
      maskrcnn::cross_columns(previous, point, size_, [&](int32_t row, int32_t column) {
        if (column < width_)
          crossings_.push_back(static_cast<uint64_t>(column) << 32 | static_cast<uint32_t>(row));
      });
      previous = point;
    }
    std::sort(crossings_.begin(), crossings_.end());
    pair_crossings();
    ++polygons_;
  }

  // Writes what any of the polygons covers.
  void write(std::vector<int64_t>& runs) {
    if (polygons_ > 1) std::sort(intervals_.begin(), intervals_.end());
    maskrcnn::RunLengths lengths(runs);
    int64_t covered = 0;
    for (const auto& [begin, end] : intervals_) {
      if (end > covered) lengths.add(std::max(begin, covered), end);
      covered = std::max(covered, end);
    }
    lengths.finish(height_ * width_);
  }

 private:
  // A column's pixels are inside from its first crossing to its second, and so on; crossings below
  // the grid are not listed.
  void pair_crossings() {
    for (size_t i = 0; i < crossings_.size(); ++i) {
      const int64_t column = crossings_[i] >> 32, row = crossings_[i] & kRowBits;
      int64_t end = height_;
      if (i + 1 < crossings_.size() && static_cast<int64_t>(crossings_[i + 1] >> 32) == column) {
        end = std::min<int64_t>(crossings_[++i] & kRowBits, height_);
      }
      if (row < end) intervals_.emplace_back(column * height_ + row, column * height_ + end);
    }
  }

  int64_t height_, width_;
  int32_t size_;
  int64_t polygons_ = 0;
  std::vector<uint64_t> crossings_;  // column in the upper half, row in the lower
  std::vector<std::pair<int64_t, int64_t>> intervals_;  // begin, end
};

std::tuple<Tensor, Tensor> polygons_to_rle(const Tensor& points, const Tensor& polygon_offsets,
                                           const Tensor& instance_offsets, const Tensor& sizes) {
  const PolygonInputs polygons =
      maskrcnn::check_polygons(points, polygon_offsets, instance_offsets);
  const int64_t count = polygons.instance_count;
  STD_TORCH_CHECK(sizes.is_cpu() && sizes.dim() == 2 && sizes.size(0) == count &&
                      sizes.size(1) == 2 && sizes.scalar_type() == ScalarType::Long,
                  "sizes must be int64 of shape (G, 2) on the CPU");
  maskrcnn::check_values(polygons);
  const Tensor packed = torch::stable::contiguous(sizes);
  const auto* size = packed.const_data_ptr<int64_t>();
  STD_TORCH_CHECK(
      std::all_of(size, size + 2 * count, [](int64_t n) { return n >= 0 && n <= kLongestSide; }),
      "sizes must be from 0 to ", kLongestSide);
  const auto* xy = polygons.points.const_data_ptr<double>();
  const auto* polygon_begin = polygons.polygon_offsets.const_data_ptr<int64_t>();
  const auto* instance_begin = polygons.instance_offsets.const_data_ptr<int64_t>();
  std::vector<std::vector<int64_t>> runs(count);
  maskrcnn::for_each_piece(count, kInstancesPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      Outline outline(size[2 * g], size[2 * g + 1]);
      for (int64_t i = instance_begin[g]; i < instance_begin[g + 1]; ++i) {
        outline.add(xy + 2 * polygon_begin[i], polygon_begin[i + 1] - polygon_begin[i]);
      }
      outline.write(runs[g]);
    }
  });
  return maskrcnn::join_runs(runs, packed);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("polygons_to_rle", TORCH_BOX(&polygons_to_rle));
}
