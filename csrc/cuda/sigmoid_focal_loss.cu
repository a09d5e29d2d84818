// Sigmoid focal loss on the GPU: a warp per row of logits, one pass forwards and one backwards.
// Each row is summed by one warp in a fixed order, so that results do not vary from run to run.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "common/dispatch.h"
#include "common/focal_loss.h"
#include "cuda/launch.h"

namespace {

using maskrcnn::Arithmetic;
using maskrcnn::FocalInputs;
using maskrcnn::FocalRule;
using torch::stable::Tensor;

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr unsigned int kAllLanes = 0xffffffffu;

template <class T, class Acc>
__global__ void sum_rows(const T* logits, const int64_t* labels, int64_t rows, int64_t classes,
                         FocalRule<Acc> rule, Acc* losses) {
  const int64_t stride = int64_t{gridDim.x} * kWarpsPerBlock;
  for (int64_t row = int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.y; row < rows;
       row += stride) {
    const int64_t column = labels[row] - 1;
    Acc sum = 0;
    if (column >= -1) {
      for (int64_t i = threadIdx.x; i < classes; i += kWarp) {
        const Acc x = static_cast<Acc>(logits[row * classes + i]);
        sum += maskrcnn::focal_loss(x, i == column, rule);
      }
    }
    for (int step = kWarp / 2; step > 0; step /= 2) {
      sum += __shfl_down_sync(kAllLanes, sum, step);
    }
    if (threadIdx.x == 0) losses[row] = sum;
  }
}

template <class T, class Acc>
__global__ void slope_rows(const Acc* grad, const T* logits, const int64_t* labels, int64_t rows,
                           int64_t classes, FocalRule<Acc> rule, T* slopes) {
  const int64_t stride = int64_t{gridDim.x} * kWarpsPerBlock;
  for (int64_t row = int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.y; row < rows;
       row += stride) {
    const int64_t column = labels[row] - 1;
    const Acc factor = grad[row];
    for (int64_t i = threadIdx.x; i < classes; i += kWarp) {
      Acc slope = 0;
      if (column >= -1) {
        const Acc x = static_cast<Acc>(logits[row * classes + i]);
        slope = factor * maskrcnn::focal_slope(x, i == column, rule);
      }
      slopes[row * classes + i] = static_cast<T>(slope);
    }
  }
}

const dim3 kBlock(kWarp, kWarpsPerBlock);

Tensor sigmoid_focal_loss(const Tensor& logits, const Tensor& labels, double gamma, double alpha) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const FocalInputs inputs = maskrcnn::check_focal(logits, labels, gamma, alpha);
  Tensor losses = torch::stable::new_empty(logits, {inputs.rows}, inputs.loss_type());
  if (inputs.rows == 0) return losses;
  maskrcnn::dispatch_floating(logits.scalar_type(), "sigmoid_focal_loss", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    sum_rows<T, Acc><<<maskrcnn::blocks_for(inputs.rows, kWarpsPerBlock), kBlock, 0,
                       maskrcnn::current_stream(logits)>>>(
        static_cast<const T*>(inputs.logits.const_data_ptr()),
        inputs.labels.const_data_ptr<int64_t>(), inputs.rows, inputs.classes, inputs.rule<Acc>(),
        static_cast<Acc*>(losses.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return losses;
}

Tensor sigmoid_focal_loss_backward(const Tensor& grad, const Tensor& logits, const Tensor& labels,
                                   double gamma, double alpha) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const FocalInputs inputs = maskrcnn::check_focal(logits, labels, gamma, alpha);
  const Tensor factors = maskrcnn::check_focal_grad(grad, inputs);
  Tensor slopes = torch::stable::new_empty(logits, {inputs.rows, inputs.classes});
  if (inputs.rows == 0) return slopes;
  maskrcnn::dispatch_floating(logits.scalar_type(), "sigmoid_focal_loss_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    slope_rows<T, Acc><<<maskrcnn::blocks_for(inputs.rows, kWarpsPerBlock), kBlock, 0,
                         maskrcnn::current_stream(logits)>>>(
        static_cast<const Acc*>(factors.const_data_ptr()),
        static_cast<const T*>(inputs.logits.const_data_ptr()),
        inputs.labels.const_data_ptr<int64_t>(), inputs.rows, inputs.classes, inputs.rule<Acc>(),
        static_cast<T*>(slopes.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return slopes;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss));
  m.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward));
}
