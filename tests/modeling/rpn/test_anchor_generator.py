"""Anchor tables against the values of maskrcnn-benchmark, torchvision and D2Go."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers.remembered import CACHED_SHAPES
from maskrcnn_lib.modeling.rpn.anchor_generator import (
    AnchorGenerator,
    build_anchor_generator,
    cell_anchors,
)

RATIOS = (0.5, 1.0, 2.0)
CPU = torch.device("cpu")

# maskrcnn-benchmark's cell anchors by (stride, sizes), closed pixels, read off its own code.
LEGACY_TABLES = {
    (16, (32, 64, 128, 256, 512)): [
        *([-15, -4, 30, 19], [-38, -16, 53, 31], [-84, -40, 99, 55]),
        *([-176, -88, 191, 103], [-360, -184, 375, 199]),
        *([-8, -8, 23, 23], [-24, -24, 39, 39], [-56, -56, 71, 71]),
        *([-120, -120, 135, 135], [-248, -248, 263, 263]),
        *([-3, -14, 18, 29], [-14, -36, 29, 51], [-36, -80, 51, 95]),
        *([-80, -168, 95, 183], [-168, -344, 183, 359]),
    ],
    (4, (32,)): [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]],
    (8, (64,)): [[-40, -20, 47, 27], [-28, -28, 35, 35], [-20, -44, 27, 51]],
    (16, (128,)): [[-84, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]],
    (32, (256,)): [[-164, -72, 195, 103], [-112, -112, 143, 143], [-76, -168, 107, 199]],
    (64, (512,)): [[-332, -152, 395, 215], [-224, -224, 287, 287], [-148, -328, 211, 391]],
}


@pytest.mark.parametrize(("stride", "sizes"), LEGACY_TABLES)
def test_legacy_anchors_are_those_of_maskrcnn_benchmark(stride, sizes):
    closed_to_continuous = torch.tensor([0.0, 0.0, 1.0, 1.0])
    expected = torch.tensor(LEGACY_TABLES[stride, sizes]).float() + closed_to_continuous
    anchors = cell_anchors(sizes, RATIOS, stride, "legacy")
    torch.testing.assert_close(anchors, expected, atol=0, rtol=0)


def test_exact_anchors_are_those_stored_with_d2go_weights(test_data):
    state = torch.load(test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth", map_location="cpu")
    stored = state["proposal_generator.anchor_generator.cell_anchors.0"]  # size-major
    anchors = build_anchor_generator(get_cfg("d2go/mask_rcnn_fbnetv3a_C4")).cell_anchors[0]
    size_major = anchors.view(3, 5, 4).transpose(0, 1).reshape(15, 4)
    # Stored as float32 by a computation in another order.
    torch.testing.assert_close(size_major, stored.float(), atol=1e-4, rtol=0)


def test_exact_anchors_have_the_area_and_ratio_that_are_asked_for():
    anchors = cell_anchors((32, 50), RATIOS, 16, "exact").numpy().astype(np.float64)
    width, height = (anchors[:, 2:] - anchors[:, :2]).T
    np.testing.assert_allclose(width * height, [32**2, 50**2] * 3, rtol=1e-6)
    np.testing.assert_allclose(height / width, np.repeat(RATIOS, 2), rtol=1e-6)
    np.testing.assert_allclose(anchors[:, :2], -anchors[:, 2:])


@pytest.mark.parametrize("image_shape", [(224, 320), (203, 311)])
def test_rounded_anchors_are_those_of_torchvision(image_shape):
    from torchvision.models.detection.anchor_utils import AnchorGenerator as Peer
    from torchvision.models.detection.image_list import ImageList

    sizes = ((32,), (64,), (128,), (256,), (512,))
    strides = (4, 8, 16, 32, 64)
    shapes = [(-(-image_shape[0] // s), -(-image_shape[1] // s)) for s in strides]
    peer = Peer(sizes, (RATIOS,) * 5)(
        ImageList(torch.zeros(1, 3, *image_shape), [image_shape]),
        [torch.zeros(1, 1, *shape) for shape in shapes],
    )
    ours = AnchorGenerator(sizes, RATIOS, strides=strides, style="rounded")
    torch.testing.assert_close(torch.cat(ours(shapes, image_shape, CPU)), peer[0], atol=0, rtol=0)


def test_grid_goes_by_row_then_column_then_anchor():
    generator = AnchorGenerator([(32,)], RATIOS, strides=(4,), style="legacy")
    (grid,) = generator([(2, 3)], (8, 12), CPU)
    shift = torch.tensor([8.0, 4.0, 8.0, 4.0])  # column 2, row 1
    torch.testing.assert_close(grid.view(2, 3, 3, 4)[1, 2], generator.cell_anchors[0] + shift)


def test_grids_are_kept_per_shape_and_only_a_bounded_number():
    generator = AnchorGenerator([(32,)], RATIOS, strides=(4,))
    first = generator([(2, 3)], (8, 12), CPU)
    assert generator([(2, 3)], (8, 12), CPU)[0] is first[0]
    for width in range(1, 3 * CACHED_SHAPES):
        generator([(1, width)], (4, 4 * width), CPU)
    assert len(generator._grids) == CACHED_SHAPES
    torch.testing.assert_close(generator([(2, 3)], (8, 12), CPU)[0], first[0])


def test_threads_that_push_each_other_out_of_the_cache_get_their_anchors():
    class ForgetfulCache(OrderedDict):
        """As if another thread had filled the cache since."""

        def __setitem__(self, key, value):
            pass

    generator = AnchorGenerator([(32,)], RATIOS, strides=(4,))
    generator._grids = ForgetfulCache()
    assert generator([(2, 3)], (8, 12), CPU)[0].shape == (2 * 3 * len(RATIOS), 4)


def test_anchors_stay_float32_when_the_model_changes_dtype():
    generator = AnchorGenerator([(33,)], RATIOS, strides=(4,)).to(torch.bfloat16)
    assert generator([(2, 3)], (8, 12), CPU)[0].dtype == torch.float32
    assert not generator.state_dict()


def test_errors_name_the_config_keys():
    with pytest.raises(ValueError, match="ANCHOR_STRIDE"):
        AnchorGenerator([(32,), (64,)], RATIOS, strides=(4,))
    generator = AnchorGenerator([(32,)], RATIOS, strides=(4,))
    with pytest.raises(ValueError, match="2 feature maps"):
        generator([(2, 2), (1, 1)], (8, 8), CPU)
    with pytest.raises(ValueError, match="anchor style"):
        cell_anchors((32,), RATIOS, 4, "round")
