// Soft-NMS on the CPU: rows of a batch are shared out among threads.

#include "common/soft_nms.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "common/parallel.h"

namespace {

using maskrcnn::Box;
using maskrcnn::Decay;
using maskrcnn::SoftProblem;
using maskrcnn::SoftRule;
using torch::stable::Tensor;

// Fills a row of the results and returns how many boxes were taken.
template <typename T>
int64_t take_best(const Box<T>* boxes, const int64_t* groups, T* remaining, int64_t n,
                  const SoftRule& rule, int64_t max_output, int64_t* indices, T* scores) {
  int64_t taken = 0;
  for (; taken < std::min(n, max_output); ++taken) {
    const int64_t best = std::max_element(remaining, remaining + n) - remaining;
    if (!maskrcnn::in_play(remaining[best], rule)) break;
    indices[taken] = best;
    scores[taken] = remaining[best];
    remaining[best] = maskrcnn::lowest_score<T>();
    for (int64_t i = 0; i < n; ++i) {
      if (groups[i] != groups[best]) continue;
      remaining[i] = maskrcnn::decayed(remaining[i], boxes[best], boxes[i], rule);
    }
  }
  return taken;
}

template <typename T>
void solve(const SoftProblem& problem, const T* coordinates) {
  const int64_t n = problem.inputs.n;
  const auto* boxes = reinterpret_cast<const Box<T>*>(coordinates);
  const T* given = problem.inputs.scores.const_data_ptr<T>();
  T* remaining = problem.remaining.mutable_data_ptr<T>();
  for (int64_t i = 0; i < problem.inputs.rows * n; ++i) {
    const T score = maskrcnn::first_score(boxes[i], given[i]);
    remaining[i] = score == score ? score : maskrcnn::lowest_score<T>();
  }
  maskrcnn::for_each_piece(problem.inputs.rows, 1, [&](int64_t row, int64_t) {
    problem.counts.mutable_data_ptr<int64_t>()[row] =
        take_best(boxes + row * n, problem.inputs.groups->const_data_ptr<int64_t>() + row * n,
                  remaining + row * n, n, problem.rule, problem.max_output,
                  problem.indices.mutable_data_ptr<int64_t>() + row * problem.max_output,
                  problem.scores.mutable_data_ptr<T>() + row * problem.max_output);
  });
}

std::tuple<Tensor, Tensor, Tensor> soft_nms_fixed(const Tensor& boxes, const Tensor& scores,
                                                  const Tensor& groups, int64_t method,
                                                  double iou_threshold, double sigma,
                                                  double min_score, int64_t max_output) {
  const SoftRule rule{static_cast<Decay>(method), iou_threshold, sigma, min_score};
  const SoftProblem problem =
      maskrcnn::soft_problem(boxes, scores, groups, method, rule, max_output);
  maskrcnn::with_data(problem.inputs.boxes, [&](auto* data) { solve(problem, data); });
  return {problem.indices, torch::stable::to(problem.scores, scores.scalar_type()), problem.counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("soft_nms_fixed", TORCH_BOX(&soft_nms_fixed));
}
