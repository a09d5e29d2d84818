// Sigmoid focal loss on the CPU: one pass over the logits forwards, one backwards.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "common/dispatch.h"
#include "common/focal_loss.h"
#include "common/memory.h"
#include "common/parallel.h"
#include "cpu/focal_vectors.h"
#include "cpu/vectors.h"

namespace {

using maskrcnn::Arithmetic;
using maskrcnn::FocalInputs;
using maskrcnn::FocalRow;
using maskrcnn::FocalRows;
using maskrcnn::FocalRule;
using torch::stable::Tensor;

constexpr int64_t kLogitsPerPiece = 1 << 14;

template <class T, class Acc>
Acc row_loss(const FocalRow<T>& row, const FocalRule<Acc>& rule) {
  Acc sum = 0;
  for (int64_t i = 0; i < row.classes; ++i) {
    sum += maskrcnn::focal_loss(static_cast<Acc>(row.logits[i]), i == row.column, rule);
  }
  return sum;
}

template <class T, class Acc>
void row_slopes(const FocalRow<T>& row, const FocalRule<Acc>& rule, Acc grad, T* slopes) {
  for (int64_t i = 0; i < row.classes; ++i) {
    const Acc x = static_cast<Acc>(row.logits[i]);
    slopes[i] = static_cast<T>(grad * maskrcnn::focal_slope(x, i == row.column, rule));
  }
}

template <class T, class Acc>
void fill_losses(const FocalRows<T>& rows, const FocalRule<Acc>& rule, Acc* losses) {
#ifdef MASKRCNN_VECTORS
  if constexpr (std::is_same_v<Acc, float>) {
    return maskrcnn::run_simd([&](auto width) MASKRCNN_INLINE {
      constexpr int kCount = decltype(width)::value / sizeof(float);
      using Vectors = maskrcnn::FocalVectors<T, kCount>;
      if (rows.classes < kCount) return Vectors::losses_of_short_rows(rows, rule, losses);
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        losses[i] = rows.labels[i] < 0 ? 0 : Vectors::loss(rows.row(i), rule);
      }
    });
  }
#endif
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    losses[i] = rows.labels[i] < 0 ? 0 : row_loss(rows.row(i), rule);
  }
}

template <class T, class Acc>
void fill_slopes(const FocalRows<T>& rows, const FocalRule<Acc>& rule, const Acc* grad, T* slopes) {
  const auto each_row = [&](const auto& fill) MASKRCNN_INLINE {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      T* of_row = slopes + i * rows.classes;
      if (rows.labels[i] < 0) {
        std::fill_n(of_row, rows.classes, static_cast<T>(0));
      } else {
        fill(rows.row(i), grad[i], of_row);
      }
    }
  };
#ifdef MASKRCNN_VECTORS
  if constexpr (std::is_same_v<Acc, float>) {
    return maskrcnn::run_simd([&](auto width) MASKRCNN_INLINE {
      constexpr int kCount = decltype(width)::value / sizeof(float);
      using Vectors = maskrcnn::FocalVectors<T, kCount>;
      if (rows.classes < kCount) return Vectors::slopes_of_short_rows(rows, rule, grad, slopes);
      each_row([&](const FocalRow<T>& row, float factor, T* to)
                   MASKRCNN_INLINE { Vectors::slopes(row, rule, factor, to); });
    });
  }
#endif
  each_row([&](const FocalRow<T>& row, Acc factor, T* to) { row_slopes(row, rule, factor, to); });
}

void check_labels(const FocalInputs& inputs) {
  const int64_t* labels = inputs.labels.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < inputs.rows; ++i) {
    STD_TORCH_CHECK(labels[i] <= inputs.classes, "label ", labels[i], " of row ", i,
                    " is not among ", inputs.classes, " classes");
  }
}

// Calls body for pieces of all rows, on torch's threads.
template <class T, class Body>
void over_rows(const FocalInputs& inputs, const Body& body) {
  const int64_t classes = std::max<int64_t>(1, inputs.classes);
  const int64_t piece = std::max<int64_t>(1, kLogitsPerPiece / classes);
  const T* logits = static_cast<const T*>(inputs.logits.const_data_ptr());
  const int64_t* labels = inputs.labels.const_data_ptr<int64_t>();
  maskrcnn::for_each_piece(inputs.rows, piece, [&](int64_t begin, int64_t end) {
    body(FocalRows<T>{logits, labels, inputs.classes, begin, end});
  });
}

Tensor sigmoid_focal_loss(const Tensor& logits, const Tensor& labels, double gamma, double alpha) {
  const FocalInputs inputs = maskrcnn::check_focal(logits, labels, gamma, alpha);
  check_labels(inputs);
  Tensor losses = torch::stable::new_empty(logits, {inputs.rows}, inputs.loss_type());
  maskrcnn::dispatch_floating(logits.scalar_type(), "sigmoid_focal_loss", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    Acc* data = static_cast<Acc*>(losses.mutable_data_ptr());
    over_rows<T>(inputs, [&](const FocalRows<T>& rows) {
      fill_losses<T, Acc>(rows, inputs.rule<Acc>(), data);
    });
  });
  return losses;
}

Tensor sigmoid_focal_loss_backward(const Tensor& grad, const Tensor& logits, const Tensor& labels,
                                   double gamma, double alpha) {
  const FocalInputs inputs = maskrcnn::check_focal(logits, labels, gamma, alpha);
  const Tensor factors = maskrcnn::check_focal_grad(grad, inputs);
  Tensor slopes = torch::stable::new_empty(logits, {inputs.rows, inputs.classes});
  maskrcnn::dispatch_floating(logits.scalar_type(), "sigmoid_focal_loss_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    T* data = static_cast<T*>(slopes.mutable_data_ptr());
    maskrcnn::prefer_huge_pages(data, inputs.rows * inputs.classes * sizeof(T));
    const Acc* factor = static_cast<const Acc*>(factors.const_data_ptr());
    over_rows<T>(inputs, [&](const FocalRows<T>& rows) {
      fill_slopes<T, Acc>(rows, inputs.rule<Acc>(), factor, data);
    });
  });
  return slopes;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss));
  m.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward));
}
