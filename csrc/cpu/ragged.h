// Detections and objects in groups: those of one image and category are compared with each other.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/parallel.h"

namespace maskrcnn {

constexpr int64_t kGroupsPerPiece = 64;

inline torch::stable::Tensor check_vector(const torch::stable::Tensor& tensor,
                                          torch::headeronly::ScalarType type, int64_t length,
                                          const char* what) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.dim() == 1 && tensor.scalar_type() == type &&
                      (length < 0 || tensor.size(0) == length),
                  what);
  return torch::stable::contiguous(tensor);
}

// Offsets (C + 1,) int64 of C groups: group c has the entries from offset c to offset c + 1.
inline std::vector<int64_t> read_offsets(const torch::stable::Tensor& offsets) {
  const auto packed = check_vector(offsets, torch::headeronly::ScalarType::Long, -1,
                                   "offsets must be int64 of shape (C + 1,) on the CPU");
  const auto* values = packed.const_data_ptr<int64_t>();
  std::vector<int64_t> result(values, values + packed.size(0));
  STD_TORCH_CHECK(!result.empty() && result[0] == 0 && std::is_sorted(result.begin(), result.end()),
                  "offsets must ascend from 0");
  return result;
}

// Which detections and objects belong to each of C groups, and where the group's pairs begin in a
// list of all pairs: group by group, a row of objects for each detection.
class Groups {
 public:
  Groups(const torch::stable::Tensor& detection_offsets,
         const torch::stable::Tensor& object_offsets)
      : detections_(read_offsets(detection_offsets)), objects_(read_offsets(object_offsets)) {
    STD_TORCH_CHECK(detections_.size() == objects_.size(),
                    "detections and objects must have the same number of groups");
    pairs_.reserve(detections_.size());
    pairs_.push_back(0);
    for (int64_t c = 0; c < count(); ++c) {
      pairs_.push_back(pairs_.back() + detections(c) * objects(c));
    }
  }

  int64_t count() const { return static_cast<int64_t>(detections_.size()) - 1; }
  int64_t first_detection(int64_t c) const { return detections_[c]; }
  int64_t first_object(int64_t c) const { return objects_[c]; }
  int64_t first_pair(int64_t c) const { return pairs_[c]; }
  int64_t detections(int64_t c) const { return detections_[c + 1] - detections_[c]; }
  int64_t objects(int64_t c) const { return objects_[c + 1] - objects_[c]; }
  int64_t all_detections() const { return detections_.back(); }
  int64_t all_objects() const { return objects_.back(); }
  int64_t all_pairs() const { return pairs_.back(); }

  // Calls body(c, scratch) for each group on torch's threads; `scratch` is one thread's own.
  template <class Scratch, class Body>
  void for_each(const Scratch& fresh, const Body& body) const {
    for_each_piece(count(), kGroupsPerPiece, [&](int64_t begin, int64_t end) {
      Scratch scratch = fresh;
      for (int64_t c = begin; c < end; ++c) body(c, scratch);
    });
  }

 private:
  std::vector<int64_t> detections_, objects_, pairs_;
};

}  // namespace maskrcnn
