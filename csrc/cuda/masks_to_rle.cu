// Masks of M x M probabilities to run lengths of their bitmaps, on the GPU, without the bitmaps.
//
// In column-major order a bitmap is one string of zeros and ones. One thread per column finds the
// places where the string changes: first it counts them, then, once the counts are summed, it
// writes them; the differences of neighbouring places are the run lengths.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>

#include "common/paste_inputs.h"
#include "cuda/launch.h"
#include "cuda/mask_pixel.cuh"

namespace {

using maskrcnn::blocks_for;
using maskrcnn::Image;
using maskrcnn::MaskColumn;
using maskrcnn::MaskPlace;
using maskrcnn::PaddedMask;
using maskrcnn::PasteInputs;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int kThreads = 128;

// All masks of an image; one per `size` * `size` values and 4 box edges.
template <typename T>
struct Masks {
  const T* values;
  const T* boxes;
  int64_t count;
  int32_t size;
  Image image;
  T least;  // value from which on a pixel belongs to a mask
  bool aligned;
};

// Calls found(place) for every place of column x of mask i at which the string changes.
template <typename T, typename Found>
__device__ void find_changes(const Masks<T>& masks, int64_t i, int64_t x, const Found& found) {
  const int64_t height = masks.image.height;
  const MaskPlace<T> place(masks.boxes + 4 * i, masks.size, height, masks.image.width,
                           masks.aligned);
  if (place.rows.begin() >= place.rows.end()) return;
  const PaddedMask<T> mask{masks.values + i * masks.size * masks.size, masks.size};
  bool inside = false;  // of the pixel before: at first, of the last one of the column before
  if (x > place.columns.begin() && x <= place.columns.end() && place.rows.end() == height) {
    MaskColumn<T> before(mask, place.columns.sample(x - 1));
    inside = before.value(place.rows.sample(height - 1)) >= masks.least;
  }
  const int64_t top = x * height;
  const bool crosses = x >= place.columns.begin() && x < place.columns.end();
  if (inside && (!crosses || place.rows.begin() > 0)) {
    found(top);
    inside = false;
  }
  if (!crosses) return;
  MaskColumn<T> column(mask, place.columns.sample(x));
  for (int64_t y = place.rows.begin(); y < place.rows.end(); ++y) {
    if ((column.value(place.rows.sample(y)) >= masks.least) == inside) continue;
    found(top + y);
    inside = !inside;
  }
  if (inside && place.rows.end() < height) found(top + place.rows.end());
}

__device__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

template <typename T>
__global__ void count_changes(Masks<T> masks, int64_t columns, int64_t* counts) {
  for (int64_t i = global_thread(); i < columns; i += grid_threads()) {
    int64_t changes = 0;
    find_changes(masks, i / masks.image.width, i % masks.image.width, [&](int64_t) { ++changes; });
    counts[i] = changes;
  }
}

// `ends` are running totals of the counts.
template <typename T>
__global__ void write_changes(Masks<T> masks, int64_t columns, const int64_t* ends,
                              int64_t* changes) {
  for (int64_t i = global_thread(); i < columns; i += grid_threads()) {
    int64_t* next = changes + (i == 0 ? 0 : ends[i - 1]);
    find_changes(masks, i / masks.image.width, i % masks.image.width,
                 [&](int64_t place) { *next++ = place; });
  }
}

// Of a mask's changes at places p, q, ..., r come the runs p, q - p, ..., pixels - r.
__global__ void write_runs(const int64_t* changes, const int64_t* ends, int64_t count, Image image,
                           int64_t* runs, int64_t* offsets) {
  const int64_t pixels = image.height * image.width;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const bool has_columns = image.width > 0;
    const int64_t begin = i == 0 || !has_columns ? 0 : ends[i * image.width - 1];
    const int64_t end = has_columns ? ends[(i + 1) * image.width - 1] : 0;
    for (int64_t k = threadIdx.x; k <= end - begin; k += blockDim.x) {
      const int64_t from = k == 0 ? 0 : changes[begin + k - 1];
      const int64_t to = begin + k == end ? pixels : changes[begin + k];
      runs[begin + i + k] = to - from;
    }
    if (threadIdx.x == 0) {
      if (i == 0) offsets[0] = 0;
      offsets[i + 1] = end + i + 1;
    }
  }
}

Tensor new_numbers(const Tensor& like, int64_t count) {
  return torch::stable::new_empty(like, {count}, ScalarType::Long);
}

std::tuple<Tensor, Tensor> masks_to_rle(const Tensor& masks, const Tensor& boxes, int64_t height,
                                        int64_t width, double threshold, bool aligned) {
  const PasteInputs inputs = maskrcnn::check_paste(masks, boxes, height, width, threshold);
  const torch::stable::accelerator::DeviceGuard guard(masks.get_device_index());
  const cudaStream_t stream = maskrcnn::current_stream(masks);
  if (inputs.count == 0) {
    return {new_numbers(inputs.masks, 0),
            torch::stable::new_zeros(inputs.masks, {1}, ScalarType::Long)};
  }
  const int64_t columns = inputs.count * width;
  const unsigned int blocks = blocks_for(columns, kThreads);
  Tensor ends = new_numbers(inputs.masks, 0);
  Tensor changes = new_numbers(inputs.masks, 0);
  int64_t total = 0;
  maskrcnn::with_data(inputs.masks, [&](auto* values) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(values)>>;
    const Masks<T> all{values,       inputs.boxes.const_data_ptr<T>(),
                       inputs.count, static_cast<int32_t>(inputs.size),
                       inputs.image, maskrcnn::least_inside<T>(threshold, aligned),
                       aligned};
    if (columns == 0) return;
    const Tensor counts = new_numbers(inputs.masks, columns);
    count_changes<T>
        <<<blocks, kThreads, 0, stream>>>(all, columns, counts.mutable_data_ptr<int64_t>());
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    ends = maskrcnn::running_totals(counts);
    const auto* end = ends.const_data_ptr<int64_t>();
    total = maskrcnn::fetch<1>(end + columns - 1, stream)[0];
    changes = new_numbers(inputs.masks, total);
    write_changes<T>
        <<<blocks, kThreads, 0, stream>>>(all, columns, end, changes.mutable_data_ptr<int64_t>());
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  Tensor runs = new_numbers(inputs.masks, total + inputs.count);
  Tensor offsets = new_numbers(inputs.masks, inputs.count + 1);
  write_runs<<<blocks_for(inputs.count, 1), kThreads, 0, stream>>>(
      changes.const_data_ptr<int64_t>(), ends.const_data_ptr<int64_t>(), inputs.count, inputs.image,
      runs.mutable_data_ptr<int64_t>(), offsets.mutable_data_ptr<int64_t>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {runs, offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) { m.impl("masks_to_rle", TORCH_BOX(&masks_to_rle)); }
