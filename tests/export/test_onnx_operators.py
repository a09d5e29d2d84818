"""Operators written in ONNX, run by ONNX Runtime, give what the compiled ones give."""

import numpy as np
import pytest
import torch
from torch import nn

from maskrcnn_lib.layers import batched_nms_fixed

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


class Suppressing(nn.Module):
    def __init__(self, max_per_group):
        super().__init__()
        self.max_per_group = max_per_group

    def forward(self, boxes, scores, groups):
        limit = torch.sym_min(60, boxes.shape[1])
        return torch.ops.maskrcnn.batched_nms_fixed(
            boxes, scores, groups, 0.5, limit, self.max_per_group
        )


@pytest.fixture(scope="module", params=[0, 3])
def exported(request, tmp_path_factory):
    from maskrcnn_lib.export.onnx_operators import translations
    from maskrcnn_lib.layers._library import ops_available

    if not ops_available():
        pytest.skip("needs the compiled operators")
    example = torch.rand(1, 70, 4), torch.rand(1, 70), torch.ones(1, 70, dtype=torch.int64)
    some = torch.export.Dim("some", min=0)
    shapes = {"boxes": {1: some}, "scores": {1: some}, "groups": {1: some}}
    program = torch.export.export(Suppressing(request.param), example, dynamic_shapes=shapes)
    path = tmp_path_factory.mktemp("nms") / "nms.onnx"
    torch.onnx.export(
        program, f=path, custom_translation_table=translations(), dynamo=True, verbose=False
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return request.param, session


@pytest.mark.parametrize("count", [1, 59, 400])
def test_the_same_boxes_stay(exported, count):
    max_per_group, session = exported
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(1, count, 2, generator=generator) * 180
    sides = 4 + torch.rand(1, count, 2, generator=generator) * 80
    boxes = torch.cat((corners, corners + sides), dim=2)
    scores = (torch.rand(1, count, generator=generator) * 20).round() / 20  # with ties
    scores[:, ::7] = -torch.inf
    groups = torch.randint(0, 5, (1, count), generator=generator)
    names = [value.name for value in session.get_inputs()]
    values = [value.numpy() for value in (boxes, scores, groups)]
    indices, counts = session.run(None, dict(zip(names, values, strict=True)))
    limit = min(60, count)
    expected = batched_nms_fixed(boxes, scores, groups, 0.5, limit, max_per_group)
    np.testing.assert_array_equal(counts, expected[1].numpy())
    np.testing.assert_array_equal(indices, expected[0].numpy())
