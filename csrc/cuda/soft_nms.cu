// Soft-NMS on the GPU: a block per row of the batch takes one box after the other, without host
// synchronisation.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>

#include "common/soft_nms.h"
#include "cuda/launch.h"

namespace {

using maskrcnn::Box;
using maskrcnn::Decay;
using maskrcnn::SoftProblem;
using maskrcnn::SoftRule;
using torch::stable::Tensor;

constexpr int kThreads = 512;
constexpr int64_t kNone = INT64_MAX;

// A box and its score; of equal scores, the lower index is better.
template <typename T>
struct Candidate {
  T score;
  int64_t index;

  __device__ bool better_than(const Candidate& other) const {
    return score > other.score || (score == other.score && index < other.index);
  }
};

// The best candidate of all threads, for every thread; `shared` holds one per thread.
template <typename T>
__device__ Candidate<T> best_of_block(Candidate<T> own, Candidate<T>* shared) {
  __syncthreads();  // the last result has been read
  shared[threadIdx.x] = own;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step && shared[threadIdx.x + step].better_than(shared[threadIdx.x])) {
      shared[threadIdx.x] = shared[threadIdx.x + step];
    }
    __syncthreads();
  }
  return shared[0];
}

// Each thread has every kThreads-th box of row blockIdx.x, of which it keeps the best in mind.
template <typename T>
__global__ void take_best(const Box<T>* all_boxes, const T* given, const int64_t* all_groups,
                          int64_t n, SoftRule rule, int64_t max_output, T* all_remaining,
                          int64_t* indices, T* scores, int64_t* counts) {
  __shared__ Candidate<T> shared[kThreads];
  const T gone = maskrcnn::lowest_score<T>();
  const int64_t row = blockIdx.x;
  const Box<T>* boxes = all_boxes + row * n;
  const int64_t* groups = all_groups + row * n;
  T* remaining = all_remaining + row * n;

  Candidate<T> own{gone, kNone};
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    remaining[i] = maskrcnn::first_score(boxes[i], given[row * n + i]);
    const Candidate<T> here{remaining[i], i};
    if (here.better_than(own)) own = here;
  }
  int64_t taken = 0;
  for (; taken < max_output; ++taken) {
    const Candidate<T> best = best_of_block(own, shared);
    if (best.index == kNone || !maskrcnn::in_play(best.score, rule)) break;
    if (threadIdx.x == 0) {
      indices[row * max_output + taken] = best.index;
      scores[row * max_output + taken] = best.score;
    }
    own = {gone, kNone};
    for (int64_t i = threadIdx.x; i < n; i += kThreads) {
      if (i == best.index) {
        remaining[i] = gone;
      } else if (groups[i] == groups[best.index]) {
        remaining[i] = maskrcnn::decayed(remaining[i], boxes[best.index], boxes[i], rule);
      }
      const Candidate<T> here{remaining[i], i};
      if (here.better_than(own)) own = here;
    }
  }
  if (threadIdx.x == 0) counts[row] = taken;
}

template <typename T>
void launch(const SoftProblem& problem, const T* coordinates, cudaStream_t stream) {
  take_best<T><<<static_cast<unsigned int>(problem.inputs.rows), kThreads, 0, stream>>>(
      reinterpret_cast<const Box<T>*>(coordinates), problem.inputs.scores.const_data_ptr<T>(),
      problem.inputs.groups->const_data_ptr<int64_t>(), problem.inputs.n, problem.rule,
      problem.max_output, problem.remaining.mutable_data_ptr<T>(),
      problem.indices.mutable_data_ptr<int64_t>(), problem.scores.mutable_data_ptr<T>(),
      problem.counts.mutable_data_ptr<int64_t>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor, Tensor> soft_nms_fixed(const Tensor& boxes, const Tensor& scores,
                                                  const Tensor& groups, int64_t method,
                                                  double iou_threshold, double sigma,
                                                  double min_score, int64_t max_output) {
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  const SoftRule rule{static_cast<Decay>(method), iou_threshold, sigma, min_score};
  const SoftProblem problem =
      maskrcnn::soft_problem(boxes, scores, groups, method, rule, max_output);
  if (problem.inputs.rows > 0) {
    maskrcnn::with_data(problem.inputs.boxes, [&](auto* data) {
      launch(problem, data, maskrcnn::current_stream(boxes));
    });
  }
  return {problem.indices, torch::stable::to(problem.scores, scores.scalar_type()), problem.counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("soft_nms_fixed", TORCH_BOX(&soft_nms_fixed));
}
