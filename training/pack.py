"""Makes the file of weights that the package carries from a checkpoint of ``distill.py``.

    python training/pack.py output/model_final.pth maskrcnn_lib/weights/NAME.safetensors

Teacher's adaptor and optimizer stay behind; layers become 8-bit integers. Prints size and SHA-256,
which belong into ``config/zoo/packaged.py``.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.compact import save_compact
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

_STUDENT = "student."


def pack(checkpoint: Path, target: Path, config: str) -> None:
    """Writes the student of ``checkpoint`` to ``target``; ValueError where it does not fit."""
    content = read_checkpoint(checkpoint)
    weights = {
        name.removeprefix(_STUDENT): value
        for name, value in content["model"].items()
        if name.startswith(_STUDENT)
    }
    cfg = get_cfg(config, ["MODEL.ROI_BOX_HEAD.NUM_CLASSES", len(content["class_names"])])
    model = build_detection_model(cfg)
    load_weights(model, weights, strict=True)
    save_compact(model, target, class_names=content["class_names"], config=cfg.dump())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--config-file", default="maskrcnn_lib/mask_rcnn_mobilenetv2")
    args = parser.parse_args()
    pack(args.checkpoint, args.target, args.config_file)
    data = args.target.read_bytes()
    print(f"{args.target}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
