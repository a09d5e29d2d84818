// Inputs of mask pasting, checked by their metadata: cheap on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/inputs.h"

namespace maskrcnn {

struct Image {
  int64_t height, width;
};

struct PasteInputs {
  torch::stable::Tensor masks, boxes;  // (N, M, M) and (N, 4), contiguous, both float or double
  int64_t count, size;
  Image image;
};

inline PasteInputs check_paste(const torch::stable::Tensor& masks,
                               const torch::stable::Tensor& boxes, int64_t height, int64_t width,
                               double threshold) {
  constexpr int64_t kLongestSide = std::numeric_limits<int32_t>::max();
  STD_TORCH_CHECK(masks.dim() == 3 && masks.size(1) == masks.size(2) && masks.size(1) > 0,
                  "masks must have shape (N, M, M)");
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(0) == masks.size(0) && boxes.size(1) == 4,
                  "boxes must have shape (N, 4)");
  STD_TORCH_CHECK(is_floating(masks), "masks must be floating point");
  STD_TORCH_CHECK(is_floating(boxes), "boxes must be floating point");
  STD_TORCH_CHECK(on_one_device(masks, boxes), "masks and boxes must be on one device");
  STD_TORCH_CHECK(height >= 0 && width >= 0, "image_size must not be negative");
  STD_TORCH_CHECK(height <= kLongestSide && width <= kLongestSide, "image_size is too large");
  STD_TORCH_CHECK(std::isfinite(threshold), "threshold must be finite");
  const torch::stable::Tensor wide = widen(masks);
  return {wide,
          torch::stable::contiguous(torch::stable::to(boxes, wide.scalar_type())),
          masks.size(0),
          masks.size(1),
          {height, width}};
}

// The number of pixels of all bitmaps.
inline int64_t count_pixels(const PasteInputs& inputs) {
  const auto [height, width] = inputs.image;
  STD_TORCH_CHECK(
      width == 0 || inputs.count * height <= std::numeric_limits<int64_t>::max() / width,
      "image_size is too large for ", inputs.count, " bitmaps");
  return inputs.count * height * width;
}

// The least value that belongs to the mask: >= threshold if `aligned`, > threshold if not.
template <typename T>
T least_inside(double threshold, bool aligned) {
  const T value = static_cast<T>(threshold);
  return aligned ? value : std::nextafter(value, std::numeric_limits<T>::infinity());
}

}  // namespace maskrcnn
