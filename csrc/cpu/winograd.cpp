// 3x3 convolutions for prediction on the CPU (winograd.h).

#include "cpu/winograd.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <atomic>
#include <optional>
#include <type_traits>

#include "common/dispatch.h"
#include "common/memory.h"

// A library built without vectors has no kernel for this operator; layers/winograd.py looks for it.
#ifdef MASKRCNN_VECTORS

namespace {

using maskrcnn::kFrequencies;
using maskrcnn::kPanel;
using maskrcnn::WinogradProblem;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T>
void convolve(const WinogradProblem<T>& problem) {
  std::atomic<int64_t> next{0};
  const int64_t tiles = problem.tiles();
  torch::stable::parallel_for(0, torch::stable::get_num_threads(), 1, [&](int64_t, int64_t) {
    maskrcnn::run_simd([&](auto width) MASKRCNN_INLINE {
      using Worker = maskrcnn::WinogradWorker<T, decltype(width)::value / sizeof(float)>;
      int64_t begin = next.fetch_add(Worker::kTiles);
      if (begin >= tiles) return;
      Worker worker(problem);
      for (; begin < tiles; begin = next.fetch_add(Worker::kTiles)) {
        worker.run(begin, begin + Worker::kTiles < tiles ? begin + Worker::kTiles : tiles);
      }
    });
  });
}

// Strides of dimensions with a single index mean nothing.
bool is_dense_channels_last(const Tensor& map) {
  const int64_t dense[] = {map.size(1) * map.size(2) * map.size(3), 1, map.size(1) * map.size(3),
                           map.size(1)};
  for (int64_t i = 0; i < 4; ++i) {
    if (map.size(i) > 1 && map.stride(i) != dense[i]) return false;
  }
  return true;
}

void check(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias) {
  STD_TORCH_CHECK(input.dim() == 4 && is_dense_channels_last(input),
                  "winograd_conv3x3: input must be (N, C, H, W), dense in channels_last");
  STD_TORCH_CHECK(input.size(1) > 0 && input.size(1) % kPanel == 0,
                  "winograd_conv3x3: C must be a multiple of ", kPanel);
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(0) == kFrequencies &&
                      weight.size(2) == input.size(1) && weight.size(3) == kPanel &&
                      weight.scalar_type() == ScalarType::Float && weight.is_contiguous(),
                  "winograd_conv3x3: weight must be float32 (36, D / 16, C, 16), contiguous");
  STD_TORCH_CHECK(!bias || (bias->numel() == weight.size(1) * kPanel && bias->is_contiguous() &&
                            bias->scalar_type() == ScalarType::Float),
                  "winograd_conv3x3: bias must be float32 (D,), contiguous");
}

Tensor winograd_conv3x3(const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias, bool relu) {
  check(input, weight, bias);
  const int64_t outputs = weight.size(1) * kPanel;
  const int64_t images = input.size(0), height = input.size(2), width = input.size(3);
  // (N, H, W, D) in memory
  Tensor result = torch::stable::new_empty(input, {images, height, width, outputs});
  maskrcnn::dispatch_floating(input.scalar_type(), "winograd_conv3x3", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, double>) {
      STD_TORCH_CHECK(false, "winograd_conv3x3: float64 is not supported");
    } else {
      T* data = static_cast<T*>(result.mutable_data_ptr());
      maskrcnn::prefer_huge_pages(data, result.numel() * sizeof(T));
      convolve<T>({static_cast<const T*>(input.const_data_ptr()),
                   static_cast<const float*>(weight.const_data_ptr()),
                   bias ? static_cast<const float*>(bias->const_data_ptr()) : nullptr, data, images,
                   height, width, input.size(1), outputs, relu});
    }
  });
  return torch::stable::transpose(torch::stable::transpose(result, 2, 3), 1, 2);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("winograd_conv3x3", TORCH_BOX(&winograd_conv3x3));
}

#endif  // MASKRCNN_VECTORS
