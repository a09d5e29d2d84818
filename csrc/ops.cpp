// Schemas of all operators: the table of contents of csrc/.
//
// Kernels are registered beside their code, in cpu/<operator>.cpp and cuda/<operator>.cu, with
// STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU or CUDA, m). Fake kernels and autograd formulas are
// registered by the Python faces in maskrcnn_lib/layers/.

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(maskrcnn, m) {
  // RoIAlign: layers/roi_align.py, layers/multilevel_roi_align.py
  m.def(
      "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
      "int pooled_width, int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor rois, SymInt[] input_size, float spatial_scale, "
      "int sampling_ratio, bool aligned, bool channels_last, bool deterministic) -> Tensor");
  m.def(
      "multilevel_roi_align(Tensor[] features, Tensor rois, float[] scales, int pooled_height, "
      "int pooled_width, int sampling_ratio, bool aligned, float canonical_size, "
      "int canonical_level, float box_end_offset) -> Tensor");
  m.def(
      "multilevel_roi_align_backward(Tensor grad, Tensor rois, SymInt[] feature_sizes, "
      "float[] scales, int sampling_ratio, bool aligned, float canonical_size, "
      "int canonical_level, float box_end_offset, bool channels_last, bool deterministic) "
      "-> Tensor[]");

  // Position-sensitive RoI pooling, averaging whole pixels, or samples (`interpolate`): (K, C /
  // bins, height, width), each bin from its own channels.
  m.def(
      "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
      "int pooled_width, int sampling_ratio, bool interpolate) -> Tensor");
  m.def(
      "ps_roi_pool_backward(Tensor grad, Tensor rois, SymInt[] input_size, float spatial_scale, "
      "int sampling_ratio, bool interpolate, bool channels_last, bool deterministic) -> Tensor");

  // Non-maximum suppression: indices of the boxes to keep, by descending score, ties by index.
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
  m.def("batched_nms(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold) -> Tensor");
  m.def(
      "batched_nms_fixed(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, "
      "SymInt max_output, int max_per_group) -> (Tensor indices, Tensor counts)");
  // Likewise, where scores decay instead; method: 0 hard, 1 linear, 2 gaussian.
  m.def(
      "soft_nms_fixed(Tensor boxes, Tensor scores, Tensor groups, int method, float iou_threshold, "
      "float sigma, float min_score, SymInt max_output) "
      "-> (Tensor indices, Tensor scores, Tensor counts)");

  // M x M mask probabilities to pixels: bitmaps (N, height, width), or run lengths of the bitmaps
  // in column-major order with the offsets at which each mask's begin; polygons to run lengths in
  // images of `sizes` (N, 2), height and width; and run lengths as COCO's text.
  m.def(
      "paste_masks(Tensor masks, Tensor boxes, SymInt height, SymInt width, float threshold, "
      "bool aligned) -> Tensor");
  m.def(
      "masks_to_rle(Tensor masks, Tensor boxes, SymInt height, SymInt width, float threshold, "
      "bool aligned) -> (Tensor runs, Tensor offsets)");
  m.def(
      "polygons_to_rle(Tensor points, Tensor polygon_offsets, Tensor instance_offsets, "
      "Tensor sizes) -> (Tensor runs, Tensor offsets)");
  m.def("compress_rle(Tensor runs, Tensor offsets) -> (Tensor characters, Tensor offsets)");

  // Where (R, K, M, M) heat maps, resized to their boxes, are highest: (R, K, 3) x, y, value.
  m.def("heat_map_peaks(Tensor heat_maps, Tensor boxes) -> Tensor");

  // What mask heads learn: each RoI's instance, cut out by the RoI, in size x size cells.
  m.def(
      "polygon_mask_targets(Tensor points, Tensor polygon_offsets, Tensor instance_offsets, "
      "Tensor boxes, Tensor instances, int size) -> Tensor");
  m.def("bitmap_mask_targets(Tensor bitmaps, Tensor boxes, Tensor instances, int size) -> Tensor");

  // What one-stage detectors learn: focal loss, summed over the classes of each row of logits.
  m.def("sigmoid_focal_loss(Tensor logits, Tensor labels, float gamma, float alpha) -> Tensor");
  m.def(
      "sigmoid_focal_loss_backward(Tensor grad, Tensor logits, Tensor labels, float gamma, "
      "float alpha) -> Tensor");

  // relu(y + bias + add) in place of y, which a convolution gave; on GPUs alone.
  m.def("finish_convolution_(Tensor(a!) y, Tensor? bias, Tensor? add, bool relu) -> ()");

  // A 3x3 convolution with padding 1 that predicts, weights in the frequencies of 4 x 4 tiles.
  m.def("winograd_conv3x3(Tensor input, Tensor weight, Tensor? bias, bool relu) -> Tensor");

  // COCO's scores: detections and objects in groups, one for each category and image. Overlaps are
  // those of all pairs of a group; states (detections, areas, thresholds) are 0 false, 1 true, 2
  // left out; precision is (thresholds, recalls, categories, areas, most detections).
  m.def(
      "box_overlaps(Tensor detections, Tensor objects, Tensor crowd, Tensor detection_offsets, "
      "Tensor object_offsets) -> Tensor");
  m.def(
      "mask_overlaps(Tensor detection_text, Tensor detection_spans, Tensor object_text, "
      "Tensor object_spans, Tensor crowd, Tensor pixels, Tensor detection_offsets, "
      "Tensor object_offsets) -> (Tensor overlaps, Tensor detection_areas)");
  m.def(
      "match_detections(Tensor overlaps, Tensor detection_areas, Tensor object_areas, "
      "Tensor crowd, Tensor detection_offsets, Tensor object_offsets, Tensor area_ranges, "
      "Tensor thresholds) -> Tensor");
  m.def(
      "precision_recall(Tensor states, Tensor order, Tensor ranks, Tensor category_offsets, "
      "Tensor object_counts, Tensor recall_thresholds, Tensor max_detections) "
      "-> (Tensor precision, Tensor recall)");
}
