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

// Backward of one RoI into a block. grad: (bins_y, bins_x, all_channels) of this RoI.
template <class Acc, class T>
void spread_roi(const T* grad, int64_t bins_x, int64_t all_channels, const PixelWeights<Acc>& y,
                const PixelWeights<Acc>& x, Terms<Acc>& terms, const GradientBlock<Acc>& block) {
  terms.reserve(longest_row(y.weights) * longest_row(x.weights));
  const T* base = grad + block.first_channel;
  run_simd([&](auto bytes) MASKRCNN_INLINE {
    const auto begin = std::lower_bound(y.pixel.begin(), y.pixel.end(), block.first_row);
    for (auto i = begin - y.pixel.begin();
         i < static_cast<int64_t>(y.pixel.size()) && y.pixel[i] < block.end_row; ++i) {
      Acc* line = block.data + (y.pixel[i] - block.first_row) * block.row_stride;
      for (int64_t j = 0; j < static_cast<int64_t>(x.pixel.size()); ++j) {
        const int64_t count =
            list_terms(y.weights, i, x.weights, j, bins_x * all_channels, all_channels, terms);
        weighted_sum<bytes(), true>(base, terms.offset.data(), terms.weight.data(), count,
                                    block.channels, line + x.pixel[j] * block.column_stride);
      }
    }
  });
}

template <class Acc>
struct PixelRoi {
  PixelWeights<Acc> y;
  PixelWeights<Acc> x;
};

// One image of one level: shares out blocks of rows and channels. grad: (K, bins, channels).
template <class Acc, class T>
void spread_map(const RoiProblem& problem, const FeatureMap& map,
                const std::vector<PlacedRoi<Acc>>& rois, const T* grad, T* out) {
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
    Terms<Acc> terms;
    for (int64_t i = 0; i < count; ++i) {
      spread_roi(grad + rois[i].index * problem.bins() * channels, problem.sampling.pooled_width,
                 channels, weights[i].y, weights[i].x, terms, block);
    }
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
    for_each_gradient_map<T, Acc>(
        inputs, [&](const FeatureMap& map, T* out, const std::vector<PlacedRoi<Acc>>& rois) {
          spread_map(inputs.problem, map, rois, grad, out);
        });
  });
}

}  // namespace maskrcnn
