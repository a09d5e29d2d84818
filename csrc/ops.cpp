// Schemas of all operators: the table of contents of csrc/.
//
// Kernels are registered beside their code, in cpu/<operator>.cpp and cuda/<operator>.cu, with
// STABLE_TORCH_LIBRARY_IMPL(maskrcnn, CPU or CUDA, m).

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(maskrcnn, m) {}
