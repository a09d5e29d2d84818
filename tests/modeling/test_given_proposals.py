"""Fast R-CNN: a model that looks at the regions that come with the images."""

import pytest
import torch

from maskrcnn_lib.modeling.given_proposals import GivenProposals
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList

SIZE = (96, 96)


def regions(boxes, size=SIZE):
    """The boxes with falling objectness."""
    result = BoxList(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), size)
    result.add_field("objectness", torch.linspace(1, 0.5, len(result)))
    return result


def test_proposals_are_clipped_and_padded_to_one_size():
    given = [
        regions([[-10, 5, 50, 120], [200, 200, 210, 210], [1, 2, 3, 4]]),
        regions([[0, 0, 9, 9]]),
    ]
    images = ImageList(torch.zeros(2, 3, 96, 96), [SIZE, SIZE], proposals=given)
    boxes, scores, valid = GivenProposals()(images, [torch.zeros(2, 4, 6, 6)])
    assert boxes.tolist() == [[[0, 5, 50, 96], [1, 2, 3, 4]], [[0, 0, 9, 9], [0, 0, 0, 0]]]
    assert valid.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.5], [1.0, 0.0]]))


def test_images_without_fitting_proposals_are_refused():
    features = [torch.zeros(1, 4, 6, 6)]
    with pytest.raises(ValueError, match=r"MODEL.LOAD_PROPOSALS.*come without"):
        GivenProposals()(ImageList(torch.zeros(1, 3, 96, 96), [SIZE]), features)
    images = ImageList(torch.zeros(1, 3, 96, 96), [SIZE], proposals=[regions([], (50, 60))])
    with pytest.raises(ValueError, match="proposals of image 0 are for one of 50 x 60 pixels"):
        GivenProposals()(images, features)
    with pytest.raises(ValueError, match="proposals of 2 images for a batch of 1"):
        ImageList(torch.zeros(1, 3, 96, 96), [SIZE], proposals=[regions([])] * 2)


def test_a_models_own_proposals_give_its_own_detections(make_tiny_model):
    """Faster R-CNN's proposals, given to its heads as a Fast R-CNN, end in the same detections."""
    faster = make_tiny_model().eval()
    fast = make_tiny_model(MODEL__LOAD_PROPOSALS=True).eval()
    fast.load_state_dict({k: v for k, v in faster.state_dict().items() if k in fast.state_dict()})
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = ImageList(pixels, [SIZE, SIZE])
        boxes, scores, valid = faster.rpn(images, faster.backbone(pixels))
        images.proposals = []
        for image in range(2):
            images.proposals.append(BoxList(boxes[image][valid[image]], SIZE))
            images.proposals[-1].add_field("objectness", scores[image][valid[image]])
        expected, found = faster(pixels), fast(images)
    for theirs, ours in zip(expected, found, strict=True):
        torch.testing.assert_close(ours.bbox, theirs.bbox, rtol=0, atol=1e-4)
        torch.testing.assert_close(ours.get_field("scores"), theirs.get_field("scores"))
        assert torch.equal(ours.get_field("labels"), theirs.get_field("labels"))
    assert "rpn" not in {name.split(".")[0] for name in fast.state_dict()}


def test_it_learns_from_given_regions(make_tiny_model, toy_batch):
    """Regions are the objects moved a little, and boxes elsewhere; the losses fall."""
    model = make_tiny_model(MODEL__LOAD_PROPOSALS=True, MODEL__MASK_ON=False)
    pixels, targets = toy_batch
    noise = torch.Generator().manual_seed(0)
    given = []
    for target in targets:
        near = target.bbox.repeat(8, 1) + torch.randn(8 * len(target), 4, generator=noise)
        corner = torch.rand(20, 2, generator=noise) * 60
        given.append(regions(torch.cat([near, torch.cat([corner, corner + 30], dim=1)]).tolist()))
    images = ImageList(pixels, [SIZE, SIZE], proposals=given)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    totals = []
    for _ in range(12):
        losses = model(images, targets, seeds=[1, 2])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(float(sum(losses.values()).detach()))
    assert set(losses) == {"loss_classifier", "loss_box_reg"}
    assert totals[-1] < 0.6 * totals[0]
