// Sigmoid focal loss of one logit (Lin et al. 2017, arXiv:1708.02002, eq. 5), and its inputs.
//
// With z = logit of "wrong" (-x where the class is the right one, x elsewhere), q = sigmoid(z) the
// probability of being wrong, and w the weight of the kind (alpha or 1 - alpha):
//   loss = w q^gamma softplus(z)          d loss / dz = w q^gamma (gamma (1 - q) softplus(z) + q)
// Everything follows from e = exp(-|z|), which neither overflows nor cancels.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/macros/Macros.h>

#include <cmath>
#include <cstdint>

#include "common/inputs.h"

namespace maskrcnn {

template <typename Acc>
struct FocalRule {
  Acc gamma, positive_weight, negative_weight;
};

template <typename Acc>
struct FocalTerms {
  Acc wrong;     // q
  Acc softplus;  // -log(1 - q)
  Acc focus;     // q^gamma
};

// Where infinity would meet a factor of 0; floats end a little further on.
constexpr float kAsGoodAsInfinite = 3.0e38f;

// Both leave NaN as it is.
template <typename Acc>
C10_HOST_DEVICE inline Acc at_most_finite(Acc value) {
  return value > kAsGoodAsInfinite ? kAsGoodAsInfinite : value;
}

template <typename Acc>
C10_HOST_DEVICE inline Acc at_least_finite(Acc value) {
  return value < -kAsGoodAsInfinite ? -kAsGoodAsInfinite : value;
}

template <typename Acc>
C10_HOST_DEVICE inline FocalTerms<Acc> focal_terms(Acc z, Acc gamma) {
  const Acc e = std::exp(-std::abs(z));
  const Acc log_one_plus_e = std::log1p(e);
  const Acc wrong = (z >= 0 ? Acc(1) : e) / (1 + e);
  const Acc softplus = (z >= 0 ? z : Acc(0)) + log_one_plus_e;
  const Acc log_wrong = (z >= 0 ? Acc(0) : at_least_finite(z)) - log_one_plus_e;
  const Acc focus = gamma == 2 ? wrong * wrong : std::exp(gamma * log_wrong);
  return {wrong, softplus, focus};
}

template <typename Acc>
C10_HOST_DEVICE inline Acc focal_loss(Acc x, bool positive, const FocalRule<Acc>& rule) {
  const FocalTerms<Acc> terms = focal_terms(positive ? -x : x, rule.gamma);
  return (positive ? rule.positive_weight : rule.negative_weight) * terms.focus * terms.softplus;
}

template <typename Acc>
C10_HOST_DEVICE inline Acc focal_slope(Acc x, bool positive, const FocalRule<Acc>& rule) {
  const FocalTerms<Acc> terms = focal_terms(positive ? -x : x, rule.gamma);
  const Acc far = (1 - terms.wrong) * at_most_finite(terms.softplus);
  const Acc slope = terms.focus * (rule.gamma * far + terms.wrong);
  return positive ? -rule.positive_weight * slope : rule.negative_weight * slope;
}

// Contiguous; `classes` columns, of which label l > 0 means column l - 1.
struct FocalInputs {
  torch::stable::Tensor logits, labels;  // (rows, classes) and (rows,) int64
  int64_t rows, classes;
  double gamma, alpha;

  torch::headeronly::ScalarType loss_type() const {
    using torch::headeronly::ScalarType;
    return logits.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  }

  template <typename Acc>
  FocalRule<Acc> rule() const {
    return {static_cast<Acc>(gamma), static_cast<Acc>(alpha), static_cast<Acc>(1 - alpha)};
  }
};

inline FocalInputs check_focal(const torch::stable::Tensor& logits,
                               const torch::stable::Tensor& labels, double gamma, double alpha) {
  STD_TORCH_CHECK(logits.dim() == 2 && is_floating(logits),
                  "logits must be floating point and have shape (R, K)");
  STD_TORCH_CHECK(labels.dim() == 1 && labels.size(0) == logits.size(0),
                  "labels must have one entry per row of logits");
  STD_TORCH_CHECK(labels.scalar_type() == torch::headeronly::ScalarType::Long,
                  "labels must be int64");
  STD_TORCH_CHECK(on_one_device(logits, labels), "logits and labels must be on one device");
  STD_TORCH_CHECK(gamma >= 0, "gamma must not be negative");
  return {torch::stable::contiguous(logits),
          torch::stable::contiguous(labels),
          logits.size(0),
          logits.size(1),
          gamma,
          alpha};
}

// The gradient of each row's loss, contiguous and of the losses' type.
inline torch::stable::Tensor check_focal_grad(const torch::stable::Tensor& grad,
                                              const FocalInputs& inputs) {
  STD_TORCH_CHECK(grad.dim() == 1 && grad.size(0) == inputs.rows,
                  "grad must have one entry per row of logits");
  STD_TORCH_CHECK(grad.scalar_type() == inputs.loss_type() && on_one_device(grad, inputs.logits),
                  "grad must be of the losses' type and on the device of the logits");
  return torch::stable::contiguous(grad);
}

}  // namespace maskrcnn
