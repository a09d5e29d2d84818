// 3x3 convolution by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016, Fast Algorithms
// for Convolutional Neural Networks, arXiv:1509.09308): a tile of 4 x 4 results takes one product
// per channel pair at each of 36 "frequencies", where the plain sum takes 144.
//
// A worker takes a few tiles through all three steps, so that what lies between them stays in its
// cache: patches of the map to frequencies, one matrix product per frequency, back to pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/vectors.h"

namespace maskrcnn {

constexpr int kWinogradTile = 4, kWinogradPatch = 6, kFrequencies = 36;
constexpr int kPanel = 16;  // output channels that lie side by side in the weights

// A convolution with padding 1 of a dense channels_last map. Weights are (36, outputs / 16,
// channels, 16); channels and outputs are multiples of 16.
template <class T>
struct WinogradProblem {
  const T* input;
  const float* weight;
  const float* bias;  // (outputs), or null
  T* output;
  int64_t images, height, width, channels, outputs;
  bool relu;

  int64_t tiles_down() const { return (height + kWinogradTile - 1) / kWinogradTile; }
  int64_t tiles_across() const { return (width + kWinogradTile - 1) / kWinogradTile; }
  int64_t tiles() const { return images * tiles_down() * tiles_across(); }
};

#ifdef MASKRCNN_VECTORS

// Takes tiles through the steps with vectors of kCount floats.
template <class T, int kCount>
class WinogradWorker {
  using Lanes = maskrcnn::Lanes<float, kCount>;
  using Vector = typename Lanes::Vector;

  // Sums of kRows x 2 vectors, with the two weights and a factor, fill the vector registers.
  static constexpr int kRows = kCount == 16 ? 14 : 6;

 public:
  static constexpr int64_t kTiles = kCount == 16 ? kRows : 4 * kRows;

  MASKRCNN_INLINE explicit WinogradWorker(const WinogradProblem<T>& problem)
      : problem_(problem),
        in_stride_(kTiles * problem.channels + kSkew),
        out_stride_(kTiles * problem.outputs + kSkew),
        frequencies_(kFrequencies * in_stride_),
        products_(kFrequencies * out_stride_),
        zeros_(problem.channels) {}

  // Computes tiles [begin, end), at most kTiles.
  MASKRCNN_INLINE void run(int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) to_frequencies(tile, tile - begin);
    for (int64_t frequency = 0; frequency < kFrequencies; ++frequency) {
      multiply(frequency, (end - begin + kRows - 1) / kRows);
    }
    for (int64_t tile = begin; tile < end; ++tile) to_pixels(tile, tile - begin);
  }

 private:
  // Frequencies lie this many floats off a multiple of the cache's size, or they would all fall
  // into the same set of it.
  static constexpr int64_t kSkew = 16;

  struct Corner {
    int64_t image, y, x;
  };

  MASKRCNN_INLINE Corner corner(int64_t tile) const {
    const int64_t across = problem_.tiles_across(), down = problem_.tiles_down();
    return {tile / (across * down), tile / across % down * kWinogradTile,
            tile % across * kWinogradTile};
  }

  MASKRCNN_INLINE void to_frequencies(int64_t tile, int64_t row) {
    const Corner at = corner(tile);
    const T* pixels[kFrequencies];
    for (int64_t i = 0; i < kFrequencies; ++i) {
      const int64_t y = at.y + i / kWinogradPatch - 1, x = at.x + i % kWinogradPatch - 1;
      const bool inside = y >= 0 && y < problem_.height && x >= 0 && x < problem_.width;
      const int64_t pixel = (at.image * problem_.height + y) * problem_.width + x;
      pixels[i] = inside ? problem_.input + pixel * problem_.channels : zeros_.data();
    }
    float* to = frequencies_.data() + row * problem_.channels;
    for (int64_t c = 0; c < problem_.channels; c += kCount) {
      Vector half[kFrequencies];
      for (int x = 0; x < kWinogradPatch; ++x) {
        Vector column[kWinogradPatch];
        for (int y = 0; y < kWinogradPatch; ++y) {
          Lanes::load(pixels[y * kWinogradPatch + x] + c, column[y]);
        }
        analyse(column, half + x);
      }
      for (int y = 0; y < kWinogradPatch; ++y) {
        Vector values[kWinogradPatch * kWinogradPatch];
        analyse(half + y * kWinogradPatch, values);
        for (int x = 0; x < kWinogradPatch; ++x) {
          const int64_t frequency = y * kWinogradPatch + x;
          Lanes::store(values[x * kWinogradPatch], to + frequency * in_stride_ + c);
        }
      }
    }
  }

  // B^T x of the paper; results lie kWinogradPatch apart.
  static MASKRCNN_INLINE void analyse(const Vector* x, Vector* y) {
    const Vector even = x[4] - 4.0f * x[2], odd = x[3] - 4.0f * x[1];
    const Vector near_even = x[4] - x[2], near_odd = 2.0f * (x[3] - x[1]);
    y[0 * kWinogradPatch] = 4.0f * x[0] - 5.0f * x[2] + x[4];
    y[1 * kWinogradPatch] = even + odd;
    y[2 * kWinogradPatch] = even - odd;
    y[3 * kWinogradPatch] = near_even + near_odd;
    y[4 * kWinogradPatch] = near_even - near_odd;
    y[5 * kWinogradPatch] = 4.0f * x[1] - 5.0f * x[3] + x[5];
  }

  // (groups * kRows, channels) x (channels, outputs) at one frequency.
  MASKRCNN_INLINE void multiply(int64_t frequency, int64_t groups) {
    const int64_t channels = problem_.channels, outputs = problem_.outputs;
    const float* weight = problem_.weight + frequency * channels * outputs;
    const float* rows = frequencies_.data() + frequency * in_stride_;
    float* products = products_.data() + frequency * out_stride_;
    for (int64_t output = 0; output < outputs; output += 2 * kCount) {
      // where outputs end in half a pair, the second vector repeats the first
      const int64_t second = output + kCount < outputs ? output + kCount : output;
      for (int64_t group = 0; group < groups; ++group) {
        multiply_rows(rows + group * kRows * channels, weight + place(output),
                      weight + place(second), products + group * kRows * outputs + output,
                      second - output);
      }
    }
  }

  MASKRCNN_INLINE int64_t place(int64_t output) const {
    return output / kPanel * kPanel * problem_.channels + output % kPanel;
  }

  MASKRCNN_INLINE void multiply_rows(const float* rows, const float* first, const float* second,
                                     float* to, int64_t to_second) {
    const int64_t channels = problem_.channels;
    Vector sums[kRows][2] = {};
    for (int64_t c = 0; c < channels; ++c) {
      Vector a, b;
      Lanes::load(first + c * kPanel, a);
      Lanes::load(second + c * kPanel, b);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        const float factor = rows[row * channels + c];
        sums[row][0] += factor * a;
        sums[row][1] += factor * b;
      }
    }
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      Lanes::store(sums[row][0], to + row * problem_.outputs);
      Lanes::store(sums[row][1], to + row * problem_.outputs + to_second);
    }
  }

  MASKRCNN_INLINE void to_pixels(int64_t tile, int64_t row) {
    const Corner at = corner(tile);
    const float* from = products_.data() + row * problem_.outputs;
    for (int64_t c = 0; c < problem_.outputs; c += kCount) {
      Vector half[kWinogradTile * kWinogradPatch];
      for (int x = 0; x < kWinogradPatch; ++x) {
        Vector column[kWinogradPatch];
        for (int y = 0; y < kWinogradPatch; ++y) {
          Lanes::load(from + (y * kWinogradPatch + x) * out_stride_ + c, column[y]);
        }
        synthesise(column, half + x);
      }
      Vector shift = {};
      if (problem_.bias != nullptr) Lanes::load(problem_.bias + c, shift);
      for (int64_t y = 0; y < kWinogradTile && at.y + y < problem_.height; ++y) {
        Vector pixels[kWinogradTile * kWinogradPatch];
        synthesise(half + y * kWinogradPatch, pixels);
        for (int64_t x = 0; x < kWinogradTile && at.x + x < problem_.width; ++x) {
          Vector value = pixels[x * kWinogradPatch] + shift;
          if (problem_.relu) value = value < 0.0f ? Vector{} : value;  // NaN stays
          const int64_t pixel = (at.image * problem_.height + at.y + y) * problem_.width + at.x + x;
          Lanes::store(value, problem_.output + pixel * problem_.outputs + c);
        }
      }
    }
  }

  // A^T x of the paper; results lie kWinogradPatch apart.
  static MASKRCNN_INLINE void synthesise(const Vector* x, Vector* y) {
    const Vector near_sum = x[1] + x[2], near_difference = x[1] - x[2];
    const Vector far_sum = x[3] + x[4], far_difference = x[3] - x[4];
    y[0 * kWinogradPatch] = x[0] + near_sum + far_sum;
    y[1 * kWinogradPatch] = near_difference + 2.0f * far_difference;
    y[2 * kWinogradPatch] = near_sum + 4.0f * far_sum;
    y[3 * kWinogradPatch] = near_difference + 8.0f * far_difference + x[5];
  }

  const WinogradProblem<T>& problem_;
  int64_t in_stride_, out_stride_;
  std::vector<float> frequencies_, products_;
  std::vector<T> zeros_;
};

#endif

}  // namespace maskrcnn
