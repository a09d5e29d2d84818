// exp and log(1 + e) on vectors of floats (see vectors.h): to some units in the last place, without
// branches, the same polynomial on every processor.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/vectors.h"

#ifdef MASKRCNN_VECTORS

namespace maskrcnn {

template <int kCount>
struct FloatMath {
  using Vector = typename FloatLanes<kCount>::Vector;
  using Bits = typename FloatLanes<kCount>::Bits;

  // Lanes of `a` where the mask is all ones, of `b` where it is 0.
  template <class Mask>
  static MASKRCNN_INLINE void select(const Mask& mask, const Vector& a, const Vector& b,
                                     Vector& result) {
    Bits which, bits_a, bits_b;
    std::memcpy(&which, &mask, sizeof(which));
    std::memcpy(&bits_a, &a, sizeof(bits_a));
    std::memcpy(&bits_b, &b, sizeof(bits_b));
    const Bits chosen = (which & bits_a) | (~which & bits_b);
    std::memcpy(&result, &chosen, sizeof(result));
  }

  // exp(x) for x <= 0; below -87, where floats end, exp(-87). NaN stays NaN.
  static MASKRCNN_INLINE void exp_negative(const Vector& x, Vector& result) {
    constexpr float kLog2E = 1.44269504f;
    constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // their sum is ln 2
    constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    constexpr uint32_t kBias = 127;
    const Vector floor = Vector{} - 87.0f;
    Vector clamped;
    select(x < floor, floor, x, clamped);
    const Vector shifted = clamped * kLog2E + kRounder;
    const Vector n = shifted - kRounder;
    Vector r = clamped - n * kLn2High;
    r = r - n * kLn2Low;
    // Taylor's series of exp(r) for |r| <= ln(2) / 2.
    Vector p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Bits exponent;
    std::memcpy(&exponent, &shifted, sizeof(exponent));
    exponent = (exponent + kBias) << 23;  // the low bits of `shifted` are n
    Vector scale;
    std::memcpy(&scale, &exponent, sizeof(scale));
    result = p * scale;
  }

  // log(1 + e) for 0 <= e <= 1, small e included: 2 artanh(s) with s = e / (2 + e) <= 1/3.
  static MASKRCNN_INLINE void log_one_plus(const Vector& e, Vector& result) {
    const Vector s = e / (e + 2.0f);
    const Vector s2 = s * s;
    Vector p = s2 * (2.0f / 15) + 2.0f / 13;
    p = p * s2 + 2.0f / 11;
    p = p * s2 + 2.0f / 9;
    p = p * s2 + 2.0f / 7;
    p = p * s2 + 2.0f / 5;
    p = p * s2 + 2.0f / 3;
    p = p * s2 + 2.0f;
    result = p * s;
  }
};

}  // namespace maskrcnn

#endif
