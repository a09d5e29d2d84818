// COCO's matching of detections with objects, and precision over recall.
//
// The rules are those of the COCO API (cocoeval.py). Within an image and category, detections take
// objects by descending score, each the free object that it overlaps most, from a threshold on.
// Crowds and objects outside of the range of areas do not count: a detection takes one only where
// no other fits, and is then left out, as are detections outside of the range that take none.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include "common/parallel.h"
#include "cpu/ragged.h"

namespace {

using maskrcnn::check_vector;
using maskrcnn::Groups;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// What becomes of a detection.
constexpr uint8_t kFalse = 0, kTrue = 1, kLeftOut = 2;
constexpr double kHighestThreshold = 1 - 1e-10;
constexpr double kNothingToFind = -1;

Tensor check_matrix(const Tensor& tensor, int64_t columns, const char* what) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.dim() == 2 && tensor.size(1) == columns &&
                      tensor.scalar_type() == ScalarType::Double,
                  what);
  return torch::stable::contiguous(tensor);
}

struct AreaRange {
  double low, high;
  bool has(double area) const { return !(area < low || area > high); }
};

// Detections and objects of one image and category.
struct Group {
  int64_t detections, objects;
  const double* overlaps;  // a row of objects for each detection
  const double* detection_areas;
  const double* object_areas;
  const bool* crowd;
};

class Matcher {
 public:
  // Sorts the objects: those that count first, otherwise in the order given.
  void prepare(const Group& group, const AreaRange& range) {
    order_.clear();
    const auto counts = [&](int64_t g) {
      return !group.crowd[g] && range.has(group.object_areas[g]);
    };
    for (int64_t g = 0; g < group.objects; ++g) {
      if (counts(g)) order_.push_back(g);
    }
    counted_ = static_cast<int64_t>(order_.size());
    for (int64_t g = 0; g < group.objects; ++g) {
      if (!counts(g)) order_.push_back(g);
    }
  }

  void match(const Group& group, const AreaRange& range, double threshold, uint8_t* states,
             int64_t stride) {
    taken_.assign(group.objects, false);
    for (int64_t d = 0; d < group.detections; ++d, states += stride) {
      const int64_t best = find(group, group.overlaps + d * group.objects, threshold);
      if (best < 0) {
        *states = range.has(group.detection_areas[d]) ? kFalse : kLeftOut;
      } else {
        *states = best < counted_ ? kTrue : kLeftOut;
        taken_[best] = true;
      }
    }
  }

 private:
  // Place in the order of the object that is overlapped most, the last one of equals; or -1.
  int64_t find(const Group& group, const double* overlaps, double threshold) const {
    double least = std::min(threshold, kHighestThreshold);
    int64_t best = -1;
    for (int64_t place = 0; place < group.objects; ++place) {
      if (place == counted_ && best >= 0) break;
      const int64_t g = order_[place];
      if ((taken_[place] && !group.crowd[g]) || overlaps[g] < least) continue;
      least = overlaps[g];
      best = place;
    }
    return best;
  }

  std::vector<int64_t> order_;
  std::vector<uint8_t> taken_;
  int64_t counted_ = 0;
};

Tensor match_detections(const Tensor& overlaps, const Tensor& detection_areas,
                        const Tensor& object_areas, const Tensor& crowd,
                        const Tensor& detection_offsets, const Tensor& object_offsets,
                        const Tensor& area_ranges, const Tensor& thresholds) {
  const Groups groups(detection_offsets, object_offsets);
  const int64_t detections = groups.all_detections(), objects = groups.all_objects();
  const Tensor pairs = check_vector(overlaps, ScalarType::Double, groups.all_pairs(),
                                    "overlaps must be float64, one for each pair, on the CPU");
  const Tensor found_areas = check_vector(detection_areas, ScalarType::Double, detections,
                                          "detection_areas must be float64 of shape (D,)");
  const Tensor areas = check_vector(object_areas, ScalarType::Double, objects,
                                    "object_areas must be float64 of shape (G,)");
  const Tensor crowds =
      check_vector(crowd, ScalarType::Bool, objects, "crowd must be bool of shape (G,)");
  const Tensor ranges = check_matrix(area_ranges, 2, "area_ranges must be float64 of shape (A, 2)");
  const Tensor limits =
      check_vector(thresholds, ScalarType::Double, -1, "thresholds must be float64 of shape (T,)");
  const int64_t range_count = ranges.size(0), limit_count = limits.size(0);
  Tensor result =
      torch::stable::new_empty(pairs, {detections, range_count, limit_count}, ScalarType::Byte);
  const auto* range = ranges.const_data_ptr<double>();
  const auto* limit = limits.const_data_ptr<double>();
  auto* states = result.mutable_data_ptr<uint8_t>();
  groups.for_each(Matcher{}, [&](int64_t c, Matcher& matcher) {
    const int64_t d = groups.first_detection(c), g = groups.first_object(c);
    const Group group{groups.detections(c),
                      groups.objects(c),
                      pairs.const_data_ptr<double>() + groups.first_pair(c),
                      found_areas.const_data_ptr<double>() + d,
                      areas.const_data_ptr<double>() + g,
                      static_cast<const bool*>(crowds.const_data_ptr()) + g};
    const int64_t judgements = range_count * limit_count;
    for (int64_t a = 0; a < range_count; ++a) {
      const AreaRange area_range{range[2 * a], range[2 * a + 1]};
      matcher.prepare(group, area_range);
      for (int64_t t = 0; t < limit_count; ++t) {
        matcher.match(group, area_range, limit[t], states + d * judgements + a * limit_count + t,
                      judgements);
      }
    }
  });
  return result;
}

// Precision over recall of one category's detections, which come by descending score.
class Curve {
 public:
  void add(uint8_t state) {
    if (state == kFalse) {
      ++false_;
    } else if (state == kTrue) {
      ++true_;
      // the sum in the order of the COCO API: one is a little more than one
      precision_.push_back(true_ / (false_ + true_ + std::numeric_limits<double>::epsilon()));
    }
  }

  // Share of `objects` that was found.
  double recall(int64_t objects) const { return true_ / static_cast<double>(objects); }

  // The highest precision from each of the ascending recalls on; 0 from where none was reached.
  // Recall grows at true detections only, and precision falls until the next one.
  void sample(int64_t objects, const double* recalls, int64_t count, double* out, int64_t stride) {
    for (size_t i = precision_.size(); i-- > 1;) {
      precision_[i - 1] = std::max(precision_[i - 1], precision_[i]);
    }
    const double all = static_cast<double>(objects);
    size_t i = 0;
    for (int64_t r = 0; r < count; ++r) {
      while (i < precision_.size() && static_cast<double>(i + 1) / all < recalls[r]) ++i;
      out[r * stride] = i < precision_.size() ? precision_[i] : 0;
    }
  }

 private:
  double true_ = 0, false_ = 0;
  std::vector<double> precision_;  // at each true detection
};

struct Ranking {
  Tensor order, ranks;  // (D,) int64: detections by category and score; places in their groups
  std::vector<int64_t> categories;  // where each begins in the order

  Ranking(const Tensor& by_score, const Tensor& in_group, const Tensor& offsets, int64_t detections)
      : order(check_vector(by_score, ScalarType::Long, detections,
                           "order must be int64 of shape (D,)")),
        ranks(check_vector(in_group, ScalarType::Long, detections,
                           "ranks must be int64 of shape (D,)")),
        categories(maskrcnn::read_offsets(offsets)) {
    const auto* place = order.const_data_ptr<int64_t>();
    STD_TORCH_CHECK(categories.back() == detections &&
                        std::all_of(place, place + detections,
                                    [&](int64_t d) { return d >= 0 && d < detections; }),
                    "order must hold indices of detections, and category_offsets end at D");
  }
};

// Curves of category k, for each limit on the number of detections one for each judgement.
std::vector<Curve> draw_curves(const Ranking& ranking, int64_t k, const uint8_t* states,
                               int64_t judgements, const int64_t* most, int64_t limits) {
  std::vector<Curve> curves(limits * judgements);
  const auto* order = ranking.order.const_data_ptr<int64_t>();
  const auto* ranks = ranking.ranks.const_data_ptr<int64_t>();
  for (int64_t i = ranking.categories[k]; i < ranking.categories[k + 1]; ++i) {
    const uint8_t* state = states + order[i] * judgements;
    for (int64_t m = 0; m < limits; ++m) {
      if (ranks[order[i]] >= most[m]) continue;
      for (int64_t j = 0; j < judgements; ++j) curves[m * judgements + j].add(state[j]);
    }
  }
  return curves;
}

std::tuple<Tensor, Tensor> precision_recall(const Tensor& states, const Tensor& order,
                                            const Tensor& ranks, const Tensor& category_offsets,
                                            const Tensor& object_counts,
                                            const Tensor& recall_thresholds,
                                            const Tensor& max_detections) {
  STD_TORCH_CHECK(states.is_cpu() && states.dim() == 3 && states.scalar_type() == ScalarType::Byte,
                  "states must be uint8 of shape (D, A, T) on the CPU");
  const Tensor judged = torch::stable::contiguous(states);
  const int64_t areas = states.size(1), thresholds = states.size(2);
  const Ranking ranking(order, ranks, category_offsets, states.size(0));
  const auto count = static_cast<int64_t>(ranking.categories.size()) - 1;
  const Tensor objects = check_vector(object_counts, ScalarType::Long, count * areas,
                                      "object_counts must be int64 of shape (K * A,)");
  const Tensor recalls = check_vector(recall_thresholds, ScalarType::Double, -1,
                                      "recall_thresholds must be float64 of shape (R,)");
  const Tensor most = check_vector(max_detections, ScalarType::Long, -1,
                                   "max_detections must be int64 of shape (M,)");
  const int64_t samples = recalls.size(0), limits = most.size(0);
  Tensor precision = torch::stable::new_empty(recalls, {thresholds, samples, count, areas, limits});
  Tensor recall = torch::stable::new_empty(recalls, {thresholds, count, areas, limits});
  auto* precisions = precision.mutable_data_ptr<double>();
  auto* reached = recall.mutable_data_ptr<double>();
  const auto* objects_of = objects.const_data_ptr<int64_t>();
  const auto* value = recalls.const_data_ptr<double>();
  const int64_t stride = count * areas * limits;  // from one threshold or recall to the next
  maskrcnn::for_each_piece(count, 1, [&](int64_t k, int64_t) {
    auto curves = draw_curves(ranking, k, judged.const_data_ptr<uint8_t>(), areas * thresholds,
                              most.const_data_ptr<int64_t>(), limits);
    for (int64_t i = 0; i < limits * areas * thresholds; ++i) {
      const int64_t t = i % thresholds, a = i / thresholds % areas, m = i / thresholds / areas;
      const int64_t column = (k * areas + a) * limits + m;
      const int64_t number = objects_of[k * areas + a];
      double* out = precisions + t * samples * stride + column;
      reached[t * stride + column] = number > 0 ? curves[i].recall(number) : kNothingToFind;
      if (number > 0) {
        curves[i].sample(number, value, samples, out, stride);
      } else {
        for (int64_t r = 0; r < samples; ++r) out[r * stride] = kNothingToFind;
      }
    }
  });
  return {precision, recall};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU, m) {
  m.impl("match_detections", TORCH_BOX(&match_detections));
  m.impl("precision_recall", TORCH_BOX(&precision_recall));
}
