// RoIAlign on maps whose columns lie side by side, one channel plane after the other. Vectors run
// along the columns of a RoI, first over the rows (Y F), then across the columns (X^T).

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "cpu/placed_rois.h"
#include "cpu/roi_align.h"
#include "cpu/weighted_sum.h"

namespace maskrcnn {
namespace {

constexpr int64_t kRoisPerPlane = 1024;  // RoIs that go over a channel plane in a row
constexpr int64_t kPlanesPerPiece = 4;
// Bins of a row are padded to a multiple of this.
#ifdef MASKRCNN_VECTORS
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 1;
#endif

// Columns that a RoI touches, widened so that vectors are full where the map is wide enough.
struct ColumnWindow {
  int64_t first = 0;
  int64_t count = 0;
};

template <class Acc>
ColumnWindow column_window(const AxisWeights<Acc>& x, int64_t width) {
  if (x.index.empty()) return {};
  const auto [low, high] = std::minmax_element(x.index.begin(), x.index.end());
  constexpr int64_t kVector = 64 / sizeof(Acc);
  const int64_t touched = *high - *low + 1;
  const int64_t padded = (touched + kVector - 1) / kVector * kVector;
  if (padded > width) return {*low, touched};
  return {std::min<int64_t>(*low, width - padded), padded};
}

// Weights of a RoI for all its channel planes.
template <class Acc>
struct PlaneWeights {
  AxisWeights<Acc> y;            // rows of the map per bin
  std::vector<int64_t> offset;   // of the window in these rows, from the start of the plane
  int64_t window;                // columns
  std::vector<int32_t> columns;  // columns of the window that have weights
  std::vector<Acc> weight;       // (columns, lanes): weight of a column in each bin
  int64_t lanes;
};

template <class Acc>
PlaneWeights<Acc> plane_weights(const FeatureMap& map, AxisWeights<Acc> y,
                                const AxisWeights<Acc>& x) {
  const ColumnWindow window = column_window(x, map.width);
  PlaneWeights<Acc> plane{std::move(y), {}, window.count, {}, {}, 0};
  for (int32_t row : plane.y.index) plane.offset.push_back(row * map.row_stride + window.first);
  plane.lanes = (x.rows() + kLanes - 1) / kLanes * kLanes;
  const PixelWeights<Acc> by_column = transpose(x);
  plane.weight.resize(by_column.pixel.size() * static_cast<size_t>(plane.lanes));
  for (size_t i = 0; i < by_column.pixel.size(); ++i) {
    plane.columns.push_back(by_column.pixel[i] - static_cast<int32_t>(window.first));
    for (int32_t j = by_column.weights.begin[i]; j < by_column.weights.begin[i + 1]; ++j) {
      plane.weight[i * plane.lanes + by_column.weights.index[j]] += by_column.weights.weight[j];
    }
  }
  return plane;
}

// Pools `kRows` rows of bins, from bin_y on, of one plane. lines: memory for kRows x window
// numbers. Whole vectors are written, which may reach into bins that are written later, but not
// beyond `end`, the end of this plane's bins.
template <int kVectorBytes, int kRows, class Acc, class T>
MASKRCNN_INLINE inline void pool_rows(const T* base, const PlaneWeights<Acc>& plane, int64_t bin_y,
                                      int64_t bins_x, Acc* lines, T* out, T* end) {
  using Vectors = Lanes<Acc, kLanes>;
  for (int row = 0; row < kRows; ++row) {
    const int64_t begin = plane.y.begin[bin_y + row];
    weighted_sum<kVectorBytes, false>(
        base, plane.offset.data() + begin, plane.y.weight.data() + begin,
        plane.y.begin[bin_y + row + 1] - begin, plane.window, lines + row * plane.window);
  }
  const auto columns = static_cast<int64_t>(plane.columns.size());
  for (int64_t lane = plane.lanes - kLanes; lane >= 0; lane -= kLanes) {
    typename Vectors::Vector sum[kRows] = {};
    const Acc* weight = plane.weight.data() + lane;
    for (int64_t i = 0; i < columns; ++i, weight += plane.lanes) {
      typename Vectors::Vector weights;
      Vectors::load(weight, weights);
      const Acc* column = lines + plane.columns[i];
      for (int row = 0; row < kRows; ++row) sum[row] += column[row * plane.window] * weights;
    }
    for (int row = 0; row < kRows; ++row) {
      T* to = out + row * bins_x + lane;
      if (to + kLanes <= end) {
        Vectors::store(sum[row], to);
      } else {
        Acc part[kLanes];
        Vectors::store(sum[row], part);
        for (int64_t j = 0; j < bins_x - lane; ++j) to[j] = static_cast<T>(part[j]);
      }
    }
  }
}

// Forward of one RoI on `channels` planes. image: the first plane; out: (channels, bins y, bins_x).
template <class Acc, class T>
void pool_roi(const FeatureMap& map, const T* image, int64_t channels, int64_t bins_x,
              const PlaneWeights<Acc>& plane, std::vector<Acc>& lines, T* out) {
  constexpr int kRows = 4;
  const int64_t bins_y = plane.y.rows();
  lines.resize(std::max(lines.size(), static_cast<size_t>(kRows * plane.window)));
  run_simd([&](auto bytes) MASKRCNN_INLINE {
    for (int64_t channel = 0; channel < channels; ++channel) {
      const T* base = image + channel * map.channel_stride;
      T* end = out + bins_y * bins_x;
      int64_t bin_y = 0;
      for (; bin_y + kRows <= bins_y; bin_y += kRows, out += kRows * bins_x) {
        pool_rows<bytes(), kRows>(base, plane, bin_y, bins_x, lines.data(), out, end);
      }
      for (; bin_y < bins_y; ++bin_y, out += bins_x) {
        pool_rows<bytes(), 1>(base, plane, bin_y, bins_x, lines.data(), out, end);
      }
    }
  });
}

// Weights of a RoI for the gradient of all its channel planes.
template <class Acc>
struct PlaneGradientWeights {
  PixelWeights<Acc> y;
  ColumnWindow window;
  std::vector<Acc> weight;  // (bins_x, window): weight of a bin in each column
};

template <class Acc>
PlaneGradientWeights<Acc> plane_gradient_weights(const AxisWeights<Acc>& y,
                                                 const AxisWeights<Acc>& x, int64_t width) {
  PlaneGradientWeights<Acc> plane;
  plane.y = transpose(y);
  plane.window = column_window(x, width);
  plane.weight.resize(static_cast<size_t>(x.rows() * plane.window.count));
  for (int64_t bin = 0; bin < x.rows(); ++bin) {
    for (int32_t j = x.begin[bin]; j < x.begin[bin + 1]; ++j) {
      plane.weight[bin * plane.window.count + x.index[j] - plane.window.first] += x.weight[j];
    }
  }
  return plane;
}

template <class Acc>
struct PlaneGradientScratch {
  std::vector<int64_t> offset;
  std::vector<Acc> grad;   // one row of bins
  std::vector<Acc> lines;  // (bins y, window)

  void reserve(const PlaneGradientWeights<Acc>& plane, int64_t bins_y, int64_t bins_x) {
    const auto window = static_cast<size_t>(bins_y * plane.window.count);
    if (offset.size() < static_cast<size_t>(bins_y + bins_x)) offset.resize(bins_y + bins_x);
    if (grad.size() < static_cast<size_t>(bins_x)) grad.resize(bins_x);
    if (lines.size() < window) lines.resize(window);
  }
};

// Backward of one RoI into one plane. grad: (bins_y, bins_x) of this RoI and channel; plane_grad:
// (height, width) with rows row_stride apart.
template <class Acc, class T>
void spread_roi(const T* grad, int64_t bins_y, int64_t bins_x, int64_t row_stride,
                const PlaneGradientWeights<Acc>& plane, PlaneGradientScratch<Acc>& scratch,
                Acc* plane_grad) {
  const int64_t window = plane.window.count;
  int64_t* offset = scratch.offset.data();
  run_simd([&](auto bytes) MASKRCNN_INLINE {
    for (int64_t bin_x = 0; bin_x < bins_x; ++bin_x) offset[bin_x] = bin_x * window;
    for (int64_t bin_y = 0; bin_y < bins_y; ++bin_y) {
      for (int64_t bin_x = 0; bin_x < bins_x; ++bin_x) {
        scratch.grad[bin_x] = static_cast<Acc>(grad[bin_y * bins_x + bin_x]);
      }
      weighted_sum<bytes(), false>(plane.weight.data(), offset, scratch.grad.data(), bins_x, window,
                                   scratch.lines.data() + bin_y * window);
    }
    const AxisWeights<Acc>& y = plane.y.weights;
    for (int64_t i = 0; i < y.rows(); ++i) {
      const int64_t begin = y.begin[i];
      const int64_t count = y.begin[i + 1] - begin;
      for (int64_t j = 0; j < count; ++j) offset[j] = y.index[begin + j] * window;
      weighted_sum<bytes(), true>(scratch.lines.data(), offset, y.weight.data() + begin, count,
                                  window,
                                  plane_grad + plane.y.pixel[i] * row_stride + plane.window.first);
    }
  });
}

// Fetches what a RoI will read of `channels` planes: its lines are too short for the processor to
// foresee. image: the first plane.
template <class Acc, class T>
MASKRCNN_INLINE inline void prefetch_roi(const FeatureMap& map, const T* image, int64_t channels,
                                         const PlaneWeights<Acc>& plane) {
  constexpr int64_t kLine = 64 / sizeof(T);  // of the cache
  for (int64_t channel = 0; channel < channels; ++channel) {
    const T* base = image + channel * map.channel_stride;
    int64_t fetched = -1;
    for (int64_t offset : plane.offset) {
      if (offset <= fetched) continue;  // neighbouring bins share rows
      fetched = offset;
      for (int64_t i = 0; i < plane.window; i += kLine) prefetch(base + offset + i);
      prefetch(base + offset + plane.window - 1);
    }
  }
}

// Levels whose planes the RoIs read so few times over that fetching ahead pays.
template <class Acc>
std::array<bool, kMostLevels> sparse_levels(const RoiProblem& problem, const PlacedRoi<Acc>* rois,
                                            const std::vector<PlaneWeights<Acc>>& weights) {
  constexpr int64_t kManyTimes = 8;
  std::array<int64_t, kMostLevels> read{};
  for (size_t i = 0; i < weights.size(); ++i) {
    read[rois[i].level] += static_cast<int64_t>(weights[i].offset.size()) * weights[i].window;
  }
  std::array<bool, kMostLevels> sparse{};
  for (int64_t level = 0; level < problem.levels; ++level) {
    const FeatureMap& map = problem.maps[level];
    sparse[level] = read[level] < kManyTimes * map.height * map.width * problem.images;
  }
  return sparse;
}

// Forward of up to kRoisPerPlane RoIs from `rois` on: shares out channels.
template <class Acc, class T>
void pool_planes(const RoiProblem& problem, const PlacedRoi<Acc>* rois, int64_t count,
                 const std::vector<const T*>& data, T* out) {
  std::vector<PlaneWeights<Acc>> weights(static_cast<size_t>(count));
  for_each_piece(count, kRoisPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      weights[i] = plane_weights(problem.maps[rois[i].level], weights_y(rois[i], problem),
                                 weights_x(rois[i], problem));
    }
  });
  const auto sparse = sparse_levels(problem, rois, weights);
  for_each_piece(problem.channels, kPlanesPerPiece, [&](int64_t begin, int64_t end) {
    const auto planes = [&](const PlacedRoi<Acc>& roi) {
      const FeatureMap& map = problem.maps[roi.level];
      return data[roi.level] + roi.image * map.batch_stride + begin * map.channel_stride;
    };
    std::vector<Acc> lines;
    for (int64_t i = 0; i < count; ++i) {
      if (i + 1 < count && sparse[rois[i + 1].level]) {
        prefetch_roi(problem.maps[rois[i + 1].level], planes(rois[i + 1]), end - begin,
                     weights[i + 1]);
      }
      pool_roi(problem.maps[rois[i].level], planes(rois[i]), end - begin,
               problem.sampling.pooled_width, weights[i], lines,
               out + (rois[i].index * problem.channels + begin) * problem.bins());
    }
  });
}

// Backward of one image of one level: shares out channel planes. grad: (K, channels, bins).
template <class Acc, class T>
void spread_map(const RoiProblem& problem, const FeatureMap& map,
                const std::vector<PlacedRoi<Acc>>& rois, const T* grad, T* out) {
  const auto count = static_cast<int64_t>(rois.size());
  std::vector<PlaneGradientWeights<Acc>> weights(rois.size());
  for_each_piece(count, kRoisPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      weights[i] = plane_gradient_weights(weights_y(rois[i], problem), weights_x(rois[i], problem),
                                          map.width);
    }
  });
  const RoiSampling& sampling = problem.sampling;
  const int64_t pixels = map.height * map.width;
  for_each_piece(problem.channels, 1, [&](int64_t channel, int64_t) {
    PlaneGradientScratch<Acc> scratch;
    T* plane = out + channel * pixels;
    std::vector<Acc> sums;
    Acc* target;
    if constexpr (std::is_same_v<T, Acc>) {
      target = plane;
      std::fill_n(target, pixels, Acc(0));
    } else {  // sums in full precision, rounded once
      sums.resize(pixels);
      target = sums.data();
    }
    for (int64_t i = 0; i < count; ++i) {
      scratch.reserve(weights[i], sampling.pooled_height, sampling.pooled_width);
      spread_roi(grad + (rois[i].index * problem.channels + channel) * problem.bins(),
                 sampling.pooled_height, sampling.pooled_width, map.width, weights[i], scratch,
                 target);
    }
    if constexpr (!std::is_same_v<T, Acc>) {
      for (int64_t i = 0; i < pixels; ++i) plane[i] = static_cast<T>(target[i]);
    }
  });
}

}  // namespace

void pool_channels_first(const ForwardInputs& inputs) {
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
    for (int64_t first = 0; first < problem.rois; first += kRoisPerPlane) {
      pool_planes(problem, rois.data() + first, std::min(kRoisPerPlane, problem.rois - first), data,
                  out);
    }
  });
}

void spread_channels_first(const BackwardInputs& inputs) {
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
