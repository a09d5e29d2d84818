"""COCODemo: maskrcnn-benchmark's methods on real photos, all of them working."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib import COCODemo, get_cfg
from maskrcnn_lib.visualization.colors import instance_colors

RED = np.array([[0, 0, 255]], dtype=np.uint8)
PHOTOS = Path(__file__).parents[2] / "demo" / "images"


def bgr(name):
    return np.ascontiguousarray(np.asarray(Image.open(PHOTOS / f"{name}.jpg"))[..., ::-1])


@pytest.fixture(scope="module")
def weights(test_data):
    return test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth"


@pytest.fixture(scope="module")
def demo(weights):
    return COCODemo(get_cfg("d2go/mask_rcnn_fbnetv3a_C4"), 0.6, weights=weights)


def names(demo, predictions):
    return [demo.class_name(label) for label in predictions.get_field("labels").tolist()]


def test_cat_is_found_with_a_whole_image_bitmap(demo):
    image = bgr("chelsea")
    predictions = demo.compute_prediction(image)
    assert predictions.size == (image.shape[1], image.shape[0])
    top = demo.select_top_predictions(predictions)
    assert names(demo, top)[0] == "cat" and len(top) < len(predictions)
    mask = top.get_field("mask")
    assert mask.shape == (len(top), 1, *image.shape[:2]) and mask.dtype == torch.bool
    assert 0.3 < mask[0].float().mean() < 0.9  # the cat fills most of the photo


def test_top_predictions_are_sorted_and_confident(demo):
    scores = demo.select_top_predictions(demo.compute_prediction(bgr("coffee"))).get_field("scores")
    assert (scores > 0.6).all()
    assert torch.equal(scores, scores.sort(descending=True).values)


def test_drawing_keeps_the_size_and_the_input(demo):
    image = bgr("astronaut")
    before = image.copy()
    drawn = demo.run_on_opencv_image(image)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (drawn != image).any()
    np.testing.assert_array_equal(image, before)


def test_each_overlay_draws_something_of_its_own(demo):
    image = bgr("chelsea")
    top = demo.select_top_predictions(demo.compute_prediction(image))
    overlays = [
        demo.overlay_boxes(image, top),
        demo.overlay_mask(image, top),
        demo.overlay_class_names(image, top),
    ]
    changed = [(overlay != image).any(axis=-1) for overlay in overlays]
    assert all(c.any() for c in changed)
    assert changed[1].sum() > changed[0].sum()


def test_colors_tell_instances_apart_or_classes(demo, monkeypatch):
    image = bgr("coffee")
    found = demo.compute_prediction(image)[[0, 0]]
    found.bbox[1] += 40
    by_instance = demo.overlay_class_names(image, found)
    monkeypatch.setattr(demo, "color_by", "class")
    monkeypatch.setattr(demo, "compute_colors_for_labels", lambda labels: RED[[0] * len(labels)])
    by_class = demo.overlay_class_names(image, found)
    for color in instance_colors(found.bbox.numpy())[:, ::-1]:
        of_color = [(picture == color).all(axis=-1).sum() for picture in (by_instance, by_class)]
        assert of_color[0] > 100 > of_color[1]
    assert (by_class == RED[0]).all(axis=-1).sum() > 200
    with pytest.raises(ValueError, match="instance or class"):
        COCODemo(demo.cfg, color_by="score")


def test_bitmaps_and_probabilities_are_drawn_alike(demo):
    image = bgr("chelsea")
    pasted = demo.select_top_predictions(demo.compute_prediction(image))
    soft = demo.select_top_predictions(demo.detector([image[..., ::-1]])[0])
    difference = (demo.overlay_mask(image, pasted) != demo.overlay_mask(image, soft)).any(axis=-1)
    assert difference.mean() < 1e-3  # single pixels at the threshold


def test_several_images_give_what_each_gives_alone(demo):
    images = [bgr("coffee"), bgr("coffee")[:, ::-1].copy()]
    together = demo.compute_predictions(images)
    for image, found in zip(images, together, strict=True):
        alone = demo.compute_prediction(image)
        assert len(found) == len(alone)
        torch.testing.assert_close(found.bbox, alone.bbox, rtol=0, atol=0.01)
    assert demo.compute_predictions([]) == []


def test_heat_maps_replace_the_drawing(weights):
    cfg = get_cfg("d2go/mask_rcnn_fbnetv3a_C4")
    demo = COCODemo(cfg, 0.6, show_mask_heatmaps=True, masks_per_dim=2, weights=weights)
    image = bgr("chelsea")
    montage = demo.run_on_opencv_image(image)
    assert abs(montage.shape[0] - image.shape[0]) < 2 and abs(montage.shape[1] - image.shape[1]) < 2
    top_left = montage[: montage.shape[0] // 2, : montage.shape[1] // 2]
    assert (top_left[..., 2] > 120).any() and (top_left[..., 0] > 120).any()
    assert demo.compute_prediction(image).get_field("mask").dtype == torch.float32


def test_minimal_image_size_is_used(weights):
    cfg = get_cfg("d2go/mask_rcnn_fbnetv3a_C4")
    small = COCODemo(cfg, min_image_size=128, weights=weights)
    assert small.detector.transform(bgr("chelsea")).shape[1:] == (128, 192)
    default = COCODemo(cfg, weights=weights)
    assert default.detector.transform(bgr("chelsea")).shape[1] == 320


def test_class_names_come_with_the_checkpoint(demo):
    assert len(demo.CATEGORIES) == 81
    assert demo.CATEGORIES[1] == "person" and demo.CATEGORIES[80] == "toothbrush"
    assert demo.class_name(500) == "class 500"


def test_config_of_the_caller_is_left_alone_and_may_be_frozen(weights):
    cfg = get_cfg("d2go/mask_rcnn_fbnetv3a_C4")
    before = cfg.dump()
    cfg.freeze()
    COCODemo(cfg, weights=weights)
    assert cfg.dump() == before


def test_missing_weights_say_what_to_pass():
    with pytest.raises(ValueError, match="weights="):
        COCODemo(get_cfg("d2go/mask_rcnn_fbnetv3a_C4", ["MODEL.WEIGHT", ""]))


def test_weights_of_a_body_alone_are_refused(weights):
    whole = torch.load(weights, weights_only=True)
    body = {name: value for name, value in whole.items() if not name.startswith("roi_heads.")}
    with pytest.raises(ValueError, match="do not fill the model"):
        COCODemo(get_cfg("d2go/mask_rcnn_fbnetv3a_C4"), weights=body)


def test_conventions_of_another_toolbox_are_warned_of(weights, caplog):
    COCODemo(
        get_cfg("d2go/mask_rcnn_fbnetv3a_C4", ["MODEL.DIALECT", "torchvision"]), weights=weights
    )
    assert "conventions of d2go" in caplog.text


def test_a_key_that_is_not_followed_is_warned_of(weights, caplog):
    key = "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS"
    COCODemo(get_cfg("d2go/mask_rcnn_fbnetv3a_C4", [key, True]), weights=weights)
    assert f"{key} is set" in caplog.text


def test_weights_of_another_model_are_refused():
    with pytest.raises(ValueError):
        COCODemo(get_cfg("d2go/mask_rcnn_fbnetv3a_C4"), weights={"something.else": torch.zeros(3)})


def test_bfloat16_finds_the_same_objects(weights):
    cfg = get_cfg("d2go/mask_rcnn_fbnetv3a_C4", ["DTYPE", "bfloat16"])
    demo = COCODemo(cfg, 0.6, weights=weights)
    top = demo.select_top_predictions(demo.compute_prediction(bgr("chelsea")))
    assert names(demo, top)[0] == "cat"
    assert top.get_field("mask").dtype == torch.bool


def test_a_config_change_after_construction_has_no_effect(demo):
    threshold = demo.cfg.MODEL.ROI_HEADS.SCORE_THRESH
    found = len(demo.compute_prediction(bgr("coffee")))
    demo.cfg.MODEL.ROI_HEADS.SCORE_THRESH = 0.99
    assert len(demo.compute_prediction(bgr("coffee"))) == found
    demo.cfg.MODEL.ROI_HEADS.SCORE_THRESH = threshold


def test_a_published_model_comes_with_its_trained_weights():
    from maskrcnn_lib.engine.inference import choose_model

    name = "e2e_mask_rcnn_R_50_FPN_1x"
    cfg, weights = choose_model(model=name)
    assert weights == f"catalog://{name}"
    assert cfg.MODEL.WEIGHT == "catalog://ImageNetPretrained/MSRA/R-50"
    assert choose_model(config=name)[1] is None
    assert choose_model(model=name, weights="mine.pth")[1] == "mine.pth"
    assert choose_model(model=name, overrides=["MODEL.WEIGHT", "mine.pth"])[1] is None


@pytest.mark.parametrize(
    "image", [None, "photo.jpg", Image.new("RGB", (4, 4)), torch.zeros(3, 4, 4)]
)
def test_what_is_no_array_is_named(demo, image):
    with pytest.raises(TypeError, match=f"uint8 numpy array, got {type(image).__name__}"):
        demo.run_on_opencv_image(image)


def test_one_image_is_not_taken_for_several(demo):
    with pytest.raises(TypeError, match="got one image"):
        demo.detector(bgr("chelsea"))


def test_predictions_of_another_image_are_not_drawn(demo):
    predictions = demo.compute_prediction(bgr("chelsea"))
    with pytest.raises(ValueError, match=r"512 x 512 pixels, but .* of one of 451 x 300"):
        demo.draw(bgr("astronaut"), predictions)


@pytest.mark.parametrize("wrong", [{"confidence_threshold": 70}, {"min_image_size": 0}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        COCODemo(**wrong)


def test_config_may_be_given_by_name(weights):
    demo = COCODemo("d2go/mask_rcnn_fbnetv3a_C4", weights=weights)
    assert demo.cfg.MODEL.DIALECT == get_cfg("d2go/mask_rcnn_fbnetv3a_C4").MODEL.DIALECT
