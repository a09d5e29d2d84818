"""Small data sets with results, in COCO's form."""

import numpy as np


def content(objects, *, images=1, classes=2, size=(100, 100)):
    """A data set of at least so many images, and objects (image, class, box) or (image, class, box,
    extra keys)."""
    ids = range(1, max([images, *(image for image, *_ in objects)]) + 1)
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
            **(extra[0] if extra else {}),
        }
        for number, (image, category, box, *extra) in enumerate(objects, start=1)
    ]
    names = ["cat", "dog", "bird", "fish"]
    return {
        "images": [
            {"id": i, "height": size[0], "width": size[1], "file_name": f"{i}.jpg"} for i in ids
        ],
        "categories": [{"id": i, "name": names[i - 1]} for i in range(1, classes + 1)],
        "annotations": annotations,
    }


def results(found):
    """COCO results of (image, class, box, score)."""
    return [
        {"image_id": image, "category_id": category, "bbox": list(box), "score": score}
        for image, category, box, score in found
    ]


def random_scene(seed, *, images=12, classes=3):
    """Objects and detections, most near an object, many of the wrong class or place."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 40, 2)]
            category = int(rng.integers(1, classes + 1))
            objects.append((image, category, [float(v) for v in box]))
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.normal(0, rng.choice([1, 6, 20]), 4)
                moved[2:] = np.maximum(moved[2:], 2)
                right = rng.random() < 0.7
                named = category if right else int(rng.integers(1, classes + 1))
                found.append((image, named, moved.tolist(), float(rng.random())))
    objects += [(1, k, [2.0, 2.0, 20.0, 20.0]) for k in range(1, classes + 1)]
    return content(objects, images=images, classes=classes), results(found)
