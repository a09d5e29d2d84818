// Backward of RoIAlign whose sums have a fixed order.
#pragma once

#include <cuda_runtime.h>

#include "common/roi_arguments.h"

namespace maskrcnn {

// Writes inputs.gradients, which are of the dtype of inputs.grad.
void spread_in_order(const BackwardInputs& inputs, cudaStream_t stream);

}  // namespace maskrcnn
