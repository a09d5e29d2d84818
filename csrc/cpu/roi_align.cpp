// RoIAlign on the CPU: one feature map or a whole pyramid, forward and backward.
//
// Forward shares out RoIs among threads, in an order that keeps neighbours together in the caches.
// Backward shares out parts of the gradient maps: a part has one owner, which adds what every RoI
// contributes in the order of the RoIs. So the sums do not depend on the number of threads.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "common/dispatch.h"
#include "common/memory.h"
#include "common/parallel.h"
#include "common/roi_arguments.h"
#include "cpu/roi_align_channels_first.h"
#include "cpu/roi_align_channels_last.h"

namespace maskrcnn {
namespace {

constexpr int64_t kRoisPerPiece = 16;
constexpr int64_t kRoisPerPlane = 1024;   // RoIs that go over a channel plane in a row
constexpr int64_t kPlanesPerPiece = 4;
constexpr int64_t kBlockBytes = 512 << 10;  // part of a gradient map that stays in the cache
constexpr int64_t kBlockChannels = 64;

// A RoI, checked and placed on its map.
template <class Acc>
struct PlacedRoi {
  int64_t index;
  int64_t image;
  int64_t level;
  RoiAxis<Acc> y;
  RoiAxis<Acc> x;
};

template <class Acc>
std::vector<PlacedRoi<Acc>> place_rois(const Tensor& rois, int64_t images,
                                       const std::vector<double>& scales, const PyramidRule& rule,
                                       const RoiSampling& sampling) {
  const Acc* row = rois.const_data_ptr<Acc>();
  std::vector<PlacedRoi<Acc>> placed;
  placed.reserve(static_cast<size_t>(rois.size(0)));
  for (int64_t index = 0; index < rois.size(0); ++index, row += 5) {
    for (int column = 0; column < 5; ++column) {
      STD_TORCH_CHECK(std::isfinite(row[column]), "rois[", index, ", ", column,
                      "]: expected a finite number, got ", row[column]);
    }
    STD_TORCH_CHECK(row[0] >= 0 && row[0] < static_cast<Acc>(images), "rois[", index,
                    ", 0]: the batch index ", row[0], " is outside [0, ", images, ")");
    const int64_t level = pyramid_level<Acc>(
        row[3] - row[1], row[4] - row[2], static_cast<Acc>(rule.canonical_size),
        rule.canonical_level, rule.first_level, static_cast<int64_t>(scales.size()));
    const Acc scale = static_cast<Acc>(scales[static_cast<size_t>(level)]);
    placed.push_back({index, static_cast<int64_t>(row[0]), level,
                      make_roi_axis(row[2], row[4], scale, sampling.pooled_height, sampling),
                      make_roi_axis(row[1], row[3], scale, sampling.pooled_width, sampling)});
  }
  return placed;
}

template <class Acc>
void sort_by_place(std::vector<PlacedRoi<Acc>>& rois) {
  std::sort(rois.begin(), rois.end(), [](const PlacedRoi<Acc>& a, const PlacedRoi<Acc>& b) {
    if (a.level != b.level) return a.level < b.level;
    if (a.image != b.image) return a.image < b.image;
    if (a.y.start != b.y.start) return a.y.start < b.y.start;
    return a.index < b.index;
  });
}

template <class Acc, class T>
void forward_channels_last(const std::vector<Tensor>& features, const std::vector<FeatureMap>& maps,
                           const std::vector<PlacedRoi<Acc>>& rois, const RoiSampling& sampling,
                           T* out) {
  const int64_t channels = features.front().size(1);
  const int64_t roi_size = sampling.pooled_height * sampling.pooled_width * channels;
  std::vector<const T*> data;
  for (const Tensor& map : features) data.push_back(map.const_data_ptr<T>());
  for_each_piece(static_cast<int64_t>(rois.size()), kRoisPerPiece, [&](int64_t begin, int64_t end) {
    Terms<Acc> terms;
    for (int64_t i = begin; i < end; ++i) {
      const PlacedRoi<Acc>& roi = rois[i];
      const FeatureMap& map = maps[roi.level];
      pool_channels_last(map, data[roi.level] + roi.image * map.batch_stride, channels,
                         bin_weights(roi.y, sampling.pooled_height, map.height),
                         bin_weights(roi.x, sampling.pooled_width, map.width), terms,
                         out + roi.index * roi_size);
    }
  });
}

template <class Acc, class T>
void forward_channels_first(const std::vector<Tensor>& features,
                            const std::vector<FeatureMap>& maps,
                            const std::vector<PlacedRoi<Acc>>& rois, const RoiSampling& sampling,
                            T* out) {
  const int64_t channels = features.front().size(1);
  const int64_t bins = sampling.pooled_height * sampling.pooled_width;
  std::vector<const T*> data;
  for (const Tensor& map : features) data.push_back(map.const_data_ptr<T>());
  const auto total = static_cast<int64_t>(rois.size());
  std::vector<PlaneWeights<Acc>> weights(std::min(rois.size(), size_t{kRoisPerPlane}));
  for (int64_t first = 0; first < total; first += kRoisPerPlane) {
    const int64_t count = std::min(kRoisPerPlane, total - first);
    for_each_piece(count, kRoisPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const PlacedRoi<Acc>& roi = rois[first + i];
        const FeatureMap& map = maps[roi.level];
        weights[i] = plane_weights(map, bin_weights(roi.y, sampling.pooled_height, map.height),
                                   bin_weights(roi.x, sampling.pooled_width, map.width));
      }
    });
    for_each_piece(channels, kPlanesPerPiece, [&](int64_t begin, int64_t end) {
      std::vector<Acc> lines;
      for (int64_t i = 0; i < count; ++i) {
        const PlacedRoi<Acc>& roi = rois[first + i];
        const FeatureMap& map = maps[roi.level];
        pool_channels_first(
            map, data[roi.level] + roi.image * map.batch_stride + begin * map.channel_stride,
            end - begin, sampling.pooled_width, weights[i], lines,
            out + (roi.index * channels + begin) * bins);
      }
    });
  }
}

// A gradient map of one level and image, and the RoIs that lie on it, in their order.
template <class Acc>
struct GradientMap {
  int64_t level;
  int64_t image;
  std::vector<PlacedRoi<Acc>> rois;
};

template <class Acc>
std::vector<GradientMap<Acc>> group_by_map(const std::vector<PlacedRoi<Acc>>& rois, int64_t levels,
                                           int64_t images) {
  std::vector<GradientMap<Acc>> maps;
  for (int64_t level = 0; level < levels; ++level) {
    for (int64_t image = 0; image < images; ++image) maps.push_back({level, image, {}});
  }
  for (const PlacedRoi<Acc>& roi : rois) {
    maps[roi.level * images + roi.image].rois.push_back(roi);
  }
  return maps;
}

template <class Acc>
struct PixelRoi {
  PixelWeights<Acc> y;
  PixelWeights<Acc> x;
};

// One image of one level: shares out blocks of rows and channels.
template <class Acc, class T>
void backward_channels_last(const FeatureMap& map, int64_t channels,
                            const std::vector<PlacedRoi<Acc>>& rois, const RoiSampling& sampling,
                            const T* grad, T* out) {
  const auto total = static_cast<int64_t>(rois.size());
  std::vector<PixelRoi<Acc>> weights(rois.size());
  for_each_piece(total, kRoisPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      weights[i] = {transpose(bin_weights(rois[i].y, sampling.pooled_height, map.height)),
                    transpose(bin_weights(rois[i].x, sampling.pooled_width, map.width))};
    }
  });
  const int64_t bins = sampling.pooled_height * sampling.pooled_width;
  const int64_t block_channels = std::min(channels, kBlockChannels);
  const int64_t row_bytes = map.width * block_channels * static_cast<int64_t>(sizeof(Acc));
  const int64_t block_rows = std::clamp<int64_t>(kBlockBytes / row_bytes, 1, map.height);
  const int64_t row_blocks = (map.height + block_rows - 1) / block_rows;
  const int64_t channel_blocks = (channels + block_channels - 1) / block_channels;
  for_each_piece(row_blocks * channel_blocks, 1, [&](int64_t piece, int64_t) {
    GradientBlock<Acc> block;
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
    } else {
      block.column_stride = block.channels;
      block.row_stride = map.width * block.channels;
      sums.resize((block.end_row - block.first_row) * block.row_stride);
      block.data = sums.data();
    }
    clear(block, map.width);
    Terms<Acc> terms;
    for (int64_t i = 0; i < total; ++i) {
      spread_channels_last(grad + rois[i].index * bins * channels, sampling.pooled_width, channels,
                           weights[i].y, weights[i].x, terms, block);
    }
    if constexpr (!std::is_same_v<T, Acc>) {
      round_block(block, map.width, corner, map.row_stride, map.column_stride);
    }
  });
}

// One image of one level: shares out channel planes.
template <class Acc, class T>
void backward_channels_first(const FeatureMap& map, int64_t channels,
                             const std::vector<PlacedRoi<Acc>>& rois, const RoiSampling& sampling,
                             const T* grad, T* out) {
  const auto total = static_cast<int64_t>(rois.size());
  std::vector<PlaneGradientWeights<Acc>> weights(rois.size());
  for_each_piece(total, kRoisPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      weights[i] = plane_gradient_weights(
          bin_weights(rois[i].y, sampling.pooled_height, map.height),
          bin_weights(rois[i].x, sampling.pooled_width, map.width), map.width);
    }
  });
  const int64_t pixels = map.height * map.width;
  const int64_t bins = sampling.pooled_height * sampling.pooled_width;
  for_each_piece(channels, 1, [&](int64_t channel, int64_t) {
    PlaneGradientScratch<Acc> scratch;
    std::vector<Acc> sums;
    T* plane = out + channel * pixels;
    Acc* target;
    if constexpr (std::is_same_v<T, Acc>) {
      target = plane;
      std::fill_n(target, pixels, Acc(0));
    } else {
      sums.resize(pixels);
      target = sums.data();
    }
    for (int64_t i = 0; i < total; ++i) {
      scratch.reserve(weights[i], sampling.pooled_height, sampling.pooled_width);
      spread_channels_first(grad + (rois[i].index * channels + channel) * bins,
                            sampling.pooled_height, sampling.pooled_width, map.width, weights[i],
                            scratch, target);
    }
    if constexpr (!std::is_same_v<T, Acc>) {
      for (int64_t i = 0; i < pixels; ++i) plane[i] = static_cast<T>(target[i]);
    }
  });
}

Tensor pool(std::vector<Tensor> features, const Tensor& rois, const std::vector<double>& scales,
            const PyramidRule& rule, const RoiSampling& sampling) {
  check_features(features, scales);
  check_rois(rois, features.front(), "features");
  check_sampling(scales, sampling);
  const Tensor& first = features.front();
  const bool channels_last = is_channels_last(first);
  std::vector<FeatureMap> maps;
  for (size_t i = 0; i < features.size(); ++i) {
    features[i] = uniform_layout(features[i], channels_last);
    maps.push_back(describe(features[i], scales[i]));
  }
  const Tensor boxes = uniform_rois(rois, first.scalar_type());
  Tensor out = empty_like_layout(
      first, {rois.size(0), first.size(1), sampling.pooled_height, sampling.pooled_width},
      first.scalar_type(), channels_last);
  dispatch_floating(first.scalar_type(), "features", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    auto placed = place_rois<Acc>(boxes, first.size(0), scales, rule, sampling);
    sort_by_place(placed);
    T* data = out.mutable_data_ptr<T>();
    prefer_huge_pages(data, static_cast<size_t>(out.numel()) * sizeof(T));
    if (channels_last) {
      forward_channels_last<Acc, T>(features, maps, placed, sampling, data);
    } else {
      forward_channels_first<Acc, T>(features, maps, placed, sampling, data);
    }
  });
  return out;
}

std::vector<Tensor> spread(const Tensor& grad, const Tensor& rois,
                           const std::vector<int64_t>& feature_sizes,
                           const std::vector<double>& scales, const PyramidRule& rule,
                           const RoiSampling& sampling, bool channels_last) {
  check_sampling(scales, sampling);
  check_rois(rois, grad, "grad");
  const ScalarType type = grad.scalar_type();
  const int64_t images = feature_sizes[0];
  const int64_t channels = feature_sizes[1];
  const Tensor pooled =
      torch::stable::contiguous(grad, channels_last ? MemoryFormat::ChannelsLast
                                                    : MemoryFormat::Contiguous);
  const Tensor boxes = uniform_rois(rois, type);
  std::vector<Tensor> out;
  for (size_t level = 0; level < scales.size(); ++level) {
    out.push_back(empty_like_layout(
        grad,
        {images, channels, feature_sizes[2 + 2 * level], feature_sizes[3 + 2 * level]}, type,
        channels_last));
  }
  dispatch_floating(type, "grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    const auto placed = place_rois<Acc>(boxes, images, scales, rule, sampling);
    const T* from = pooled.const_data_ptr<T>();
    for (const GradientMap<Acc>& group :
         group_by_map(placed, static_cast<int64_t>(scales.size()), images)) {
      const Tensor& gradient = out[static_cast<size_t>(group.level)];
      const FeatureMap map = describe(gradient, scales[group.level]);
      T* to = gradient.mutable_data_ptr<T>() + group.image * map.batch_stride;
      prefer_huge_pages(to, static_cast<size_t>(map.batch_stride) * sizeof(T));
      if (channels_last) {
        backward_channels_last(map, channels, group.rois, sampling, from, to);
      } else {
        backward_channels_first(map, channels, group.rois, sampling, from, to);
      }
    }
  });
  return out;
}

Tensor roi_align(const Tensor& input, const Tensor& rois, double spatial_scale,
                 int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                 bool aligned) {
  return pool({input}, rois, {spatial_scale}, PyramidRule{1.0, 0, 0},
              {pooled_height, pooled_width, sampling_ratio, aligned, 0.0});
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, std::vector<int64_t> input_size,
                          double spatial_scale, int64_t sampling_ratio, bool aligned,
                          bool channels_last, bool /*deterministic: it always is*/) {
  check_gradient(grad, rois, input_size, 1);
  return spread(grad, rois, input_size, {spatial_scale}, PyramidRule{1.0, 0, 0},
                {grad.size(2), grad.size(3), sampling_ratio, aligned, 0.0}, channels_last)
      .front();
}

Tensor multilevel_roi_align(std::vector<Tensor> features, const Tensor& rois,
                            std::vector<double> scales, int64_t pooled_height, int64_t pooled_width,
                            int64_t sampling_ratio, bool aligned, double canonical_size,
                            int64_t canonical_level, double box_end_offset) {
  STD_TORCH_CHECK(!scales.empty(), "scales: expected one per feature map, got none");
  return pool(std::move(features), rois, scales,
              make_pyramid_rule(scales, canonical_size, canonical_level),
              {pooled_height, pooled_width, sampling_ratio, aligned, box_end_offset});
}

std::vector<Tensor> multilevel_roi_align_backward(
    const Tensor& grad, const Tensor& rois, std::vector<int64_t> feature_sizes,
    std::vector<double> scales, int64_t sampling_ratio, bool aligned, double canonical_size,
    int64_t canonical_level, double box_end_offset, bool channels_last,
    bool /*deterministic: it always is*/) {
  STD_TORCH_CHECK(!scales.empty(), "scales: expected one per feature map, got none");
  check_gradient(grad, rois, feature_sizes, scales.size());
  return spread(grad, rois, feature_sizes, scales,
                make_pyramid_rule(scales, canonical_size, canonical_level),
                {grad.size(2), grad.size(3), sampling_ratio, aligned, box_end_offset},
                channels_last);
}

}  // namespace
}  // namespace maskrcnn

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&maskrcnn::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&maskrcnn::roi_align_backward));
  m.impl("multilevel_roi_align", TORCH_BOX(&maskrcnn::multilevel_roi_align));
  m.impl("multilevel_roi_align_backward", TORCH_BOX(&maskrcnn::multilevel_roi_align_backward));
}
