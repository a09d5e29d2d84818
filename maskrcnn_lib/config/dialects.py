"""The conventions in which the published toolboxes differ, one named set per toolbox.

A checkpoint gives its own published numbers only under the conventions that it was trained with.
Inside the library boxes are continuous: width = x2 - x1, pixel centres at +0.5. What a toolbox does
differently at the edges stands here and nowhere else; ``MODEL.DIALECT`` names the set to use.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PasteRule:
    """How the probabilities of a mask become pixels of the image.

    Attributes:
        aligned: the argument of ``layers.paste_masks`` and ``layers.masks_to_rle``.
        box_end_offset: added to x2 and y2 of the boxes that masks are pasted into.
    """

    aligned: bool = False
    box_end_offset: float = 0.0

    def boxes(self, detected: "Tensor") -> "Tensor":
        """(N, 4) xyxy boxes to paste into, for (N, 4) boxes of detections."""
        end = self.box_end_offset
        return detected + detected.new_tensor([0.0, 0.0, end, end])


DEFAULT_PASTE = PasteRule()


@dataclass(frozen=True)
class Dialect:
    """Conventions of one toolbox.

    Attributes:
        name: value of ``MODEL.DIALECT``.
        anchors: ``"legacy"``: sizes quantised at stride scale, centred on stride / 2;
            ``"rounded"``: corners rounded to integers, centred on the grid corner, stride taken
            from padded image size // feature map size; ``"exact"``: no rounding, centred on the
            grid corner; ``"closed"``: corners of closed boxes rounded, centred on stride / 2.
        roi_align_aligned: whether RoIAlign subtracts half a pixel from the RoI's corners.
        box_end_offset: added to x2 and y2 before RoIAlign samples, before masks are pasted and
            before boxes are rescaled. -1 reproduces the closed-pixel boxes of Caffe2 times.
        paste: ``"integer"``: the mask is resized to the box truncated to whole pixels, a pixel
            belongs to it when its value is > threshold; ``"pixel_centre"``: the mask is sampled at
            pixel centres of the continuous box, >= threshold.
        resize: ``"antialias"``: uint8 bilinear with antialiasing, as PIL; ``"float"``: bilinear on
            the normalised float image without antialiasing; ``"align_corners"``: the same with
            corner pixels mapped onto each other.
        output_size: rule for the resized height and width: ``"truncate_long"`` short side exact,
            long side truncated (torchvision's PIL resize); ``"floor"`` both sides
            floor(size * scale); ``"round"`` both sides int(size * scale + 0.5).
        min_detection_size: detections narrower or lower than this many pixels are dropped.
        rpn_loss_beta: difference at which the smooth-L1 loss of the RPN turns linear; 0 is L1.
        box_loss_beta: the same in the box head.
        mask_target: what the mask head learns: ``"raster"``: the mask cut to the region and
            rasterised at the head's resolution, 0 or 1; ``"roi_align"``: RoIAlign of the image's
            bitmap, any share between 0 and 1.
        limit_shrinking: whether boxes shrink by the factor 16 / 1000 at most when they are decoded,
            as they grow by its inverse at most everywhere.
        keypoint_offset: added to the coordinates of keypoints, which name a pixel in COCO's files,
            on their way in, and taken away on their way out: 0.5 to its middle. torchvision takes
            them as they are.
        keypoint_in_object: whether the keypoint head learns only from objects that have a labelled
            keypoint in their own box.
        whole_anchor_sizes: whether the anchor sizes between RetinaNet's octaves are cut to whole
            pixels.
        resample_stages: whether each stage of a cascade draws its regions anew, with the ground
            truth among them; otherwise those of the first stage are refined and labelled anew.
        average_logits: whether the stages of a cascade average logits, and not probabilities.
        dense_normaliser: what the losses of one-stage detectors are divided by: ``"batch"``,
            ``"batch_and_images"`` or ``"image"``; see modeling/dense/loss.py. (detectron2 averages
            the number of positives over iterations; here it is the batch's own.)
    """

    name: str
    anchors: Literal["legacy", "rounded", "exact", "closed"]
    roi_align_aligned: bool
    box_end_offset: float
    paste: Literal["integer", "pixel_centre"]
    resize: Literal["antialias", "float", "align_corners"]
    output_size: Literal["truncate_long", "floor", "round"]
    min_detection_size: float
    rpn_loss_beta: float
    box_loss_beta: float
    mask_target: Literal["raster", "roi_align"]
    limit_shrinking: bool = False
    keypoint_offset: float = 0.5
    keypoint_in_object: bool = False
    whole_anchor_sizes: bool = False
    resample_stages: bool = False
    average_logits: bool = False
    dense_normaliser: Literal["batch", "batch_and_images", "image"] = "batch"

    @property
    def paste_rule(self) -> PasteRule:
        """``paste`` and ``box_end_offset``, as those who paste masks need them."""
        return PasteRule(self.paste == "pixel_centre", self.box_end_offset)


_MASKRCNN_BENCHMARK = Dialect(
    name="maskrcnn_benchmark",
    anchors="legacy",
    roi_align_aligned=False,
    box_end_offset=-1.0,
    paste="integer",
    resize="antialias",
    output_size="truncate_long",
    min_detection_size=0.0,
    rpn_loss_beta=1 / 9,
    box_loss_beta=1.0,
    mask_target="raster",
    keypoint_in_object=True,
    dense_normaliser="batch_and_images",
)
_TORCHVISION = Dialect(
    name="torchvision",
    anchors="rounded",
    roi_align_aligned=False,
    box_end_offset=0.0,
    paste="integer",
    resize="float",
    output_size="floor",
    min_detection_size=1e-2,
    rpn_loss_beta=1 / 9,
    box_loss_beta=1 / 9,
    mask_target="roi_align",
    keypoint_offset=0.0,
    whole_anchor_sizes=True,
    dense_normaliser="image",
)
_DETECTRON2 = Dialect(
    name="detectron2",
    anchors="exact",
    roi_align_aligned=True,
    box_end_offset=0.0,
    paste="pixel_centre",
    resize="antialias",
    output_size="round",
    min_detection_size=0.0,
    rpn_loss_beta=0.0,
    box_loss_beta=0.0,
    mask_target="raster",
)
_D2GO = replace(_DETECTRON2, name="d2go", resize="align_corners", output_size="floor")
# mmdetection resizes whole numbers with OpenCV; "float" does not round them.
_MMDET = replace(
    _DETECTRON2,
    name="mmdet",
    resize="float",
    limit_shrinking=True,
    resample_stages=True,
    average_logits=True,
)
# mmdetection before version 2, as its later versions run the old files
_MMDET_V1 = replace(
    _MMDET,
    name="mmdet_v1",
    anchors="closed",
    roi_align_aligned=False,
    box_end_offset=-1.0,
    rpn_loss_beta=1 / 9,
    box_loss_beta=1.0,
)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (_MASKRCNN_BENCHMARK, _TORCHVISION, _DETECTRON2, _D2GO, _MMDET, _MMDET_V1)
}


def get_dialect(name: str) -> Dialect:
    """Returns the dialect called ``name``; raises ValueError naming the known ones."""
    if name not in DIALECTS:
        raise ValueError(f"MODEL.DIALECT {name!r} is unknown; choose one of {sorted(DIALECTS)}")
    return DIALECTS[name]
