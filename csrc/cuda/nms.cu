// Non-maximum suppression on the GPU, for all rows of a batch at once, without host
// synchronisation.
//
// Boxes are sorted by score, then by group, both stably: groups lie side by side, each by
// descending score. They are visited in chunks, which bounds the memory. In a chunk, boxes that
// overlap a kept box of an earlier chunk are removed; a bit matrix of the overlaps within the chunk
// is computed; and one block per row walks through it, 64 boxes at a time. What survives is listed
// by score.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <tuple>

#include "common/box.h"
#include "common/nms_inputs.h"
#include "cuda/launch.h"

namespace {

using maskrcnn::blocks_for;
using maskrcnn::Box;
using maskrcnn::NmsInputs;
using maskrcnn::NmsLimits;
using maskrcnn::with_data;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

using Bits = unsigned long long;

constexpr int kWord = 64;        // boxes per word of the bit matrix
constexpr int kThreads = 256;    // of most kernels
constexpr int kTile = kThreads;  // earlier boxes that a block looks at together
constexpr int kMostSlices = 64;  // blocks that share the earlier boxes of one group of candidates
constexpr int kSelectThreads = 1024;
constexpr int kWarp = 32;
constexpr int kLargestChunk = 4096;
constexpr int kSmallestChunk = 512;
constexpr int kMostWords = kLargestChunk / kWord;
constexpr int64_t kMatrixBytes = int64_t(64) << 20;  // wanted size of the bit matrices of all rows
constexpr int64_t kMostRows = 65535;                 // what the third dimension of a grid holds

static_assert(kSmallestChunk % kTile == 0, "tiles of earlier boxes are full");

__device__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

template <typename T>
__device__ bool is_finite(const Box<T>& box) {
  const T zero = (box.x1 - box.x1) + (box.y1 - box.y1) + (box.x2 - box.x2) + (box.y2 - box.y2);
  return zero == T(0);
}

// Keys to sort by, and which entries are boxes. Without padding a NaN is a mistake of the caller.
template <typename T, typename S>
__global__ void prepare(const Box<T>* boxes, const S* scores, int64_t entries, bool padded,
                        S lowest, S* keys, uint8_t* usable, int64_t* mistakes) {
  for (int64_t i = global_thread(); i < entries; i += grid_threads()) {
    const S score = scores[i];
    const bool good = is_finite(boxes[i]) && (padded ? score > lowest : score == score);
    usable[i] = good;
    keys[i] = good ? score + S(0) : lowest;  // + 0 turns -0 into 0, which is equal to it
    if (!good && !padded) *mistakes = 1;
  }
}

__global__ void gather_groups(const int64_t* groups, const int64_t* order, int64_t n,
                              int64_t entries, int64_t* by_rank) {
  for (int64_t i = global_thread(); i < entries; i += grid_threads()) {
    by_rank[i] = groups[i / n * n + order[i]];
  }
}

// Boxes in the order in which they are visited. `ranks` may be null: then rank = place.
template <typename T>
__global__ void gather_boxes(const Box<T>* boxes, const uint8_t* usable, const int64_t* order,
                             const int64_t* ranks, int64_t n, int64_t entries, Box<T>* visited,
                             uint8_t* removed) {
  for (int64_t i = global_thread(); i < entries; i += grid_threads()) {
    const int64_t row = i / n * n;
    const int64_t rank = ranks == nullptr ? i : row + ranks[i];
    const int64_t source = row + order[rank];
    visited[i] = boxes[source];
    removed[i] = !usable[source];
  }
}

// A chunk of the visited boxes: [first, first + size) of each row of n.
struct Chunk {
  int64_t n, first;
  int size;
};

// Removes boxes of the chunk that overlap a kept box before the chunk. Block (x, y, z): candidates
// x of row z against every gridDim.y-th tile of earlier boxes.
template <typename T>
__global__ void suppress_by_earlier(const Box<T>* boxes, const int64_t* groups, Chunk chunk,
                                    double threshold, uint8_t* removed) {
  __shared__ Box<T> tile_boxes[kTile];
  __shared__ int64_t tile_groups[kTile];
  __shared__ bool tile_kept[kTile];
  const int64_t row = static_cast<int64_t>(blockIdx.z) * chunk.n;
  const int64_t block_first = row + chunk.first + static_cast<int64_t>(blockIdx.x) * blockDim.x;
  const int64_t self = block_first + threadIdx.x;
  bool searching = self < row + chunk.first + chunk.size && removed[self] == 0;
  Box<T> box{};
  int64_t group = 0;
  if (searching) {
    box = boxes[self];
    if (groups != nullptr) group = groups[self];
  }
  const T area = box_area(box);
  bool suppressed = false;
  const int64_t stride = static_cast<int64_t>(gridDim.y) * kTile;
  for (int64_t tile = static_cast<int64_t>(blockIdx.y) * kTile; tile < chunk.first;
       tile += stride) {
    // Groups ascend: no box of the tile is of a group that the candidates have.
    if (groups != nullptr && groups[row + tile + kTile - 1] < groups[block_first]) continue;
    __syncthreads();
    const int64_t earlier = row + tile + threadIdx.x;
    tile_boxes[threadIdx.x] = boxes[earlier];
    tile_groups[threadIdx.x] = groups == nullptr ? 0 : groups[earlier];
    tile_kept[threadIdx.x] = removed[earlier] == 0;
    __syncthreads();
    for (int i = 0; i < kTile && searching; ++i) {
      if (tile_kept[i] && tile_groups[i] == group &&
          overlaps(tile_boxes[i], box_area(tile_boxes[i]), box, area, threshold)) {
        suppressed = true;
        searching = false;
      }
    }
  }
  if (suppressed) removed[self] = 1;
}

// Bit j of word w of box i of the chunk: i overlaps box w * 64 + j, which comes later. Words before
// i's own are not written. Block (x, y, z): 64 columns x, 64 rows y of the matrix of row z.
template <typename T>
__global__ void overlap_matrix(const Box<T>* boxes, const int64_t* groups, Chunk chunk, int words,
                               double threshold, Bits* matrix) {
  const int column_word = blockIdx.x, row_word = blockIdx.y;
  if (column_word < row_word) return;
  __shared__ Box<T> column_boxes[kWord];
  __shared__ int64_t column_groups[kWord];
  const int64_t start = static_cast<int64_t>(blockIdx.z) * chunk.n + chunk.first;
  const int lane = threadIdx.x;
  const int columns = min(kWord, chunk.size - column_word * kWord);
  if (lane < columns) {
    column_boxes[lane] = boxes[start + column_word * kWord + lane];
    column_groups[lane] = groups == nullptr ? 0 : groups[start + column_word * kWord + lane];
  }
  __syncthreads();
  const int self = row_word * kWord + lane;
  if (self >= chunk.size) return;
  const Box<T> box = boxes[start + self];
  const T area = box_area(box);
  const int64_t group = groups == nullptr ? 0 : groups[start + self];
  Bits word = 0;
  for (int i = row_word == column_word ? lane + 1 : 0; i < columns; ++i) {
    if (column_groups[i] == group &&
        overlaps(box, area, column_boxes[i], box_area(column_boxes[i]), threshold)) {
      word |= Bits(1) << i;
    }
  }
  matrix[(static_cast<int64_t>(blockIdx.z) * chunk.size + self) * words + column_word] = word;
}

// How many boxes of the latest group of a row are kept.
struct Tally {
  int64_t group, kept;
};

// Of 64 boxes, those that are kept; one thread's work. `gone` has a bit for each that is not.
__device__ Bits keep_of_word(Bits gone, const Bits* overlaps_in_word, const int64_t* groups,
                             int count, int64_t most_per_group, Tally& tally) {
  Bits kept = 0;
  Bits left = ~gone;
  if (count < kWord) left &= (Bits(1) << count) - 1;
  while (left != 0) {
    const int i = __ffsll(static_cast<long long>(left)) - 1;
    left &= left - 1;
    if (groups[i] != tally.group) tally = {groups[i], 0};
    if (tally.kept >= most_per_group) continue;
    ++tally.kept;
    kept |= Bits(1) << i;
    left &= ~overlaps_in_word[i];
  }
  return kept;
}

// Walks through the chunk of row blockIdx.x and marks what is not kept as removed.
__global__ void resolve(const Bits* matrix, const int64_t* groups, Chunk chunk, int words,
                        int64_t most_per_group, Tally* tallies, uint8_t* removed) {
  __shared__ Bits gone[kMostWords];
  __shared__ Bits diagonal[kWord];
  __shared__ int64_t word_groups[kWord];
  __shared__ Bits kept;
  const int64_t start = blockIdx.x * chunk.n + chunk.first;
  const Bits* rows = matrix + static_cast<int64_t>(blockIdx.x) * chunk.size * words;
  const int thread = threadIdx.x;
  for (int w = thread; w < words; w += kThreads) gone[w] = 0;
  __syncthreads();
  for (int i = thread; i < chunk.size; i += kThreads) {
    if (removed[start + i] != 0) atomicOr(&gone[i / kWord], Bits(1) << (i % kWord));
  }
  Tally tally = tallies[blockIdx.x];
  Bits next_diagonal = 0;  // of the next word's box `thread`, on the way while this one is walked
  int64_t next_group = 0;
  const auto fetch_word = [&](int word) {
    const int box = word * kWord + thread;
    if (thread >= kWord || box >= chunk.size) return;
    next_diagonal = rows[static_cast<int64_t>(box) * words + word];
    if (groups != nullptr) next_group = groups[start + box];
  };
  fetch_word(0);
  for (int word = 0; word < words; ++word) {
    const int first = word * kWord;
    const int count = min(kWord, chunk.size - first);
    if (thread < count) {
      diagonal[thread] = next_diagonal;
      word_groups[thread] = next_group;
    }
    __syncthreads();
    fetch_word(word + 1);
    if (thread == 0) {
      kept = keep_of_word(gone[word], diagonal, word_groups, count, most_per_group, tally);
    }
    __syncthreads();
    // Each later word collects the overlaps of the kept boxes, four threads per word.
    const Bits kept_here = kept;
    const int later = word + 1 + thread % kWord;
    constexpr int kShare = kWord * kWord / kThreads;
    if (later < words) {
      Bits overlapped = 0;
      const int share_first = thread / kWord * kShare;
      for (int i = share_first; i < share_first + kShare; ++i) {
        if ((kept_here >> i & 1) != 0) {
          overlapped |= rows[static_cast<int64_t>(first + i) * words + later];
        }
      }
      if (overlapped != 0) atomicOr(&gone[later], overlapped);
    }
    if (thread < count) removed[start + first + thread] = (kept_here >> thread & 1) == 0;
    __syncthreads();
  }
  if (thread == 0) tallies[blockIdx.x] = tally;
}

__global__ void mark_survivors(const uint8_t* removed, const int64_t* ranks, int64_t n,
                               int64_t entries, uint8_t* survives) {
  for (int64_t i = global_thread(); i < entries; i += grid_threads()) {
    survives[ranks == nullptr ? i : i / n * n + ranks[i]] = removed[i] == 0;
  }
}

// Lists the survivors of row blockIdx.x by rank, `max_output` at most.
__global__ void list_survivors(const uint8_t* survives, const int64_t* order, int64_t n,
                               int64_t max_output, int64_t* indices, int64_t* counts) {
  __shared__ int warp_counts[kSelectThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t row = blockIdx.x * n;
  int64_t total = 0;
  for (int64_t start = 0; start < n && total < max_output; start += kSelectThreads) {
    const int64_t rank = start + threadIdx.x;
    const bool listed = rank < n && survives[row + rank] != 0;
    const unsigned int votes = __ballot_sync(0xffffffffu, listed);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1)), here = 0;
    for (int i = 0; i < kSelectThreads / kWarp; ++i) {
      if (i < warp) before += warp_counts[i];
      here += warp_counts[i];
    }
    if (listed && total + before < max_output) {
      indices[blockIdx.x * max_output + total + before] = order[row + rank];
    }
    total += here;
    __syncthreads();
  }
  if (threadIdx.x == 0) counts[blockIdx.x] = min(total, max_output);
}

// What the kernels work on; rows x n entries each.
struct Visit {
  Tensor order;                                // index by rank (place by descending score)
  std::optional<Tensor> ranks, sorted_groups;  // by place in which boxes are visited
  Tensor boxes, removed;                       // likewise
};

Tensor flags_like(const Tensor& tensor, int64_t entries) {
  return torch::stable::new_empty(tensor, {entries}, ScalarType::Byte);
}

Visit sort_boxes(const NmsInputs& inputs, bool padded, int64_t* mistakes, cudaStream_t stream) {
  const int64_t entries = inputs.rows * inputs.n;
  const unsigned int blocks = blocks_for(entries, kThreads);
  const Tensor keys =
      torch::stable::new_empty(inputs.scores, {inputs.rows, inputs.n}, inputs.scores.scalar_type());
  const Tensor usable = flags_like(inputs.scores, entries);
  const auto* usable_data = usable.const_data_ptr<uint8_t>();
  with_data(inputs.boxes, [&](auto* coordinates) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(coordinates)>>;
    with_data(inputs.scores, [&](auto* scores) {
      using S = std::remove_cv_t<std::remove_pointer_t<decltype(scores)>>;
      prepare<T, S><<<blocks, kThreads, 0, stream>>>(
          reinterpret_cast<const Box<T>*>(coordinates), scores, entries, padded,
          -std::numeric_limits<S>::infinity(), keys.mutable_data_ptr<S>(),
          usable.mutable_data_ptr<uint8_t>(), mistakes);
    });
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();

  Visit visit{std::get<1>(maskrcnn::stable_sort(keys, true)), std::nullopt, std::nullopt,
              torch::stable::new_empty(inputs.boxes, {entries, 4}, inputs.boxes.scalar_type()),
              flags_like(inputs.scores, entries)};
  const auto* order = visit.order.const_data_ptr<int64_t>();
  if (inputs.groups.has_value()) {
    const Tensor by_rank =
        torch::stable::new_empty(*inputs.groups, {inputs.rows, inputs.n}, ScalarType::Long);
    gather_groups<<<blocks, kThreads, 0, stream>>>(inputs.groups->const_data_ptr<int64_t>(), order,
                                                   inputs.n, entries,
                                                   by_rank.mutable_data_ptr<int64_t>());
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    std::tie(visit.sorted_groups, visit.ranks) = maskrcnn::stable_sort(by_rank, false);
  }
  const auto* ranks = visit.ranks.has_value() ? visit.ranks->const_data_ptr<int64_t>() : nullptr;
  with_data(inputs.boxes, [&](auto* coordinates) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(coordinates)>>;
    gather_boxes<T><<<blocks, kThreads, 0, stream>>>(
        reinterpret_cast<const Box<T>*>(coordinates), usable_data, order, ranks, inputs.n, entries,
        static_cast<Box<T>*>(visit.boxes.mutable_data_ptr()),
        visit.removed.mutable_data_ptr<uint8_t>());
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return visit;
}

int choose_chunk(int64_t rows, int64_t n) {
  int64_t chunk = kLargestChunk;
  while (chunk > kSmallestChunk && rows * chunk * chunk / 8 > kMatrixBytes) chunk /= 2;
  return static_cast<int>(std::min(chunk, n));
}

void suppress(const NmsInputs& inputs, const Visit& visit, double threshold, int64_t most_per_group,
              cudaStream_t stream) {
  const int largest = choose_chunk(inputs.rows, inputs.n);
  const int64_t most_words = (largest + kWord - 1) / kWord;
  const Tensor matrix =
      torch::stable::new_empty(visit.order, {inputs.rows * largest * most_words}, ScalarType::Long);
  const Tensor tallies = torch::stable::new_zeros(visit.order, {inputs.rows * 2}, ScalarType::Long);
  auto* bits = static_cast<Bits*>(matrix.mutable_data_ptr());
  auto* removed = visit.removed.mutable_data_ptr<uint8_t>();
  const auto* groups =
      visit.sorted_groups.has_value() ? visit.sorted_groups->const_data_ptr<int64_t>() : nullptr;
  const auto rows = static_cast<unsigned int>(inputs.rows);
  for (int64_t first = 0; first < inputs.n; first += largest) {
    const Chunk chunk{inputs.n, first,
                      static_cast<int>(std::min<int64_t>(largest, inputs.n - first))};
    const int words = (chunk.size + kWord - 1) / kWord;
    with_data(visit.boxes, [&](auto* coordinates) {
      using T = std::remove_cv_t<std::remove_pointer_t<decltype(coordinates)>>;
      const auto* boxes = reinterpret_cast<const Box<T>*>(coordinates);
      if (first > 0) {
        const auto slices = std::min<int64_t>(first / kTile, kMostSlices);
        const dim3 grid(blocks_for(chunk.size, kThreads), static_cast<unsigned int>(slices), rows);
        suppress_by_earlier<T>
            <<<grid, kThreads, 0, stream>>>(boxes, groups, chunk, threshold, removed);
        STD_CUDA_KERNEL_LAUNCH_CHECK();
      }
      const dim3 grid(static_cast<unsigned int>(words), static_cast<unsigned int>(words), rows);
      overlap_matrix<T><<<grid, kWord, 0, stream>>>(boxes, groups, chunk, words, threshold, bits);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
    resolve<<<rows, kThreads, 0, stream>>>(bits, groups, chunk, words, most_per_group,
                                           static_cast<Tally*>(tallies.mutable_data_ptr()),
                                           removed);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

// Returns indices (rows, max_output), and counts (rows + 1), whose last entry is 1 where a box or
// score is not a number though there is no padding.
std::tuple<Tensor, Tensor> keep(const NmsInputs& inputs, double threshold, const NmsLimits& limits,
                                cudaStream_t stream) {
  STD_TORCH_CHECK(inputs.rows <= kMostRows, "boxes must have at most ", kMostRows, " rows");
  const int64_t max_output = limits.max_output;
  Tensor indices =
      torch::stable::new_zeros(inputs.scores, {inputs.rows, max_output}, ScalarType::Long);
  Tensor counts = torch::stable::new_zeros(inputs.scores, {inputs.rows + 1}, ScalarType::Long);
  const int64_t entries = inputs.rows * inputs.n;
  if (entries == 0 || max_output == 0) return {indices, counts};

  auto* count = counts.mutable_data_ptr<int64_t>();
  const Visit visit = sort_boxes(inputs, limits.leave_out_padding, count + inputs.rows, stream);
  suppress(inputs, visit, threshold, std::min(limits.max_per_group, max_output), stream);
  const Tensor survives = flags_like(inputs.scores, entries);
  const auto* ranks = visit.ranks.has_value() ? visit.ranks->const_data_ptr<int64_t>() : nullptr;
  mark_survivors<<<blocks_for(entries, kThreads), kThreads, 0, stream>>>(
      visit.removed.const_data_ptr<uint8_t>(), ranks, inputs.n, entries,
      survives.mutable_data_ptr<uint8_t>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  list_survivors<<<static_cast<unsigned int>(inputs.rows), kSelectThreads, 0, stream>>>(
      survives.const_data_ptr<uint8_t>(), visit.order.const_data_ptr<int64_t>(), inputs.n,
      max_output, indices.mutable_data_ptr<int64_t>(), count);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {indices, counts};
}

Tensor keep_all(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
                double threshold) {
  const NmsInputs inputs = maskrcnn::check_nms(boxes, scores, groups, 1, threshold);
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  const cudaStream_t stream = maskrcnn::current_stream(boxes);
  const NmsLimits limits{false, inputs.n, NmsLimits::kUnlimited};
  auto [indices, counts] = keep(inputs, threshold, limits, stream);
  const auto [count, mistakes] = maskrcnn::fetch<2>(counts.const_data_ptr<int64_t>(), stream);
  STD_TORCH_CHECK(mistakes == 0, "boxes must be finite and scores must not be NaN");
  Tensor flat = torch::stable::view(indices, {inputs.n});
  return torch::stable::narrow(flat, 0, 0, count);
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return keep_all(boxes, scores, std::nullopt, iou_threshold);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                   double iou_threshold) {
  return keep_all(boxes, scores, groups, iou_threshold);
}

std::tuple<Tensor, Tensor> batched_nms_fixed(const Tensor& boxes, const Tensor& scores,
                                             const Tensor& groups, double iou_threshold,
                                             int64_t max_output, int64_t max_per_group) {
  const NmsInputs inputs = maskrcnn::check_nms(boxes, scores, groups, 2, iou_threshold);
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  auto [indices, counts] = keep(inputs, iou_threshold, NmsLimits::padded(max_output, max_per_group),
                                maskrcnn::current_stream(boxes));
  return {indices, torch::stable::narrow(counts, 0, 0, inputs.rows)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CUDA, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
  m.impl("batched_nms_fixed", TORCH_BOX(&batched_nms_fixed));
}
