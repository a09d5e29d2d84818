// Arithmetic that gives the same bits on every processor.
//
// Compilers may fuse a * b + c into one operation with one rounding, and whether they do depends on
// the instruction set and on the surrounding code. Keep lists and mask pixels must depend on
// neither, so files that include this header are compiled without such fusion, and products that
// feed a sum are written mul(a, b), which nvcc does not fuse.
#pragma once

#include <torch/headeronly/macros/Macros.h>

#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC optimize("fp-contract=off")
#endif

namespace maskrcnn {

template <typename T>
C10_HOST_DEVICE inline T mul(T a, T b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float)) {
    return __fmul_rn(a, b);
  } else {
    return __dmul_rn(a, b);
  }
#else
  return a * b;
#endif
}

template <typename T>
C10_HOST_DEVICE inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <typename T>
C10_HOST_DEVICE inline T larger(T a, T b) {
  return a > b ? a : b;
}

}  // namespace maskrcnn
