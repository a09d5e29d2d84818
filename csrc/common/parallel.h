// Loops over items that are shared out among torch's threads as they finish: items may cost very
// different amounts of work, as a RoI of four pixels and one of the whole image do.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace maskrcnn {

// Calls body(begin, end) for pieces of [0, items) of at most `piece` items, each exactly once, on
// torch's threads; which thread takes which piece is not fixed.
template <class Body>
void for_each_piece(int64_t items, int64_t piece, const Body& body) {
  const int64_t pieces = (items + piece - 1) / piece;
  const int64_t workers = std::min<int64_t>(torch::stable::get_num_threads(), pieces);
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t begin = next.fetch_add(piece); begin < items; begin = next.fetch_add(piece)) {
      body(begin, std::min(begin + piece, items));
    }
  });
}

}  // namespace maskrcnn
