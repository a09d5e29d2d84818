// The CPU kernels of RoIAlign, one pair for each memory format of the feature maps.
//
// Forward shares out RoIs or channels among threads, RoIs in an order that keeps neighbours
// together in the caches. Backward shares out parts of the gradient maps: a part has one owner,
// which adds what every RoI contributes in the order of the RoIs. So the sums do not depend on the
// number of threads.
#pragma once

#include "common/roi_arguments.h"

namespace maskrcnn {

void pool_channels_last(const ForwardInputs& inputs);
void pool_channels_first(const ForwardInputs& inputs);

void spread_channels_last(const BackwardInputs& inputs);
void spread_channels_first(const BackwardInputs& inputs);

}  // namespace maskrcnn
