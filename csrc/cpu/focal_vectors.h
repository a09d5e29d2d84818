// Sigmoid focal loss (common/focal_loss.h) on vectors of floats: along a row where it is long, and
// across rows where they are shorter than a vector.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/focal_loss.h"
#include "cpu/vector_math.h"
#include "cpu/vectors.h"

namespace maskrcnn {

// A row of logits and the column of its class, -1 where it is background.
template <class T>
struct FocalRow {
  const T* logits;
  int64_t classes, column;
};

// Rows [begin, end) of all.
template <class T>
struct FocalRows {
  const T* logits;
  const int64_t* labels;
  int64_t classes, begin, end;

  FocalRow<T> row(int64_t index) const {
    return {logits + index * classes, classes, labels[index] - 1};
  }
};

#ifdef MASKRCNN_VECTORS

// Losses and slopes of kCount logits at a time, in floats.
template <class T, int kCount>
struct FocalVectors {
  using Math = FloatMath<kCount>;
  using Lanes = maskrcnn::Lanes<float, kCount>;
  using Vector = typename Lanes::Vector;
  using Bits = typename Math::Bits;

  // A logit whose loss and slope vanish, to fill up the last vector of a row.
  static constexpr float kNoLogit = -1000.0f;

  struct Terms {
    Vector wrong, softplus, focus, weight;
    Bits sign;  // the sign bit where the class is the right one
  };

  static MASKRCNN_INLINE void load(const T* logits, int64_t count, Vector& x) {
    if (count >= kCount) return Lanes::load(logits, x);
    T padded[kCount];
    for (int64_t i = 0; i < kCount; ++i) {
      padded[i] = i < count ? logits[i] : static_cast<T>(kNoLogit);
    }
    Lanes::load(padded, x);
  }

  static MASKRCNN_INLINE void store(const Vector& x, int64_t count, T* to) {
    if (count >= kCount) return Lanes::store(x, to);
    T padded[kCount];
    Lanes::store(x, padded);
    std::copy_n(padded, count, to);
  }

  // `positive` is all ones in the lanes whose class is the right one, and z their logits.
  static MASKRCNN_INLINE void compute(Vector& z, const Bits& positive, const FocalRule<float>& rule,
                                      Terms& terms) {
    terms.sign = positive & 0x80000000u;
    const Vector zero{};
    Math::select(positive, zero + rule.positive_weight, zero + rule.negative_weight, terms.weight);
    flip(terms.sign, z);

    Vector minus_size = z, e, log_one_plus_e, low, high;
    Bits bits;
    std::memcpy(&bits, &minus_size, sizeof(bits));
    bits |= 0x80000000u;
    std::memcpy(&minus_size, &bits, sizeof(bits));
    Math::exp_negative(minus_size, e);
    Math::log_one_plus(e, log_one_plus_e);
    Math::select(z < zero, e, zero + 1.0f, terms.wrong);
    terms.wrong = terms.wrong / (e + 1.0f);
    Math::select(z < zero, zero, z, high);
    terms.softplus = high + log_one_plus_e;
    if (rule.gamma == 2) {
      terms.focus = terms.wrong * terms.wrong;
    } else {
      Math::select(z < zero, z, zero, low);
      Math::select(low < -kAsGoodAsInfinite, zero - kAsGoodAsInfinite, low, low);
      const Vector exponent = (low - log_one_plus_e) * rule.gamma;
      Math::exp_negative(exponent, terms.focus);
    }
  }

  static MASKRCNN_INLINE void flip(const Bits& sign, Vector& value) {
    Bits bits;
    std::memcpy(&bits, &value, sizeof(bits));
    bits ^= sign;
    std::memcpy(&value, &bits, sizeof(bits));
  }

  static MASKRCNN_INLINE void slope_of(const Terms& terms, const FocalRule<float>& rule,
                                       Vector& slope) {
    Vector far;
    Math::select(terms.softplus > kAsGoodAsInfinite, Vector{} + kAsGoodAsInfinite, terms.softplus,
                 far);
    slope = (1.0f - terms.wrong) * far * rule.gamma + terms.wrong;
    slope *= terms.weight * terms.focus;
    flip(terms.sign, slope);
  }

  static MASKRCNN_INLINE void compute(const FocalRow<T>& row, int64_t first,
                                      const FocalRule<float>& rule, Terms& terms) {
    Vector z;
    load(row.logits + first, row.classes - first, z);
    Bits index;
    for (int i = 0; i < kCount; ++i) index[i] = static_cast<uint32_t>(i);
    const Bits column = Bits{} + static_cast<uint32_t>(row.column - first);
    const Bits positive = reinterpret_cast<Bits>(index == column);
    compute(z, positive, rule, terms);
  }

  static MASKRCNN_INLINE float loss(const FocalRow<T>& row, const FocalRule<float>& rule) {
    Vector sum{};
    for (int64_t first = 0; first < row.classes; first += kCount) {
      Terms terms;
      compute(row, first, rule, terms);
      sum += terms.weight * terms.focus * terms.softplus;
    }
    float total = 0;
    for (int i = 0; i < kCount; ++i) total += sum[i];
    return total;
  }

  static MASKRCNN_INLINE void slopes(const FocalRow<T>& row, const FocalRule<float>& rule,
                                     float grad, T* slopes) {
    for (int64_t first = 0; first < row.classes; first += kCount) {
      Terms terms;
      compute(row, first, rule, terms);
      Vector slope;
      slope_of(terms, rule, slope);
      slope *= grad;
      store(slope, row.classes - first, slopes + first);
    }
  }

  // Where the lanes of a vector lie that reaches over several rows.
  struct Places {
    int64_t row[kCount];
    Bits right, used;
  };

  // Calls body(first, count, places) for each vector of all rows' logits, one row behind the other.
  template <class Body>
  static MASKRCNN_INLINE void across_rows(const FocalRows<T>& rows, const Body& body) {
    int64_t row = rows.begin, column = 0;
    const int64_t end = rows.end * rows.classes;
    for (int64_t first = rows.begin * rows.classes; first < end; first += kCount) {
      const int64_t count = std::min<int64_t>(kCount, end - first);
      Places places{};
      for (int64_t i = 0; i < count; ++i) {
        places.row[i] = row;
        places.right[i] = rows.labels[row] - 1 == column ? ~0u : 0u;
        places.used[i] = rows.labels[row] >= 0 ? ~0u : 0u;
        if (++column == rows.classes) ++row, column = 0;
      }
      body(first, count, places);
    }
  }

  static MASKRCNN_INLINE void losses_of_short_rows(const FocalRows<T>& rows,
                                                   const FocalRule<float>& rule, float* losses) {
    std::fill(losses + rows.begin, losses + rows.end, 0.0f);
    across_rows(rows, [&](int64_t first, int64_t count, const Places& places) MASKRCNN_INLINE {
      Vector z, loss;
      Terms terms;
      load(rows.logits + first, count, z);
      compute(z, places.right, rule, terms);
      loss = terms.weight * terms.focus * terms.softplus;
      Math::select(places.used, loss, Vector{}, loss);
      for (int64_t i = 0; i < count; ++i) losses[places.row[i]] += loss[i];
    });
  }

  static MASKRCNN_INLINE void slopes_of_short_rows(const FocalRows<T>& rows,
                                                   const FocalRule<float>& rule, const float* grad,
                                                   T* slopes) {
    across_rows(rows, [&](int64_t first, int64_t count, const Places& places) MASKRCNN_INLINE {
      Vector z, slope, factor{};
      Terms terms;
      load(rows.logits + first, count, z);
      compute(z, places.right, rule, terms);
      slope_of(terms, rule, slope);
      for (int64_t i = 0; i < count; ++i) factor[i] = grad[places.row[i]];
      Math::select(places.used, slope * factor, Vector{}, slope);
      store(slope, count, slopes + first);
    });
  }
};

#endif

}  // namespace maskrcnn
