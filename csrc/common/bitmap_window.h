// A window of a bitmap, resampled bilinearly to a small grid.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/exact.h"

namespace maskrcnn {

// A pixel of the grid lies between two pixels of the bitmap, which may be outside of it.
struct WindowSample {
  int64_t first, second;
  float first_weight, second_weight;
};

// The window along one axis: from `low` to `high`, rounded to whole pixels, at least one.
class WindowAxis {
 public:
  C10_HOST_DEVICE WindowAxis(double low, double high, int32_t size)
      : begin_(to_whole(low)), length_(larger<int64_t>(to_whole(high) - begin_, 1)) {
    step_ = static_cast<float>(length_) / static_cast<float>(size);
  }

  // As torch's bilinear interpolation with align_corners=False, in float32.
  C10_HOST_DEVICE WindowSample sample(int32_t cell) const {
    const float centre = static_cast<float>(cell) + 0.5f;
    const float position = larger(mul(centre, step_) - 0.5f, 0.0f);
    const int64_t index = smaller(static_cast<int64_t>(position), length_ - 1);
    const float weight = smaller(position - static_cast<float>(index), 1.0f);
    const int64_t next = smaller(index + 1, length_ - 1);
    return {begin_ + index, begin_ + next, 1.0f - weight, weight};
  }

 private:
  // What is out of reach, or NaN, becomes the nearest limit.
  C10_HOST_DEVICE static int64_t to_whole(double value) {
    constexpr double kReach = static_cast<double>(int64_t(1) << 40);
    return static_cast<int64_t>(floor(smaller(larger(value, -kReach), kReach) + 0.5));
  }

  int64_t begin_, length_;
  float step_;
};

// The bitmap of one instance; zero outside.
struct Bitmap {
  const bool* pixels;
  int64_t height, width;

  C10_HOST_DEVICE float row_value(int64_t y, const WindowSample& x) const {
    if (y < 0 || y >= height) return 0.0f;
    return mul(x.first_weight, at(y, x.first)) + mul(x.second_weight, at(y, x.second));
  }

  C10_HOST_DEVICE bool inside(const WindowSample& y, const WindowSample& x) const {
    const float upper = mul(y.first_weight, row_value(y.first, x));
    return upper + mul(y.second_weight, row_value(y.second, x)) >= 0.5f;
  }

 private:
  C10_HOST_DEVICE float at(int64_t y, int64_t x) const {
    return x >= 0 && x < width && pixels[y * width + x] ? 1.0f : 0.0f;
  }
};

}  // namespace maskrcnn
