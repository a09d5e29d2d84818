// Vectors as wide as the processor has, and loops that use them.
//
// `run_simd(body)` runs a hot loop in the widest variant that the processor offers (see simd.h):
// the compiler builds the body once per variant, with the width of a vector in bytes as its
// argument. Bodies and what they call in their loops are marked MASKRCNN_INLINE, because only code
// that is inlined into a variant takes on its instructions.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/simd.h"

#if defined(__GNUC__)
#define MASKRCNN_INLINE __attribute__((always_inline))
#define MASKRCNN_VECTORS 1
#else
#define MASKRCNN_INLINE
#endif

namespace maskrcnn {

// Asks for the cache line at an address, which need not be valid. It and its callers must be
// inlined: a function that does nothing else looks to the compiler as if it did nothing at all.
MASKRCNN_INLINE inline void prefetch(const void* address) {
#ifdef MASKRCNN_VECTORS
  __builtin_prefetch(address, 0, 2);
#else
  (void)address;
#endif
}

template <int kBytes>
using VectorBytes = std::integral_constant<int, kBytes>;

#if defined(__GNUC__) && defined(__x86_64__)

template <class Body>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void run_avx512(
    const Body& body) {
  body(VectorBytes<64>{});
}

template <class Body>
__attribute__((target("avx2,fma"))) void run_avx2(const Body& body) {
  body(VectorBytes<32>{});
}

template <class Body>
void run_simd(const Body& body) {
  static const Simd simd = detect_simd();
  static const bool has_fma = __builtin_cpu_supports("fma");
  if (simd == Simd::kAvx512) return run_avx512(body);
  if (simd == Simd::kAvx2 && has_fma) return run_avx2(body);
  body(VectorBytes<16>{});
}

#else

template <class Body>
void run_simd(const Body& body) {
  body(VectorBytes<16>{});
}

#endif

#ifdef MASKRCNN_VECTORS

template <class T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};

// The compilers' vectors of floats and of their bits. Functions take vectors by reference: by
// value, their calling convention would depend on the variant.
template <int kCount>
struct FloatLanes {
  using Vector = typename VectorOf<float, kCount * 4>::type;
  using Bits = typename VectorOf<uint32_t, kCount * 4>::type;
  using HalfBits = typename VectorOf<uint16_t, kCount * 2>::type;

  static MASKRCNN_INLINE void load(const torch::headeronly::BFloat16* from, Vector& vector) {
    Bits bits;
    load_bits(from, bits);
    bits <<= 16;
    std::memcpy(&vector, &bits, sizeof(vector));
  }

  // Exponent and mantissa are shifted into place and scaled by 2^(127 - 15).
  static MASKRCNN_INLINE void load(const torch::headeronly::Half* from, Vector& vector) {
    Bits half;
    load_bits(from, half);
    const Bits magnitude = (half & 0x7fff) << 13;
    std::memcpy(&vector, &magnitude, sizeof(vector));
    vector *= 0x1p112f;
    Bits bits;
    std::memcpy(&bits, &vector, sizeof(bits));
    const Bits special = reinterpret_cast<Bits>((half & 0x7c00) == 0x7c00) & 0x7f800000;
    bits |= special | ((half & 0x8000) << 16);
    std::memcpy(&vector, &bits, sizeof(vector));
  }

  // Rounds to the nearest, ties to even.
  static MASKRCNN_INLINE void store(const Vector& vector, torch::headeronly::BFloat16* to) {
    Bits bits;
    std::memcpy(&bits, &vector, sizeof(bits));
    const Bits is_nan = reinterpret_cast<Bits>((bits & 0x7fffffff) > 0x7f800000);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    store_bits((bits & ~is_nan) | (is_nan & 0x7fc0), to);
  }

  // Rounds to the nearest, ties to even, by adding a number whose last bit is the half's last bit.
  static MASKRCNN_INLINE void store(const Vector& vector, torch::headeronly::Half* to) {
    Bits bits;
    std::memcpy(&bits, &vector, sizeof(bits));
    const Bits magnitude = bits & 0x7fffffff;
    const Bits is_nan = reinterpret_cast<Bits>(magnitude > 0x7f800000);
    Vector base;
    std::memcpy(&base, &magnitude, sizeof(base));
    base = base * 0x1p112f * 0x1p-110f;  // beyond the largest half: infinite
    Bits bias = magnitude & 0x7f800000;
    const Bits small = reinterpret_cast<Bits>(bias < 0x38800000);
    bias = ((bias & ~small) | (small & 0x38800000)) + 0x07800000;
    Vector rounder;
    std::memcpy(&rounder, &bias, sizeof(rounder));
    base += rounder;
    Bits sum;
    std::memcpy(&sum, &base, sizeof(sum));
    const Bits finite = ((sum >> 13) & 0x7c00) + (sum & 0x0fff);
    store_bits(((bits >> 16) & 0x8000) | (finite & ~is_nan) | (is_nan & 0x7e00), to);
  }

 private:
  static MASKRCNN_INLINE void load_bits(const void* from, Bits& bits) {
    HalfBits narrow;
    std::memcpy(&narrow, from, sizeof(narrow));
    bits = __builtin_convertvector(narrow, Bits);
  }

  static MASKRCNN_INLINE void store_bits(const Bits& bits, void* to) {
    const HalfBits narrow = __builtin_convertvector(bits, HalfBits);
    std::memcpy(to, &narrow, sizeof(narrow));
  }
};

#endif

// `kCount` numbers of type Acc (float or double), read from and written to memory of any floating
// point type.
template <class Acc, int kCount>
struct Lanes {
#ifdef MASKRCNN_VECTORS
  using Vector = typename VectorOf<Acc, kCount * sizeof(Acc)>::type;

  template <class T>
  static MASKRCNN_INLINE void load(const T* from, Vector& vector) {
    if constexpr (std::is_same_v<T, Acc>) {
      std::memcpy(&vector, from, sizeof(vector));
    } else {
      FloatLanes<kCount>::load(from, vector);
    }
  }

  template <class T>
  static MASKRCNN_INLINE void store(const Vector& vector, T* to) {
    if constexpr (std::is_same_v<T, Acc>) {
      std::memcpy(to, &vector, sizeof(vector));
    } else {
      FloatLanes<kCount>::store(vector, to);
    }
  }
#endif
};

// One number, as the plain type.
template <class Acc>
struct Lanes<Acc, 1> {
  using Vector = Acc;
  template <class T>
  static MASKRCNN_INLINE void load(const T* from, Vector& value) {
    value = static_cast<Acc>(*from);
  }
  template <class T>
  static MASKRCNN_INLINE void store(const Vector& value, T* to) {
    *to = static_cast<T>(value);
  }
};

}  // namespace maskrcnn
