"""Data loaders for training and testing, as a config describes them."""

import signal
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from maskrcnn_lib.data.collate import Batch, BatchCollator
from maskrcnn_lib.data.datasets import build_dataset, build_train_dataset
from maskrcnn_lib.data.samplers import (
    EpochBatchSampler,
    GroupedBatchSampler,
    IterationBasedBatchSampler,
    RepeatFactorSampler,
    ShuffledSampler,
    repeat_factors,
)
from maskrcnn_lib.data.transformed_dataset import TransformedDataset
from maskrcnn_lib.data.transforms import CopyPaste, Step, build_transforms
from maskrcnn_lib.utils.collect_env import usable_processors
from maskrcnn_lib.utils.comm import get_rank, get_world_size

# Enough for 4 workers that prefetch 2 batches of 128 images with 8 tensors each.
_OPEN_FILES = 8192

__all__ = ["Batch", "BatchCollator", "make_data_loader"]


def make_data_loader(
    cfg: Any,
    is_train: bool = True,
    is_distributed: bool = False,
    start_iter: int = 0,
    *,
    dataset: Any = None,
    extra_steps: Sequence[Step] = (),
    num_iterations: int | None = None,
) -> Any:
    """The loader for training, or the list of loaders for testing, one per data set.

    Loaders yield :class:`Batch`. In training, the batches of all ranks and everything random about
    them depend on SEED and on the iteration alone: a run that starts at ``start_iter`` gets the
    images, in the same random variants, that an uninterrupted one gets there, whatever the number
    of workers and ranks. In testing, each image comes exactly once, on one of the ranks.

    Args:
        cfg: reads SEED, INPUT, DATASETS, DATALOADER, SOLVER.IMS_PER_BATCH, SOLVER.MAX_ITER,
            TEST.IMS_PER_BATCH.
        is_train: which of the two.
        is_distributed: share the images out to the processes of ``torch.distributed``.
        start_iter: training batches that have been used already.
        dataset: instead of ``DATASETS.TRAIN`` or ``DATASETS.TEST``, any object with ``__len__``,
            ``__getitem__(i) -> (image, BoxList, i)`` and ``get_img_info(i)``.
        extra_steps: training transforms of one's own.
        num_iterations: number of the last training batch, instead of ``SOLVER.MAX_ITER``.

    Raises:
        ValueError: the data set is empty or does not fit the model, or the images per batch are no
            multiple of the processes.
    """
    rank, world_size = (get_rank(), get_world_size()) if is_distributed else (0, 1)
    if not is_train:
        names = [None] if dataset is not None else cfg.DATASETS.TEST
        datasets = [dataset if name is None else build_dataset(cfg, name) for name in names]
        return [_test_loader(cfg, part, rank, world_size) for part in datasets]
    if dataset is None:
        dataset = build_train_dataset(cfg)
    batches = EpochBatchSampler(
        _build_sampler(cfg, dataset),
        _aspect_groups(cfg, dataset),
        cfg.SOLVER.IMS_PER_BATCH,
        rank=rank,
        world_size=world_size,
    )
    pasting = cfg.INPUT.COPY_PASTE
    transformed = TransformedDataset(
        dataset,
        build_transforms(cfg, extra_steps=extra_steps),
        copy_paste=CopyPaste(probability=pasting.PROB, scales=tuple(pasting.SCALES))
        if pasting.PROB > 0
        else None,
        on_bad_image=cfg.DATALOADER.ON_BAD_IMAGE,
    )
    iterations = cfg.SOLVER.MAX_ITER if num_iterations is None else num_iterations
    return _loader(cfg, transformed, IterationBasedBatchSampler(batches, iterations, start_iter))


def _test_loader(cfg: Any, dataset: Any, rank: int, world_size: int) -> DataLoader:
    """Each image once; an unreadable one is always an error, as scores need all of them."""
    batches = GroupedBatchSampler(
        range(rank, len(dataset), world_size),
        _aspect_groups(cfg, dataset),
        max(cfg.TEST.IMS_PER_BATCH // world_size, 1),
    )
    return _loader(cfg, TransformedDataset(dataset, build_transforms(cfg, False)), batches)


def _loader(cfg: Any, dataset: TransformedDataset, batch_sampler: Any) -> DataLoader:
    _allow_open_files()
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        # more workers than processors only wait for each other
        num_workers=min(cfg.DATALOADER.NUM_WORKERS, usable_processors()),
        collate_fn=BatchCollator(cfg.DATALOADER.SIZE_DIVISIBILITY, cfg.DATALOADER.PAD_TO),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_sit_out_signals,
        # its own, so that loading draws nothing from the process's generator
        generator=torch.Generator(),
    )


def _sit_out_signals(worker: int) -> None:
    """Keeps a worker at work when SIGTERM or Ctrl-C comes to all processes, so that an iteration
    can finish.

    A second SIGTERM ends it. PyTorch gives workers a handler of its own before this runs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(
        signal.SIGTERM, lambda number, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL)
    )


def _allow_open_files() -> None:
    """Raises the limit of open files: each tensor that a worker hands over is one for a while."""
    try:
        import resource
    except ImportError:  # there is no such limit outside Unix
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _aspect_groups(cfg: Any, dataset: Any) -> list[int]:
    """Group of each image: 1 for portrait and square, 0 for landscape; all 0 without grouping."""
    if not cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        return [0] * len(dataset)
    if not hasattr(dataset, "get_img_info"):
        raise ValueError(
            f"{type(dataset).__name__} has no get_img_info(index), which gives height and width: "
            "write one, or set DATALOADER.ASPECT_RATIO_GROUPING False"
        )
    return [int(height >= width) for height, width in map(_size_in(dataset), range(len(dataset)))]


def _size_in(dataset: Any) -> Callable[[int], tuple[int, int]]:
    def size(index: int) -> tuple[int, int]:
        info = dataset.get_img_info(index)
        try:
            return info["height"], info["width"]
        except (KeyError, TypeError):
            raise ValueError(
                f"{type(dataset).__name__}.get_img_info({index}) must give a dict with height and "
                f"width, got {info!r}"
            ) from None

    return size


def _build_sampler(cfg: Any, dataset: Any) -> ShuffledSampler:
    if cfg.DATALOADER.SAMPLER != "repeat_factor":
        return ShuffledSampler(len(dataset), seed=cfg.SEED)
    if not hasattr(dataset, "target"):
        raise ValueError(
            f"{type(dataset).__name__} has no target(index), the BoxList without the image, which "
            'DATALOADER.SAMPLER "repeat_factor" needs to count classes'
        )
    labels = [dataset.target(i).get_field("labels").tolist() for i in range(len(dataset))]
    factors = repeat_factors(labels, cfg.DATALOADER.REPEAT_THRESHOLD)
    return RepeatFactorSampler(factors, seed=cfg.SEED)
