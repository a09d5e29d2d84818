"""Regions that come with the images, in place of a region proposal network: Fast R-CNN
(Girshick, arXiv:1504.08083)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.utils.transfer import send


class GivenProposals(nn.Module):
    """Takes the proposals of an image list; stands where other models have their RPN."""

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> Proposals:
        """Returns the proposals of each image, clipped to it; those without area are left out.

        Args:
            images: with ``proposals``, which are on the CPU.
            features: the backbone's maps, whose device gets the proposals.

        Raises:
            ValueError: the images come without proposals, or with those of other sizes.
        """
        if images.proposals is None:
            raise ValueError(
                "this model looks at given regions (MODEL.LOAD_PROPOSALS), but the images come "
                "without: name files in DATASETS.PROPOSAL_FILES_TRAIN and PROPOSAL_FILES_TEST, or "
                "set ImageList.proposals"
            )
        for index, (given, (height, width)) in enumerate(
            zip(images.proposals, images.image_sizes, strict=True)
        ):
            if given.size != (width, height):
                raise ValueError(
                    f"the proposals of image {index} are for one of {given.size[0]} x "
                    f"{given.size[1]} pixels, but it has {width} x {height}"
                )
        usable = [given.convert("xyxy").clip_to_image() for given in images.proposals]
        device = features[0].device
        counts = torch.tensor([len(boxes) for boxes in usable])
        boxes = pad_sequence([boxes.bbox for boxes in usable], batch_first=True)  # (N, R, 4)
        scores = pad_sequence([boxes.get_field("objectness") for boxes in usable], batch_first=True)
        valid = torch.arange(boxes.shape[1]) < counts[:, None]
        return Proposals(*(send(part, device) for part in (boxes, scores, valid)))

    def learn(
        self, images: ImageList, features: Sequence[Tensor], targets: Targets
    ) -> tuple[Proposals, dict[str, LossSum]]:
        """Returns the same proposals, and no losses: there is nothing to learn here."""
        return self(images, features), {}
