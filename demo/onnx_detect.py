"""Finds objects with an exported ONNX file: ONNX Runtime, NumPy and Pillow, nothing else.

    maskrcnn export --format onnx --output model.onnx
    python demo/onnx_detect.py model.onnx photo.jpg --output found.png

Prints the detections and draws boxes, masks and key points. docs/export.md explains the file.
"""

import argparse
import json
import math

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw


def network_size(height: int, width: int, rule: dict) -> tuple[int, int]:
    """(height, width) at the network's scale."""
    short, long = min(height, width), max(height, width)
    side, limit = rule["short_side"], rule["longest_side"]
    if rule["size_rule"] == "truncate_long":
        if limit and long / short * side > limit:
            side = max(1, round(limit * short / long))
        if width < height:
            return int(side * height / width), side
        return side, int(side * width / height)
    scale = side / short
    if limit and scale * long > limit:
        scale = limit / long
    half = 0.5 if rule["size_rule"] == "round" else 0.0
    return max(1, math.floor(height * scale + half)), max(1, math.floor(width * scale + half))


def resize(image: Image.Image, rule: dict) -> np.ndarray:
    """(3, H, W) float32 RGB in 0..255, as the file takes it."""
    height, width = network_size(image.height, image.width, rule)
    if rule["resize"] == "antialias":
        pixels = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(pixels, np.float32).transpose(2, 0, 1)
    pixels = np.asarray(image, np.float32)
    corners = rule["resize"] == "align_corners"
    for axis, size in enumerate((height, width)):
        pixels = interpolate(pixels, axis, size, corners)
    return pixels.transpose(2, 0, 1)


def interpolate(pixels: np.ndarray, axis: int, size: int, corners: bool) -> np.ndarray:
    """Linear interpolation along one axis; ``corners``: outermost pixels lie on each other."""
    old = pixels.shape[axis]
    if corners:
        place = np.arange(size) * ((old - 1) / max(1, size - 1))
    else:
        place = (np.arange(size) + 0.5) * (old / size) - 0.5
    place = place.clip(0, old - 1)
    low = place.astype(int)
    share = (place - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    high = np.minimum(low + 1, old - 1)
    return pixels.take(low, axis) * (1 - share) + pixels.take(high, axis) * share


def paste(mask: np.ndarray, box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: M x M probabilities brought into their box, sampled at the pixels' centres."""
    x1, y1, x2, y2 = box
    weights = []
    for start, end, size in ((y1, y2, shape[0]), (x1, x2, shape[1])):
        place = (np.arange(size) + 0.5 - start) / max(end - start, 1e-6) * len(mask) - 0.5
        weights.append(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(len(mask)))))
    return weights[0] @ mask @ weights[1].T >= 0.5


def detect(path: str, image: Image.Image) -> tuple[dict[str, np.ndarray], dict]:
    """The file's outputs for an image, by name, and the file's metadata."""
    session = onnxruntime.InferenceSession(path)
    stored = session.get_modelmeta().custom_metadata_map
    description = {key: json.loads(value) for key, value in stored.items()}
    inputs = {
        "image": resize(image, description["image"]),
        "original_size": np.array([image.height, image.width]),
    }
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, inputs), strict=True))
    return found, description


def draw(
    image: Image.Image, found: dict[str, np.ndarray], labels: list[str], lines: list[list[int]]
) -> Image.Image:
    """The image with boxes, names and, where there are any, masks and key points.

    Of key points those with logits above 2 are drawn, and ``lines`` between them.
    """
    pixels = np.array(image)
    for mask, box in zip(found.get("masks", ()), found["boxes"], strict=False):
        inside = paste(mask, box, pixels.shape[:2])
        pixels[inside] = pixels[inside] // 2 + np.array([0, 100, 0], np.uint8)
    drawn = Image.fromarray(pixels)
    pen = ImageDraw.Draw(drawn)
    for box, label in zip(found["boxes"], labels, strict=True):
        pen.rectangle(box.tolist(), outline=(255, 200, 0), width=2)
        pen.text((box[0] + 3, box[1] + 2), label, fill=(255, 200, 0))
    for points in found.get("keypoints", ()):
        places = [(x + 0.5, y + 0.5) if logit > 2 else None for x, y, logit in points.tolist()]
        for start, end in lines:
            if places[start] and places[end]:
                pen.line((*places[start], *places[end]), fill=(255, 200, 0), width=2)
        for x, y in filter(None, places):
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(220, 0, 0))
    return drawn


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="file of `maskrcnn export --format onnx`")
    parser.add_argument("image")
    parser.add_argument("--output", help="picture to write")
    parser.add_argument("--confidence", type=float, default=0.5)
    args = parser.parse_args()
    image = Image.open(args.image).convert("RGB")
    found, description = detect(args.model, image)
    sure = found["scores"] > args.confidence
    found = {name: values[sure] for name, values in found.items()}
    labels = [description["class_names"][label] for label in found["labels"]]
    for label, score, box in zip(labels, found["scores"], found["boxes"], strict=True):
        print(f"{label} {score:.3f} {' '.join(f'{value:.1f}' for value in box)}")
    if args.output:
        lines = description.get("keypoints", {}).get("connections", [])
        draw(image, found, labels, lines).save(args.output)


if __name__ == "__main__":
    main()
