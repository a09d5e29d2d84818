// Intersection over union of detections and the objects of their image and category.
//
// For a crowd, which is a region of many objects, the intersection is divided by the detection's
// area alone. Numbers are those of the COCO API (maskApi.c, bbIou and rleIou) to the last bit.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <tuple>
#include <vector>

#include "common/exact.h"
#include "cpu/ragged.h"

namespace {

using maskrcnn::check_vector;
using maskrcnn::Groups;
using maskrcnn::mul;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kGroupBits = 5;
constexpr int64_t kFirstCharacter = 48;
constexpr int64_t kFirstDifference = 3;
constexpr int64_t kMostBits = 35;  // more than any image has pixels

struct Scratch {};

// Overlap of two boxes: x, y, width, height.
double box_overlap(const double* a, const double* b, bool crowd) {
  const double width = std::min(a[2] + a[0], b[2] + b[0]) - std::max(a[0], b[0]);
  const double height = std::min(a[3] + a[1], b[3] + b[1]) - std::max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const double intersection = mul(width, height), area = mul(a[2], a[3]);
  return intersection / (crowd ? area : area + mul(b[2], b[3]) - intersection);
}

Tensor check_boxes(const Tensor& boxes, int64_t count) {
  STD_TORCH_CHECK(boxes.is_cpu() && boxes.dim() == 2 && boxes.size(0) == count &&
                      boxes.size(1) == 4 && boxes.scalar_type() == ScalarType::Double,
                  "boxes must be float64 of shape (N, 4) on the CPU, N as the offsets say");
  return torch::stable::contiguous(boxes);
}

Tensor check_crowd(const Tensor& crowd, const Groups& groups) {
  return check_vector(crowd, ScalarType::Bool, groups.all_objects(),
                      "crowd must be bool of shape (G,) on the CPU, G as the offsets say");
}

Tensor box_overlaps(const Tensor& detections, const Tensor& objects, const Tensor& crowd,
                    const Tensor& detection_offsets, const Tensor& object_offsets) {
  const Groups groups(detection_offsets, object_offsets);
  const Tensor found = check_boxes(detections, groups.all_detections());
  const Tensor truth = check_boxes(objects, groups.all_objects());
  const Tensor crowds = check_crowd(crowd, groups);
  Tensor result = torch::stable::new_empty(found, {groups.all_pairs()});
  const auto* detection = found.const_data_ptr<double>();
  const auto* object = truth.const_data_ptr<double>();
  const auto* is_crowd = static_cast<const bool*>(crowds.const_data_ptr());
  auto* overlap = result.mutable_data_ptr<double>();
  groups.for_each(Scratch{}, [&](int64_t c, Scratch&) {
    const int64_t first = groups.first_object(c), count = groups.objects(c);
    double* out = overlap + groups.first_pair(c);
    for (int64_t d = 0; d < groups.detections(c); ++d) {
      const double* box = detection + 4 * (groups.first_detection(c) + d);
      for (int64_t g = first; g < first + count; ++g) {
        *out++ = box_overlap(box, object + 4 * g, is_crowd[g]);
      }
    }
  });
  return result;
}

// The pixels of a mask in column-major order: `borders` holds where runs of it begin and end.
class Mask {
 public:
  const int64_t* begin() const { return borders_.data(); }
  const int64_t* end() const { return borders_.data() + count_; }
  int64_t area() const { return area_; }

  // Reads COCO's text (see compress_rle.cpp); false if it does not describe `pixels` pixels.
  bool read(const uint8_t* text, const uint8_t* end, int64_t pixels) {
    if (borders_.size() < static_cast<size_t>(end - text)) borders_.resize(2 * (end - text));
    int64_t before = 0, last = 0, position = 0, area = 0, runs = 0;
    count_ = area_ = 0;  // where the text is wrong
    for (; text != end; ++runs) {
      int64_t run = 0;
      if (!read_number(text, end, run)) return false;
      if (runs >= kFirstDifference) run += before;
      if (run < 0 || run > pixels - position) return false;
      before = last;
      last = run;
      borders_[runs] = position += run;
      area += runs % 2 != 0 ? run : 0;
    }
    if (position != pixels) return false;
    count_ = runs / 2 * 2;  // the last run may be outside
    area_ = area;
    return true;
  }

 private:
  static bool read_number(const uint8_t*& text, const uint8_t* end, int64_t& number) {
    int64_t bits = 0, group = 0;
    do {
      if (text == end || bits == kMostBits) return false;
      group = *text++ - kFirstCharacter;
      if (group < 0 || group > 63) return false;
      number |= (group & 31) << bits;
      bits += kGroupBits;
    } while ((group & 32) != 0);
    if ((group & 16) != 0) number -= int64_t{1} << bits;
    return true;
  }

  std::vector<int64_t> borders_;  // of which `count_` are used
  int64_t count_ = 0, area_ = 0;
};

int64_t intersection(const Mask& a, const Mask& b) {
  const int64_t *x = a.begin(), *y = b.begin();
  const int64_t *const x_end = a.end(), *const y_end = b.end();
  if (x == x_end || y == y_end || x[0] >= y_end[-1] || y[0] >= x_end[-1]) return 0;
  int64_t pixels = 0;
  while (x != x_end && y != y_end) {
    pixels += std::max<int64_t>(std::min(x[1], y[1]) - std::max(x[0], y[0]), 0);
    const bool x_ends_first = x[1] < y[1];
    x += x_ends_first ? 2 : 0;
    y += x_ends_first ? 0 : 2;
  }
  return pixels;
}

double mask_overlap(const Mask& detection, const Mask& object, bool crowd) {
  const int64_t common = intersection(detection, object);
  if (common == 0) return 0;
  const int64_t whole = crowd ? detection.area() : detection.area() + object.area() - common;
  return static_cast<double>(common) / static_cast<double>(whole);
}

// COCO's text of many masks.
class Texts {
 public:
  // Mask i's text is that of the characters from spans[i][0] to spans[i][1].
  Texts(const Tensor& characters, const Tensor& spans, int64_t count)
      : characters_(check_vector(characters, ScalarType::Byte, -1,
                                 "characters must be uint8 of one dimension on the CPU")),
        spans_(torch::stable::contiguous(spans)),
        text_(characters_.const_data_ptr<uint8_t>()) {
    STD_TORCH_CHECK(spans.is_cpu() && spans.dim() == 2 && spans.size(0) == count &&
                        spans.size(1) == 2 && spans.scalar_type() == ScalarType::Long,
                    "spans must be int64 of shape (N, 2) on the CPU, N as the offsets say");
    span_ = spans_.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < count; ++i) {
      STD_TORCH_CHECK(0 <= span_[2 * i] && span_[2 * i] <= span_[2 * i + 1] &&
                          span_[2 * i + 1] <= characters_.size(0),
                      "span ", i, " is none of the characters");
    }
  }

  bool read(int64_t i, int64_t pixels, Mask& mask) const {
    return mask.read(text_ + span_[2 * i], text_ + span_[2 * i + 1], pixels);
  }

 private:
  Tensor characters_, spans_;
  const uint8_t* text_;
  const int64_t* span_;
};

struct Masks {
  Mask detection;
  std::vector<Mask> objects;
};

std::tuple<Tensor, Tensor> mask_overlaps(const Tensor& detection_text,
                                         const Tensor& detection_spans, const Tensor& object_text,
                                         const Tensor& object_spans, const Tensor& crowd,
                                         const Tensor& pixels, const Tensor& detection_offsets,
                                         const Tensor& object_offsets) {
  const Groups groups(detection_offsets, object_offsets);
  const Texts found(detection_text, detection_spans, groups.all_detections());
  const Texts truth(object_text, object_spans, groups.all_objects());
  const Tensor crowds = check_crowd(crowd, groups);
  const Tensor sizes = check_vector(pixels, ScalarType::Long, groups.count(),
                                    "pixels must be int64 of shape (C,) on the CPU");
  Tensor overlaps = torch::stable::new_empty(sizes, {groups.all_pairs()}, ScalarType::Double);
  Tensor areas = torch::stable::new_empty(sizes, {groups.all_detections()}, ScalarType::Double);
  const auto* is_crowd = static_cast<const bool*>(crowds.const_data_ptr());
  const auto* size = sizes.const_data_ptr<int64_t>();
  auto* overlap = overlaps.mutable_data_ptr<double>();
  auto* area = areas.mutable_data_ptr<double>();
  std::atomic<bool> all_read{true};
  groups.for_each(Masks{}, [&](int64_t c, Masks& masks) {
    bool read = true;
    const int64_t first = groups.first_object(c), count = groups.objects(c);
    masks.objects.resize(std::max<size_t>(masks.objects.size(), count));
    for (int64_t g = 0; g < count; ++g) read &= truth.read(first + g, size[c], masks.objects[g]);
    double* out = overlap + groups.first_pair(c);
    for (int64_t d = 0; d < groups.detections(c); ++d) {
      const int64_t index = groups.first_detection(c) + d;
      read &= found.read(index, size[c], masks.detection);
      area[index] = static_cast<double>(masks.detection.area());
      for (int64_t g = 0; g < count; ++g) {
        *out++ = mask_overlap(masks.detection, masks.objects[g], is_crowd[first + g]);
      }
    }
    if (!read) all_read = false;
  });
  STD_TORCH_CHECK(all_read, "a mask's text is no run lengths of its image's size");
  return {overlaps, areas};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("box_overlaps", TORCH_BOX(&box_overlaps));
  m.impl("mask_overlaps", TORCH_BOX(&mask_overlaps));
}
