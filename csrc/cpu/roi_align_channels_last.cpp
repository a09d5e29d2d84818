// RoIAlign on maps whose channels lie side by side: each output and each gradient pixel is one
// weighted sum of rows of channels.

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "cpu/placed_rois.h"
#include "cpu/roi_align.h"
#include "cpu/weighted_sum.h"

namespace maskrcnn {
namespace {

constexpr int64_t kBlockBytes = 1 << 20;  // part of a gradient map that stays in the cache
constexpr int64_t kBlockChannels = 256;

// The terms of one weighted sum over rows of channels.
template <class Acc>
struct Terms {
  std::vector<int64_t> offset;
  std::vector<Acc> weight;

  void reserve(size_t count) {
    if (offset.size() < count) {
      offset.resize(count);
      weight.resize(count);
    }
  }
};

template <class Acc>
size_t longest_row(const AxisWeights<Acc>& weights) {
  int32_t longest = 0;
  for (size_t row = 1; row < weights.begin.size(); ++row) {
    longest = std::max(longest, weights.begin[row] - weights.begin[row - 1]);
  }
  return static_cast<size_t>(longest);
}

// Lists the products of row `row_y` of y and row `row_x` of x; returns their number.
template <class Acc>
MASKRCNN_INLINE inline int64_t list_terms(const AxisWeights<Acc>& y, int64_t row_y,
                                          const AxisWeights<Acc>& x, int64_t row_x,
                                          int64_t stride_y, int64_t stride_x, Terms<Acc>& terms) {
  int64_t count = 0;
  for (int32_t i = y.begin[row_y]; i < y.begin[row_y + 1]; ++i) {
    const int64_t line = y.index[i] * stride_y;
    for (int32_t j = x.begin[row_x]; j < x.begin[row_x + 1]; ++j) {
      terms.offset[count] = line + x.index[j] * stride_x;
      terms.weight[count] = y.weight[i] * x.weight[j];
      ++count;
    }
  }
  return count;
}

// Forward of one RoI. image: the map of its image; out: (bins y, bins x, channels).
template <class Acc, class T>
void pool_roi(const FeatureMap& map, const T* image, int64_t channels, const AxisWeights<Acc>& y,
              const AxisWeights<Acc>& x, Terms<Acc>& terms, T* out) {
  terms.reserve(longest_row(y) * longest_row(x));
  run_simd([&](auto bytes) MASKRCNN_INLINE {
    for (int64_t bin_y = 0; bin_y < y.rows(); ++bin_y) {
      for (int64_t bin_x = 0; bin_x < x.rows(); ++bin_x) {
        const int64_t count =
            list_terms(y, bin_y, x, bin_x, map.row_stride, map.column_stride, terms);
        weighted_sum<bytes(), false>(image, terms.offset.data(), terms.weight.data(), count,
                                     channels, out + (bin_y * x.rows() + bin_x) * channels);
      }
    }
  });
}

// A block of rows and channels of a gradient map: the part that one thread owns.
template <class Acc>
struct GradientBlock {
  Acc* data;  // at (first_row, column 0, first channel)
  int64_t first_row;
  int64_t end_row;
  int64_t first_channel;
  int64_t channels;
  int64_t row_stride;
  int64_t column_stride;
};

template <class Acc>
void clear(const GradientBlock<Acc>& block, int64_t width) {
  for (int64_t row = 0; row < block.end_row - block.first_row; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      Acc* pixel = block.data + row * block.row_stride + column * block.column_stride;
      std::fill_n(pixel, block.channels, Acc(0));
    }
  }
}

// Writes the sums to the gradient map; out: pixel (first_row, 0), first channel.
template <class Acc, class T>
void round_block(const GradientBlock<Acc>& block, int64_t width, T* out, int64_t row_stride,
                 int64_t column_stride) {
  for (int64_t row = 0; row < block.end_row - block.first_row; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      const Acc* from = block.data + row * block.row_stride + column * block.column_stride;
      T* to = out + row * row_stride + column * column_stride;
      for (int64_t i = 0; i < block.channels; ++i) to[i] = static_cast<T>(from[i]);
    }
  }
}

template <class Acc>
struct PixelRoi {
  PixelWeights<Acc> y;
  PixelWeights<Acc> x;
};

// The pixels [begin, end) of a RoI's y that lie in the rows of a block.
struct PixelRange {
  int64_t begin;
  int64_t end;
};

template <class Acc>
PixelRange pixels_within(const PixelWeights<Acc>& y, const GradientBlock<Acc>& block) {
  const auto first = y.pixel.begin();
  return {std::lower_bound(first, y.pixel.end(), block.first_row) - first,
          std::lower_bound(first, y.pixel.end(), block.end_row) - first};
}

// Backward of one RoI into a block. grad: (bins_y, bins_x, grad_channels) of this RoI, at the
// block's first channel.
template <class Acc, class T>
void spread_roi(const T* grad, int64_t bins_x, int64_t grad_channels, const PixelRoi<Acc>& roi,
                PixelRange rows, Terms<Acc>& terms, const GradientBlock<Acc>& block) {
  const PixelWeights<Acc>& x = roi.x;
  terms.reserve(longest_row(roi.y.weights) * longest_row(x.weights));
  run_simd([&](auto bytes) MASKRCNN_INLINE {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      Acc* line = block.data + (roi.y.pixel[i] - block.first_row) * block.row_stride;
      for (int64_t j = 0; j < static_cast<int64_t>(x.pixel.size()); ++j) {
        const int64_t count = list_terms(roi.y.weights, i, x.weights, j, bins_x * grad_channels,
                                         grad_channels, terms);
        weighted_sum<bytes(), true>(grad, terms.offset.data(), terms.weight.data(), count,
                                    block.channels, line + x.pixel[j] * block.column_stride);
      }
    }
  });
}

// The bins of one RoI that the pixels `rows` read, from (channels, bins) to (bins, channels).
// A linear layer behind the pooling sends gradients in the first order: turned here, a RoI at a
// time in the cache, they take neither a pass over all RoIs nor the memory of a second copy.
template <class Acc, class T>
void turn_bins(const T* grad, int64_t bins_y, int64_t bins_x, int64_t channels,
               const PixelWeights<Acc>& y, PixelRange rows, std::vector<T>& turned) {
  turned.resize(bins_y * bins_x * channels);
  const auto begin = y.weights.index.begin() + y.weights.begin[rows.begin];
  const auto end = y.weights.index.begin() + y.weights.begin[rows.end];
  if (begin == end) return;
  const auto [low, high] = std::minmax_element(begin, end);
  constexpr int64_t kAtOnce = 16;  // as many as fill a line of the cache
  for (int64_t first = 0; first < channels; first += kAtOnce) {
    const int64_t count = std::min(kAtOnce, channels - first);
    for (int64_t bin = *low * bins_x; bin < (*high + 1) * bins_x; ++bin) {
      const T* from = grad + first * bins_y * bins_x + bin;
      T* to = turned.data() + bin * channels + first;
      for (int64_t i = 0; i < count; ++i) to[i] = from[i * bins_y * bins_x];
    }
  }
}

// What all RoIs send into a block. grad: (K, bins, channels), or (K, channels, bins) where
// `channels_first`.
template <class Acc, class T>
void spread_rois(const RoiProblem& problem, const std::vector<PlacedRoi<Acc>>& rois,
                 const std::vector<PixelRoi<Acc>>& weights, const T* grad, bool channels_first,
                 const GradientBlock<Acc>& block) {
  const int64_t bins_y = problem.sampling.pooled_height;
  const int64_t bins_x = problem.sampling.pooled_width;
  Terms<Acc> terms;
  std::vector<T> turned;
  for (size_t i = 0; i < rois.size(); ++i) {
    const T* own = grad + rois[i].index * problem.bins() * problem.channels;
    const PixelRange rows = pixels_within(weights[i].y, block);
    if (rows.begin == rows.end) continue;
    if (channels_first) {
      own += block.first_channel * problem.bins();
      turn_bins(own, bins_y, bins_x, block.channels, weights[i].y, rows, turned);
      spread_roi(turned.data(), bins_x, block.channels, weights[i], rows, terms, block);
    } else {
      own += block.first_channel;
      spread_roi(own, bins_x, problem.channels, weights[i], rows, terms, block);
    }
  }
}

// One image of one level: shares out blocks of rows and channels. grad: as for `spread_rois`.
template <class Acc, class T>
void spread_map(const RoiProblem& problem, const FeatureMap& map,
                const std::vector<PlacedRoi<Acc>>& rois, const T* grad, bool channels_first,
                T* out) {
  const auto count = static_cast<int64_t>(rois.size());
  std::vector<PixelRoi<Acc>> weights(rois.size());
  for_each_piece(count, kRoisPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      weights[i] = {transpose(weights_y(rois[i], problem)), transpose(weights_x(rois[i], problem))};
    }
  });
  const int64_t channels = problem.channels;
  const int64_t block_channels = std::clamp<int64_t>(channels, 1, kBlockChannels);
  const int64_t row_bytes = map.width * block_channels * static_cast<int64_t>(sizeof(Acc));
  const int64_t block_rows = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(1, row_bytes));
  const int64_t row_blocks = (map.height + block_rows - 1) / block_rows;
  const int64_t channel_blocks = (channels + block_channels - 1) / block_channels;
  for_each_piece(row_blocks * channel_blocks, 1, [&](int64_t piece, int64_t) {
    GradientBlock<Acc> block{};
    block.first_row = piece / channel_blocks * block_rows;
    block.end_row = std::min(block.first_row + block_rows, map.height);
    block.first_channel = piece % channel_blocks * block_channels;
    block.channels = std::min(block_channels, channels - block.first_channel);
    T* corner = out + block.first_row * map.row_stride + block.first_channel;
    std::vector<Acc> sums;
    if constexpr (std::is_same_v<T, Acc>) {
      block.data = corner;
      block.row_stride = map.row_stride;
      block.column_stride = map.column_stride;
    } else {  // sums in full precision, rounded once
      block.column_stride = block.channels;
      block.row_stride = map.width * block.channels;
      sums.resize((block.end_row - block.first_row) * block.row_stride);
      block.data = sums.data();
    }
    clear(block, map.width);
    spread_rois(problem, rois, weights, grad, channels_first, block);
    if constexpr (!std::is_same_v<T, Acc>) {
      round_block(block, map.width, corner, map.row_stride, map.column_stride);
    }
  });
}

}  // namespace

void pool_channels_last(const ForwardInputs& inputs) {
  const RoiProblem& problem = inputs.problem;
  dispatch_floating(inputs.out.scalar_type(), "features", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    auto rois = place_rois<Acc>(inputs.rois, problem);
    sort_by_place(rois);
    std::vector<const T*> data;
    for (const Tensor& map : inputs.features) data.push_back(map.template const_data_ptr<T>());
    T* out = inputs.out.template mutable_data_ptr<T>();
    prefer_huge_pages(out, static_cast<size_t>(inputs.out.numel()) * sizeof(T));
    for_each_piece(problem.rois, kRoisPerPiece, [&](int64_t begin, int64_t end) {
      Terms<Acc> terms;
      for (int64_t i = begin; i < end; ++i) {
        const PlacedRoi<Acc>& roi = rois[i];
        const FeatureMap& map = problem.maps[roi.level];
        pool_roi(map, data[roi.level] + roi.image * map.batch_stride, problem.channels,
                 weights_y(roi, problem), weights_x(roi, problem), terms,
                 out + roi.index * problem.bins() * problem.channels);
      }
    });
  });
}

void spread_channels_last(const BackwardInputs& inputs) {
  dispatch_floating(inputs.grad.scalar_type(), "grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    const T* grad = inputs.grad.template const_data_ptr<T>();
    const bool channels_first = inputs.grad.is_contiguous();
    for_each_gradient_map<T, Acc>(
        inputs, [&](const FeatureMap& map, T* out, const std::vector<PlacedRoi<Acc>>& rois) {
          spread_map(inputs.problem, map, rois, grad, channels_first, out);
        });
  });
}

}  // namespace maskrcnn
