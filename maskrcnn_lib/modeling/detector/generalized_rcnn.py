"""The two-stage detector: Faster R-CNN, and with further heads Mask and Keypoint R-CNN
(arXiv:1703.06870)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maskrcnn_lib.modeling.losses import mean_losses
from maskrcnn_lib.modeling.outputs import Detections, Proposals
from maskrcnn_lib.modeling.suppression import Candidates
from maskrcnn_lib.modeling.targets import Seeds, batch_targets
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list
from maskrcnn_lib.structures.keypoint import Keypoints, Skeleton, make_keypoints


class GeneralizedRCNN(nn.Module):
    """Backbone, region proposals, and heads that work on the regions.

    Args:
        backbone: maps (N, 3, H, W) to a list of feature maps, finest first.
        rpn: maps (images, features) to Proposals; learns from (images, features, targets).
        roi_heads: maps (features, proposals, image_sizes) to Detections; learns from (features,
            proposals, targets); None for a model that stops after the proposals.
        size_divisible: height and width of a batch are padded to multiples of this; 0 for none.
    """

    def __init__(
        self,
        backbone: nn.Module,
        rpn: nn.Module,
        roi_heads: nn.Module | None = None,
        *,
        size_divisible: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.size_divisible = size_divisible

    def forward(
        self,
        images: ImageList | Sequence[Tensor] | Tensor,
        targets: Sequence[BoxList] | None = None,
        *,
        seeds: Seeds | None = None,
    ) -> list[BoxList] | dict[str, Tensor]:
        """Finds the objects in each image; in training mode says how far it is off.

        Args:
            images: an ImageList, a list of (3, H, W) tensors, or a batch (N, 3, H, W); resized and
                normalised already.
            targets: in training mode, per image its objects in pixels of the resized image, with
                field ``labels`` (n,) int64 from 1 and, for a mask head, ``masks``
                (SegmentationMask), for a keypoint head ``keypoints`` (Keypoints, to whose
                coordinates ``Dialect.keypoint_offset`` has been added). An image may have none. Not
                looked at in evaluation mode.
            seeds: in training mode, one integer per image, from which the choice of anchors and
                regions follows; None draws them from torch's global generator.

        Returns:
            In evaluation mode, one BoxList per image, in pixels of the resized image and sorted by
            score, highest first; with fields ``scores`` (n,), ``labels`` (n,) int64 from 1, and
            with a mask head ``mask`` (n, 1, M, M) probabilities inside the box; where masks are
            rated ``mask_scores`` (n,); with a keypoint head ``keypoints`` (Keypoints, all of
            visibility 1), whose field ``logits`` (n, P) says how sure each point is. A model
            without heads returns its proposals, with field ``objectness`` (n,).

            In training mode, scalar losses to be added up: ``loss_objectness``,
            ``loss_rpn_box_reg``, and with heads ``loss_classifier``, ``loss_box_reg``,
            ``loss_mask``, ``loss_maskiou``, ``loss_kp``; those of a cascade end in ``_stage0``,
            ``_stage1``, ... Their mean over the ranks is the loss of the whole batch.

        Raises:
            ValueError: in training mode without targets, or with targets that do not fit.
            KeyError: a target lacks a field.
        """
        images = to_image_list(images, self.size_divisible)
        if self.training:
            if targets is None:
                raise ValueError(
                    "the model is in training mode and needs targets: call model(images, targets), "
                    "or model.eval() first to detect objects"
                )
            return self._losses(images, targets, seeds)
        keypoint_head = None if self.roi_heads is None else self.roi_heads.keypoint
        skeleton = None if keypoint_head is None else keypoint_head.skeleton
        return to_boxlists(self.detect(images), images.image_sizes, skeleton=skeleton)

    def _losses(
        self, images: ImageList, targets: Sequence[BoxList], seeds: Seeds | None
    ) -> dict[str, Tensor]:
        heads = self.roi_heads
        truth = batch_targets(
            targets,
            images.image_sizes,
            device=images.tensors.device,
            num_classes=None if heads is None else heads.num_classes,
            with_masks=heads is not None and heads.mask is not None,
            num_keypoints=0 if heads is None else heads.num_keypoints,
            seeds=seeds,
        )
        features = self.backbone(images.tensors)
        proposals, losses = self.rpn.learn(images, features, truth)
        if heads is not None:
            losses |= heads.learn(features, proposals, truth, images.size_tensor())
        return mean_losses(losses)

    def detect(self, images: ImageList) -> Detections | Proposals:
        """The same as ``forward`` on a padded batch, but leaves the result batched on its device.

        Nothing in here waits for a GPU.
        """
        features = self.backbone(images.tensors)
        proposals = self.rpn(images, features)
        if self.roi_heads is None:
            return proposals
        return self.roi_heads(features, proposals, images.size_tensor())

    def candidates(self, images: ImageList, features: Sequence[Tensor]) -> Candidates:
        """What may become a detection; for those who look at an image more than once.

        Args:
            images: a padded batch.
            features: what the backbone makes of it.
        """
        proposals = self.rpn(images, features)
        return self.roi_heads.candidates(features, proposals, images.size_tensor())

    def suppress(self, candidates: Candidates) -> Detections:
        """The detections among the candidates, without masks and keypoints."""
        return self.roi_heads.box.suppress(candidates)


def to_boxlists(
    results: Detections | Proposals,
    image_sizes: Sequence[tuple[int, int]],
    *,
    skeleton: Skeleton | None = None,
) -> list[BoxList]:
    """Splits a batched result into one BoxList per image, without the unused slots.

    Args:
        results: the output of ``GeneralizedRCNN.detect``.
        image_sizes: per image, height and width without padding, in pixels.
        skeleton: names and connections of the keypoints; None where they are not known.
    """
    boxlists = []
    for i, (used, (height, width)) in enumerate(
        zip(results.valid.sum(dim=1).tolist(), image_sizes, strict=True)
    ):
        boxlist = BoxList(results.boxes[i, :used], (width, height), mode="xyxy")
        if isinstance(results, Proposals):
            boxlist.add_field("objectness", results.scores[i, :used])
        else:
            boxlist.add_field("scores", results.scores[i, :used])
            boxlist.add_field("labels", results.labels[i, :used])
            if results.masks is not None:
                boxlist.add_field("mask", results.masks[i, :used, None])
            if results.mask_scores is not None:
                boxlist.add_field("mask_scores", results.mask_scores[i, :used])
            if results.keypoints is not None:
                points = results.keypoints[i, :used]
                boxlist.add_field("keypoints", _keypoints(points, boxlist, skeleton))
        boxlists.append(boxlist)
    return boxlists


def _keypoints(points: Tensor, boxlist: BoxList, skeleton: Skeleton | None) -> Keypoints:
    """Keypoints of detections; points: (n, P, 3) x, y, logit."""
    seen = torch.cat((points[..., :2], torch.ones_like(points[..., 2:])), dim=-1)
    keypoints = make_keypoints(seen, boxlist.size, skeleton)
    keypoints.add_field("logits", points[..., 2])
    return keypoints
