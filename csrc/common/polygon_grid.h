// Where the outline of a polygon crosses the columns of a small grid of pixels.
//
// The rule is that of the COCO API (maskApi.c, rleFrPoly). Points are rounded to a grid five times
// finer than the pixels. An edge is a chain of fine points: along its longer axis one step after
// the other, along its shorter axis the rounded value of a line in float64. Each time the chain
// steps over the middle of a column of pixels, between the fine columns 5c + 2 and 5c + 3, the
// pixels of column c change sides from a row on that follows from the upper one of both points.
// Crossings are computed one by one instead of by walking along the chain, so that an edge costs
// nothing where it is outside the grid, however long it is.
#pragma once

#include <cstdint>

#include "common/exact.h"

namespace maskrcnn {

constexpr int64_t kFine = 5;        // fine points per pixel
constexpr int64_t kFineMiddle = 2;  // the fine point after which a pixel's middle lies

// To a fine coordinate, toward zero, as a C cast does; what is out of reach becomes the nearest
// limit, and NaN some number. Within reach steps along an edge are exact in float64.
C10_HOST_DEVICE inline int64_t to_fine(double position) {
  constexpr double kReach = static_cast<double>(int64_t(1) << 40);
  const double fine = mul(position, static_cast<double>(kFine)) + 0.5;
  return static_cast<int64_t>(smaller(larger(fine, -kReach), kReach));
}

// The number of pixels of [0, size) whose middle lies before a fine coordinate.
C10_HOST_DEVICE inline int32_t pixels_before(int64_t fine, int32_t size) {
  const int64_t pixels = larger<int64_t>(fine + kFine - 1 - kFineMiddle, 0) / kFine;
  return static_cast<int32_t>(smaller<int64_t>(pixels, size));
}

// A point of an outline: fine coordinates, and the columns and rows of the grid before it.
struct GridPoint {
  int64_t x, y;
  int32_t column, row;
};

// The box of a RoI, stretched over a grid of size x size pixels.
class GridWindow {
 public:
  // `box` is x1, y1, x2, y2; it counts as one pixel wide and high at least.
  C10_HOST_DEVICE GridWindow(const double* box, int32_t size)
      : left_(box[0]),
        top_(box[1]),
        scale_x_(size / larger(box[2] - box[0], 1.0)),
        scale_y_(size / larger(box[3] - box[1], 1.0)),
        size_(size) {}

  // `point` is x, y in the image.
  C10_HOST_DEVICE GridPoint place(const double* point) const {
    const int64_t x = to_fine(mul(point[0] - left_, scale_x_));
    const int64_t y = to_fine(mul(point[1] - top_, scale_y_));
    return {x, y, pixels_before(x, size_), pixels_before(y, size_)};
  }

 private:
  double left_, top_, scale_x_, scale_y_;
  int32_t size_;
};

// An edge that crosses at least one column.
class GridEdge {
 public:
  C10_HOST_DEVICE GridEdge(const GridPoint& a, const GridPoint& b, int32_t size) : size_(size) {
    const int64_t width = a.x < b.x ? b.x - a.x : a.x - b.x;
    const int64_t height = a.y < b.y ? b.y - a.y : a.y - b.y;
    steep_ = width < height;
    const bool forward = steep_ ? a.y <= b.y : a.x <= b.x;
    const GridPoint& start = forward ? a : b;
    const GridPoint& end = forward ? b : a;
    x_ = start.x;
    y_ = start.y;
    steps_ = steep_ ? height : width;
    rise_ = static_cast<double>(steep_ ? end.x - start.x : end.y - start.y);
    slope_ = rise_ / static_cast<double>(steps_);
  }

  // The row from which on the pixels of `column`, which the edge crosses, change sides.
  C10_HOST_DEVICE int32_t row(int32_t column) const {
    const int64_t before = column * kFine + kFineMiddle;
    const int64_t y = steep_ ? y_ + steps_to_cross(before) - 1
                             : static_cast<int64_t>(line(y_, before - x_ + (slope_ < 0 ? 1 : 0)));
    return pixels_before(y, size_);
  }

 private:
  // The shorter coordinate after `step` steps along the longer one, not yet truncated.
  C10_HOST_DEVICE double line(int64_t start, int64_t step) const {
    return static_cast<double>(start) + mul(slope_, static_cast<double>(step)) + 0.5;
  }

  C10_HOST_DEVICE bool crossed(int64_t before, int64_t step) const {
    const double x = line(x_, step);
    const double beyond = static_cast<double>(before + 1);
    return slope_ > 0 ? x >= beyond : x < beyond;
  }

  // The first step of a steep edge beyond the fine column `before`: the inverse of `line`, put
  // right where rounding leads astray.
  C10_HOST_DEVICE int64_t steps_to_cross(int64_t before) const {
    const double distance = static_cast<double>(before - x_) + 0.5;
    int64_t step = static_cast<int64_t>(distance / rise_ * static_cast<double>(steps_)) + 1;
    step = smaller(larger<int64_t>(step, 1), steps_);
    while (step > 1 && crossed(before, step - 1)) --step;
    while (step < steps_ && !crossed(before, step)) ++step;
    return step;
  }

  int32_t size_;
  bool steep_;
  int64_t x_, y_, steps_;
  double rise_, slope_;
};

// Calls toggle(row, column) for every crossing of the edge from `a` to `b` with a column, if the
// column has pixels from that row on.
template <typename Toggle>
C10_HOST_DEVICE inline void cross_columns(const GridPoint& a, const GridPoint& b, int32_t size,
                                          const Toggle& toggle) {
  const int32_t first = smaller(a.column, b.column);
  const int32_t last = larger(a.column, b.column);
  if (first == last || smaller(a.row, b.row) == size) return;
  if (a.row == b.row) {
    for (int32_t column = first; column < last; ++column) toggle(a.row, column);
    return;
  }
  const GridEdge edge(a, b, size);
  for (int32_t column = first; column < last; ++column) {
    const int32_t row = edge.row(column);
    if (row < size) toggle(row, column);
  }
}

}  // namespace maskrcnn
