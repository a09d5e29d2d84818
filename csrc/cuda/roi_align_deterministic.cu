// Backward of RoIAlign whose sums have a fixed order: every tile of a gradient map is summed by one
// block, RoI after RoI.
//
// Which RoIs touch which tile is noted in one bit per pair, so that neither the host nor a sort is
// needed. Per RoI and tile the weights are two small matrices, as on the CPU (cpu/roi_weights.h).

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "common/dispatch.h"
#include "cuda/launch.h"
#include "cuda/roi_align_deterministic.h"
#include "cuda/roi_sample.cuh"

namespace maskrcnn {
namespace {

constexpr int kTile = 8;  // pixels along each side
constexpr int kPixels = kTile * kTile;
constexpr int kSumBytes = 32 << 10;         // shared memory for the sums of a tile
constexpr int64_t kSharedBytes = 48 << 10;  // shared memory of a block, everywhere
constexpr int64_t kMostChannelBlocks = 65535;
constexpr int kThreads = 256;
constexpr int kWordBits = 32;

// Rows and columns of a map that a RoI touches, [begin, end); wider rather than too narrow, because
// samples up to one pixel outside the map count for its edge.
struct Touched {
  int32_t level;  // -1: none
  int32_t image;
  int32_t begin_y, end_y, begin_x, end_x;
};

template <class Acc>
__device__ void touch(const RoiAxis<Acc>& axis, int64_t bins, int64_t size, int32_t* begin,
                      int32_t* end) {
  const double start = static_cast<double>(axis.start);
  const double stop = start + static_cast<double>(bins) * static_cast<double>(axis.bin);
  const double low = floor(fmin(start, stop)) - 1;
  const double high = ceil(fmax(start, stop)) + 2;
  const double limit = static_cast<double>(size);
  *begin = static_cast<int32_t>(fmin(fmax(low, 0.0), limit));
  *end = static_cast<int32_t>(fmin(fmax(high, 0.0), limit));
}

template <class Acc>
__global__ void find_touched(const __grid_constant__ RoiProblem problem, const Acc* rois,
                             Touched* touched) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       index < problem.rois; index += step) {
    Touched result{-1, 0, 0, 0, 0, 0};
    const Acc* row = rois + 5 * index;
    if (is_valid(row, problem)) {
      const PlacedRoi<Acc> roi = place_roi(row, index, problem);
      const FeatureMap& map = problem.maps[roi.level];
      result.level = static_cast<int32_t>(roi.level);
      result.image = static_cast<int32_t>(roi.image);
      touch(roi.y, problem.sampling.pooled_height, map.height, &result.begin_y, &result.end_y);
      touch(roi.x, problem.sampling.pooled_width, map.width, &result.begin_x, &result.end_x);
    }
    touched[index] = result;
  }
}

// Tiles of the maps of one level, counted through all images.
struct Tiling {
  int64_t level;
  int64_t tiles_y;
  int64_t tiles_x;
  int64_t tiles;  // of all images
  int64_t words;  // per tile, one bit per RoI
};

struct Tile {
  int64_t image;
  int64_t y;  // first pixel
  int64_t x;
};

__device__ inline Tile locate_tile(int64_t index, const Tiling& tiling) {
  const int64_t line = index / tiling.tiles_x;
  return {line / tiling.tiles_y, line % tiling.tiles_y * kTile,
          (index - line * tiling.tiles_x) * kTile};
}

// One thread per word.
__global__ void mark_tiles(Tiling tiling, int64_t rois, const Touched* touched, uint32_t* marks) {
  const int64_t total = tiling.tiles * tiling.words;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < total;
       item += step) {
    const int64_t index = item / tiling.words;
    const Tile tile = locate_tile(index, tiling);
    const int64_t first = (item - index * tiling.words) * kWordBits;
    uint32_t word = 0;
    for (int bit = 0; bit < kWordBits && first + bit < rois; ++bit) {
      const Touched roi = touched[first + bit];
      const bool meets = roi.level == tiling.level && roi.image == tile.image &&
                         roi.begin_y < tile.y + kTile && roi.end_y > tile.y &&
                         roi.begin_x < tile.x + kTile && roi.end_x > tile.x;
      word |= static_cast<uint32_t>(meets) << bit;
    }
    marks[item] = word;
  }
}

// Weights of one bin for the pixels first .. first + kTile - 1 along one axis.
template <class Acc>
__device__ void tile_weights(const RoiAxis<Acc>& axis, int64_t bin, int64_t size, int64_t first,
                             Acc* weights) {
  for (int i = 0; i < kTile; ++i) weights[i] = Acc(0);
  if (axis.grid == 0) return;
  // Samples outside the map count for its edge, so the tiles at the edges look one pixel further.
  const SampleRange range = samples_within(axis, bin, static_cast<double>(first) - 1.0,
                                           static_cast<double>(first + kTile) + 1.0);
  const Acc share = Acc(1) / static_cast<Acc>(axis.grid);
  for (int64_t sample = range.begin; sample < range.end; ++sample) {
    BilinearTap<Acc> tap;
    if (!bilinear_tap(sample_position(axis, bin, sample), size, &tap)) continue;
    const int64_t low = tap.low - first;
    const int64_t high = tap.high - first;
    if (low >= 0 && low < kTile) weights[low] += tap.low_weight * share;
    if (high >= 0 && high < kTile) weights[high] += tap.high_weight * share;
  }
}

// Sums the gradient of one tile; block: x tiles, y channels. One thread per channel.
// grad: element (roi, channel, bin) at roi * channels * bins + channel * channel_stride +
// bin * bin_stride.
template <class T, class Acc>
__global__ void sum_tiles(const __grid_constant__ RoiProblem problem, Tiling tiling,
                          const uint32_t* marks, const Acc* rois, const T* grad,
                          int64_t channel_stride, int64_t bin_stride, T* gradient) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int64_t bins_y = problem.sampling.pooled_height;
  const int64_t bins_x = problem.sampling.pooled_width;
  Acc* sums = reinterpret_cast<Acc*>(shared);    // (kPixels, threads)
  Acc* weights_y = sums + kPixels * blockDim.x;  // (bins_y, kTile)
  Acc* weights_x = weights_y + bins_y * kTile;   // (bins_x, kTile)
  const FeatureMap& map = problem.maps[tiling.level];
  for (int64_t index = blockIdx.x; index < tiling.tiles; index += gridDim.x) {
    const Tile tile = locate_tile(index, tiling);
    for (int64_t first = static_cast<int64_t>(blockIdx.y) * blockDim.x; first < problem.channels;
         first += static_cast<int64_t>(gridDim.y) * blockDim.x) {
      const int64_t channel = first + threadIdx.x;
      Acc* sum = sums + threadIdx.x;
      for (int pixel = 0; pixel < kPixels; ++pixel) sum[pixel * blockDim.x] = Acc(0);
      for (int64_t word = 0; word < tiling.words; ++word) {
        uint32_t bits = marks[index * tiling.words + word];
        while (bits != 0) {
          const int64_t roi_index = word * kWordBits + __ffs(static_cast<int>(bits)) - 1;
          bits &= bits - 1;
          const PlacedRoi<Acc> roi = place_roi(rois + 5 * roi_index, roi_index, problem);
          __syncthreads();  // the weights of the RoI before are no longer in use
          for (int64_t i = threadIdx.x; i < bins_y + bins_x; i += blockDim.x) {
            if (i < bins_y) {
              tile_weights(roi.y, i, map.height, tile.y, weights_y + i * kTile);
            } else {
              tile_weights(roi.x, i - bins_y, map.width, tile.x, weights_x + (i - bins_y) * kTile);
            }
          }
          __syncthreads();
          if (channel >= problem.channels) continue;
          const T* from =
              grad + roi_index * problem.channels * problem.bins() + channel * channel_stride;
          for (int64_t bin_y = 0; bin_y < bins_y; ++bin_y) {
            for (int y = 0; y < kTile; ++y) {
              const Acc weight_y = weights_y[bin_y * kTile + y];
              if (weight_y == Acc(0)) continue;
              for (int64_t bin_x = 0; bin_x < bins_x; ++bin_x) {
                const Acc value = static_cast<Acc>(from[(bin_y * bins_x + bin_x) * bin_stride]);
                for (int x = 0; x < kTile; ++x) {
                  const Acc weight_x = weights_x[bin_x * kTile + x];
                  if (weight_x == Acc(0)) continue;
                  sum[(y * kTile + x) * blockDim.x] += weight_y * weight_x * value;
                }
              }
            }
          }
        }
      }
      if (channel >= problem.channels) continue;
      T* to = gradient + tile.image * map.batch_stride + channel * map.channel_stride;
      for (int pixel = 0; pixel < kPixels; ++pixel) {
        const int64_t y = tile.y + pixel / kTile;
        const int64_t x = tile.x + pixel % kTile;
        if (y >= map.height || x >= map.width) continue;
        to[y * map.row_stride + x * map.column_stride] = static_cast<T>(sum[pixel * blockDim.x]);
      }
    }
  }
}

template <class T, class Acc>
void sum_level(const BackwardInputs& inputs, int64_t level, const Touched* touched,
               cudaStream_t stream) {
  const RoiProblem& problem = inputs.problem;
  const FeatureMap& map = problem.maps[level];
  const int64_t tiles_y = (map.height + kTile - 1) / kTile;
  const int64_t tiles_x = (map.width + kTile - 1) / kTile;
  const Tiling tiling{level, tiles_y, tiles_x, problem.images * tiles_y * tiles_x,
                      (problem.rois + kWordBits - 1) / kWordBits};
  if (tiling.tiles == 0 || problem.channels == 0) return;
  Tensor marks =
      torch::stable::new_empty(inputs.grad, {tiling.tiles * tiling.words + 1}, ScalarType::Int);
  auto* words = reinterpret_cast<uint32_t*>(marks.mutable_data_ptr<int32_t>());
  mark_tiles<<<blocks_for(tiling.tiles * tiling.words, kThreads), kThreads, 0, stream>>>(
      tiling, problem.rois, touched, words);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  constexpr int64_t kChannels = kSumBytes / (kPixels * sizeof(Acc));
  const int64_t weights =
      (problem.sampling.pooled_height + problem.sampling.pooled_width) * kTile * sizeof(Acc);
  STD_TORCH_CHECK(kSumBytes + weights <= kSharedBytes,
                  "output_size: too large for a deterministic gradient on CUDA");
  const int64_t channel_blocks =
      std::min((problem.channels + kChannels - 1) / kChannels, kMostChannelBlocks);
  const dim3 grid(blocks_for(tiling.tiles, 1), static_cast<unsigned int>(channel_blocks));
  const bool last = inputs.channels_last;
  sum_tiles<T, Acc><<<grid, kChannels, kSumBytes + weights, stream>>>(
      problem, tiling, words, inputs.rois.template const_data_ptr<Acc>(),
      inputs.grad.template const_data_ptr<T>(), last ? 1 : problem.bins(),
      last ? problem.channels : 1, inputs.gradients[level].template mutable_data_ptr<T>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

void spread_in_order(const BackwardInputs& inputs, cudaStream_t stream) {
  const RoiProblem& problem = inputs.problem;
  constexpr int64_t kNumbers = sizeof(Touched) / sizeof(int32_t);
  Tensor touched =
      torch::stable::new_empty(inputs.grad, {problem.rois * kNumbers + 1}, ScalarType::Int);
  auto* ranges = reinterpret_cast<Touched*>(touched.mutable_data_ptr<int32_t>());
  dispatch_floating(inputs.grad.scalar_type(), "grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    find_touched<Acc><<<blocks_for(problem.rois, kThreads), kThreads, 0, stream>>>(
        problem, inputs.rois.template const_data_ptr<Acc>(), ranges);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    for (int64_t level = 0; level < problem.levels; ++level) {
      sum_level<T, Acc>(inputs, level, ranges, stream);
    }
  });
}

}  // namespace maskrcnn
