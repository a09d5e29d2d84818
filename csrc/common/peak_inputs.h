// Inputs of the search for the peaks of heat maps, checked by their metadata.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/cubic.h"
#include "common/inputs.h"

namespace maskrcnn {

constexpr int64_t kLongestBoxSide = int64_t(1) << 16;  // in pixels

struct PeakInputs {
  torch::stable::Tensor maps, boxes;  // (R, K, M, M) and (R, 4), contiguous, both float or double
  int64_t count, points, size;
};

inline PeakInputs check_peaks(const torch::stable::Tensor& maps,
                              const torch::stable::Tensor& boxes) {
  STD_TORCH_CHECK(maps.dim() == 4 && maps.size(2) == maps.size(3) && maps.size(2) > 0,
                  "heat_maps must have shape (R, K, M, M)");
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(0) == maps.size(0) && boxes.size(1) == 4,
                  "boxes must have shape (R, 4)");
  STD_TORCH_CHECK(is_floating(maps), "heat_maps must be floating point");
  STD_TORCH_CHECK(is_floating(boxes), "boxes must be floating point");
  STD_TORCH_CHECK(on_one_device(maps, boxes), "heat_maps and boxes must be on one device");
  const torch::stable::Tensor wide = widen(maps);
  return {wide, torch::stable::contiguous(torch::stable::to(boxes, wide.scalar_type())),
          maps.size(0), maps.size(1), maps.size(2)};
}

// One side of a box, to whose length, rounded up to whole pixels, a heat map is resized.
template <typename T>
struct PeakSide {
  T low;           // where the box begins in the image
  T pixel;         // length of a pixel of the resized map in the image
  T step;          // length of a pixel of the resized map in the heat map
  int64_t pixels;  // of the resized map

  C10_HOST_DEVICE PeakSide(T begin, T end, int64_t size) : low(begin) {
    const T length = larger(end - begin, T(1));
    pixels = static_cast<int64_t>(smaller(std::ceil(length), static_cast<T>(kLongestBoxSide)));
    pixel = length / static_cast<T>(pixels);
    step = static_cast<T>(size) / static_cast<T>(pixels);
  }

  // Where in the image the middle of pixel i lies.
  C10_HOST_DEVICE T place(int64_t i) const { return mul(static_cast<T>(i) + T(0.5), pixel) + low; }
};

// The highest value so far and the pixel that has it; of equal values that of the first pixel.
template <typename T>
struct Peak {
  T value;
  int64_t pixel;

  C10_HOST_DEVICE void update(T other, int64_t other_pixel) {
    if (other > value || (other == value && other_pixel < pixel)) {
      value = other;
      pixel = other_pixel;
    }
  }
};

// Writes what the operator returns of one map: x, y and the value.
template <typename T>
C10_HOST_DEVICE void write_peak(const Peak<T>& peak, const PeakSide<T>& columns,
                                const PeakSide<T>& rows, T* out) {
  out[0] = columns.place(peak.pixel % columns.pixels);
  out[1] = rows.place(peak.pixel / columns.pixels);
  out[2] = peak.value;
}

}  // namespace maskrcnn
