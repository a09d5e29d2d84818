"""The box coder against Caffe2's published values, float64 arithmetic and torchvision."""

import math

import numpy as np
import pytest
import torch

from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes

# Caffe2's UtilsBoxesTest.TestBboxTransformRandom; closed-pixel boxes.
CAFFE2_BOXES = [
    [175.62031555, 20.91103172, 253.352005, 155.0145874],
    [169.24636841, 4.85241556, 228.8605957, 105.02092743],
    [181.77426147, 199.82876587, 192.88427734, 214.0255127],
    [174.36262512, 186.75761414, 296.19091797, 231.27906799],
    [22.73153877, 92.02596283, 135.5695343, 208.80291748],
]
CAFFE2_OFFSETS = [
    [0.47861834, 0.13992102, 0.14961673, 0.71495209],
    [0.29915856, -0.35664671, 0.89018666, 0.70815367],
    [-0.03852064, 0.44466892, 0.49492538, 0.71409376],
    [0.28052918, 0.02184832, 0.65289006, 1.05060139],
    [-0.38172557, -0.08533806, -0.60335309, 0.79052375],
]
CAFFE2_DECODED = [
    [206.949539, -30.715202, 297.387665, 244.448486],
    [143.871216, -83.342888, 290.502289, 121.053398],
    [177.430283, 198.666245, 196.295273, 228.703079],
    [152.251892, 145.431564, 387.215454, 274.594238],
    [5.062420, 11.040955, 66.328903, 269.686218],
]
# A closed-pixel box is the continuous one with x2 and y2 one smaller.
CLOSED_TO_CONTINUOUS = torch.tensor([0.0, 0.0, 1.0, 1.0])


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 300
    return torch.cat((corner, corner + 1 + 200 * torch.rand(count, 2, generator=generator)), dim=1)


def test_decode_gives_caffe2_values_in_closed_pixels():
    decoded = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode(
        torch.tensor(CAFFE2_OFFSETS), torch.tensor(CAFFE2_BOXES) + CLOSED_TO_CONTINUOUS
    )
    # 1e-4 px: the published values are float32 at coordinates of some hundreds.
    torch.testing.assert_close(
        decoded - CLOSED_TO_CONTINUOUS, torch.tensor(CAFFE2_DECODED), atol=1e-4, rtol=0
    )


def test_decode_agrees_with_float64_arithmetic():
    weights = (10.0, 10.0, 5.0, 5.0)
    boxes = random_boxes(50, seed=0)
    offsets = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * 3
    x1, y1, x2, y2 = boxes.numpy().astype(np.float64).T
    dx, dy, dw, dh = (offsets.numpy().astype(np.float64) / weights).T
    x, y = x1 + (x2 - x1) / 2 + dx * (x2 - x1), y1 + (y2 - y1) / 2 + dy * (y2 - y1)
    width = (x2 - x1) * np.exp(np.minimum(dw, math.log(1000 / 16)))
    height = (y2 - y1) * np.exp(np.minimum(dh, math.log(1000 / 16)))
    expected = np.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), axis=1)
    decoded = BoxCoder(weights).decode(offsets, boxes)
    # float32 at coordinates up to 1000: some 1e-4.
    np.testing.assert_allclose(decoded.numpy(), expected, atol=5e-4)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_encode_and_decode_agree_with_torchvision(weights):
    from torchvision.models.detection._utils import BoxCoder as Peer

    references, proposals = random_boxes(40, seed=2), random_boxes(40, seed=3)
    coder, peer = BoxCoder(weights), Peer(weights)
    encoded = coder.encode(references, proposals)
    torch.testing.assert_close(encoded, peer.encode_single(references, proposals))
    offsets = torch.randn(40, 12, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(
        coder.decode(offsets, proposals), peer.decode_single(offsets, proposals)
    )


def test_decode_reverses_encode():
    references, proposals = random_boxes(40, seed=5), random_boxes(40, seed=6)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    decoded = coder.decode(coder.encode(references, proposals), proposals)
    torch.testing.assert_close(decoded, references, atol=1e-3, rtol=0)


def test_growth_is_bounded_and_shrinking_is_not():
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    grown = coder.decode(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), box)
    shrunk = coder.decode(torch.tensor([[0.0, 0.0, -10.0, -10.0]]), box)
    torch.testing.assert_close(grown, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))
    assert float(shrunk[0, 2] - shrunk[0, 0]) == pytest.approx(16 * math.exp(-10), rel=1e-2)


def test_centres_move_by_pixels_at_most_where_that_is_asked_for():
    boxes = torch.tensor([[100.0, 100.0, 612.0, 612.0], [100.0, 100.0, 132.0, 132.0]])
    # By 51.2 and -256 pixels of the large box, by 3.2 and -16 of the small one; sides times e^0.5.
    offsets = torch.tensor([[0.1, -0.5, 0.5, 0.5]]).expand(2, 4)
    decoded = BoxCoder((1.0, 1.0, 1.0, 1.0), largest_shift=32).decode(offsets, boxes)
    centres = (decoded[:, :2] + decoded[:, 2:]) / 2
    expected = torch.tensor([[356.0 + 32, 356 - 32], [116.0 + 3.2, 116 - 16]])
    torch.testing.assert_close(centres, expected)
    sides = (decoded[:, 2:] - decoded[:, :2])[:, 0]
    torch.testing.assert_close(sides, torch.tensor([512.0, 32]) * math.exp(0.5))


def test_the_limit_of_shifts_is_in_pixels_whatever_the_weights():
    box, offsets = torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([[5.0, 1.0, 0.0, 0.0]])
    decoded = BoxCoder((10.0, 10.0, 5.0, 5.0), largest_shift=32).decode(offsets, box)
    torch.testing.assert_close(decoded, torch.tensor([[32.0, 10.0, 132.0, 110.0]]))


def test_batches_and_several_regressors_equal_single_calls():
    boxes = random_boxes(6, seed=7).view(2, 3, 4)
    offsets = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(8))
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    decoded = coder.decode(offsets, boxes)
    assert decoded.shape == (2, 3, 8)
    second = coder.decode(offsets[1, :, 4:], boxes[1])
    torch.testing.assert_close(decoded[1, :, 4:], second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_offsets_are_decoded_in_float32(dtype):
    boxes = random_boxes(10, seed=9)
    offsets = torch.randn(10, 4, generator=torch.Generator().manual_seed(10)).to(dtype)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    decoded = coder.decode(offsets, boxes)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded, coder.decode(offsets.float(), boxes))


def test_wrong_number_of_weights_is_refused():
    with pytest.raises(ValueError, match="4 numbers"):
        BoxCoder((1.0, 1.0))


def test_clipping_uses_the_size_of_each_image():
    boxes = torch.tensor([[-5.0, -6.0, 50.0, 60.0]]).expand(2, 1, 4)
    clipped = clip_boxes(boxes, torch.tensor([[20, 30], [100, 40]]))
    assert clipped[:, 0].tolist() == [[0.0, 0.0, 30.0, 20.0], [0.0, 0.0, 40.0, 60.0]]
