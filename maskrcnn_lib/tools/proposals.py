"""``maskrcnn proposals``: writes the regions that a model proposes, for Fast R-CNN to look at.

Any two-stage model will do; its heads are not used. The file goes into
``DATASETS.PROPOSAL_FILES_TRAIN`` or ``PROPOSAL_FILES_TEST`` of a config with
``MODEL.LOAD_PROPOSALS``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.model_options import add_model_arguments

if TYPE_CHECKING:
    from maskrcnn_lib.data.proposals import Regions
    from maskrcnn_lib.engine.inference import Detector


def dump_proposals(
    output: str | Path,
    *,
    annotations: str | Path,
    images: str | Path,
    config: str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    batch_size: int = 1,
    overrides: Sequence[Any] = (),
    progress: bool = True,
) -> dict[int, "Regions"]:
    """Runs a model's region proposal network over a data set.

    Args:
        output: ``.npz`` or ``.json`` to write.
        annotations, images: a COCO JSON file and the directory of its images.
        config: config name or file.
        model: name of a published model, instead of ``config``; its trained weights are taken.
        weights: path, catalog name or URL; by default those of ``model``, or the config's
            ``MODEL.WEIGHT``.
        batch_size: images per forward pass.
        overrides: config keys and values, alternating; ``MODEL.RPN.POST_NMS_TOP_N_TEST`` and
            ``FPN_POST_NMS_TOP_N_TEST`` say how many proposals there are.

    Returns:
        What was written: proposals by image id, in pixels of the original images.

    Raises:
        ValueError: neither a config nor a model is named, the weights do not fit, or ``output`` has
            another ending.
        FileNotFoundError: a file that is needed does not exist.
    """
    from maskrcnn_lib.data.datasets import COCODataset
    from maskrcnn_lib.data.proposals import check_writable, write_proposals
    from maskrcnn_lib.engine.inference import build_detector, choose_model

    if config is None and model is None:
        raise ValueError("no model: give --model or --config-file")
    check_writable(output)
    overrides = [*overrides, "MODEL.RPN_ONLY", True, "MODEL.MASK_ON", False]
    overrides += ["MODEL.KEYPOINT_ON", False]
    cfg, weights = choose_model(model=model, config=config, weights=weights, overrides=overrides)
    detector = build_detector(cfg, weights, allow_proposals=True)
    if not detector.only_proposes:
        raise ValueError("this model has no region proposal network: it finds objects in one stage")
    dataset = COCODataset(annotations, images)
    found = _propose(detector, dataset, batch_size=batch_size, progress=progress)
    write_proposals(output, found)
    return found


def _propose(
    detector: "Detector", dataset: Any, *, batch_size: int, progress: bool
) -> dict[int, "Regions"]:
    from maskrcnn_lib.data.proposals import Regions, image_ids
    from maskrcnn_lib.engine.testing import batches_of, read_images
    from maskrcnn_lib.utils.progress_bar import progress_bar

    ids = image_ids(dataset)
    found = {}
    with progress_bar(len(ids), "image", shown=progress) as bar:
        for indices in batches_of(range(len(ids)), batch_size):
            batch = read_images(dataset, indices)
            for index, regions in zip(indices, detector(batch), strict=True):
                scores = regions.get_field("objectness")
                found[ids[index]] = Regions(regions.bbox.numpy(), scores.numpy())
            bar.update(len(indices))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    add_model_arguments(parser, required=True)
    parser.add_argument("--json", metavar="J", required=True, help="COCO annotation file")
    parser.add_argument("--images", metavar="DIR", required=True, help="directory of its images")
    parser.add_argument("--output", metavar="F", required=True, help="file to write: .npz or .json")
    parser.add_argument("--batch-size", type=count, default=1, metavar="N", help="default: 1")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0."""
    found = dump_proposals(
        args.output,
        annotations=args.json,
        images=args.images,
        config=args.config_file,
        model=args.model,
        weights=args.weights,
        batch_size=args.batch_size,
        overrides=args.opts,
    )
    count = sum(len(regions.boxes) for regions in found.values())
    print(f"{count} proposals of {len(found)} images written to {args.output}")
    return 0
