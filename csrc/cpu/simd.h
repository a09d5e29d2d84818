// One loop compiled for several instruction sets, the best of which is chosen at run time.
//
// The library is built for the oldest processor of its architecture. A loop that gains from wider
// vectors is written once, as an always-inline function, and multiplied here. The environment
// variable MASKRCNN_SIMD (baseline, avx2) forbids wider vectors than it names.
#pragma once

#include <cstdlib>
#include <cstring>

#if defined(__GNUC__)
#define MASKRCNN_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define MASKRCNN_ALWAYS_INLINE inline
#endif

#if defined(__GNUC__) && defined(__x86_64__)

namespace maskrcnn {

enum class Simd { kBaseline, kAvx2, kAvx512 };

inline Simd detect_simd() {
  const char* widest = std::getenv("MASKRCNN_SIMD");
  if (widest != nullptr && std::strcmp(widest, "baseline") == 0) return Simd::kBaseline;
  const bool avx512_allowed = widest == nullptr || std::strcmp(widest, "avx2") != 0;
  __builtin_cpu_init();
  if (avx512_allowed && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Simd::kAvx512;
  }
  return __builtin_cpu_supports("avx2") ? Simd::kAvx2 : Simd::kBaseline;
}

}  // namespace maskrcnn

// Defines the function `name`, which runs `body<Args...>` with the widest vectors there are.
// `parameters` and `arguments` are in parentheses.
#define MASKRCNN_MULTIVERSION(result, name, body, parameters, arguments)                          \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) result name##_avx512 parameters { \
    return body arguments;                                                                        \
  }                                                                                               \
  __attribute__((target("avx2"))) result name##_avx2 parameters { return body arguments; }        \
  result name##_baseline parameters { return body arguments; }                                    \
  result name parameters {                                                                        \
    static const ::maskrcnn::Simd simd = ::maskrcnn::detect_simd();                               \
    if (simd == ::maskrcnn::Simd::kAvx512) return name##_avx512 arguments;                        \
    return simd == ::maskrcnn::Simd::kAvx2 ? name##_avx2 arguments : name##_baseline arguments;   \
  }

#else

#define MASKRCNN_MULTIVERSION(result, name, body, parameters, arguments) \
  result name parameters { return body arguments; }

#endif
