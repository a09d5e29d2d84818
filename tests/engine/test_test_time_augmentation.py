"""Several looks at an image: views that see the same must say the same, in original pixels."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.data.transforms import ImageTransform
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.inference import make_detector
from maskrcnn_lib.engine.test_time_augmentation import (
    Augmentation,
    AugmentedDetector,
    View,
    build_augmentation,
    mean_heat_maps,
    mean_masks,
)
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.roi_heads.keypoint_head.inference import locate_keypoints
from maskrcnn_lib.modeling.suppression import Candidates, Suppression, Voting
from maskrcnn_lib.structures.bounding_box import FLIP_LEFT_RIGHT, BoxList
from maskrcnn_lib.structures.keypoint import Skeleton

PLAIN = View(40, 0)
VIEWS = (
    PLAIN,
    View(40, 0, mirrored=True),
    View(80, 0),
    View(80, 0, mirrored=True),
    View(40, 0, aspect_ratio=2.0),
)
SIDE = 8  # of the masks and heat maps of the model below


class Seer(nn.Module):
    """Sees one object: the bright rectangle of channel 0. Its mask is channel 1, its two points are
    the left and right half of channel 2; what is on the right of the image it calls the left eye.
    """

    def __init__(self):
        super().__init__()
        self.roi_heads = nn.Module()
        self.roi_heads.mask = Outliner()
        self.roi_heads.keypoint = Pointer()

    def backbone(self, pixels):
        return [pixels]

    def candidates(self, images, features):
        (height, width) = images.image_sizes[0]
        bright = features[0][0, 0, :height, :width] > 0.5
        x, y = bright.any(dim=0).nonzero(), bright.any(dim=1).nonzero()
        box = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)).float()
        return Candidates(box[None, None], torch.tensor([[0.9]]), torch.tensor([[1]]))

    def suppress(self, candidates):
        return Suppression(0.5, 100, voting=Voting(0.9))(candidates)


def cut(features, detections, channel):
    """What a channel shows in the box of the only detection, (1, 1, SIDE, SIDE)."""
    x1, y1, x2, y2 = detections.boxes[0, 0].round().long().tolist()
    return F.interpolate(
        features[0][:, channel : channel + 1, y1:y2, x1:x2], (SIDE, SIDE), mode="area"
    )


class Outliner(nn.Module):
    def forward(self, features, detections):
        return detections._replace(masks=cut(features, detections, 1))


class Pointer(nn.Module):
    num_keypoints = 2
    skeleton = Skeleton(("left_eye", "right_eye"))

    def predict(self, features, detections):
        shown = cut(features, detections, 2)
        on_the_left = torch.arange(SIDE) < SIDE // 2
        return torch.cat((shown * ~on_the_left, shown * on_the_left), dim=1)

    def complete(self, detections, logits):
        points = locate_keypoints(logits, detections.boxes.flatten(0, 1))
        return detections._replace(keypoints=points[None])


def picture():
    """60 x 40 pixels; the object is 32 x 16, its mask the left quarter, its eyes at two heights."""
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[16:32, 8:40, 0] = 255
    image[16:32, 8:16, 1] = 255
    image[18:20, 12:16, 2] = 255
    image[24:26, 32:36, 2] = 255
    return image


def detector(kind=Detector, model=None, **settings):
    transform = ImageTransform(
        min_size=40,
        max_size=0,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        to_bgr255=False,
        resize="float",
        output_size="floor",
    )
    return kind(
        model or Seer(),
        transform=transform,
        dialect=get_dialect("detectron2"),
        size_divisible=32,
        device=torch.device("cpu"),
        **settings,
    )


def test_views_that_see_the_same_change_nothing():
    """A mask whose views were not mirrored back, or eyes that did not change places, would."""
    seen = detector(AugmentedDetector, augmentation=Augmentation(VIEWS, VIEWS[:2], VIEWS[:2]))(
        [picture()]
    )[0]
    assert seen.bbox.tolist() == [[8.0, 16.0, 40.0, 32.0]]  # one box of five
    assert seen.get_field("labels").tolist() == [1] and seen.size == (60, 40)
    quarter = (torch.arange(SIDE) < SIDE // 4).float().expand(SIDE, SIDE)
    torch.testing.assert_close(seen.get_field("mask")[0, 0], quarter)
    # A cell of the heat map is 4 x 2 pixels; COCO's points name a pixel, so that 0.5 is taken off.
    # What is interpolated between two cells is highest at their middles or next to them.
    left_eye, right_eye = seen.get_field("keypoints").keypoints[0, :, :2]
    assert (left_eye - torch.tensor([34.0, 25.0]) + 0.5).abs().max() <= 1
    assert (right_eye - torch.tensor([14.0, 19.0]) + 0.5).abs().max() <= 1


def test_larger_and_stretched_views_give_masks_in_their_own_pixels():
    plan = Augmentation((PLAIN,), VIEWS, (PLAIN,))
    looking = detector(AugmentedDetector, augmentation=plan)
    sizes = [looking._look(picture(), view, None).size for view in VIEWS]
    assert sizes == [(60, 40), (60, 40), (120, 80), (120, 80), (120, 40)]
    seen = looking([picture()])[0]
    quarter = (torch.arange(SIDE) < SIDE // 4).float().expand(SIDE, SIDE)
    # Enlarged, the edge of the quarter is as wide as a pixel, a quarter of a cell.
    assert (seen.get_field("mask")[0, 0] - quarter).abs().max() < 0.1


NAMES = ("e2e_mask_rcnn_R_50_FPN_1x", "torchvision/keypointrcnn_resnet50_fpn")
SMALL = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.BACKBONE_OUT_CHANNELS", 16),
    *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 32, "MODEL.ROI_BOX_HEAD.NUM_CLASSES", 4),
    *("MODEL.ROI_MASK_HEAD.CONV_LAYERS", [16], "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS", [16]),
    *("MODEL.ROI_HEADS.DETECTIONS_PER_IMG", 20, "INPUT.MIN_SIZE_TEST", 96, "MODEL.DEVICE", "cpu"),
]
MIRRORED = [
    f"TEST.{name}_AUG.{key}" for name in ("BBOX", "MASK", "KPS") for key in ("ENABLED", "H_FLIP")
]


def random_detector(name, overrides):
    torch.manual_seed(0)
    cfg = get_cfg(name, [*SMALL, *overrides])
    model = build_detection_model(cfg).eval()
    # So that scores differ, but not so much that they are all 1.
    if model.roi_heads is None:
        for layer in model.rpn.head.cls_tower[::2]:
            nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(model.rpn.head.cls_logits.weight, std=1e-3)
    else:
        std = 0.3 if name.startswith("torchvision") else 1e-3
        nn.init.normal_(model.roi_heads.box.predictor.cls_score.weight, std=std)
    return make_detector(cfg, model, device=torch.device("cpu"), class_names=())


def random_image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def same(ours, theirs, tolerance=0.0):
    assert len(ours) == len(theirs) > 3
    assert len(ours.get_field("scores").unique()) == len(ours)  # or any order would do
    closely = {"atol": tolerance, "rtol": tolerance}
    torch.testing.assert_close(ours.bbox, theirs.bbox, **closely)
    for field in set(ours.fields()) & {"scores", "labels", "mask"}:
        torch.testing.assert_close(ours.get_field(field), theirs.get_field(field), **closely)
    if ours.has_field("keypoints"):
        points = [found.get_field("keypoints").keypoints for found in (ours, theirs)]
        torch.testing.assert_close(*points, **closely)


@pytest.mark.parametrize("name", [*NAMES, "retinanet/retinanet_R-50-FPN_1x"])
def test_one_look_is_that_of_the_plain_detector(name):
    image = random_image()
    plain = random_detector(name, [])
    once = random_detector(name, ["TEST.BBOX_AUG.ENABLED", True])
    assert type(plain) is Detector and type(once) is AugmentedDetector
    same(once([image])[0], plain([image])[0])
    # The same size again adds the same candidates, of which NMS leaves one each.
    again = ["TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.SCALES", (96,)]
    twice = random_detector(name, again)
    assert len(twice.augmentation.boxes) == 2
    same(twice([image])[0], plain([image])[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_mirrored_image_gives_the_mirrored_result(name):
    """Both images are looked at as they are and mirrored, so that the same is seen of both."""
    both = random_detector(name, [item for key in MIRRORED for item in (key, True)])
    image = random_image()
    one, other = both([image, np.ascontiguousarray(image[:, ::-1])])
    back = other.transpose(FLIP_LEFT_RIGHT)
    if one.has_field("mask"):
        back.add_field("mask", other.get_field("mask").flip(-1))
    keypoints = one.has_field("keypoints")
    if keypoints:
        # COCO's points name a pixel, mirrored between W - 1 and 0; and the best pixel of two with
        # nearly the same value may be the other one, so that single points may differ.
        dialect_offset = both.dialect.keypoint_offset
        points = other.get_field("keypoints").shift(dialect_offset, dialect_offset)
        mirrored = points.transpose(FLIP_LEFT_RIGHT).shift(-dialect_offset, -dialect_offset)
        difference = (mirrored.keypoints - one.get_field("keypoints").keypoints)[..., :2].abs()
        assert (difference.amax(dim=-1) < 1.1).float().mean() > 0.95
        for found in (one, back):
            del found.extra_fields["keypoints"]
    same(back, one, 2e-3)


def test_given_proposals_go_to_each_view():
    name = "detectron/fast_rcnn_R-50-FPN_1x"
    corner = torch.rand(30, 2, generator=torch.Generator().manual_seed(1)) * 60
    given = BoxList(torch.cat((corner, corner + 30), dim=1), (128, 96))
    given.add_field("objectness", torch.rand(30))
    image = random_image()
    both = random_detector(name, ["TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.H_FLIP", True])
    mirrored_image = np.ascontiguousarray(image[:, ::-1])
    one, other = both([image, mirrored_image], [given, given.transpose(FLIP_LEFT_RIGHT)])
    same(other.transpose(FLIP_LEFT_RIGHT), one, 2e-3)
    alone = random_detector(name, [])
    assert not torch.equal(one.bbox, alone([image], [given])[0].bbox)


def test_means_of_masks():
    masks = torch.tensor([[0.2, 0.9], [0.6, 0.9]])
    torch.testing.assert_close(mean_masks(masks, "SOFT_AVG"), torch.tensor([0.4, 0.9]))
    torch.testing.assert_close(mean_masks(masks, "SOFT_MAX"), torch.tensor([0.6, 0.9]))
    # odds 1/4 and 3/2, whose geometric mean is sqrt(3/8)
    odds = (3 / 8) ** 0.5
    expected = torch.tensor([odds / (1 + odds), 0.9])
    torch.testing.assert_close(mean_masks(masks, "LOGIT_AVG"), expected)
    assert mean_masks(torch.tensor([[0.0], [1.0]]), "LOGIT_AVG").isfinite().all()


def test_means_of_heat_maps_are_over_the_views_that_count():
    maps = torch.tensor([1.0, 5.0, 3.0])[:, None, None, None, None].expand(3, 2, 1, 2, 2)
    counts = torch.tensor([[True, True], [False, True], [True, True]])
    assert mean_heat_maps(maps, counts, "HM_AVG")[:, 0, 0, 0].tolist() == [2.0, 3.0]
    assert mean_heat_maps(maps, counts, "HM_MAX")[:, 0, 0, 0].tolist() == [3.0, 5.0]


def test_small_objects_are_enlarged_only_and_large_ones_reduced_only():
    views = (PLAIN, View(40, 0, mirrored=True), View(20, 0), View(80, 0), View(40, 0, 0.5))
    plan = Augmentation((PLAIN,), (PLAIN,), views, large_area=100.0)
    counts = detector(AugmentedDetector, augmentation=plan)._counts(torch.tensor([99.0, 100.0]))
    assert counts.T.tolist() == [[True, True, False, True, False], [True, True, True, False, True]]


def test_views_are_those_of_the_keys():
    keys = ["TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.H_FLIP", True]
    keys += ["TEST.BBOX_AUG.SCALES", (400, 900), "TEST.BBOX_AUG.MAX_SIZE", 2000]
    keys += ["TEST.BBOX_AUG.ASPECT_RATIOS", (0.8,), "TEST.BBOX_AUG.ASPECT_RATIO_H_FLIP", True]
    plan = build_augmentation(get_cfg(None, keys))
    assert plan.boxes == (
        View(800, 1333),
        View(800, 1333, mirrored=True),
        View(400, 2000),
        View(900, 2000),
        View(800, 1333, 0.8),
        View(800, 1333, 0.8, mirrored=True),
    )
    assert plan.masks == plan.keypoints == (View(800, 1333),)
    assert build_augmentation(get_cfg()) is None
    zoo = build_augmentation(get_cfg("detectron/test_time_aug/keypoint_rcnn_R-50-FPN_1x"))
    assert len(zoo.boxes) == len(zoo.keypoints) == 18 and len(zoo.masks) == 1


def test_mirrored_keypoints_need_names():
    overrides = ["MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES", 3]
    random_detector(NAMES[1], [*overrides, "TEST.BBOX_AUG.ENABLED", True])
    overrides += ["TEST.KPS_AUG.ENABLED", True, "TEST.KPS_AUG.H_FLIP", True]
    with pytest.raises(ValueError, match=r"MODEL\.ROI_KEYPOINT_HEAD\.NAMES"):
        random_detector(NAMES[1], overrides)


def test_models_that_do_not_say_what_they_nearly_found_are_refused():
    with pytest.raises(ValueError, match="Identity"):
        detector(AugmentedDetector, nn.Identity(), augmentation=Augmentation((PLAIN,), (), ()))
