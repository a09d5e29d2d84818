// Run lengths to the compressed text in which COCO stores them.
//
// From the fourth run on, the difference to the run two places before is stored. A number is cut
// into groups of five bits, lowest first; a sixth bit says that more follow, and the last group's
// highest bit is the sign. Each group plus 48 is a printable character.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>
#include <vector>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kGroupBits = 5;
constexpr int64_t kGroupMask = (1 << kGroupBits) - 1;
constexpr int64_t kSignBit = 1 << (kGroupBits - 1);
constexpr int64_t kMoreBit = 1 << kGroupBits;
constexpr int64_t kFirstCharacter = 48;
constexpr int64_t kFirstDifference = 3;

void append(int64_t number, std::vector<uint8_t>& text) {
  bool more = true;
  while (more) {
    const int64_t group = number & kGroupMask;
    number >>= kGroupBits;
    more = number != ((group & kSignBit) != 0 ? -1 : 0);
    text.push_back(static_cast<uint8_t>(kFirstCharacter + group + (more ? kMoreBit : 0)));
  }
}

std::tuple<Tensor, Tensor> compress_rle(const Tensor& runs, const Tensor& offsets) {
  STD_TORCH_CHECK(runs.dim() == 1 && runs.scalar_type() == ScalarType::Long && runs.is_cpu(),
                  "runs must be int64 of shape (R,) on the CPU");
  STD_TORCH_CHECK(offsets.dim() == 1 && offsets.size(0) > 0 && offsets.is_cpu() &&
                      offsets.scalar_type() == ScalarType::Long,
                  "offsets must be int64 of shape (N + 1,) on the CPU");
  const Tensor packed_runs = torch::stable::contiguous(runs);
  const Tensor packed_offsets = torch::stable::contiguous(offsets);
  const auto* run = packed_runs.const_data_ptr<int64_t>();
  const auto* offset = packed_offsets.const_data_ptr<int64_t>();
  const int64_t masks = offsets.size(0) - 1;
  STD_TORCH_CHECK(
      offset[0] == 0 && offset[masks] == runs.size(0) && std::is_sorted(offset, offset + masks + 1),
      "offsets must ascend from 0 to the number of runs");

  std::vector<uint8_t> text;
  text.reserve(2 * runs.size(0));
  Tensor ends = torch::stable::new_empty(packed_offsets, {masks + 1});
  auto* end = ends.mutable_data_ptr<int64_t>();
  end[0] = 0;
  for (int64_t i = 0; i < masks; ++i) {
    const int64_t* lengths = run + offset[i];
    for (int64_t k = 0; k < offset[i + 1] - offset[i]; ++k) {
      STD_TORCH_CHECK(lengths[k] >= 0, "runs must not be negative, but run ", offset[i] + k, " is ",
                      lengths[k]);
      append(k < kFirstDifference ? lengths[k] : lengths[k] - lengths[k - 2], text);
    }
    end[i + 1] = static_cast<int64_t>(text.size());
  }
  Tensor characters =
      torch::stable::new_empty(packed_runs, {static_cast<int64_t>(text.size())}, ScalarType::Byte);
  std::copy(text.begin(), text.end(), characters.mutable_data_ptr<uint8_t>());
  return {characters, ends};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) { m.impl("compress_rle", TORCH_BOX(&compress_rle)); }
