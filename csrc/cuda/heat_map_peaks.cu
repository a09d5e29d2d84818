// Where heat maps, resized to their boxes by bicubic interpolation, are highest, on the GPU.
//
// A block looks at all pixels of one resized map, which is never stored. The values are, to the
// bit, those of the CPU.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "common/peak_inputs.h"
#include "cuda/launch.h"

namespace {

using maskrcnn::CubicTaps;
using maskrcnn::mul;
using maskrcnn::Peak;
using maskrcnn::PeakInputs;
using maskrcnn::PeakSide;
using torch::stable::Tensor;

constexpr int kColumns = 32;  // of the resized map that a block works on at a time
constexpr int kRows = 8;
constexpr int kThreads = kColumns * kRows;

__device__ int64_t inside(int64_t index, int64_t size) {
  return index < 0 ? 0 : (index < size ? index : size - 1);
}

// A pixel of the resized map: first its rows are blended, then its columns.
template <typename T>
__device__ T interpolate(const T* map, int64_t size, const CubicTaps<T>& row,
                         const CubicTaps<T>& column) {
  T value = 0;
  for (int x = 0; x < 4; ++x) {
    const T* values = map + inside(column.first + x, size);
    T blended = 0;
    for (int y = 0; y < 4; ++y) {
      const T term = mul(row.weights[y], values[inside(row.first + y, size) * size]);
      blended = y == 0 ? term : blended + term;
    }
    const T term = mul(column.weights[x], blended);
    value = x == 0 ? term : value + term;
  }
  return value;
}

// Leaves the best of all threads' peaks with the first thread.
template <typename T>
__device__ void reduce(Peak<T>* peaks, int thread) {
  for (int others = kThreads / 2; others > 0; others /= 2) {
    __syncthreads();
    if (thread < others) {
      const Peak<T> other = peaks[thread + others];
      peaks[thread].update(other.value, other.pixel);
    }
  }
}

template <typename T>
__global__ void find_peaks(const T* maps, const T* boxes, int64_t count, int64_t points,
                           int64_t size, T* out) {
  __shared__ Peak<T> peaks[kThreads];
  const int thread = threadIdx.y * kColumns + threadIdx.x;
  for (int64_t i = blockIdx.x; i < count * points; i += gridDim.x) {
    const T* map = maps + i * size * size;
    const T* box = boxes + i / points * 4;
    const PeakSide<T> columns(box[0], box[2], size);
    const PeakSide<T> rows(box[1], box[3], size);
    Peak<T> best{-static_cast<T>(INFINITY), 0};
    for (int64_t y = threadIdx.y; y < rows.pixels; y += kRows) {
      const CubicTaps<T> row(y, rows.step);
      for (int64_t x = threadIdx.x; x < columns.pixels; x += kColumns) {
        const T value = interpolate(map, size, row, CubicTaps<T>(x, columns.step));
        best.update(value, y * columns.pixels + x);
      }
    }
    peaks[thread] = best;
    reduce(peaks, thread);
    if (thread == 0) maskrcnn::write_peak(peaks[0], columns, rows, out + 3 * i);
    __syncthreads();
  }
}

Tensor heat_map_peaks(const Tensor& maps, const Tensor& boxes) {
  const PeakInputs inputs = maskrcnn::check_peaks(maps, boxes);
  const torch::stable::accelerator::DeviceGuard guard(maps.get_device_index());
  Tensor result = torch::stable::new_empty(inputs.maps, {inputs.count, inputs.points, 3});
  const int64_t blocks = inputs.count * inputs.points;
  if (blocks == 0) return result;
  maskrcnn::with_data(inputs.maps, [&](auto* values) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(values)>>;
    find_peaks<T><<<maskrcnn::blocks_for(blocks, 1), dim3(kColumns, kRows), 0,
                    maskrcnn::current_stream(maps)>>>(values, inputs.boxes.const_data_ptr<T>(),
                                                      inputs.count, inputs.points, inputs.size,
                                                      static_cast<T*>(result.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("heat_map_peaks", TORCH_BOX(&heat_map_peaks));
}
