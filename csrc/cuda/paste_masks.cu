// Masks of M x M probabilities to bitmaps of the image, on the GPU.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

#include "common/paste_inputs.h"
#include "cuda/launch.h"
#include "cuda/mask_pixel.cuh"

namespace {

using maskrcnn::MaskColumn;
using maskrcnn::MaskPlace;
using maskrcnn::PaddedMask;
using maskrcnn::PasteInputs;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int kColumns = 32;  // of the image, per block: a warp writes neighbouring bytes
constexpr int kRows = 8;      // likewise
constexpr int64_t kRowsPerThread = 16;
constexpr int64_t kMostMasks = 65535;  // what the third dimension of a grid holds
constexpr int64_t kMostBlocks = 65535;

// Writes the pixels within the masks' boxes; all others are zero. Block (x, y, z) begins at columns
// x, rows y within the box of mask z, and strides over it.
template <typename T>
__global__ void paste(const T* masks, const T* boxes, int64_t count, int32_t size, int64_t height,
                      int64_t width, T least, bool aligned, bool* bitmaps) {
  for (int64_t i = blockIdx.z; i < count; i += gridDim.z) {
    const MaskPlace<T> place(boxes + 4 * i, size, height, width, aligned);
    const PaddedMask<T> mask{masks + i * size * size, size};
    bool* bitmap = bitmaps + i * height * width;
    const int64_t column_step = static_cast<int64_t>(gridDim.x) * kColumns;
    const int64_t row_step = static_cast<int64_t>(gridDim.y) * kRows;
    for (int64_t x =
             place.columns.begin() + static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
         x < place.columns.end(); x += column_step) {
      MaskColumn<T> column(mask, place.columns.sample(x));
      for (int64_t y = place.rows.begin() + static_cast<int64_t>(blockIdx.y) * kRows + threadIdx.y;
           y < place.rows.end(); y += row_step) {
        bitmap[y * width + x] = column.value(place.rows.sample(y)) >= least;
      }
    }
  }
}

unsigned int blocks_along(int64_t pixels, int64_t per_block) {
  return static_cast<unsigned int>(
      std::clamp<int64_t>((pixels + per_block - 1) / per_block, 1, kMostBlocks));
}

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width,
                   double threshold, bool aligned) {
  const PasteInputs inputs = maskrcnn::check_paste(masks, boxes, height, width, threshold);
  const torch::stable::accelerator::DeviceGuard guard(masks.get_device_index());
  const int64_t pixels = maskrcnn::count_pixels(inputs);
  Tensor result =
      torch::stable::new_zeros(inputs.masks, {inputs.count, height, width}, ScalarType::Bool);
  if (pixels == 0) return result;
  const dim3 grid(blocks_along(width, kColumns), blocks_along(height, kRows * kRowsPerThread),
                  static_cast<unsigned int>(std::min(inputs.count, kMostMasks)));
  maskrcnn::with_data(inputs.masks, [&](auto* values) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(values)>>;
    paste<T><<<grid, dim3(kColumns, kRows), 0, maskrcnn::current_stream(masks)>>>(
        values, inputs.boxes.const_data_ptr<T>(), inputs.count, static_cast<int32_t>(inputs.size),
        height, width, maskrcnn::least_inside<T>(threshold, aligned), aligned,
        static_cast<bool*>(result.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) { m.impl("paste_masks", TORCH_BOX(&paste_masks)); }
