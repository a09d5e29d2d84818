// Non-maximum suppression on the CPU.
//
// Boxes are visited by descending score within their group. Each is compared with the boxes kept so
// far, which lie in separate arrays per coordinate, many at a time; the first one that overlaps it
// ends the search. A cheap test without division finds candidates, the exact one decides.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "common/box.h"
#include "common/nms_inputs.h"
#include "cpu/simd.h"

namespace {

using maskrcnn::Box;
using maskrcnn::check_nms;
using maskrcnn::NmsInputs;
using maskrcnn::NmsLimits;
using maskrcnn::with_data;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kBlock = 32;  // boxes tested between two looks at the result
// The cheap test may let a pair pass that the exact test rejects, never the reverse: rounding moves
// either side by a few units of the last place, far less than this.
constexpr double kSlack = 1e-5;

// Boxes kept so far, one array per coordinate, padded to whole blocks with boxes without area.
template <typename T>
class KeptBoxes {
 public:
  explicit KeptBoxes(int64_t capacity) : stride_((capacity + kBlock - 1) / kBlock * kBlock) {
    planes_.assign(5 * stride_, T(0));
  }
  void push(const Box<T>& box, T area) {
    T* planes = planes_.data() + size_++;
    planes[0] = box.x1;
    planes[stride_] = box.y1;
    planes[2 * stride_] = box.x2;
    planes[3 * stride_] = box.y2;
    planes[4 * stride_] = area;
  }
  Box<T> box(int64_t i) const {
    const T* planes = planes_.data() + i;
    return {planes[0], planes[stride_], planes[2 * stride_], planes[3 * stride_]};
  }
  T area(int64_t i) const { return planes_[4 * stride_ + i]; }
  const T* planes() const { return planes_.data(); }
  int64_t stride() const { return stride_; }
  int64_t size() const { return size_; }

 private:
  int64_t stride_;
  int64_t size_ = 0;
  std::vector<T> planes_;
};

// Returns the first block from `begin` on in which some box may overlap the given one, else `end`.
template <typename T, typename Flag>
MASKRCNN_ALWAYS_INLINE int64_t next_block(const T* planes, int64_t stride, int64_t begin,
                                          int64_t end, const Box<T>& box, T area, T limit) {
  const T x1 = box.x1, y1 = box.y1, x2 = box.x2, y2 = box.y2;
  for (int64_t block = begin; block < end; block += kBlock) {
    const T* kept = planes + block;
    Flag any = 0;
    for (int64_t i = 0; i < kBlock; ++i) {
      const T left = maskrcnn::larger(kept[i], x1);
      const T top = maskrcnn::larger(kept[stride + i], y1);
      const T right = maskrcnn::smaller(kept[2 * stride + i], x2);
      const T bottom = maskrcnn::smaller(kept[3 * stride + i], y2);
      const T width = maskrcnn::larger(right - left, T(0));
      const T height = maskrcnn::larger(bottom - top, T(0));
      const T intersection = width * height;
      const T bound = limit * (area + kept[4 * stride + i] - intersection);
      any |= intersection > bound ? Flag(1) : Flag(0);
    }
    if (any != 0) return block;
  }
  return end;
}

MASKRCNN_MULTIVERSION(int64_t, next_block_of, (next_block<float, int32_t>),
                      (const float* planes, int64_t stride, int64_t begin, int64_t end,
                       const Box<float>& box, float area, float limit),
                      (planes, stride, begin, end, box, area, limit))
MASKRCNN_MULTIVERSION(int64_t, next_block_of, (next_block<double, int64_t>),
                      (const double* planes, int64_t stride, int64_t begin, int64_t end,
                       const Box<double>& box, double area, double limit),
                      (planes, stride, begin, end, box, area, limit))

template <typename T>
bool suppressed(const KeptBoxes<T>& kept, const Box<T>& box, T area, double threshold) {
  const T limit = static_cast<T>(threshold * (1.0 - kSlack));
  int64_t block = 0;
  while ((block = next_block_of(kept.planes(), kept.stride(), block, kept.size(), box, area,
                                limit)) < kept.size()) {
    const int64_t end = std::min(block + kBlock, kept.size());
    for (int64_t i = block; i < end; ++i) {
      if (maskrcnn::overlaps(kept.box(i), kept.area(i), box, area, threshold)) return true;
    }
    block += kBlock;
  }
  return false;
}

// Stable sort of the values by their keys, ascending, one byte of the keys at a time.
template <typename Key>
void radix_sort(std::vector<Key>& keys, std::vector<int64_t>& values) {
  const int64_t n = static_cast<int64_t>(keys.size());
  std::vector<std::array<int64_t, 256>> counts(sizeof(Key));
  for (auto& count : counts) count.fill(0);
  for (const Key key : keys) {
    for (size_t byte = 0; byte < sizeof(Key); ++byte) ++counts[byte][(key >> (8 * byte)) & 0xff];
  }
  std::vector<Key> sorted_keys(n);
  std::vector<int64_t> sorted_values(n);
  for (size_t byte = 0; byte < sizeof(Key); ++byte) {
    auto& places = counts[byte];
    if (n == 0 || places[(keys[0] >> (8 * byte)) & 0xff] == n) continue;  // all the same
    int64_t place = 0;
    for (int64_t& entry : places) place += std::exchange(entry, place);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t target = places[(keys[i] >> (8 * byte)) & 0xff]++;
      sorted_keys[target] = keys[i];
      sorted_values[target] = values[i];
    }
    keys.swap(sorted_keys);
    values.swap(sorted_values);
  }
}

// Maps a score to an unsigned integer such that higher scores give smaller integers.
template <typename T>
auto descending_key(T score) {
  using Key = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr Key kSign = Key(1) << (8 * sizeof(Key) - 1);
  const T zero_without_sign = score + T(0);
  Key bits;
  std::memcpy(&bits, &zero_without_sign, sizeof(Key));
  return static_cast<Key>((bits & kSign) ? bits : ~(bits | kSign));
}

// An entry without a box: its score is -inf (or NaN).
template <typename T>
bool is_padding(T score) {
  return !(score > -std::numeric_limits<T>::infinity());
}

// Indices by descending score, ties by index. Entries that are padding are left out.
template <typename T>
std::vector<int64_t> order_by_score(const T* scores, int64_t n, bool leave_out_padding) {
  std::vector<int64_t> order;
  std::vector<decltype(descending_key(T(0)))> keys;
  order.reserve(n);
  keys.reserve(n);
  for (int64_t i = 0; i < n; ++i) {
    if (leave_out_padding && is_padding(scores[i])) continue;
    order.push_back(i);
    keys.push_back(descending_key(scores[i]));
  }
  radix_sort(keys, order);
  return order;
}

// Ranks (places in `order`) sorted by group, and within a group ascending; and where groups end.
struct GroupedRanks {
  std::vector<int64_t> ranks;
  std::vector<int64_t> ends;
};

GroupedRanks sort_by_group(const std::vector<int64_t>& order, const int64_t* groups) {
  const int64_t n = static_cast<int64_t>(order.size());
  GroupedRanks grouped;
  grouped.ranks.resize(n);
  std::iota(grouped.ranks.begin(), grouped.ranks.end(), int64_t(0));
  if (groups != nullptr) {
    std::vector<uint64_t> keys(n);
    for (int64_t rank = 0; rank < n; ++rank)
      keys[rank] = static_cast<uint64_t>(groups[order[rank]]);
    radix_sort(keys, grouped.ranks);
    for (int64_t i = 1; i < n; ++i) {
      if (keys[i] != keys[i - 1]) grouped.ends.push_back(i);
    }
  }
  if (n > 0) grouped.ends.push_back(n);
  return grouped;
}

// Marks those of the ranks of one group that survive, `most` of them at most.
template <typename T>
void suppress_group(const Box<T>* boxes, const std::vector<int64_t>& order, const int64_t* ranks,
                    int64_t n, double threshold, int64_t most, uint8_t* survives) {
  KeptBoxes<T> kept(std::min(n, most));
  for (int64_t i = 0; i < n && kept.size() < most; ++i) {
    const Box<T>& box = boxes[order[ranks[i]]];
    const T area = maskrcnn::box_area(box);
    if (suppressed(kept, box, area, threshold)) continue;
    kept.push(box, area);
    survives[ranks[i]] = 1;
  }
}

template <typename T>
std::vector<int64_t> keep_indices(const Box<T>* boxes, const std::vector<int64_t>& order,
                                  const int64_t* groups, double threshold, int64_t max_output,
                                  int64_t max_per_group) {
  const GroupedRanks grouped = sort_by_group(order, groups);
  std::vector<uint8_t> survives(order.size(), 0);
  const int64_t most = std::min(max_output, max_per_group);
  torch::stable::parallel_for(
      0, static_cast<int64_t>(grouped.ends.size()), 1, [&](int64_t first, int64_t last) {
        for (int64_t group = first; group < last; ++group) {
          const int64_t begin = group == 0 ? 0 : grouped.ends[group - 1];
          suppress_group(boxes, order, grouped.ranks.data() + begin, grouped.ends[group] - begin,
                         threshold, most, survives.data());
        }
      });
  std::vector<int64_t> keep;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    if (survives[rank] == 0) continue;
    if (static_cast<int64_t>(keep.size()) == max_output) break;
    keep.push_back(order[rank]);
  }
  return keep;
}

void check_values(const NmsInputs& inputs, bool leave_out_padding) {
  with_data(inputs.scores, [&](auto* scores) {
    with_data(inputs.boxes, [&](auto* boxes) {
      for (int64_t i = 0; i < inputs.rows * inputs.n; ++i) {
        STD_TORCH_CHECK(leave_out_padding || scores[i] == scores[i],
                        "scores must not be NaN, but score ", i, " is");
        if (leave_out_padding && is_padding(scores[i])) continue;
        for (int64_t k = 4 * i; k < 4 * i + 4; ++k) {
          STD_TORCH_CHECK(boxes[k] - boxes[k] == 0, "boxes must be finite, but coordinate ", k % 4,
                          " of box ", i, " is ", boxes[k]);
        }
      }
    });
  });
}

std::vector<int64_t> keep_of_row(const NmsInputs& inputs, int64_t row, double threshold,
                                 const NmsLimits& limits) {
  const int64_t first = row * inputs.n;
  const std::vector<int64_t> order = with_data(inputs.scores, [&](auto* scores) {
    return order_by_score(scores + first, inputs.n, limits.leave_out_padding);
  });
  const int64_t* groups =
      inputs.groups.has_value() ? inputs.groups->const_data_ptr<int64_t>() + first : nullptr;
  return with_data(inputs.boxes, [&](auto* coordinates) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(coordinates)>>;
    const auto* boxes = reinterpret_cast<const Box<T>*>(coordinates) + first;
    return keep_indices(boxes, order, groups, threshold, limits.max_output, limits.max_per_group);
  });
}

Tensor keep_all(const NmsInputs& inputs, double threshold) {
  check_values(inputs, false);
  const std::vector<int64_t> keep = keep_of_row(inputs, 0, threshold, NmsLimits::none());
  Tensor result = torch::stable::new_empty(inputs.scores, {static_cast<int64_t>(keep.size())},
                                           ScalarType::Long);
  std::copy(keep.begin(), keep.end(), result.mutable_data_ptr<int64_t>());
  return result;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return keep_all(check_nms(boxes, scores, std::nullopt, 1, iou_threshold), iou_threshold);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                   double iou_threshold) {
  return keep_all(check_nms(boxes, scores, groups, 1, iou_threshold), iou_threshold);
}

std::tuple<Tensor, Tensor> batched_nms_fixed(const Tensor& boxes, const Tensor& scores,
                                             const Tensor& groups, double iou_threshold,
                                             int64_t max_output, int64_t max_per_group) {
  const NmsInputs inputs = check_nms(boxes, scores, groups, 2, iou_threshold);
  const NmsLimits limits = NmsLimits::padded(max_output, max_per_group);
  check_values(inputs, true);
  Tensor indices =
      torch::stable::new_zeros(inputs.scores, {inputs.rows, max_output}, ScalarType::Long);
  Tensor counts = torch::stable::new_zeros(inputs.scores, {inputs.rows}, ScalarType::Long);
  int64_t* out = indices.mutable_data_ptr<int64_t>();
  int64_t* count = counts.mutable_data_ptr<int64_t>();
  torch::stable::parallel_for(0, inputs.rows, 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const std::vector<int64_t> keep = keep_of_row(inputs, row, iou_threshold, limits);
      std::copy(keep.begin(), keep.end(), out + row * max_output);
      count[row] = static_cast<int64_t>(keep.size());
    }
  });
  return {indices, counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
  m.impl("batched_nms_fixed", TORCH_BOX(&batched_nms_fixed));
}
