"""maskrcnn-benchmark's models; those whose files it never published are not here."""

from maskrcnn_lib.config.zoo.entry import ModelEntry, figures

_HOST = "https://download.pytorch.org/models/maskrcnn"
_PUBLISHED = {
    "e2e_faster_rcnn_R_50_C4_1x": (34.8,),
    "e2e_faster_rcnn_R_50_FPN_1x": (36.8,),
    "e2e_faster_rcnn_R_101_FPN_1x": (39.1,),
    "e2e_faster_rcnn_X_101_32x8d_FPN_1x": (41.2,),
    "e2e_mask_rcnn_R_50_C4_1x": (35.6, 31.5),
    "e2e_mask_rcnn_R_50_FPN_1x": (37.8, 34.2),
    "e2e_mask_rcnn_R_101_FPN_1x": (40.1, 36.1),
    "e2e_mask_rcnn_X_101_32x8d_FPN_1x": (42.2, 37.8),
    "e2e_faster_rcnn_fbnet_chamv1a_600": (33.5,),
    "e2e_faster_rcnn_fbnet_600": (28.2,),
    "e2e_mask_rcnn_fbnet_xirb16d_dsmask": (30.7, 26.9),
    "e2e_mask_rcnn_fbnet_600": (29.0, 26.1),
}

# The figures were measured at 600 pixels, which the file's name leaves out.
_CONFIGS = {"e2e_mask_rcnn_fbnet_xirb16d_dsmask": "e2e_mask_rcnn_fbnet_xirb16d_dsmask_600"}

BENCHMARK = tuple(
    ModelEntry(
        name=model,
        file_name=f"{model}.pth",
        url=f"{_HOST}/{model}.pth",
        config=_CONFIGS.get(model, ""),
        note="trained by maskrcnn-benchmark on COCO",
        published=figures(*values),
    )
    for model, values in _PUBLISHED.items()
)
