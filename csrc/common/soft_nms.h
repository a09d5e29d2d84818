// Soft-NMS: a box that overlaps a better one of its group loses score, not its life.
//
// Bodla et al., "Soft-NMS" (https://arxiv.org/abs/1704.04503), section 3. The box with the highest
// score is taken, and the scores of the others of its group decay by how much they overlap it; and
// so on. Scores never rise, so the best box of all groups together can be taken each time: boxes
// come in the order of their final scores, and as many steps are done as boxes are wanted.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/box.h"
#include "common/nms_inputs.h"

namespace maskrcnn {

// Numbered as in layers/soft_nms.py.
enum class Decay : int64_t { kHard, kLinear, kGaussian };

struct SoftRule {
  Decay decay;
  double iou_threshold;  // hard and linear: smaller overlaps cost nothing
  double sigma;          // gaussian: width
  double min_score;      // boxes whose score falls below are not taken
};

// The score of padding, and of a box that is taken or dropped.
template <typename T>
C10_HOST_DEVICE inline T lowest_score() {
  return static_cast<T>(-INFINITY);
}

// Whether a box can still be taken; false for padding.
template <typename T>
C10_HOST_DEVICE inline bool in_play(T score, const SoftRule& rule) {
  return score > lowest_score<T>() && score >= static_cast<T>(rule.min_score);
}

// The score to begin with: a box that is not finite counts as padding.
template <typename T>
C10_HOST_DEVICE inline T first_score(const Box<T>& box, T score) {
  const T zero = (box.x1 - box.x1) + (box.y1 - box.y1) + (box.x2 - box.x2) + (box.y2 - box.y2);
  return zero == T(0) ? score : lowest_score<T>();
}

// What is left of a box's score beside a box that was taken.
template <typename T>
C10_HOST_DEVICE inline T decayed(T score, const Box<T>& taken, const Box<T>& box,
                                 const SoftRule& rule) {
  const T intersection = box_intersection(taken, box);
  if (!(intersection > T(0)) || !(score > lowest_score<T>())) return score;
  const T iou = intersection / (box_area(taken) + box_area(box) - intersection);
  if (rule.decay == Decay::kGaussian) {
    return mul(score, std::exp(-mul(iou, iou) / static_cast<T>(rule.sigma)));
  }
  if (!(iou > rule.iou_threshold)) return score;
  return rule.decay == Decay::kHard ? lowest_score<T>() : mul(score, T(1) - iou);
}

// Boxes, scores and groups in one precision, and room for the results.
struct SoftProblem {
  NmsInputs inputs;
  SoftRule rule;
  int64_t max_output;
  torch::stable::Tensor remaining;  // (rows, n) scores, not set to anything
  torch::stable::Tensor indices;    // (rows, max_output) int64, zeros
  torch::stable::Tensor scores;     // (rows, max_output), zeros
  torch::stable::Tensor counts;     // (rows,) int64, zeros
};

inline SoftProblem soft_problem(const torch::stable::Tensor& boxes,
                                const torch::stable::Tensor& scores,
                                const torch::stable::Tensor& groups, int64_t method,
                                const SoftRule& rule, int64_t max_output) {
  using torch::headeronly::ScalarType;
  using torch::stable::new_zeros;
  STD_TORCH_CHECK(method >= 0 && method <= 2, "method must be 0, 1 or 2, but is ", method);
  STD_TORCH_CHECK(rule.sigma > 0, "sigma must be positive, but is ", rule.sigma);
  STD_TORCH_CHECK(max_output >= 0, "max_output must not be negative");
  NmsInputs inputs = check_nms(boxes, scores, groups, 2, rule.iou_threshold);
  if (inputs.boxes.scalar_type() != inputs.scores.scalar_type()) {
    inputs.boxes = torch::stable::to(inputs.boxes, ScalarType::Double);
    inputs.scores = torch::stable::to(inputs.scores, ScalarType::Double);
  }
  return {inputs,
          rule,
          max_output,
          torch::stable::new_empty(inputs.scores, {inputs.rows, inputs.n}),
          new_zeros(inputs.scores, {inputs.rows, max_output}, ScalarType::Long),
          new_zeros(inputs.scores, {inputs.rows, max_output}),
          new_zeros(inputs.scores, {inputs.rows}, ScalarType::Long)};
}

}  // namespace maskrcnn
