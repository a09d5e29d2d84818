// What follows a convolution, in one pass over its result: bias, another map, ReLU.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

#include "common/dispatch.h"
#include "cuda/launch.h"

namespace {

using maskrcnn::Arithmetic;
using torch::stable::Tensor;

constexpr int kThreads = 256;
constexpr int64_t kBytesPerAccess = 16;

template <class T, int count>
struct alignas(sizeof(T) * count) Pack {
  T values[count];
};

// One pack per thread. The channel of value i is (i / inner) % channels; a pack is of one channel
// where inner > 1, else of `count` neighbouring ones.
template <class T, int count>
__global__ void finish(T* map, const T* bias, const T* other, int64_t packs, int64_t inner,
                       int64_t channels, bool relu) {
  using Acc = typename Arithmetic<T>::type;
  using Values = Pack<T, count>;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += stride) {
    Values values = reinterpret_cast<const Values*>(map)[i];
    Values added{};
    if (other != nullptr) added = reinterpret_cast<const Values*>(other)[i];
    const int64_t first = bias == nullptr ? 0 : i * count / inner % channels;
#pragma unroll
    for (int k = 0; k < count; ++k) {
      Acc value = static_cast<Acc>(values.values[k]);
      if (bias != nullptr) value += static_cast<Acc>(bias[inner == 1 ? first + k : first]);
      if (other != nullptr) value += static_cast<Acc>(added.values[k]);
      values.values[k] = static_cast<T>(relu && value < Acc(0) ? Acc(0) : value);
    }
    reinterpret_cast<Values*>(map)[i] = values;
  }
}

bool is_aligned(const void* data) {
  return data == nullptr || reinterpret_cast<uintptr_t>(data) % kBytesPerAccess == 0;
}

// Whether values lie row by row with the channels last; else they must lie channel by channel.
bool has_channels_last(const Tensor& map) {
  int64_t expected = map.size(1);
  bool last = map.size(1) == 1 || map.stride(1) == 1;
  for (const int dimension : {3, 2, 0}) {
    last = last && (map.size(dimension) == 1 || map.stride(dimension) == expected);
    expected *= map.size(dimension);
  }
  return last;
}

void finish_convolution_(Tensor map, const std::optional<Tensor>& bias,
                         const std::optional<Tensor>& other, bool relu) {
  const torch::stable::accelerator::DeviceGuard guard(map.get_device_index());
  STD_TORCH_CHECK(map.dim() == 4, "the map must be (N, C, H, W)");
  const bool last = has_channels_last(map);
  STD_TORCH_CHECK(last || map.is_contiguous(), "the map must lie in memory without gaps");
  const int64_t inner = last ? 1 : map.size(2) * map.size(3);
  const int64_t channels = map.size(1);
  if (bias.has_value()) {
    STD_TORCH_CHECK(bias->scalar_type() == map.scalar_type() && bias->dim() == 1 &&
                        bias->size(0) == channels && bias->is_contiguous(),
                    "the bias must have one value of the map's dtype for each channel");
  }
  if (other.has_value()) {
    STD_TORCH_CHECK(other->scalar_type() == map.scalar_type() && other->dim() == 4,
                    "the other map must have the dtype of the map");
    for (const int dimension : {0, 1, 2, 3}) {
      STD_TORCH_CHECK(
          other->size(dimension) == map.size(dimension) &&
              (map.size(dimension) == 1 || other->stride(dimension) == map.stride(dimension)),
          "the other map must lie in memory as the map does");
    }
  }
  if (map.numel() == 0) return;
  maskrcnn::dispatch_floating(map.scalar_type(), "finish_convolution_", [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kCount = kBytesPerAccess / sizeof(T);
    T* values = static_cast<T*>(map.mutable_data_ptr());
    const T* biases = bias ? static_cast<const T*>(bias->const_data_ptr()) : nullptr;
    const T* others = other ? static_cast<const T*>(other->const_data_ptr()) : nullptr;
    const bool whole = (last ? channels : inner) % kCount == 0;
    const auto launch = [&](auto count) {
      constexpr int kPerPack = decltype(count)::value;
      const int64_t packs = map.numel() / kPerPack;
      finish<T, kPerPack>
          <<<maskrcnn::blocks_for(packs, kThreads), kThreads, 0, maskrcnn::current_stream(map)>>>(
              values, biases, others, packs, inner, channels, relu);
    };
    if (whole && is_aligned(values) && is_aligned(others)) {
      launch(std::integral_constant<int, kCount>{});
    } else {
      launch(std::integral_constant<int, 1>{});
    }
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("finish_convolution_", TORCH_BOX(&finish_convolution_));
}
