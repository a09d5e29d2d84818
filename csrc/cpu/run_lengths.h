// Run lengths of masks as they are being found.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

namespace maskrcnn {

// Lengths of alternating runs of zeros and ones in column-major order, zeros first.
class RunLengths {
 public:
  explicit RunLengths(std::vector<int64_t>& runs) : runs_(runs) {}
  // Ones in [begin, end); intervals come in order.
  void add(int64_t begin, int64_t end) {
    if (begin == position_ && !runs_.empty()) {
      runs_.back() += end - begin;
    } else {
      runs_.push_back(begin - position_);
      runs_.push_back(end - begin);
    }
    position_ = end;
  }
  void finish(int64_t pixels) {
    if (position_ < pixels || runs_.empty()) runs_.push_back(pixels - position_);
  }

 private:
  std::vector<int64_t>& runs_;
  int64_t position_ = 0;
};

// The runs of all masks one after another, and the offsets at which each mask's begin: int64, on
// the device of `like`.
inline std::tuple<torch::stable::Tensor, torch::stable::Tensor> join_runs(
    const std::vector<std::vector<int64_t>>& runs, const torch::stable::Tensor& like) {
  using torch::headeronly::ScalarType;
  const auto count = static_cast<int64_t>(runs.size());
  auto offsets = torch::stable::new_empty(like, {count + 1}, ScalarType::Long);
  auto* offset = offsets.template mutable_data_ptr<int64_t>();
  offset[0] = 0;
  for (int64_t i = 0; i < count; ++i) {
    offset[i + 1] = offset[i] + static_cast<int64_t>(runs[i].size());
  }
  auto joined = torch::stable::new_empty(like, {offset[count]}, ScalarType::Long);
  auto* out = joined.template mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) std::copy(runs[i].begin(), runs[i].end(), out + offset[i]);
  return {joined, offsets};
}

}  // namespace maskrcnn
