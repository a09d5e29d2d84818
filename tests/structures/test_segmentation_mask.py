"""SegmentationMask: every accepted form, nothing lost, polygons and bitmaps agree."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskrcnn_lib.structures.segmentation_mask import (
    BinaryMaskList,
    PolygonInstance,
    PolygonList,
    SegmentationMask,
)

quick = settings(max_examples=40, deadline=None, derandomize=True)
SIZE = (64, 48)  # width, height
SQUARE = [10.0, 8.0, 30.0, 8.0, 30.0, 28.0, 10.0, 28.0]
TRIANGLE = [40.0, 5.0, 60.0, 40.0, 35.0, 40.0]

bitmaps = hnp.arrays(bool, (3, 12, 17))


@st.composite
def ellipses(draw):
    """One to three ellipses with 40 corners, at least 12 pixels wide and high, in 64 x 48."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    instances = []
    for _ in range(draw(st.integers(1, 3))):
        radii = np.array([draw(st.floats(6, 20)), draw(st.floats(6, 16))])
        centre = np.array([draw(st.floats(20, 44)), draw(st.floats(16, 32))])
        instances.append([centre + radii * np.stack((np.cos(angles), np.sin(angles)), axis=1)])
    return SegmentationMask(instances, SIZE)


def encode(bitmap, *, compressed):
    bitmap = np.asfortranarray(np.asarray(bitmap, dtype=np.uint8))
    if compressed:
        return coco_mask.encode(bitmap)
    flat = bitmap.reshape(-1, order="F")
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flat)))).tolist()
    return {"size": list(bitmap.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def pixels(mask):
    return mask.get_mask_tensor()


def overlap(first, second):
    """Intersection over union of each pair of masks; 1 for two empty ones."""
    union = (first | second).flatten(1).sum(1)
    both = (first & second).flatten(1).sum(1)
    return torch.where(union > 0, both / union, 1.0)


def all_forms():
    square = np.zeros((48, 64), dtype=bool)
    square[8:28, 10:30] = True
    compressed = encode(square, compressed=True)
    return square, [
        [SQUARE],
        [np.array(SQUARE).reshape(-1, 2)],
        (torch.tensor(SQUARE),),
        PolygonInstance([torch.tensor(SQUARE)], SIZE),
        compressed,
        compressed | {"counts": compressed["counts"].decode()},
        encode(square, compressed=False),
        square,
        square[::-1, ::-1][::-1, ::-1],
        torch.from_numpy(square),
        square.astype(np.uint8) * 255,
        torch.from_numpy(square).float() * 0.7,
    ]


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_all_forms_mix_in_one_image(mode):
    square, forms = all_forms()
    masks = SegmentationMask(forms, SIZE, mode)
    assert len(masks) == len(forms)
    assert masks.get_mask_tensor().dtype == torch.bool
    assert (pixels(masks) == torch.from_numpy(square)).all()


@pytest.mark.parametrize("mode", ["poly", "mask"])
@quick
@given(stack=bitmaps, compressed=st.booleans())
def test_run_lengths_keep_every_pixel_in_both_modes(mode, stack, compressed):
    rles = [encode(bitmap, compressed=compressed) for bitmap in stack]
    masks = SegmentationMask(rles, (17, 12), mode, allow_empty=True)
    assert np.array_equal(pixels(masks).numpy(), stack)
    assert np.array_equal(pixels(masks.convert("mask").convert("poly")).numpy(), stack)


@pytest.mark.parametrize("method", [0, 1])
@pytest.mark.parametrize("mode", ["poly", "mask"])
@quick
@given(stack=bitmaps)
def test_flip_of_traced_and_stored_bitmaps_is_numpys(mode, method, stack):
    masks = SegmentationMask(torch.from_numpy(stack), (17, 12), mode, allow_empty=True)
    flipped = masks.transpose(method)
    assert np.array_equal(pixels(flipped).numpy(), np.flip(stack, axis=2 - method))
    assert np.array_equal(pixels(flipped.transpose(method)).numpy(), stack)


@pytest.mark.parametrize("method", [0, 1])
@quick
@given(masks=ellipses())
def test_flip_of_polygons_twice_is_identity(method, masks):
    twice = masks.transpose(method).transpose(method)
    torch.testing.assert_close(twice.instances.points, masks.instances.points, rtol=0, atol=1e-12)
    once = overlap(pixels(masks.transpose(method)), pixels(masks).flip(2 - method))
    # pycocotools rounds corners to 1/5 pixel, not symmetrically: part of the outline moves a pixel
    assert (once > 0.85).all()


def window_in(draw_width, draw_height):
    return st.tuples(
        st.integers(-5, 20),
        st.integers(-5, 15),
        st.integers(*draw_width),
        st.integers(*draw_height),
    )


@quick
@given(masks=ellipses(), window=window_in((40, 70), (30, 55)))
def test_crop_of_polygons_is_crop_of_their_bitmaps(masks, window):
    left, top, right, bottom = window
    from_polygons = masks.crop(window)
    from_bitmaps = masks.convert("mask").crop(window)
    assert from_polygons.size == from_bitmaps.size == (right - left, bottom - top)
    # the same corners on the same 1/5 pixel grid; only rounding of negative ones differs
    assert (overlap(pixels(from_polygons), pixels(from_bitmaps)) > 0.97).all()
    expected = np.pad(pixels(masks).numpy(), ((0, 0), (9, 9), (9, 9)))
    expected = expected[:, top + 9 : bottom + 9, left + 9 : right + 9]
    assert np.array_equal(pixels(from_bitmaps).numpy(), expected)


@quick
@given(masks=ellipses(), width=st.integers(40, 160), height=st.integers(30, 120))
def test_resize_of_polygons_is_resize_of_their_bitmaps(masks, width, height):
    from_polygons = masks.resize((width, height))
    from_bitmaps = masks.convert("mask").resize((width, height))
    assert from_polygons.size == from_bitmaps.size == (width, height)
    # smallest ellipse: 12 pixels across, a band of half a pixel around it is a fifth of its area
    assert (overlap(pixels(from_polygons), pixels(from_bitmaps)) > 0.8).all()


def test_resize_of_bitmaps_is_bilinear_with_half_as_limit():
    bitmap = torch.zeros(1, 4, 4, dtype=torch.bool)
    bitmap[:, 1:3, 1:3] = True
    doubled = SegmentationMask(bitmap, (4, 4), "mask").resize((8, 8))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    # bilinear weights at the corners are 0.75^2 = 0.5625
    assert torch.equal(pixels(doubled)[0], expected)


def test_resize_keeps_area_where_truncation_eroded_it():
    masks = SegmentationMask([[SQUARE], [TRIANGLE]], SIZE, "mask")
    resized = masks.resize((101, 77))
    ratio = (101 * 77) / (64 * 48)
    before, after = (pixels(m).flatten(1).sum(1).double() for m in (masks, resized))
    # an unbiased outline changes the area by much less than half a pixel all around (about 10 %)
    torch.testing.assert_close(after, before * ratio, rtol=0.03, atol=0)


def test_many_bitmaps_are_resized_like_one():
    generator = torch.Generator().manual_seed(0)
    stack = torch.rand(40, 20, 30, generator=generator) > 0.5
    resized = SegmentationMask(stack, (30, 20), "mask").resize((15, 33))
    alone = SegmentationMask(stack[37], (30, 20), "mask").resize((15, 33))
    assert torch.equal(pixels(resized)[37], pixels(alone)[0])


def test_polygons_keep_float64_so_that_pixels_are_pycocotools():
    generator = np.random.default_rng(3)
    polygons = np.round(generator.uniform(0, 48, (60, 8)), 1).tolist()
    masks = SegmentationMask([[p] for p in polygons], SIZE)
    expected = [coco_mask.frPyObjects([p], 48, 64) for p in polygons]
    for mask, rle in zip(pixels(masks), expected, strict=True):
        again = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        assert again["counts"] == rle[0]["counts"]


def test_polygons_are_scaled_in_float64():
    masks = SegmentationMask([[SQUARE]], SIZE).resize((101, 77))
    expected = np.array(SQUARE).reshape(-1, 2) * [101 / 64, 77 / 48]
    np.testing.assert_allclose(masks.instances.points.numpy(), expected, rtol=1e-14)


def test_fractional_window_is_exact_for_polygons_and_rounded_for_bitmaps():
    masks = SegmentationMask([[SQUARE]], SIZE)
    cropped = masks.crop((10.5, 8.0, 30.25, 28.0))
    assert cropped.size == (19.75, 20)
    assert cropped.instances.polygons[0].polygons[0][0] == -0.5
    assert pixels(cropped).shape == (1, 20, 20)
    assert masks.convert("mask").crop((10.5, 8, 30.4, 28)).size == (19, 20)
    assert masks.convert("mask").crop((10.1, 8.1, 10.2, 8.2)).size == (1, 1)


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_window_without_any_object_keeps_all_instances(mode):
    masks = SegmentationMask([[SQUARE], [TRIANGLE]], SIZE, mode)
    for window in ((0, 0, 5, 5), (1000, 1000, 1010, 1020), (-90, -90, -80, -80)):
        cropped = masks.crop(window)
        assert len(cropped) == 2 and not pixels(cropped).any()
        assert len(cropped.convert("poly").resize((7, 7)).convert("mask")) == 2


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_indexing_and_iteration(mode):
    masks = SegmentationMask([[SQUARE], [TRIANGLE], [SQUARE, TRIANGLE]], SIZE, mode)
    whole = pixels(masks)
    for item, expected in [
        (1, [1]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        ([2, 0, 2], [2, 0, 2]),
        ([True, False, True], [0, 2]),
        (torch.tensor([0]), [0]),
        ([], []),
    ]:
        chosen = masks[item]
        assert isinstance(chosen, SegmentationMask) and chosen.mode == mode
        assert torch.equal(pixels(chosen), whole[expected])
    for _ in range(2):
        assert torch.equal(torch.cat([pixels(one) for one in masks]), whole)
    with pytest.raises(IndexError):
        masks[3]


def test_single_instance_keeps_its_dimension():
    assert SegmentationMask([[SQUARE]], SIZE).get_mask_tensor().shape == (1, 48, 64)
    assert SegmentationMask([], SIZE).get_mask_tensor().shape == (0, 48, 64)
    assert len(SegmentationMask([], SIZE, "mask").resize((3, 3)).convert("poly").transpose(0)) == 0


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_join_undoes_a_split(mode):
    masks = SegmentationMask([[SQUARE], [TRIANGLE], [SQUARE, TRIANGLE]], SIZE, mode)
    joined = SegmentationMask.cat([masks[:1], masks[1:1], masks[1:]])
    assert joined.mode == mode and torch.equal(pixels(joined), pixels(masks))
    with pytest.raises(ValueError, match="one size and mode"):
        SegmentationMask.cat([masks, masks.resize((5, 5))])
    with pytest.raises(ValueError, match="one size and mode"):
        SegmentationMask.cat([])


def test_polygons_come_out_as_they_went_in():
    masks = SegmentationMask([[SQUARE, TRIANGLE], [TRIANGLE]], SIZE)
    first, second = masks.instances.polygons
    assert [p.tolist() for p in first.polygons] == [SQUARE, TRIANGLE]
    assert len(second) == 1 and second.size == SIZE


def test_representations_convert_into_each_other():
    polygons = PolygonList([[SQUARE]], SIZE)
    bitmaps_of = BinaryMaskList(polygons, SIZE)
    again = SegmentationMask(SegmentationMask(bitmaps_of, SIZE, "poly"), SIZE, "mask")
    assert torch.equal(pixels(again), pixels(polygons))
    with pytest.raises(ValueError, match="size"):
        SegmentationMask(polygons, (5, 5))
    with pytest.raises(ValueError, match="expected"):
        SegmentationMask(bitmaps_of, (5, 5))


@pytest.mark.parametrize("mode", ["poly", "mask"])
@pytest.mark.parametrize("bad", [[], [[1, 1, 2, 2]], [[], [3, 3]]])
def test_instance_without_valid_polygon_is_named_or_kept_empty(mode, bad):
    with pytest.raises(ValueError, match="instance 1: no polygon has three points"):
        SegmentationMask([[SQUARE], bad], SIZE, mode)
    masks = SegmentationMask([[SQUARE], bad, [TRIANGLE]], SIZE, mode, allow_empty=True)
    assert pixels(masks).flatten(1).any(1).tolist() == [True, False, True]


def test_empty_bitmap_stays_a_bitmap_and_needs_permission_to_become_polygons():
    empty = torch.zeros(48, 64, dtype=torch.bool)
    assert len(SegmentationMask([[SQUARE], empty], SIZE, "mask")) == 2
    with pytest.raises(ValueError, match="instance 1: the bitmap is empty"):
        SegmentationMask([[SQUARE], empty], SIZE)
    assert len(SegmentationMask([[SQUARE], empty], SIZE, allow_empty=True)) == 2


@pytest.mark.parametrize("mode", ["poly", "mask"])
@pytest.mark.parametrize(
    "bad, error, message",
    [
        ([[0, 0, 4, 0, float("nan"), 4]], ValueError, "not finite"),
        ([[0, 0, 4, 0, 4]], ValueError, "odd"),
        (SQUARE, ValueError, "wrap"),
        ({"size": [48, 64], "counts": [5]}, ValueError, "add up"),
        ({"size": [64, 48], "counts": [64 * 48]}, ValueError, "expected"),
        (torch.zeros(64, 48), ValueError, "expected"),
        (torch.full((48, 64), float("nan")), ValueError, "not finite"),
        (torch.zeros(1, 48, 64), TypeError, "2-D bitmap"),
        ("counts", TypeError, "str"),
        (PolygonInstance([torch.tensor(SQUARE)], (5, 5)), ValueError, "size"),
    ],
)
def test_wrong_instance_is_refused_by_its_index(mode, bad, error, message):
    with pytest.raises(error, match=f"instance 2: .*{message}"):
        SegmentationMask([[SQUARE], [SQUARE], bad], SIZE, mode, allow_empty=True)


def test_wrong_use_is_refused():
    masks = SegmentationMask([[SQUARE]], SIZE)
    for call, message in [
        (lambda: SegmentationMask([[SQUARE]], SIZE, "polygon"), "mode"),
        (lambda: masks.convert("rle"), "mode"),
        (lambda: masks.transpose(4), "flip"),
        (lambda: masks.crop((5, 5, 5, 6)), "window"),
        (lambda: masks.resize((0, 6)), "size"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="list of instances"):
        SegmentationMask({"size": [48, 64], "counts": [48 * 64]}, SIZE)


def test_methods_leave_the_original_alone():
    for mode in ("poly", "mask"):
        masks = SegmentationMask([[SQUARE], [TRIANGLE]], SIZE, mode)
        before = pixels(masks).clone()
        for change in (
            lambda m: m.transpose(0),
            lambda m: m.crop((1, 1, 9, 9)),
            lambda m: m.resize((9, 9)),
            lambda m: m.to("cpu"),
        ):
            change(masks)
        assert torch.equal(pixels(masks), before) and masks.size == SIZE


def test_repr_says_what_is_inside():
    assert repr(SegmentationMask([[SQUARE]], SIZE)) == (
        "SegmentationMask(num_instances=1, image_width=64, image_height=48, mode=poly)"
    )


@pytest.mark.data
def test_coco_annotations_rasterise_as_pycocotools_does(test_data):
    file = test_data / "coco_mini" / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    chosen = content["annotations"][::15] + [a for a in content["annotations"] if a["iscrowd"]]
    for annotation in chosen:
        width, height = sizes[annotation["image_id"]]
        segmentation = annotation["segmentation"]
        rle = coco_mask.frPyObjects(segmentation, height, width)
        merged = coco_mask.merge(rle) if isinstance(rle, list) else rle
        for mode in ("poly", "mask"):
            mask = pixels(SegmentationMask([segmentation], (width, height), mode))[0]
            again = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
            assert again["counts"] == merged["counts"], annotation["id"]
