// Position-sensitive RoI pooling on the CPU, of whole pixels or of samples, forward and backward.
//
// Both are weighted sums over rows and columns of the map, with weights that are the product of one
// per axis. Forward shares out RoIs among threads. Backward shares out bins: no two bins read the
// same channel, so each number of the gradient has one owner, which adds in the order of the RoIs.

#include <torch/csrc/stable/library.h>

#include <vector>

#include "common/dispatch.h"
#include "common/ps_roi_arguments.h"
#include "common/whole_pixels.h"
#include "cpu/placed_rois.h"

namespace maskrcnn {
namespace {

// A RoI as weights of pixels per bin, along each axis.
template <class Acc>
struct Footprint {
  int64_t image;
  AxisWeights<Acc> y;
  AxisWeights<Acc> x;
};

template <class Acc>
AxisWeights<Acc> even_weights(const WholeAxis<Acc>& axis, int64_t bins, int64_t size) {
  AxisWeights<Acc> weights;
  for (int64_t bin = 0; bin < bins; ++bin) {
    const PixelRange range = pixels_of_bin(axis, bin, size);
    for (int64_t at = range.begin; at < range.end; ++at) {
      weights.add(at, Acc(1) / static_cast<Acc>(range.size()));
    }
    weights.end_row();
  }
  return weights;
}

template <class Acc>
Footprint<Acc> footprint(const PlacedRoi<Acc>& roi, const Acc* row, const RoiProblem& problem,
                         bool interpolate) {
  if (interpolate) return {roi.image, weights_y(roi, problem), weights_x(roi, problem)};
  const WholeRoi<Acc> whole = place_whole_roi(row, problem);
  const FeatureMap& map = problem.maps[0];
  return {whole.image, even_weights(whole.y, problem.sampling.pooled_height, map.height),
          even_weights(whole.x, problem.sampling.pooled_width, map.width)};
}

// Calls body(offset of a row of the map, its weight) for the rows that a bin reads.
template <class Acc, class Body>
void for_each_row(const AxisWeights<Acc>& y, int64_t bin, const FeatureMap& map, const Body& body) {
  for (int32_t i = y.begin[bin]; i < y.begin[bin + 1]; ++i) {
    body(y.index[i] * map.row_stride, y.weight[i]);
  }
}

template <class T, class Acc>
void pool_roi(const Footprint<Acc>& roi, const RoiProblem& problem, const T* features, T* out) {
  const FeatureMap& map = problem.maps[0];
  const T* image = features + roi.image * map.batch_stride;
  for (int64_t channel = 0; channel < problem.channels; ++channel) {
    for (int64_t bin_y = 0; bin_y < problem.sampling.pooled_height; ++bin_y) {
      for (int64_t bin_x = 0; bin_x < problem.sampling.pooled_width; ++bin_x) {
        Acc sum = 0;
        for_each_row(roi.y, bin_y, map, [&](int64_t row, Acc weight) {
          Acc of_row = 0;
          for (int32_t j = roi.x.begin[bin_x]; j < roi.x.begin[bin_x + 1]; ++j) {
            const T value = image[row + roi.x.index[j] * map.column_stride];
            of_row += roi.x.weight[j] * static_cast<Acc>(value);
          }
          sum += weight * of_row;
        });
        *out++ = static_cast<T>(sum);
        image += map.channel_stride;
      }
    }
  }
}

// Adds what the bins [begin, end) of one RoI contribute.
template <class T, class Acc>
void spread_bins(const Footprint<Acc>& roi, const RoiProblem& problem, int64_t begin, int64_t end,
                 const T* grad, Acc* gradient) {
  const FeatureMap& map = problem.maps[0];
  Acc* image = gradient + roi.image * map.batch_stride;
  for (int64_t bin = begin; bin < end; ++bin) {
    const int64_t bin_y = bin / problem.sampling.pooled_width;
    const int64_t bin_x = bin % problem.sampling.pooled_width;
    for (int64_t channel = bin; channel < problem.channels * problem.bins();
         channel += problem.bins()) {
      Acc* plane = image + channel * map.channel_stride;
      for_each_row(roi.y, bin_y, map, [&](int64_t row, Acc weight) {
        const Acc value = weight * static_cast<Acc>(grad[channel]);
        for (int32_t j = roi.x.begin[bin_x]; j < roi.x.begin[bin_x + 1]; ++j) {
          plane[row + roi.x.index[j] * map.column_stride] += roi.x.weight[j] * value;
        }
      });
    }
  }
}

Tensor ps_roi_pool(const Tensor& input, const Tensor& rois, double spatial_scale,
                   int64_t pooled_height, int64_t pooled_width, int64_t sampling_ratio,
                   bool interpolate) {
  const PsForwardInputs inputs = ps_forward_inputs(
      input, rois, spatial_scale, ps_sampling(pooled_height, pooled_width, sampling_ratio));
  const RoiProblem& problem = inputs.problem;
  dispatch_floating(input.scalar_type(), "input", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    const auto placed = place_rois<Acc>(inputs.rois, problem);
    const Acc* rows = inputs.rois.template const_data_ptr<Acc>();
    const T* features = inputs.features.template const_data_ptr<T>();
    T* out = inputs.out.template mutable_data_ptr<T>();
    const int64_t length = problem.channels * problem.bins();
    for_each_piece(problem.rois, kRoisPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto roi = footprint(placed[i], rows + 5 * i, problem, interpolate);
        pool_roi<T, Acc>(roi, problem, features, out + i * length);
      }
    });
  });
  return inputs.out;
}

Tensor ps_roi_pool_backward(const Tensor& grad, const Tensor& rois, std::vector<int64_t> input_size,
                            double spatial_scale, int64_t sampling_ratio, bool interpolate,
                            bool channels_last, bool /*deterministic: it always is*/) {
  const PsBackwardInputs inputs =
      ps_backward_inputs(grad, rois, input_size, spatial_scale, sampling_ratio, channels_last);
  const RoiProblem& problem = inputs.problem;
  dispatch_floating(grad.scalar_type(), "grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = typename Arithmetic<T>::type;
    const Acc* rows = inputs.rois.template const_data_ptr<Acc>();
    std::vector<Footprint<Acc>> footprints;
    for (const PlacedRoi<Acc>& roi : place_rois<Acc>(inputs.rois, problem)) {
      footprints.push_back(footprint(roi, rows + 5 * roi.index, problem, interpolate));
    }
    const T* from = inputs.grad.template const_data_ptr<T>();
    Acc* gradient = inputs.gradient.template mutable_data_ptr<Acc>();
    const int64_t length = problem.channels * problem.bins();
    for_each_piece(problem.bins(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < problem.rois; ++i) {
        spread_bins<T, Acc>(footprints[i], problem, begin, end, from + i * length, gradient);
      }
    });
  });
  return torch::stable::to(inputs.gradient, grad.scalar_type());
}

}  // namespace
}  // namespace maskrcnn

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("ps_roi_pool", TORCH_BOX(&maskrcnn::ps_roi_pool));
  m.impl("ps_roi_pool_backward", TORCH_BOX(&maskrcnn::ps_roi_pool_backward));
}
