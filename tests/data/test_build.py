"""Loaders give the same samples whatever the workers, the ranks and the resume point."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.build import make_data_loader
from maskrcnn_lib.data.collate import Batch
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask
from maskrcnn_lib.utils import comm

COUNT = 11


class Scenes:
    """A data set of a user's own: no base class; portrait and landscape, one without objects."""

    def __init__(self, bad=(), as_pillow=False):
        self.bad = set(bad)
        self.as_pillow = as_pillow

    def __len__(self):
        return COUNT

    def get_img_info(self, index):
        height, width = (40, 60) if index % 3 else (50, 40)
        return {"height": height, "width": width}

    def target(self, index):
        info = self.get_img_info(index)
        boxes = [[5, 5, 20, 25], [10, 12, 38, 36]][: index % 3]
        target = BoxList(boxes, (info["width"], info["height"]))
        target.add_field("labels", torch.tensor([1, 2][: index % 3], dtype=torch.int64))
        polygons = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes]
        target.add_field("masks", SegmentationMask(polygons, target.size))
        return target

    def __getitem__(self, index):
        if index in self.bad:
            raise ValueError(f"cannot read image number {index}")
        info = self.get_img_info(index)
        shape = (info["height"], info["width"], 3)
        image = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        return Image.fromarray(image) if self.as_pillow else image, self.target(index), index


def config(*overrides, workers=0):
    fixed = ["DATALOADER.NUM_WORKERS", workers, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 9]
    sizes = ["INPUT.MIN_SIZE_TRAIN", (32, 48), "INPUT.MAX_SIZE_TRAIN", 80, "INPUT.CROP.PROB", 0.5]
    paste = ["INPUT.COPY_PASTE.PROB", 0.5, "INPUT.BRIGHTNESS", 0.3]
    return get_cfg(overrides=[*fixed, *sizes, *paste, *overrides])


def load(*overrides, workers=0, dataset=None, **arguments):
    cfg = config(*overrides, workers=workers)
    return list(make_data_loader(cfg, dataset=dataset or Scenes(), **arguments))


def assert_same(first: Batch, second: Batch):
    assert first.indices == second.indices
    assert torch.equal(first.seeds, second.seeds)
    assert first.images.image_sizes == second.images.image_sizes
    assert torch.equal(first.images.tensors, second.images.tensors)
    for one, other in zip(first.targets, second.targets, strict=True):
        assert torch.equal(one.bbox, other.bbox) and one.size == other.size
        assert torch.equal(one.get_field("labels"), other.get_field("labels"))
        masks = one.get_field("masks"), other.get_field("masks")
        assert torch.equal(masks[0].get_mask_tensor(), masks[1].get_mask_tensor())


def test_batch_holds_images_targets_indices_and_seeds():
    images, targets, indices, seeds = load()[0]
    assert images.tensors.shape[:2] == (4, 3) and images.tensors.dtype == torch.float32
    assert [t.size for t in targets] == [(w, h) for h, w in images.image_sizes]
    assert len(indices) == 4 and seeds.shape == (4,) and seeds.dtype == torch.int64
    assert len({index % 3 == 0 for index in indices}) == 1  # portrait or landscape


@pytest.mark.parametrize("workers", [1, 2])
def test_number_of_workers_changes_nothing(workers):
    for one, other in zip(load(), load(workers=workers), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("start", [1, 4, 8])
def test_resumed_loader_gives_the_rest_of_the_run(start):
    rest = load(start_iter=start)
    assert len(rest) == 9 - start
    for one, other in zip(load()[start:], rest, strict=True):
        assert_same(one, other)


def test_ranks_share_out_the_batches_of_one_process(monkeypatch):
    alone = load()
    monkeypatch.setattr("maskrcnn_lib.data.build.get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("maskrcnn_lib.data.build.get_rank", lambda rank=rank: rank)
        for whole, share in zip(alone, load(is_distributed=True), strict=True):
            assert share.indices == whole.indices[rank::2]
            for i, (height, width) in enumerate(share.images.image_sizes):
                image = whole.images.tensors[rank + 2 * i, :, :height, :width]
                assert torch.equal(share.images.tensors[i, :, :height, :width], image)


def test_two_epochs_show_an_image_in_different_variants():
    batches = load("SOLVER.MAX_ITER", 12)
    variants = [
        batch.images.tensors[i].mean().item()
        for batch in batches
        for i, index in enumerate(batch.indices)
        if index == 4
    ]
    assert len(variants) >= 4 and len(set(variants)) == len(variants)


def test_seed_of_the_run_changes_order_and_variants():
    first, second = load()[0], load("SEED", 1)[0]
    assert not torch.equal(first.seeds, second.seeds)
    assert [b.indices for b in load()] != [b.indices for b in load("SEED", 1)]


def test_loading_draws_nothing_from_the_global_generators():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    load(workers=1)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_pillow_images_give_what_arrays_give():
    for one, other in zip(load(), load(dataset=Scenes(as_pillow=True)), strict=True):
        assert_same(one, other)


def test_bad_image_is_an_error_by_default():
    with pytest.raises(ValueError, match="cannot read image number 5"):
        load(dataset=Scenes(bad=[5]))
    with pytest.raises(ValueError, match="cannot read image number 5"):
        load(dataset=Scenes(bad=[5]), workers=1)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_workers_sit_out_a_sigterm_that_goes_to_all_processes():
    expected = load("SOLVER.MAX_ITER", 30)
    batches = iter(make_data_loader(config("SOLVER.MAX_ITER", 30, workers=1), dataset=Scenes()))
    found = [next(batches)]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGTERM)
    found += batches
    for one, other in zip(expected, found, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_bad_image_is_counted_and_replaced_alike_everywhere(workers, caplog):
    cfg = config("DATALOADER.ON_BAD_IMAGE", "skip", workers=workers)
    loader = make_data_loader(cfg, dataset=Scenes(bad=[5, 7]))
    batches = list(loader)
    shown = [index for batch in batches for index in batch.indices]
    assert len(shown) == 36 and not {5, 7} & set(shown)
    assert loader.dataset.bad_images > 0
    reference = load("DATALOADER.ON_BAD_IMAGE", "skip", dataset=Scenes(bad=[5, 7]))
    for one, other in zip(batches, reference, strict=True):
        assert_same(one, other)
    assert "cannot read image number" in caplog.text


def test_data_set_without_any_good_image_ends_with_an_error():
    with pytest.raises(RuntimeError, match="10 images in a row"):
        load("DATALOADER.ON_BAD_IMAGE", "skip", dataset=Scenes(bad=range(COUNT)))


def test_testing_gives_each_image_once_over_the_ranks(monkeypatch):
    monkeypatch.setattr("maskrcnn_lib.data.build.get_world_size", lambda: 2)
    shown = []
    for rank in range(2):
        monkeypatch.setattr("maskrcnn_lib.data.build.get_rank", lambda rank=rank: rank)
        cfg = config("INPUT.MIN_SIZE_TEST", 80, "INPUT.MAX_SIZE_TEST", 0)
        (loader,) = make_data_loader(cfg, False, True, dataset=Scenes())
        for batch in loader:
            assert {min(size) for size in batch.images.image_sizes} == {80}
            assert [t.size for t in batch.targets] == [(w, h) for h, w in batch.images.image_sizes]
            shown += batch.indices
    assert sorted(shown) == list(range(COUNT))


def test_large_scale_jitter_stays_in_its_square():
    batches = load("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 64)
    assert all(max(batch.images.tensors.shape[2:]) <= 64 for batch in batches)


def test_repeat_factor_sampling_shows_rare_classes_more_often():
    # class 2 is in 3 of 11 images (2, 5, 8): factor sqrt(1 / (3 / 11)) = 1.9
    batches = load(
        "DATALOADER.SAMPLER",
        "repeat_factor",
        "DATALOADER.REPEAT_THRESHOLD",
        1.0,
        "SOLVER.MAX_ITER",
        100,
    )
    shown = np.bincount([i for batch in batches for i in batch.indices], minlength=COUNT)
    assert 1.6 < shown[[2, 5, 8]].mean() / shown[[0, 3, 6, 9]].mean() < 2.2


def test_steps_of_ones_own_are_applied():
    def blacken(image, target, rng):
        return np.zeros_like(image), target

    images = load("INPUT.PIXEL_MEAN", [1, 2, 3], extra_steps=[blacken])[0].images
    height, width = images.image_sizes[0]
    expected = torch.tensor([-1.0, -2, -3]).view(3, 1, 1).expand(3, height, width)
    assert torch.equal(images.tensors[0, :, :height, :width], expected)


def test_batch_moves_to_a_device_in_one_call():
    batch = load()[0].to("meta")
    assert batch.images.tensors.is_meta and batch.targets[0].bbox.is_meta and batch.seeds.is_meta


@pytest.mark.parametrize(
    ("lacks", "overrides"),
    [
        ("get_img_info", []),
        (
            "target",
            ["DATALOADER.ASPECT_RATIO_GROUPING", False, "DATALOADER.SAMPLER", "repeat_factor"],
        ),
    ],
)
def test_what_a_data_set_lacks_is_named(lacks, overrides):
    class Bare:
        def __len__(self):
            return 3

    with pytest.raises(ValueError, match=f"Bare has no {lacks}"):
        make_data_loader(config(*overrides), dataset=Bare())


def test_data_set_that_says_no_size_is_named():
    class Scales(Scenes):
        def get_img_info(self, index):
            return {"size": 40}

    with pytest.raises(
        ValueError, match=r"Scales\.get_img_info\(0\) must give .* height and width"
    ):
        make_data_loader(config(), dataset=Scales())


def _labelled(labels, box=(1, 1, 3, 3), **fields):
    target = BoxList(torch.tensor([box], dtype=torch.float32), (5, 4))
    for name, value in {"labels": torch.tensor(labels), **fields}.items():
        target.add_field(name, value)
    return np.zeros((4, 5, 3), np.uint8), target, 0


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((np.zeros((4, 5), np.uint8), BoxList([], (5, 4)), 0), "uint8 RGB"),
        ((np.zeros((4, 5, 3), np.uint8), {"boxes": []}, 0), "expected a BoxList"),
        ((np.zeros((4, 5, 3), np.uint8), BoxList([], (4, 5)), 0), "5 x 4 pixels"),
        ((np.zeros((4, 5, 3), np.uint8), BoxList([], (5, 4)), 0), "labels"),
        (None, "gives .image, BoxList, index., got NoneType"),
        ({"image": 1, "target": 2}, "got dict"),
        ((BoxList([], (5, 4)), np.zeros((4, 5, 3), np.uint8)), "expected a BoxList, got ndarray"),
        (_labelled([1.0]), "int64 from 1, got torch.float32"),
        (_labelled([0]), "label 0 is below 1"),
        (_labelled([1], box=[1, 1, float("nan"), 3]), "box 0, .*nan.* is not finite"),
        (_labelled([1], box=[3, 3, 1, 1]), "box 0, .3.0, 3.0, 1.0, 1.0.* has no area"),
        (_labelled([1], masks=SegmentationMask([[[0, 0, 2, 0, 2, 2]]], (9, 9))), "'masks' is of"),
    ],
)
def test_wrong_sample_is_named(sample, message):
    with pytest.raises((TypeError, ValueError), match=f"sample 0: .*{message}"):
        load("DATALOADER.ASPECT_RATIO_GROUPING", False, dataset=[sample])


def test_limit_of_open_files_is_raised():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        make_data_loader(config(), dataset=Scenes())
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(8192, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_default_ranks_are_one_process():
    assert (comm.get_rank(), comm.get_world_size()) == (0, 1)
    assert [b.indices for b in load(is_distributed=True)] == [b.indices for b in load()]


def test_real_photos_become_batches(test_data):
    folder = test_data / "coco_mini"
    annotations = folder / "annotations" / "instances_train2017.json"
    names = [f"coco:{annotations}:{folder / 'train2017'}"]
    cfg = get_cfg(overrides=["DATALOADER.NUM_WORKERS", 1, "DATASETS.TRAIN", names])
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 2, "MODEL.MASK_ON", True])
    batches = list(make_data_loader(cfg, num_iterations=3))
    assert len(batches) == 3
    for batch in batches:
        for target, (height, width) in zip(batch.targets, batch.images.image_sizes, strict=True):
            assert min(height, width) == 800 or max(height, width) == 1333
            x1, y1, x2, y2 = target.bbox.unbind(1)
            assert (x1 >= 0).all() and (y1 >= 0).all() and (x1 < x2).all() and (y1 < y2).all()
            assert (x2 <= width).all() and (y2 <= height).all()
            assert len(target.get_field("masks")) == len(target) > 0
