// Launching kernels on torch's current stream, and torch operators that kernels are built around.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <tuple>

namespace maskrcnn {

// torch's current stream of the tensor's device.
inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Blocks for one thread per item. Kernels stride over the grid, so fewer are right as well.
inline unsigned int blocks_for(int64_t items, int64_t threads) {
  constexpr int64_t kMostBlocks = int64_t(1) << 20;
  const int64_t blocks = (items + threads - 1) / threads;
  return static_cast<unsigned int>(std::clamp<int64_t>(blocks, 1, kMostBlocks));
}

// Sorts along the last dimension; equal values keep their order. Returns values and indices.
inline std::tuple<torch::stable::Tensor, torch::stable::Tensor> stable_sort(
    const torch::stable::Tensor& tensor, bool descending) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  std::array<StableIValue, 4> stack{from(tensor), from(std::optional<bool>(true)),
                                    from(static_cast<int64_t>(-1)), from(descending)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {to<torch::stable::Tensor>(stack[0]), to<torch::stable::Tensor>(stack[1])};
}

// Running totals of a one-dimensional tensor as int64.
inline torch::stable::Tensor running_totals(const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(tensor), from(static_cast<int64_t>(0)),
                                    from(std::optional<ScalarType>(ScalarType::Long))};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::cumsum", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<torch::stable::Tensor>(stack[0]);
}

// Copies a few numbers to the host; waits for the stream.
template <size_t count>
std::array<int64_t, count> fetch(const int64_t* numbers, cudaStream_t stream) {
  std::array<int64_t, count> host;
  STD_CUDA_CHECK(cudaMemcpyAsync(host.data(), numbers, count * sizeof(int64_t),
                                 cudaMemcpyDeviceToHost, stream));
  STD_CUDA_CHECK(cudaStreamSynchronize(stream));
  return host;
}

}  // namespace maskrcnn
