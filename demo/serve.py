"""Serves a detector over HTTP: FastAPI, and this one file.

    pip install 'maskrcnn_lib[serve]'
    python demo/serve.py --port 8000
    curl -F image=@demo/images/coffee.jpg 'http://127.0.0.1:8000/predict?confidence=0.5'

``POST /predict`` takes one image and gives COCO results, ``GET /`` is a page to try it on. Requests
are answered in threads, which share the detector.
"""

import argparse
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Literal

from maskrcnn_lib.checkpoint.class_names import published_category_ids
from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.engine.inference import Detector, build_detector, choose_model
from maskrcnn_lib.engine.postprocess import keep_confident
from maskrcnn_lib.evaluation.predicted_dataset import outlines_to_edit

if TYPE_CHECKING:
    from fastapi import FastAPI

LARGEST_FILE = 50 * 2**20  # bytes
ADVICE = "serving needs FastAPI and uvicorn: pip install fastapi uvicorn python-multipart"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>maskrcnn_lib</title>
<style>
body { font: 16px system-ui; margin: 1em auto; max-width: 60em; padding: 0 1em }
canvas { max-width: 100%; display: block; margin-top: 1em }
</style>
<h1>Find objects</h1>
<input type="file" id="file" accept="image/*" aria-label="image">
<label>least score <input type="range" id="least" min="0" max="1" step="0.05" value="0.5"></label>
<p id="said" role="status"></p><canvas id="canvas"></canvas>
<script>
const [file, least, said, canvas] =
  ["file", "least", "said", "canvas"].map(id => document.getElementById(id));
const pen = canvas.getContext("2d");
async function find() {
  if (!file.files.length) return;
  said.textContent = "looking ...";
  const body = new FormData();
  body.append("image", file.files[0]);
  const reply = await fetch(`predict?masks=polygons&confidence=${least.value}`,
    { method: "POST", body });
  const answer = await reply.json();
  if (!reply.ok) {
    const detail = answer.detail;
    said.textContent = typeof detail === "string" ? detail : JSON.stringify(detail);
    return;
  }
  draw(await createImageBitmap(file.files[0]), answer);
}
function draw(picture, answer) {
  [canvas.width, canvas.height] = [answer.width, answer.height];
  pen.drawImage(picture, 0, 0);
  pen.lineWidth = Math.max(1, answer.width / 400);
  pen.font = `${Math.max(12, answer.width / 50)}px system-ui`;
  for (const found of answer.annotations) {
    const hue = found.category_id * 47 % 360, [x, y, width, height] = found.bbox;
    pen.strokeStyle = `hsl(${hue} 90% 50%)`;
    pen.fillStyle = `hsl(${hue} 90% 50% / 0.4)`;
    pen.beginPath();
    for (const outline of found.segmentation ?? []) {
      pen.moveTo(outline[0], outline[1]);
      for (let i = 2; i < outline.length; i += 2) pen.lineTo(outline[i], outline[i + 1]);
    }
    pen.fill("evenodd");
    pen.strokeRect(x, y, width, height);
    pen.fillStyle = "white";
    pen.fillText(`${found.category_name} ${found.score.toFixed(2)}`, x + 4, Math.max(y, 0) + 24);
  }
  said.textContent = `${answer.annotations.length} found`;
}
file.onchange = least.onchange = find;
</script></html>"""


def create_app(detector: Detector) -> "FastAPI":
    """The web application around a detector.

    Raises:
        ModuleNotFoundError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, HTTPException, Query, UploadFile
        from fastapi.responses import HTMLResponse
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(ADVICE) from error

    app = FastAPI(title="maskrcnn_lib")

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return PAGE

    @app.post("/predict")
    def predict(
        image: UploadFile,
        confidence: float = Query(0.5, ge=0, le=1),
        masks: Literal["rle", "polygons"] = "rle",
    ) -> dict[str, Any]:
        """Detections on one image; see ``find_objects``."""
        if (image.size or 0) > LARGEST_FILE:
            raise HTTPException(413, f"a file may have {LARGEST_FILE} bytes at most")
        with tempfile.NamedTemporaryFile() as copy:
            shutil.copyfileobj(image.file, copy)
            copy.flush()
            try:
                pixels = read_image(copy.name)
            except ValueError as error:
                raise HTTPException(400, "this file is no image that can be read") from error
        return find_objects(detector, pixels, confidence, polygons=masks == "polygons")

    return app


def find_objects(
    detector: Detector, image: Any, confidence: float, *, polygons: bool
) -> dict[str, Any]:
    """What is on an image, as JSON takes it.

    Args:
        image: (H, W, 3) uint8 RGB.
        confidence: detections with a lower score are left out.
        polygons: masks as outlines instead of COCO's compressed run lengths.

    Returns:
        ``width`` and ``height`` of the image in pixels, and ``annotations``: COCO results by
        descending score, each with its ``category_name``.
    """
    found = keep_confident(detector([image])[0], confidence)
    ids = published_category_ids(detector.class_names)
    names = dict(zip(ids, detector.class_names, strict=True))
    results = found.to_coco(image_id=0, category_ids=ids, paste=detector.paste_rule)
    for result in results:
        del result["image_id"]
        result["category_name"] = names[result["category_id"]]
        if polygons and "segmentation" in result:
            result["segmentation"] = outlines_to_edit(result["segmentation"])
    width, height = found.size
    return {"width": width, "height": height, "annotations": results}


def main() -> None:
    """Reads the command line, loads the model and serves it until it is stopped."""
    parser = argparse.ArgumentParser(description="Serves a detector over HTTP.")
    parser.add_argument("--model", metavar="NAME", help="published model, see `maskrcnn models`")
    parser.add_argument("--config-file", metavar="F", help="YAML config file or name")
    parser.add_argument("--weights", metavar="W", help="path, catalog name or URL")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: reachable for all")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    try:
        import fastapi  # noqa: F401  (asked for before the model is loaded)
        import uvicorn
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: {ADVICE}") from error
    cfg, weights = choose_model(model=args.model, config=args.config_file, weights=args.weights)
    uvicorn.run(create_app(build_detector(cfg, weights)), host=args.host, port=args.port)


if __name__ == "__main__":
    main()
