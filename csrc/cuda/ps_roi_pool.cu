// Position-sensitive RoI pooling on the GPU, of whole pixels or of samples, forward and backward.
// RoIs that cannot be pooled (see is_valid) give zeros and no gradient.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "common/ps_roi_arguments.h"
#include "common/whole_pixels.h"
#include "cuda/launch.h"
#include "cuda/roi_sample.cuh"

namespace maskrcnn {
namespace {

constexpr int kThreads = 256;

// Calls body(offset of a pixel, weight) for every pixel that a bin averages.
template <class Acc, class Body>
__device__ void for_each_tap(const WholeRoi<Acc>& roi, const FeatureMap& map, const Bin& bin,
                             const Body& body) {
  const PixelRange rows = pixels_of_bin(roi.y, bin.y, map.height);
  const PixelRange columns = pixels_of_bin(roi.x, bin.x, map.width);
  const Acc share = Acc(1) / (static_cast<Acc>(rows.size()) * static_cast<Acc>(columns.size()));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t column = columns.begin; column < columns.end; ++column) {
      body(row * map.row_stride + column * map.column_stride, share);
    }
  }
}

// As above, with the offset counted from the first image and channel.
template <bool kInterpolate, class Acc, class Body>
__device__ void for_each_pixel(const Acc* row, const RoiProblem& problem, const Bin& bin,
                               int64_t channel, const Body& body) {
  if (!is_valid(row, problem)) return;
  const FeatureMap& map = problem.maps[0];
  const int64_t base =
      static_cast<int64_t>(row[0]) * map.batch_stride + channel * map.channel_stride;
  const auto from_base = [&](int64_t offset, Acc weight) { body(base + offset, weight); };
  if constexpr (kInterpolate) {
    for_each_tap(place_roi(row, bin.roi, problem), map, bin, from_base);
  } else {
    for_each_tap(place_whole_roi(row, problem), map, bin, from_base);
  }
}

// A channel of the map and the bin that it belongs to.
__device__ inline Bin bin_of_channel(int64_t roi, int64_t channel, const RoiProblem& problem) {
  const int64_t bin = channel % problem.bins();
  const int64_t y = bin / problem.sampling.pooled_width;
  return {roi, y, bin - y * problem.sampling.pooled_width};
}

// Calls body(place, RoI, channel) for every number of the result, (K, channels, bins): they are the
// map's channels per RoI. One thread for each.
template <class Body>
__device__ void for_each_result(const RoiProblem& problem, const Body& body) {
  const int64_t channels = problem.channels * problem.bins();
  const int64_t total = problem.rois * channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t place = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; place < total;
       place += step) {
    body(place, place / channels, place % channels);
  }
}

template <class T, class Acc, bool kInterpolate>
__global__ void pool(const __grid_constant__ RoiProblem problem, const T* features, const Acc* rois,
                     T* out) {
  for_each_result(problem, [&](int64_t place, int64_t roi, int64_t channel) {
    Acc sum = 0;
    for_each_pixel<kInterpolate>(
        rois + 5 * roi, problem, bin_of_channel(roi, channel, problem), channel,
        [&](int64_t offset, Acc weight) { sum += weight * static_cast<Acc>(features[offset]); });
    out[place] = static_cast<T>(sum);
  });
}

// As pool; the gradient is summed in whatever order the threads come.
template <class T, class Acc, bool kInterpolate>
__global__ void spread(const __grid_constant__ RoiProblem problem, const T* grad, const Acc* rois,
                       Acc* gradient) {
  for_each_result(problem, [&](int64_t place, int64_t roi, int64_t channel) {
    const Acc value = static_cast<Acc>(grad[place]);
    for_each_pixel<kInterpolate>(
        rois + 5 * roi, problem, bin_of_channel(roi, channel, problem), channel,
        [&](int64_t offset, Acc weight) { atomicAdd(gradient + offset, weight * value); });
  });
}

// One thread per channel of the map, which no other thread writes to; RoIs in their order.
template <class T, class Acc, bool kInterpolate>
__global__ void spread_in_order(const __grid_constant__ RoiProblem problem, const T* grad,
                                const Acc* rois, Acc* gradient) {
  const int64_t channels = problem.channels * problem.bins();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t channel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       channel < channels; channel += step) {
    for (int64_t roi = 0; roi < problem.rois; ++roi) {
      const Acc value = static_cast<Acc>(grad[roi * channels + channel]);
      for_each_pixel<kInterpolate>(
          rois + 5 * roi, problem, bin_of_channel(roi, channel, problem), channel,
          [&](int64_t offset, Acc weight) { gradient[offset] += weight * value; });
    }
  }
}

// Calls body(the dtype's tag, whether to interpolate as a type).
template <class Body>
void dispatch(ScalarType type, bool interpolate, const Body& body) {
  dispatch_floating(type, "ps_roi_pool", [&](auto tag) {
    if (interpolate) {
      body(tag, std::true_type{});
    } else {
      body(tag, std::false_type{});
    }
  });
}

Tensor ps_roi_pool(const Tensor& input, const Tensor& rois, double spatial_scale,
                   int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                   bool interpolate) {
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const PsForwardInputs inputs = ps_forward_inputs(
      input, rois, spatial_scale, ps_sampling(pooled_height, pooled_width, sampling_ratio));
  if (inputs.out.numel() == 0) return inputs.out;
  dispatch(input.scalar_type(), interpolate, [&](auto tag, auto interpolates) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    pool<T, Acc, decltype(interpolates)::value>
        <<<blocks_for(inputs.out.numel(), kThreads), kThreads, 0, current_stream(input)>>>(
            inputs.problem, inputs.features.template const_data_ptr<T>(),
            inputs.rois.template const_data_ptr<Acc>(), inputs.out.template mutable_data_ptr<T>());
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return inputs.out;
}

Tensor ps_roi_pool_backward(const Tensor& grad, const Tensor& rois, std::vector<int64_t> input_size,
                            double spatial_scale, int64_t sampling_ratio, bool interpolate,
                            bool channels_last, bool deterministic) {
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const PsBackwardInputs inputs =
      ps_backward_inputs(grad, rois, input_size, spatial_scale, sampling_ratio, channels_last);
  const int64_t channels = inputs.problem.channels * inputs.problem.bins();
  if (inputs.grad.numel() > 0) {
    const cudaStream_t stream = current_stream(grad);
    dispatch(grad.scalar_type(), interpolate, [&](auto tag, auto interpolates) {
      using T = typename decltype(tag)::type;
      using Acc = typename Arithmetic<T>::type;
      constexpr bool kInterpolate = decltype(interpolates)::value;
      const T* from = inputs.grad.template const_data_ptr<T>();
      const Acc* boxes = inputs.rois.template const_data_ptr<Acc>();
      Acc* to = inputs.gradient.template mutable_data_ptr<Acc>();
      if (deterministic) {
        constexpr int kWarp = 32;  // small blocks reach more processors
        spread_in_order<T, Acc, kInterpolate>
            <<<blocks_for(channels, kWarp), kWarp, 0, stream>>>(inputs.problem, from, boxes, to);
      } else {
        spread<T, Acc, kInterpolate>
            <<<blocks_for(inputs.grad.numel(), kThreads), kThreads, 0, stream>>>(inputs.problem,
                                                                                 from, boxes, to);
      }
    });
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return torch::stable::to(inputs.gradient, grad.scalar_type());
}

}  // namespace
}  // namespace maskrcnn

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("ps_roi_pool", TORCH_BOX(&maskrcnn::ps_roi_pool));
  m.impl("ps_roi_pool_backward", TORCH_BOX(&maskrcnn::ps_roi_pool_backward));
}
