// Value of a pasted mask at a pixel of the image, on the GPU; the same bits as on the CPU.
#pragma once

#include <cstdint>

#include "common/mask_paste.h"

namespace maskrcnn {

// A mask of size x size, seen with the zeros around it.
template <typename T>
struct PaddedMask {
  const T* values;
  int32_t size;

  __device__ T at(int32_t row, int32_t column) const {
    const bool zero = row < 1 || row > size || column < 1 || column > size;
    return zero ? T(0) : values[static_cast<int64_t>(row - 1) * size + column - 1];
  }
};

// One column of the image in which a mask is read at ascending rows: keeps the two values of the
// mask's rows between which it is.
template <typename T>
class MaskColumn {
 public:
  __device__ MaskColumn(const PaddedMask<T>& mask, const PasteSample<T>& column)
      : mask_(mask), column_(column) {}

  __device__ T value(const PasteSample<T>& row) {
    if (row.index != index_) {
      index_ = row.index;
      upper_ = widen(index_);
      lower_ = widen(index_ + 1);
    }
    return blend(upper_, lower_, row.weight);
  }

 private:
  __device__ T widen(int32_t row) const {
    return blend(mask_.at(row, column_.index), mask_.at(row, column_.index + 1), column_.weight);
  }

  PaddedMask<T> mask_;
  PasteSample<T> column_;
  int32_t index_ = -1;
  T upper_ = 0, lower_ = 0;
};

// Where a mask lies in the image.
template <typename T>
struct MaskPlace {
  PasteAxis<T> rows, columns;

  // `box` is (x1, y1, x2, y2).
  __device__ MaskPlace(const T* box, int64_t size, int64_t height, int64_t width, bool aligned)
      : rows(box[1], box[3], size, height, aligned),
        columns(box[0], box[2], size, width, aligned) {}
};

}  // namespace maskrcnn
