"""How much a training step asks of the host: calls of operators, and looks at the device's values.

A GPU that is faster than the host's calls waits for them, so they are counted here, where there
need not be a GPU: the sizes are those of one, the arithmetic is done by the CPU.
"""

import sys
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from maskrcnn_lib.data.collate import Batch
from maskrcnn_lib.engine.step import TrainingStep
from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.modeling import outputs, targets
from maskrcnn_lib.modeling.roi_heads import regions
from maskrcnn_lib.structures.image_list import ImageList

# Calls that start no work: memory of the allocator's cache, questions about types, profiler marks.
FREE = ("aten.empty", "aten.new_empty", "aten.promote_types", "aten.detach", "profiler.")
# Calls after which a host has to wait for a device.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default")

MOST_CALLS = 700
MOST_CALLS_OUTSIDE_THE_BACKBONE = 465


class Calls(TorchDispatchMode):
    """Counts the calls of operators that are no views."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = str(operator)
        if not operator.is_view and not name.startswith(FREE) and "unsafe_view" not in name:
            self.counts[name] += 1
        return operator(*args, **(kwargs or {}))


class Trunk(nn.Module):
    """Stands in for a backbone that was captured as one graph: next to no calls."""

    def __init__(self, channels, strides):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.channels, self.strides = channels, strides

    def forward(self, x):
        n, _, h, w = x.shape
        pixels = self.scale.expand(n, self.channels, h, w)
        return [pixels[:, :, : -(-h // stride), : -(-w // stride)] for stride in self.strides]


def as_on_a_gpu(monkeypatch):
    """Sizes are fixed, and operators do not look at the values that they get."""
    for module in (outputs, regions):
        monkeypatch.setattr(module, "host_may_wait", lambda values: False)
    for name, check in (("nms", "check_box_values"), ("roi_align", "check_roi_values")):
        module = sys.modules[f"maskrcnn_lib.layers.{name}"]
        monkeypatch.setattr(module, check, lambda *args, **kwargs: None)


def count(make_tiny_model, make_target, monkeypatch, images, *, trunk=False):
    as_on_a_gpu(monkeypatch)
    model = make_tiny_model(MODEL__BACKBONE__FREEZE_CONV_BODY_AT=2)
    if trunk:
        model.backbone = Trunk(16, (4, 8, 16, 32, 64))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        [{"params": [p for p in model.parameters() if p.requires_grad]}], 0.001, 0.9, fused=True
    )
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    step = TrainingStep(
        model, optimizer, schedule, device=torch.device("cpu"), dtype=torch.bfloat16
    )
    objects = [[8, 8, 56, 48], [40, 50, 90, 92]], [1, 2]
    batch = Batch(
        ImageList(torch.randn(images, 3, 96, 96), [(96, 96)] * images),
        [make_target(*objects) for _ in range(images)],
        list(range(images)),
        torch.arange(images),
    )
    for calls in (Calls(), Calls()):  # what is made once per shape is there the second time
        with calls:
            step.gradients(batch)
            step.update()
    return calls.counts


@pytest.mark.skipif(not ops_available(), reason="needs the compiled operators")
@pytest.mark.parametrize(
    ("trunk", "limit"), [(False, MOST_CALLS), (True, MOST_CALLS_OUTSIDE_THE_BACKBONE)]
)
def test_calls_of_a_step_are_few_and_as_many_for_two_images_as_for_eight(
    make_tiny_model, make_target, monkeypatch, trunk, limit
):
    two, eight = (
        count(make_tiny_model, make_target, monkeypatch, images, trunk=trunk) for images in (2, 8)
    )
    assert two == eight
    assert sum(two.values()) <= limit, two.most_common()


@pytest.mark.skipif(not ops_available(), reason="needs the compiled operators")
def test_nothing_is_looked_at_but_the_ground_truth_which_the_host_has(
    make_tiny_model, make_target, monkeypatch
):
    monkeypatch.setattr(targets, "_check_values", lambda *args: None)
    counts = count(make_tiny_model, make_target, monkeypatch, 2)
    waits = {name: n for name, n in counts.items() if any(word in name for word in WAITING)}
    assert sum(waits.values()) == 0, waits
