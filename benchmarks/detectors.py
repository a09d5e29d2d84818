"""Mask R-CNN of this library and of torchvision with the same weights, and something to learn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.collate import Batch
from maskrcnn_lib.engine.step import TrainingStep
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.solver import make_lr_scheduler, make_optimizer
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

NUM_CLASSES = 91
CONFIG = "torchvision/maskrcnn_resnet50_fpn"
LEARNING_RATE = 1e-4
Size = tuple[int, int]


def make_truth(images: int, size: Size, objects: int) -> list[BoxList]:
    """Ground truth of each image: octagons of many sizes."""
    height, width = size
    targets = []
    for _ in range(images):
        extent = 20 + torch.rand(objects, 2) ** 2 * torch.tensor([width, height]) * 0.6
        start = torch.rand(objects, 2) * (torch.tensor([width, height]) - extent)
        boxes = torch.cat((start, start + extent), dim=1)
        outlines = []
        for x1, y1, x2, y2 in boxes.tolist():
            w, h = (x2 - x1) / 3, (y2 - y1) / 3
            outline = [x1 + w, y1, x2 - w, y1, x2, y1 + h, x2, y2 - h]
            outline += [x2 - w, y2, x1 + w, y2, x1, y2 - h, x1, y1 + h]
            outlines.append([outline])
        target = BoxList(boxes, (width, height))
        target.add_field("labels", torch.randint(1, NUM_CLASSES, (objects,)))
        target.add_field("masks", SegmentationMask(outlines, (width, height)))
        targets.append(target)
    return targets


def make_batch(images: int, size: Size, objects: int) -> Batch:
    """What a loader would give: images of noise, and objects."""
    pixels = torch.rand(images, 3, *size).to(memory_format=torch.channels_last)
    targets = make_truth(images, size, objects)
    return Batch(ImageList(pixels, [size] * images), targets, [0] * images, torch.arange(images))


def make_peer(size: Size) -> nn.Module:
    """torchvision's model as its users train it: frozen norms, and three trained stages.

    The weights are random, but the norms' constants are the statistics of noise, so that features
    have the magnitude that those of trained models have.
    """
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    def backbone(norm: Callable[..., nn.Module]) -> nn.Module:
        return resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=3
        )

    measuring = backbone(lambda channels: nn.BatchNorm2d(channels, momentum=1.0)).train()
    with torch.no_grad():
        measuring(torch.rand(2, 3, 256, 256))
    frozen = backbone(FrozenBatchNorm2d)
    frozen.load_state_dict(measuring.state_dict(), strict=False)  # all but counts of batches
    return MaskRCNN(
        frozen,
        NUM_CLASSES,
        min_size=min(size),
        max_size=max(size),
        image_mean=[0.0] * 3,  # ours gets images as they are, too: the same features, and so the
        image_std=[1.0] * 3,  # same number of proposals that overlap an object
    )


def make_ours(weights: dict[str, Tensor], **changes: object) -> nn.Module:
    """Our model with torchvision's weights; ``changes`` are config keys, "." written as "__"."""
    overrides = {"MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 2}
    overrides |= {key.replace("__", "."): value for key, value in changes.items()}
    flat = [item for pair in overrides.items() for item in pair]
    model = build_detection_model(get_cfg(CONFIG, flat))
    load_weights(model, weights)
    return model.to(memory_format=torch.channels_last)


def our_training(
    model: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
) -> Callable[[], None]:
    """A function that trains our model once, with all that ``maskrcnn train`` does for a batch."""
    cfg = get_cfg(CONFIG, ["SOLVER.BASE_LR", LEARNING_RATE])
    optimizer = make_optimizer(cfg, model.to(device).train())
    step = TrainingStep(
        model, optimizer, make_lr_scheduler(cfg, optimizer), device=device, dtype=dtype
    )

    def train() -> None:
        step.gradients(batch)
        step.update()

    return train


def peer_training(
    model: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype
) -> Callable[[], None]:
    """A function that trains torchvision's model once, as its reference script does.

    Bitmaps are drawn and brought to the device before, as it expects them.
    """
    truth = [
        {
            "boxes": target.bbox.to(device),
            "labels": target.get_field("labels").to(device),
            "masks": target.get_field("masks").get_mask_tensor().to(device, torch.uint8),
        }
        for target in batch.targets
    ]
    images = list(batch.images.tensors.contiguous().to(device))
    trained = [value for value in model.to(device).train().parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(trained, LEARNING_RATE, momentum=0.9, weight_decay=1e-4)

    def train() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = sum(model(images, truth).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # its script looks at the loss after each step

    return train
