"""Mask R-CNN R-50-FPN trained on the balloons, against torchvision's, in one process.

    OMP_NUM_THREADS=1 python benchmarks/balloon.py [KEY VALUE ...] [--data datasets/balloon]
        [--seeds 0 1] [--full] [--threads 1]

Both models begin with the same weights: a body learned on ImageNet (``MODEL.WEIGHT``) and heads
that torchvision draws. They see the same batches, are updated by the same optimizer and schedule,
and their detections go through the same pasting and pycocotools. What is left to differ is the
model itself: anchors, sampling, losses, decoding, and the operators beneath.

By default the photos are small and the epochs few, which suits a CPU. ``--full`` takes the config
as it stands and wants a GPU. Times are those of the training iterations with their data: CPU time
of the process, on a GPU wall time.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.config.paths_catalog import load_model_catalog
from maskrcnn_lib.data.build import make_data_loader
from maskrcnn_lib.data.datasets import build_train_dataset
from maskrcnn_lib.data.datasets.build import build_test_datasets
from maskrcnn_lib.data.transforms import build_transform
from maskrcnn_lib.engine.inference import DTYPES, Detector, resolve_device
from maskrcnn_lib.engine.measuring import measure_dataset
from maskrcnn_lib.engine.preflight import class_names
from maskrcnn_lib.engine.step import TrainingStep
from maskrcnn_lib.engine.trainer import seed_generators
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.solver import make_lr_scheduler, make_optimizer
from maskrcnn_lib.solver.plan import check_schedule, plan_schedule
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.utils.random import hash_integers

CONFIG = "balloon/mask_rcnn_R_50_FPN"
# torchvision counts the proposals that go on to the heads per image.
COMMON = {"MODEL.RPN.FPN_POST_NMS_PER_BATCH": False, "DATALOADER.NUM_WORKERS": 0}
SHORT = {
    "DTYPE": "bfloat16",
    "INPUT.MIN_SIZE_TRAIN": (208, 240, 272),
    "INPUT.MIN_SIZE_TEST": 240,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 1000,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.REFERENCE_BATCH": 2,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.CLIP_GRADIENTS": 5.0,
    "SOLVER.MAX_EPOCH": 4,
    "SOLVER.STEPS": (3,),
    "SOLVER.WARMUP_ITERS": 20,
}
SHOW_EVERY = 20  # iterations


class Peer(nn.Module):
    """torchvision's Mask R-CNN behind the interface of our model.

    It takes batches that are resized, normalised and padded already, so that its own transform has
    nothing to do.

    Args:
        model: a ``torchvision.models.detection.MaskRCNN``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: ImageList, targets: list[BoxList] | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor] | list[BoxList]:
        """Losses in training, else detections with fields as our model gives them."""
        from torchvision.models.detection.image_list import ImageList as PeerImageList

        model, batch = self.model, PeerImageList(images.tensors, images.image_sizes)
        truth = None if targets is None else [_truth(t, images.tensors.device) for t in targets]
        features = model.backbone(images.tensors)
        proposals, rpn_losses = model.rpn(batch, features, truth)
        found, losses = model.roi_heads(features, proposals, images.image_sizes, truth)
        if self.training:
            return rpn_losses | losses
        return [_detections(one, size) for one, size in zip(found, images.image_sizes, strict=True)]


def _truth(target: BoxList, device: torch.device) -> dict[str, Tensor]:
    bitmaps = target.get_field("masks").get_mask_tensor().to(torch.uint8)
    width, height = target.size
    return {
        "boxes": target.bbox.to(device),
        "labels": target.get_field("labels").to(device),
        "masks": bitmaps.view(-1, height, width).to(device),
    }


def _detections(found: Mapping[str, Tensor], size: tuple[int, int]) -> BoxList:
    height, width = size
    detections = BoxList(found["boxes"], (width, height))
    detections.add_field("scores", found["scores"])
    detections.add_field("labels", found["labels"])
    detections.add_field("mask", found["masks"])
    return detections


def build_pair(cfg: Any) -> tuple[nn.Module, Peer]:
    """Our model and torchvision's with the same weights.

    Raises:
        ValueError: a weight of ours has no counterpart.
    """
    ours = build_detection_model(cfg)
    load_weights(
        ours, resolve_weights(cfg.MODEL.WEIGHT, catalog=load_model_catalog(cfg.PATHS_CATALOG))
    )
    peer = _build_peer(cfg)
    body = ours.backbone.body.state_dict()
    peer.backbone.body.load_state_dict({k.removeprefix("stem."): v for k, v in body.items()})
    report = load_weights(ours, peer.state_dict())
    if report.missing or report.reinitialised:
        raise ValueError(f"the models differ:\n{report}")
    return ours, Peer(peer)


def _build_peer(cfg: Any) -> nn.Module:
    """What ``maskrcnn_resnet50_fpn`` builds, with our config's numbers.

    That function takes batch norm where it loads no body of its own; norms are frozen here, and
    strides stand on the 1x1 convolutions, as the ImageNet body was trained.
    """
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=5 - cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
    )
    for name in ("layer2", "layer3", "layer4"):
        block = backbone.body[name][0]
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    heads, rpn = cfg.MODEL.ROI_HEADS, cfg.MODEL.RPN
    return MaskRCNN(
        backbone,
        cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES,
        rpn_pre_nms_top_n_train=rpn.PRE_NMS_TOP_N_TRAIN,
        rpn_pre_nms_top_n_test=rpn.PRE_NMS_TOP_N_TEST,
        rpn_post_nms_top_n_train=rpn.FPN_POST_NMS_TOP_N_TRAIN,
        rpn_post_nms_top_n_test=rpn.FPN_POST_NMS_TOP_N_TEST,
        box_score_thresh=heads.SCORE_THRESH,
        box_nms_thresh=heads.NMS,
        box_detections_per_img=heads.DETECTIONS_PER_IMG,
        box_batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
        box_positive_fraction=heads.POSITIVE_FRACTION,
    )


@dataclass(frozen=True)
class Result:
    """One training: mean AP of boxes and of masks in percent, and the seconds that it took."""

    box: float
    mask: float
    seconds: float


def train_and_measure(
    model: nn.Module, cfg: Any, *, dialect: str, dataset: Any, test: Any, label: str
) -> Result:
    """Trains a model by the config's schedule and scores it on ``test``.

    Args:
        dialect: conventions in which the model's detections are brought to the photo's size.
        label: for the lines that are printed.
    """
    device = resolve_device(cfg.MODEL.DEVICE)
    model = model.to(device, memory_format=torch.channels_last).train()
    seconds = _train(model, cfg, device, dataset, label)
    detector = Detector(
        model.eval(),
        transform=build_transform(cfg),
        dialect=get_dialect(dialect),
        size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY,
        device=device,
        dtype=DTYPES[cfg.DTYPE],
        class_names=class_names(dataset, cfg),
    )
    scores, _ = measure_dataset(detector, "val", test, backend="pycocotools", progress=False)
    box, mask = (100 * scores[kind].metrics["AP"] for kind in ("bbox", "segm"))
    print(f"{label}: box {box:.1f}  mask {mask:.1f}  {seconds:.0f} s", flush=True)
    return Result(box, mask, seconds)


def _train(model: nn.Module, cfg: Any, device: torch.device, dataset: Any, label: str) -> float:
    optimizer = make_optimizer(cfg, model)
    step = TrainingStep(
        model,
        optimizer,
        make_lr_scheduler(cfg, optimizer),
        device=device,
        dtype=DTYPES[cfg.DTYPE],
        clip_gradients=cfg.SOLVER.CLIP_GRADIENTS,
    )
    now = time.process_time if device.type == "cpu" else time.perf_counter
    started = now()
    for iteration, batch in enumerate(make_data_loader(cfg, dataset=dataset), start=1):
        seed_generators(hash_integers(cfg.SEED, iteration))
        outcome = step.gradients(batch)
        step.update()
        if iteration % SHOW_EVERY == 0:
            loss = outcome.values[len(outcome.names)].item()
            print(f"{label}: iteration {iteration}, loss {loss:.3f}", flush=True)
    outcome.values.tolist()  # waits for a GPU
    return now() - started


def make_config(arguments: argparse.Namespace, seed: int) -> Any:
    """The config of one training; its schedule is not planned yet."""
    data = arguments.data
    settings = COMMON | ({} if arguments.full else SHORT)
    settings["SEED"] = seed
    for key, split in (("TRAIN", "train"), ("TEST", "val")):
        settings[f"DATASETS.{key}"] = (f"coco:{data}/instances_{split}.json:{data}/{split}",)
    overrides = [word for setting in settings.items() for word in setting]
    return get_cfg(CONFIG, overrides + arguments.overrides)


def compare(arguments: argparse.Namespace, seed: int) -> dict[str, Result]:
    """Trains both models with one seed; results by name. The order changes from seed to seed."""
    cfg = make_config(arguments, seed)
    dataset = build_train_dataset(cfg)
    cfg = plan_schedule(cfg, len(dataset)).cfg
    check_schedule(cfg)
    (test,) = build_test_datasets(cfg).values()
    seed_generators(seed)
    ours, peer = build_pair(cfg)
    pair = [("maskrcnn_lib", ours, cfg.MODEL.DIALECT), ("torchvision", peer, "torchvision")]
    results = {}
    for name, model, dialect in pair if seed % 2 == 0 else reversed(pair):
        label = f"seed {seed}, {name}"
        results[name] = train_and_measure(
            model, cfg, dialect=dialect, dataset=dataset, test=test, label=label
        )
    return results


def print_table(results: list[dict[str, Result]]) -> None:
    """Means over the seeds, with the lowest and the highest, and the ratio of the times."""
    print(f"{'':14}{'box AP':>22}{'mask AP':>22}{'seconds':>10}")
    seconds = {}
    for name in results[0]:
        runs = [result[name] for result in results]
        seconds[name] = statistics.mean(run.seconds for run in runs)
        cells = []
        for values in ([run.box for run in runs], [run.mask for run in runs]):
            spread = f"({min(values):.1f} to {max(values):.1f})"
            cells.append(f"{statistics.mean(values):.1f} {spread}")
        print(f"{name:14}{cells[0]:>22}{cells[1]:>22}{seconds[name]:>10.0f}")
    print(f"{'ratio':14}{'':44}{seconds['torchvision'] / seconds['maskrcnn_lib']:>10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("datasets/balloon"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--full", action="store_true", help="the config as it stands; for a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys to set")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print_table([compare(arguments, seed) for seed in arguments.seeds])


if __name__ == "__main__":
    main()
