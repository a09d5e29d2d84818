// Bicubic interpolation with the kernel of Keys 1981 for a = -0.75, which torch and OpenCV have.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/exact.h"

namespace maskrcnn {

// The four pixels that an interpolated value is made of, `first` to `first + 3`, and their weights.
// Pixels before the first and after the last one have the value of these.
template <typename T>
struct CubicTaps {
  int64_t first;
  T weights[4];

  // Taps of pixel i of the resized axis; `step` is the ratio of the old length to the new one.
  C10_HOST_DEVICE CubicTaps(int64_t i, T step) {
    const T position = mul(step, static_cast<T>(i) + T(0.5)) - T(0.5);
    const T whole = std::floor(position);
    const T after = position - whole;
    const T before = T(1) - after;
    first = static_cast<int64_t>(whole) - 1;
    weights[0] = outer(after + T(1));
    weights[1] = inner(after);
    weights[2] = inner(before);
    weights[3] = outer(before + T(1));
  }

 private:
  // Within a pixel's distance.
  C10_HOST_DEVICE static T inner(T x) {
    return mul(mul(mul(kA + T(2), x) - (kA + T(3)), x), x) + T(1);
  }

  // From one pixel's distance to two.
  C10_HOST_DEVICE static T outer(T x) {
    return mul(mul(mul(kA, x) - T(5) * kA, x) + T(8) * kA, x) - T(4) * kA;
  }

  static constexpr T kA = T(-0.75);
};

// The outer weights are negative, and their sum is never below minus this; the inner ones make up
// for it. So no interpolated value exceeds its pixels by more than this times their spread.
constexpr double kMostNegative = 0.1875;

}  // namespace maskrcnn
