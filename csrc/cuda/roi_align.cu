// RoIAlign on the GPU: one feature map or a whole pyramid, forward and backward, without a word
// from the host in between. RoIs that cannot be pooled (see is_valid) give zeros and no gradient.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "common/roi_arguments.h"
#include "cuda/launch.h"
#include "cuda/roi_align_deterministic.h"
#include "cuda/roi_sample.cuh"

namespace maskrcnn {
namespace {

constexpr int kThreads = 256;
constexpr int kVectorBytes = 16;
// With one level, any rule assigns every RoI to it.
constexpr double kAnySize = 1.0;
constexpr int64_t kAnyLevel = 0;

// Numbers that are read or written in one instruction.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T values[kCount];
};

template <class T>
struct LevelData {
  T* level[kMostLevels];
};

// Block x-dimension: packs of channels; y-dimension and grid: bins of all RoIs.
template <class T, class Acc, int kCount>
__global__ void pool_channels_last(const __grid_constant__ RoiProblem problem,
                                   const __grid_constant__ LevelData<const T> data, const Acc* rois,
                                   T* out) {
  using Channels = Pack<T, kCount>;
  const int64_t total = problem.rois * problem.bins();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; item < total;
       item += step) {
    const Bin bin = locate_bin(item, problem);
    const Acc* row = rois + 5 * bin.roi;
    const bool valid = is_valid(row, problem);
    const PlacedRoi<Acc> roi = valid ? place_roi(row, bin.roi, problem) : PlacedRoi<Acc>{};
    const FeatureMap& map = problem.maps[roi.level];
    const T* image = data.level[roi.level] + roi.image * map.batch_stride;
    for (int64_t channel = threadIdx.x * kCount; channel < problem.channels;
         channel += static_cast<int64_t>(blockDim.x) * kCount) {
      Acc sum[kCount] = {};
      for_each_tap(roi, map, bin, [&](int64_t pixel, Acc weight) {
        const Channels from = *reinterpret_cast<const Channels*>(image + pixel + channel);
#pragma unroll
        for (int i = 0; i < kCount; ++i) sum[i] += weight * static_cast<Acc>(from.values[i]);
      });
      Channels to;
#pragma unroll
      for (int i = 0; i < kCount; ++i) to.values[i] = static_cast<T>(sum[i]);
      *reinterpret_cast<Channels*>(out + item * problem.channels + channel) = to;
    }
  }
}

// One thread per number of the result, (K, channels, bins).
template <class T, class Acc>
__global__ void pool_channels_first(const __grid_constant__ RoiProblem problem,
                                    const __grid_constant__ LevelData<const T> data,
                                    const Acc* rois, T* out) {
  const int64_t bins = problem.bins();
  const int64_t total = problem.rois * problem.channels * bins;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < total;
       item += step) {
    const int64_t plane = item / bins;
    const int64_t channel = plane % problem.channels;
    const Bin bin = locate_bin(plane / problem.channels * bins + item % bins, problem);
    const Acc* row = rois + 5 * bin.roi;
    Acc sum = 0;
    if (is_valid(row, problem)) {
      const PlacedRoi<Acc> roi = place_roi(row, bin.roi, problem);
      const FeatureMap& map = problem.maps[roi.level];
      const T* image =
          data.level[roi.level] + roi.image * map.batch_stride + channel * map.channel_stride;
      for_each_tap(roi, map, bin, [&](int64_t pixel, Acc weight) {
        sum += weight * static_cast<Acc>(image[pixel]);
      });
    }
    out[item] = static_cast<T>(sum);
  }
}

// Adds kCount neighbouring numbers; the address is aligned to them.
template <int kCount, class Acc>
__device__ inline void atomic_add(Acc* to, const Acc (&values)[kCount]) {
#if __CUDA_ARCH__ >= 900
  constexpr bool kTogether = kCount == 4 && std::is_same_v<Acc, float>;
#else
  constexpr bool kTogether = false;
#endif
  if constexpr (kTogether) {
    atomicAdd(reinterpret_cast<float4*>(to),
              make_float4(values[0], values[1], values[2], values[3]));
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) atomicAdd(to + i, values[i]);
  }
}

// As pool_channels_last; the gradient is summed in whatever order the threads come.
template <class T, class Acc, int kCount>
__global__ void spread_channels_last(const __grid_constant__ RoiProblem problem, const T* grad,
                                     const Acc* rois,
                                     const __grid_constant__ LevelData<Acc> gradients) {
  using Channels = Pack<T, kCount>;
  const int64_t total = problem.rois * problem.bins();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; item < total;
       item += step) {
    const Bin bin = locate_bin(item, problem);
    const Acc* row = rois + 5 * bin.roi;
    if (!is_valid(row, problem)) continue;
    const PlacedRoi<Acc> roi = place_roi(row, bin.roi, problem);
    const FeatureMap& map = problem.maps[roi.level];
    Acc* image = gradients.level[roi.level] + roi.image * map.batch_stride;
    for (int64_t channel = threadIdx.x * kCount; channel < problem.channels;
         channel += static_cast<int64_t>(blockDim.x) * kCount) {
      const Channels from =
          *reinterpret_cast<const Channels*>(grad + item * problem.channels + channel);
      for_each_tap(roi, map, bin, [&](int64_t pixel, Acc weight) {
        Acc parts[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i) parts[i] = weight * static_cast<Acc>(from.values[i]);
        atomic_add(image + pixel + channel, parts);
      });
    }
  }
}

template <class T, class Acc>
__global__ void spread_channels_first(const __grid_constant__ RoiProblem problem, const T* grad,
                                      const Acc* rois,
                                      const __grid_constant__ LevelData<Acc> gradients) {
  const int64_t bins = problem.bins();
  const int64_t total = problem.rois * problem.channels * bins;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < total;
       item += step) {
    const int64_t plane = item / bins;
    const int64_t channel = plane % problem.channels;
    const Bin bin = locate_bin(plane / problem.channels * bins + item % bins, problem);
    const Acc* row = rois + 5 * bin.roi;
    if (!is_valid(row, problem)) continue;
    const PlacedRoi<Acc> roi = place_roi(row, bin.roi, problem);
    const FeatureMap& map = problem.maps[roi.level];
    Acc* image =
        gradients.level[roi.level] + roi.image * map.batch_stride + channel * map.channel_stride;
    const Acc value = static_cast<Acc>(grad[item]);
    for_each_tap(roi, map, bin,
                 [&](int64_t pixel, Acc weight) { atomicAdd(image + pixel, weight * value); });
  }
}

// Whether packs of kCount channels of T can be read: addresses and strides are multiples of them.
template <class T, int kCount>
bool can_pack(const void* data, const FeatureMap& map, int64_t channels) {
  return reinterpret_cast<uintptr_t>(data) % (sizeof(T) * kCount) == 0 && channels % kCount == 0 &&
         map.batch_stride % kCount == 0 && map.row_stride % kCount == 0 &&
         map.column_stride % kCount == 0;
}

// Threads along channels (a power of two) and along bins.
dim3 channel_block(int64_t packs) {
  unsigned int along = 1;
  while (along < kThreads && along < packs) along *= 2;
  return dim3(along, kThreads / along);
}

template <int kCount, class T, class Acc>
void launch_pool_channels_last(const RoiProblem& problem, const LevelData<const T>& data,
                               const Acc* rois, T* out, cudaStream_t stream) {
  const dim3 block = channel_block(problem.channels / kCount);
  pool_channels_last<T, Acc, kCount>
      <<<blocks_for(problem.rois * problem.bins(), block.y), block, 0, stream>>>(problem, data,
                                                                                 rois, out);
}

Tensor multilevel_roi_align(std::vector<Tensor> features, const Tensor& rois,
                            std::vector<double> scales, int64_t pooled_height, int64_t pooled_width,
                            int64_t sampling_ratio, bool aligned, double canonical_size,
                            int64_t canonical_level, double box_end_offset) {
  const ForwardInputs inputs =
      forward_inputs(features, rois, scales, canonical_size, canonical_level,
                     {pooled_height, pooled_width, sampling_ratio, aligned, box_end_offset});
  const torch::stable::accelerator::DeviceGuard guard(inputs.out.get_device_index());
  const cudaStream_t stream = current_stream(inputs.out);
  const RoiProblem& problem = inputs.problem;
  if (inputs.out.numel() == 0) return inputs.out;
  dispatch_floating(inputs.out.scalar_type(), "features", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    constexpr int kCount = kVectorBytes / sizeof(T);
    LevelData<const T> data{};
    bool packed = true;
    for (int64_t level = 0; level < problem.levels; ++level) {
      data.level[level] = inputs.features[level].template const_data_ptr<T>();
      packed =
          packed && can_pack<T, kCount>(data.level[level], problem.maps[level], problem.channels);
    }
    const Acc* boxes = inputs.rois.template const_data_ptr<Acc>();
    T* out = inputs.out.template mutable_data_ptr<T>();
    if (!inputs.channels_last) {
      pool_channels_first<T, Acc>
          <<<blocks_for(inputs.out.numel(), kThreads), kThreads, 0, stream>>>(problem, data, boxes,
                                                                              out);
    } else if (packed) {
      launch_pool_channels_last<kCount>(problem, data, boxes, out, stream);
    } else {
      launch_pool_channels_last<1>(problem, data, boxes, out, stream);
    }
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return inputs.out;
}

template <int kCount, class T, class Acc>
void launch_spread_channels_last(const RoiProblem& problem, const T* grad, const Acc* rois,
                                 const LevelData<Acc>& gradients, cudaStream_t stream) {
  const dim3 block = channel_block(problem.channels / kCount);
  spread_channels_last<T, Acc, kCount>
      <<<blocks_for(problem.rois * problem.bins(), block.y), block, 0, stream>>>(problem, grad,
                                                                                 rois, gradients);
}

// Sums into inputs.gradients, which are of the arithmetic's type and zero.
void spread_in_any_order(const BackwardInputs& inputs, cudaStream_t stream) {
  const RoiProblem& problem = inputs.problem;
  dispatch_floating(inputs.grad.scalar_type(), "grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    constexpr int kCount = kVectorBytes / sizeof(Acc);
    LevelData<Acc> gradients{};
    const T* grad = inputs.grad.template const_data_ptr<T>();
    bool packed = reinterpret_cast<uintptr_t>(grad) % (sizeof(T) * kCount) == 0;
    for (int64_t level = 0; level < problem.levels; ++level) {
      gradients.level[level] = inputs.gradients[level].template mutable_data_ptr<Acc>();
      packed = packed &&
               can_pack<Acc, kCount>(gradients.level[level], problem.maps[level], problem.channels);
    }
    const Acc* boxes = inputs.rois.template const_data_ptr<Acc>();
    if (!inputs.channels_last) {
      spread_channels_first<T, Acc>
          <<<blocks_for(inputs.grad.numel(), kThreads), kThreads, 0, stream>>>(problem, grad, boxes,
                                                                               gradients);
    } else if (packed) {
      launch_spread_channels_last<kCount>(problem, grad, boxes, gradients, stream);
    } else {
      launch_spread_channels_last<1>(problem, grad, boxes, gradients, stream);
    }
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::vector<Tensor> multilevel_roi_align_backward(
    const Tensor& grad, const Tensor& rois, std::vector<int64_t> feature_sizes,
    std::vector<double> scales, int64_t sampling_ratio, bool aligned, double canonical_size,
    int64_t canonical_level, double box_end_offset, bool channels_last, bool deterministic) {
  const ScalarType type = grad.scalar_type();
  // Half types are summed in float and rounded once; it also spares atomics on 16 bits.
  const ScalarType sum_type =
      deterministic || type == ScalarType::Double ? type : ScalarType::Float;
  BackwardInputs inputs =
      backward_inputs(grad, rois, feature_sizes, scales, canonical_size, canonical_level,
                      {0, 0, sampling_ratio, aligned, box_end_offset}, channels_last, sum_type);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  if (deterministic) {
    spread_in_order(inputs, current_stream(grad));
    return inputs.gradients;
  }
  for (Tensor& gradient : inputs.gradients) torch::stable::zero_(gradient);
  if (inputs.grad.numel() > 0) spread_in_any_order(inputs, current_stream(grad));
  if (sum_type != type) {
    for (Tensor& gradient : inputs.gradients) gradient = torch::stable::to(gradient, type);
  }
  return inputs.gradients;
}

Tensor roi_align(const Tensor& input, const Tensor& rois, double spatial_scale,
                 int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                 bool aligned) {
  return multilevel_roi_align({input}, rois, {spatial_scale}, pooled_height, pooled_width,
                              sampling_ratio, aligned, kAnySize, kAnyLevel, 0.0);
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, std::vector<int64_t> input_size,
                          double spatial_scale, int64_t sampling_ratio, bool aligned,
                          bool channels_last, bool deterministic) {
  return multilevel_roi_align_backward(grad, rois, input_size, {spatial_scale}, sampling_ratio,
                                       aligned, kAnySize, kAnyLevel, 0.0, channels_last,
                                       deterministic)
      .front();
}

}  // namespace
}  // namespace maskrcnn

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("roi_align", TORCH_BOX(&maskrcnn::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&maskrcnn::roi_align_backward));
  m.impl("multilevel_roi_align", TORCH_BOX(&maskrcnn::multilevel_roi_align));
  m.impl("multilevel_roi_align_backward", TORCH_BOX(&maskrcnn::multilevel_roi_align_backward));
}
