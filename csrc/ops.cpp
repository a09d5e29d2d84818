// Schemas of all operators: the table of contents of csrc/.
//
// Kernels are registered beside their code, in cpu/<operator>.cpp and cuda/<operator>.cu, with
// STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU or CUDA, m).

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(maskrcnn, m) {
  // Non-maximum suppression: indices of the boxes to keep, by descending score, ties by index.
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
  m.def("batched_nms(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold) -> Tensor");
  m.def(
      "batched_nms_fixed(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, "
      "int max_output, int max_per_group) -> (Tensor indices, Tensor counts)");

  // M x M mask probabilities to pixels: bitmaps (N, height, width), or run lengths of the bitmaps
  // in column-major order with the offsets at which each mask's begin; and these as COCO's text.
  m.def(
      "paste_masks(Tensor masks, Tensor boxes, SymInt height, SymInt width, float threshold, "
      "bool aligned) -> Tensor");
  m.def(
      "masks_to_rle(Tensor masks, Tensor boxes, SymInt height, SymInt width, float threshold, "
      "bool aligned) -> (Tensor runs, Tensor offsets)");
  m.def("compress_rle(Tensor runs, Tensor offsets) -> (Tensor characters, Tensor offsets)");
}
