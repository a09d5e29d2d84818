// Area, intersection and the suppression test of axis-aligned boxes (x1, y1, x2, y2).
#pragma once

#include "common/exact.h"

namespace maskrcnn {

template <typename T>
struct Box {
  T x1, y1, x2, y2;
};

template <typename T>
C10_HOST_DEVICE inline T box_area(const Box<T>& box) {
  return mul(box.x2 - box.x1, box.y2 - box.y1);
}

template <typename T>
C10_HOST_DEVICE inline T box_intersection(const Box<T>& a, const Box<T>& b) {
  const T width = larger(smaller(a.x2, b.x2) - larger(a.x1, b.x1), T(0));
  const T height = larger(smaller(a.y2, b.y2) - larger(a.y1, b.y1), T(0));
  return mul(width, height);
}

// Whether the boxes' intersection over union exceeds the threshold, which is not negative.
template <typename T>
C10_HOST_DEVICE inline bool overlaps(const Box<T>& a, T area_a, const Box<T>& b, T area_b,
                                     double threshold) {
  const T intersection = box_intersection(a, b);
  if (!(intersection > T(0))) return false;
  return intersection / (area_a + area_b - intersection) > threshold;
}

}  // namespace maskrcnn
