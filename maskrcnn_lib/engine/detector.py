"""A trained model with everything that it needs to run on raw images."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from maskrcnn_lib.checkpoint import LoadReport
from maskrcnn_lib.config.dialects import Dialect, PasteRule
from maskrcnn_lib.data.transforms import ImageTransform
from maskrcnn_lib.engine.postprocess import restore_original_size
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import to_image_list


class Detector:
    """A trained model with everything that it needs to run on raw images.

    Several threads may call one: a call leaves nothing behind that another one sees.

    Args:
        model: in evaluation mode, on ``device``; takes an ImageList, gives one BoxList per image.
        transform: from uint8 RGB to the normalised tensor.
        dialect: conventions of the model's toolbox.
        size_divisible: batches are padded to a multiple of this; 0 for none.
        device: of the model.
        dtype: of the network's arithmetic; other than float32 runs under autocast.
        class_names: name per label, index 0 being the background.
        report: how the weights were loaded.
        only_proposes: the model gives regions with field ``objectness``, no detections.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        transform: ImageTransform,
        dialect: Dialect,
        size_divisible: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        class_names: Sequence[str] = (),
        report: LoadReport | None = None,
        only_proposes: bool = False,
    ) -> None:
        self.model = model
        self.transform = transform
        self.dialect = dialect
        self.size_divisible = size_divisible
        self.device = device
        self.dtype = dtype
        self.class_names = tuple(class_names)
        self.report = report
        self.only_proposes = only_proposes

    @property
    def paste_rule(self) -> PasteRule:
        """How this model's masks are pasted into the image."""
        return self.dialect.paste_rule

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], proposals: Sequence[BoxList] | None = None
    ) -> list[BoxList]:
        """Runs the model on one batch.

        Args:
            images: (H, W, 3) uint8 RGB arrays, of any sizes.
            proposals: per image the regions to look at, in its pixels and with field
                ``objectness``; for models with ``MODEL.LOAD_PROPOSALS``.

        Returns:
            Per image a BoxList on the CPU in pixels of that image, by descending score, with
            fields ``scores`` (N,), ``labels`` (N,) and, for a Mask R-CNN, ``mask`` (N, 1, M, M)
            probabilities inside the boxes.
        """
        if isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 3:
            raise TypeError("images must be a sequence of images, got one image: [image] is one")
        if not len(images):
            return []
        batch = to_image_list([self.transform(image) for image in images], self.size_divisible)
        if proposals is not None:
            sizes = [(width, height) for height, width in batch.image_sizes]
            batch.proposals = [p.resize(s) for p, s in zip(proposals, sizes, strict=True)]
        batch.tensors = batch.tensors.to(self.device, memory_format=torch.channels_last)
        with self._autocast():
            outputs = self.model(batch)
        return [
            restore_original_size(output.to("cpu"), (image.shape[1], image.shape[0]), self.dialect)
            for output, image in zip(outputs, images, strict=True)
        ]

    def _autocast(self) -> AbstractContextManager:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
