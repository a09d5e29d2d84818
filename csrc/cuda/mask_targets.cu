// Mask targets of RoIs on the GPU: polygons or bitmaps straight into the RoIs' grids, one block per
// RoI. Offsets and instances that point outside are cut to what there is: to find such a mistake of
// the caller the host would have to wait.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "common/bitmap_window.h"
#include "common/mask_target_inputs.h"
#include "common/polygon_grid.h"
#include "cuda/launch.h"

namespace {

using maskrcnn::Bitmap;
using maskrcnn::GridPoint;
using maskrcnn::GridWindow;
using maskrcnn::PolygonInputs;
using maskrcnn::TargetRois;
using maskrcnn::WindowAxis;
using maskrcnn::WindowSample;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int kThreads = 128;
constexpr int kBits = 32;  // columns per word

int words_per_row(int64_t size) { return static_cast<int>((size + kBits - 1) / kBits); }

// Entries [begin, end) of a list of `total`.
struct Range {
  int64_t begin, end;

  __device__ Range(const int64_t* offsets, int64_t index, int64_t total)
      : begin(maskrcnn::larger<int64_t>(offsets[index], 0)),
        end(maskrcnn::smaller(offsets[index + 1], total)) {}
};

struct Polygons {
  const double* points;
  const int64_t *polygon_offsets, *instance_offsets;
  int64_t point_count, polygon_count, instance_count;
};

// Toggles the crossings of a closed outline with the columns of the grid; a thread takes every
// kThreads-th edge. Returns whether there are any, to the thread that found them.
__device__ bool cross_outline(const double* points, const Range& range, const GridWindow& window,
                              int32_t size, int32_t words, uint32_t* changes) {
  bool any = false;
  for (int64_t i = range.begin + threadIdx.x; i < range.end; i += kThreads) {
    const int64_t previous = i == range.begin ? range.end - 1 : i - 1;
    const GridPoint start = window.place(points + 2 * previous);
    const GridPoint end = window.place(points + 2 * i);
    maskrcnn::cross_columns(start, end, size, [&](int32_t row, int32_t column) {
      atomicXor(changes + row * words + column / kBits, 1u << (column % kBits));
      any = true;
    });
  }
  return any;
}

// Adds to `covered` what `changes` encloses, and clears `changes`; a thread takes a word of each
// row.
__device__ void unite(int32_t size, int32_t words, uint32_t* changes, uint32_t* covered) {
  for (int32_t word = threadIdx.x; word < words; word += kThreads) {
    uint32_t inside = 0;
    for (int32_t place = word; place < size * words; place += words) {
      inside ^= changes[place];
      covered[place] |= inside;
      changes[place] = 0;
    }
  }
}

// Dynamic shared memory: two grids of size x words words.
__global__ void draw_polygons(Polygons polygons, const double* boxes, const int64_t* instances,
                              int64_t rois, int32_t size, int32_t words, bool* targets) {
  extern __shared__ uint32_t grids[];
  uint32_t* changes = grids;
  uint32_t* covered = grids + size * words;
  const int32_t area = size * size;
  for (int64_t roi = blockIdx.x; roi < rois; roi += gridDim.x) {
    for (int32_t i = threadIdx.x; i < 2 * size * words; i += kThreads) grids[i] = 0;
    __syncthreads();
    const int64_t instance = instances[roi];
    if (instance >= 0 && instance < polygons.instance_count) {
      const GridWindow window(boxes + 4 * roi, size);
      const Range range(polygons.instance_offsets, instance, polygons.polygon_count);
      for (int64_t i = range.begin; i < range.end; ++i) {
        const Range outline(polygons.polygon_offsets, i, polygons.point_count);
        const bool any = cross_outline(polygons.points, outline, window, size, words, changes);
        if (!__syncthreads_or(any)) continue;
        unite(size, words, changes, covered);
        __syncthreads();
      }
    }
    bool* cells = targets + roi * area;
    for (int32_t i = threadIdx.x; i < area; i += kThreads) {
      const int32_t row = i / size;
      const int32_t column = i - row * size;
      cells[i] = covered[row * words + column / kBits] >> (column % kBits) & 1;
    }
    __syncthreads();
  }
}

__global__ void draw_bitmaps(const bool* bitmaps, int64_t count, int64_t height, int64_t width,
                             const double* boxes, const int64_t* instances, int64_t rois,
                             int32_t size, bool* targets) {
  const int32_t area = size * size;
  for (int64_t roi = blockIdx.x; roi < rois; roi += gridDim.x) {
    const int64_t instance = instances[roi];
    const bool drawn = instance >= 0 && instance < count;
    const Bitmap bitmap{bitmaps + (drawn ? instance : 0) * height * width, height, width};
    const double* box = boxes + 4 * roi;
    const WindowAxis rows(box[1], box[3], size), columns(box[0], box[2], size);
    bool* cells = targets + roi * area;
    for (int32_t i = threadIdx.x; i < area; i += kThreads) {
      const int32_t row = i / size;
      cells[i] = drawn && bitmap.inside(rows.sample(row), columns.sample(i - row * size));
    }
  }
}

Tensor new_targets(const TargetRois& rois) {
  return torch::stable::new_empty(rois.boxes, {rois.count, rois.size, rois.size}, ScalarType::Bool);
}

Tensor polygon_mask_targets(const Tensor& points, const Tensor& polygon_offsets,
                            const Tensor& instance_offsets, const Tensor& boxes,
                            const Tensor& instances, int64_t size) {
  const torch::stable::accelerator::DeviceGuard guard(points.get_device_index());
  const PolygonInputs inputs = maskrcnn::check_polygons(points, polygon_offsets, instance_offsets);
  const TargetRois rois = maskrcnn::check_rois(boxes, instances, points, size);
  Tensor result = new_targets(rois);
  if (rois.count == 0) return result;
  const Polygons polygons{inputs.points.const_data_ptr<double>(),
                          inputs.polygon_offsets.const_data_ptr<int64_t>(),
                          inputs.instance_offsets.const_data_ptr<int64_t>(),
                          inputs.point_count,
                          inputs.polygon_count,
                          inputs.instance_count};
  const int words = words_per_row(size);
  const size_t shared = 2 * static_cast<size_t>(size) * words * sizeof(uint32_t);
  draw_polygons<<<maskrcnn::blocks_for(rois.count, 1), kThreads, shared,
                  maskrcnn::current_stream(points)>>>(
      polygons, rois.boxes.const_data_ptr<double>(), rois.instances.const_data_ptr<int64_t>(),
      rois.count, rois.size, words, static_cast<bool*>(result.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

Tensor bitmap_mask_targets(const Tensor& bitmaps, const Tensor& boxes, const Tensor& instances,
                           int64_t size) {
  const torch::stable::accelerator::DeviceGuard guard(bitmaps.get_device_index());
  const Tensor masks = maskrcnn::check_bitmaps(bitmaps);
  const TargetRois rois = maskrcnn::check_rois(boxes, instances, bitmaps, size);
  Tensor result = new_targets(rois);
  if (rois.count == 0) return result;
  draw_bitmaps<<<maskrcnn::blocks_for(rois.count, 1), kThreads, 0,
                 maskrcnn::current_stream(bitmaps)>>>(
      static_cast<const bool*>(masks.const_data_ptr()), masks.size(0), masks.size(1), masks.size(2),
      rois.boxes.const_data_ptr<double>(), rois.instances.const_data_ptr<int64_t>(), rois.count,
      rois.size, static_cast<bool*>(result.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("polygon_mask_targets", TORCH_BOX(&polygon_mask_targets));
  m.impl("bitmap_mask_targets", TORCH_BOX(&bitmap_mask_targets));
}
