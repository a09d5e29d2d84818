"""In which order samples come, and which of them share a batch."""

from maskrcnn_lib.data.samplers.epoch_batch_sampler import EpochBatchSampler
from maskrcnn_lib.data.samplers.grouped_batch_sampler import GroupedBatchSampler, group_batches
from maskrcnn_lib.data.samplers.iteration_based_batch_sampler import IterationBasedBatchSampler
from maskrcnn_lib.data.samplers.sample_order import (
    RepeatFactorSampler,
    Sample,
    ShuffledSampler,
    repeat_factors,
)

__all__ = [
    "EpochBatchSampler",
    "GroupedBatchSampler",
    "IterationBasedBatchSampler",
    "RepeatFactorSampler",
    "Sample",
    "ShuffledSampler",
    "group_batches",
    "repeat_factors",
]
