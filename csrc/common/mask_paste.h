// Where a mask of M x M probabilities comes to lie in the image, along one axis.
//
// The mask is thought of as surrounded by zeros. A pixel of the image samples it by linear
// interpolation along each axis: value = v[index] + weight * (v[index + 1] - v[index]). Two
// conventions exist:
//   integer       (Detectron, maskrcnn-benchmark, torchvision) the mask with one ring of zeros is
//                 resized to the box, which is grown by (M + 2) / M and truncated to whole pixels;
//   pixel centre  (detectron2) the mask is sampled at the pixel's centre within the continuous box.
// Along an axis `index` never decreases, and where it stays equal `weight` never decreases. As a
// rounded product and a rounded sum are monotonic too, a mask's value rises or falls monotonically
// between two of its rows: the run-length encoder relies on that.
#pragma once

#include <cstdint>

#include "common/exact.h"

namespace maskrcnn {

// Rows and columns are numbered in the padded mask: 0 and M + 1 are zeros, and so is M + 2, the
// right neighbour of M + 1.
constexpr int64_t kMaskPadding = 3;

template <typename T>
struct PasteSample {
  int32_t index;  // 0 ... M + 1
  T weight;       // [0, 1]
};

// Converts to an integer, toward zero; what is out of reach, or NaN, becomes the nearest limit.
template <typename T>
C10_HOST_DEVICE inline int64_t to_pixel(T value) {
  constexpr T kReach = static_cast<T>(int64_t(1) << 40);
  return static_cast<int64_t>(smaller(larger(value, -kReach), kReach));
}

// `value` lies within the mask.
template <typename T>
C10_HOST_DEVICE inline T round_down(T value) {
  const T whole = static_cast<T>(static_cast<int32_t>(value));
  return whole > value ? whole - 1 : whole;
}

template <typename T>
class PasteAxis {
 public:
  // `low` and `high` are the box's edges, `length` is the image's size along this axis.
  C10_HOST_DEVICE PasteAxis(T low, T high, int64_t mask_size, int64_t length, bool aligned)
      : aligned_(aligned), mask_size_(static_cast<T>(mask_size)), low_(low), extent_(high - low) {
    const bool finite = extent_ - extent_ == T(0);
    if (!finite || length == 0) return;
    if (aligned) {
      place_continuous(high, length);
    } else {
      place_integer(high, length);
    }
  }

  C10_HOST_DEVICE int64_t begin() const { return begin_; }
  C10_HOST_DEVICE int64_t end() const { return end_; }

  // `pixel` lies in [begin, end).
  C10_HOST_DEVICE PasteSample<T> sample(int64_t pixel) const {
    if (aligned_) {
      const T position = continuous_position(pixel);
      const T whole = round_down(position);
      return {static_cast<int32_t>(whole) + 1, position - whole};
    }
    const T centre = static_cast<T>(pixel - first_pixel_) + T(0.5);
    const T position = larger(mul(centre, step_) - T(0.5), T(0));
    const T whole = smaller(round_down(position), mask_size_ + 1);
    return {static_cast<int32_t>(whole), smaller(position - whole, T(1))};
  }

 private:
  C10_HOST_DEVICE void place_integer(T high, int64_t length) {
    const double growth = (static_cast<double>(mask_size_) + 2) / static_cast<double>(mask_size_);
    const T half = mul(mul(extent_, T(0.5)), static_cast<T>(growth));
    const T centre = mul(low_ + high, T(0.5));
    first_pixel_ = to_pixel(centre - half);
    const int64_t last_pixel = to_pixel(centre + half);
    const int64_t pixels = larger<int64_t>(last_pixel - first_pixel_ + 1, 1);
    step_ = (mask_size_ + 2) / static_cast<T>(pixels);
    begin_ = smaller(larger<int64_t>(first_pixel_, 0), length);
    end_ = larger(smaller(last_pixel + 1, length), begin_);
  }

  C10_HOST_DEVICE void place_continuous(T high, int64_t length) {
    if (!(extent_ > T(0))) return;
    // Half a cell of the mask beyond the box the surrounding zeros are reached; then exactly.
    const T reach = mul(extent_, T(0.5)) / mask_size_ + T(2);
    begin_ = larger<int64_t>(smaller(to_pixel(low_ - reach), length), 0);
    end_ = larger<int64_t>(smaller(to_pixel(high + reach), length), begin_);
    while (begin_ < end_ && !touches(begin_)) ++begin_;
    while (begin_ < end_ && !touches(end_ - 1)) --end_;
  }

  // Position in the mask, in cells, 0 at the centre of its first cell.
  C10_HOST_DEVICE T continuous_position(int64_t pixel) const {
    const T relative = (static_cast<T>(pixel) + T(0.5) - low_) / extent_;
    const T grid = mul(relative, T(2)) - T(1);
    return mul(mul(grid + T(1), mask_size_) - T(1), T(0.5));
  }

  C10_HOST_DEVICE bool touches(int64_t pixel) const {
    const T position = continuous_position(pixel);
    return position > T(-1) && position < mask_size_;
  }

  bool aligned_;
  T mask_size_, low_, extent_;
  int64_t begin_ = 0, end_ = 0;
  int64_t first_pixel_ = 0;
  T step_ = 0;
};

template <typename T>
C10_HOST_DEVICE inline T blend(T first, T second, T weight) {
  return first + mul(weight, second - first);
}

}  // namespace maskrcnn
