// RoIs of an operator call, examined and brought into an order to work in.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/memory.h"
#include "common/parallel.h"
#include "common/roi_arguments.h"
#include "cpu/roi_weights.h"

namespace maskrcnn {

constexpr int64_t kRoisPerPiece = 16;

template <class Acc>
std::vector<PlacedRoi<Acc>> place_rois(const Tensor& rois, const RoiProblem& problem) {
  const Acc* row = rois.const_data_ptr<Acc>();
  std::vector<PlacedRoi<Acc>> placed;
  placed.reserve(static_cast<size_t>(problem.rois));
  for (int64_t index = 0; index < problem.rois; ++index, row += 5) {
    for (int column = 0; column < 5; ++column) {
      STD_TORCH_CHECK(std::isfinite(row[column]), "rois[", index, ", ", column,
                      "]: expected a finite number, got ", row[column]);
    }
    STD_TORCH_CHECK(row[0] >= 0 && row[0] < static_cast<Acc>(problem.images), "rois[", index,
                    ", 0]: the batch index ", row[0], " is outside [0, ", problem.images, ")");
    placed.push_back(place_roi(row, index, problem));
  }
  return placed;
}

// By level and image, then from top to bottom.
template <class Acc>
void sort_by_place(std::vector<PlacedRoi<Acc>>& rois) {
  std::sort(rois.begin(), rois.end(), [](const PlacedRoi<Acc>& a, const PlacedRoi<Acc>& b) {
    if (a.level != b.level) return a.level < b.level;
    if (a.image != b.image) return a.image < b.image;
    if (a.y.start != b.y.start) return a.y.start < b.y.start;
    return a.index < b.index;
  });
}

template <class Acc>
AxisWeights<Acc> weights_y(const PlacedRoi<Acc>& roi, const RoiProblem& problem) {
  return bin_weights(roi.y, problem.sampling.pooled_height, problem.maps[roi.level].height);
}

template <class Acc>
AxisWeights<Acc> weights_x(const PlacedRoi<Acc>& roi, const RoiProblem& problem) {
  return bin_weights(roi.x, problem.sampling.pooled_width, problem.maps[roi.level].width);
}

// Calls body(level, data of the gradient map, RoIs on it in their order) for each image and level.
template <class T, class Acc, class Body>
void for_each_gradient_map(const BackwardInputs& inputs, const Body& body) {
  const RoiProblem& problem = inputs.problem;
  std::vector<std::vector<PlacedRoi<Acc>>> groups(problem.levels * problem.images);
  for (const PlacedRoi<Acc>& roi : place_rois<Acc>(inputs.rois, problem)) {
    groups[roi.level * problem.images + roi.image].push_back(roi);
  }
  for (int64_t level = 0; level < problem.levels; ++level) {
    const Tensor& gradient = inputs.gradients[level];
    T* data = gradient.mutable_data_ptr<T>();
    prefer_huge_pages(data, static_cast<size_t>(gradient.numel()) * sizeof(T));
    for (int64_t image = 0; image < problem.images; ++image) {
      body(problem.maps[level], data + image * problem.maps[level].batch_stride,
           groups[level * problem.images + image]);
    }
  }
}

}  // namespace maskrcnn
