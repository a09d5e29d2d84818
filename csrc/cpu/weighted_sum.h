// The one hot loop of the RoIAlign kernels: sum of rows of numbers, each times its weight.
#pragma once

#include <cstdint>

#include "cpu/vectors.h"

namespace maskrcnn {

// out[j] (+)= sum over i of weights[i] * base[offsets[i] + j], for kVectors x kCount numbers from
// `at` on: as many as fit in registers.
template <int kCount, int kVectors, bool kAccumulate, class Acc, class Source, class Out>
MASKRCNN_INLINE inline void weighted_sum_block(const Source* base, const int64_t* offsets,
                                               const Acc* weights, int64_t count, int64_t at,
                                               Out* out) {
  using Vectors = Lanes<Acc, kCount>;
  typename Vectors::Vector sum[kVectors];
  for (int j = 0; j < kVectors; ++j) {
    if constexpr (kAccumulate) {
      Vectors::load(out + at + j * kCount, sum[j]);
    } else {
      sum[j] = typename Vectors::Vector{};
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const Source* source = base + offsets[i] + at;
    const Acc weight = weights[i];
    for (int j = 0; j < kVectors; ++j) {
      typename Vectors::Vector value;
      Vectors::load(source + j * kCount, value);
      sum[j] += weight * value;
    }
  }
  for (int j = 0; j < kVectors; ++j) Vectors::store(sum[j], out + at + j * kCount);
}

// out[j] (+)= sum over i of weights[i] * base[offsets[i] + j], for j in [0, length). Every out[j]
// adds up in the order of i.
template <int kVectorBytes, bool kAccumulate, class Acc, class Source, class Out>
MASKRCNN_INLINE inline void weighted_sum(const Source* base, const int64_t* offsets,
                                         const Acc* weights, int64_t count, int64_t length,
                                         Out* out) {
  int64_t at = 0;
#ifdef MASKRCNN_VECTORS
  constexpr int kCount = kVectorBytes / sizeof(Acc);
  constexpr int kVectors = 8;
  for (; at + kVectors * kCount <= length; at += kVectors * kCount) {
    weighted_sum_block<kCount, kVectors, kAccumulate>(base, offsets, weights, count, at, out);
  }
  for (; at + kVectors / 2 * kCount <= length; at += kVectors / 2 * kCount) {
    weighted_sum_block<kCount, kVectors / 2, kAccumulate>(base, offsets, weights, count, at, out);
  }
  for (; at + kCount <= length; at += kCount) {
    weighted_sum_block<kCount, 1, kAccumulate>(base, offsets, weights, count, at, out);
  }
#endif
  for (; at < length; ++at) {
    weighted_sum_block<1, 1, kAccumulate>(base, offsets, weights, count, at, out);
  }
}

}  // namespace maskrcnn
