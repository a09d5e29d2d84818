"""detectron2's COCO baselines under the names of its configs; their addresses are not known."""

from maskrcnn_lib.config.zoo.entry import ModelEntry, figures

_PUBLISHED = {
    "COCO-Detection/faster_rcnn_R_50_C4_1x": (35.7,),
    "COCO-Detection/faster_rcnn_R_50_DC5_1x": (37.3,),
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": (37.9,),
    "COCO-Detection/faster_rcnn_R_50_C4_3x": (38.4,),
    "COCO-Detection/faster_rcnn_R_50_DC5_3x": (39.0,),
    "COCO-Detection/faster_rcnn_R_50_FPN_3x": (40.2,),
    "COCO-Detection/faster_rcnn_R_101_C4_3x": (41.1,),
    "COCO-Detection/faster_rcnn_R_101_DC5_3x": (40.6,),
    "COCO-Detection/faster_rcnn_R_101_FPN_3x": (42.0,),
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x": (43.0,),
    "COCO-Detection/retinanet_R_50_FPN_1x": (37.4,),
    "COCO-Detection/retinanet_R_50_FPN_3x": (38.7,),
    "COCO-Detection/retinanet_R_101_FPN_3x": (40.4,),
    "COCO-Detection/fast_rcnn_R_50_FPN_1x": (37.8,),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": (36.8, 32.2),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": (38.3, 34.2),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": (38.6, 35.2),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x": (39.8, 34.4),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x": (40.0, 35.9),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": (41.0, 37.2),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x": (42.6, 36.7),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x": (41.9, 37.3),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": (42.9, 38.6),
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x": (44.3, 39.5),
    "Misc/cascade_mask_rcnn_R_50_FPN_1x": (42.1, 36.4),
    "Misc/cascade_mask_rcnn_R_50_FPN_3x": (44.3, 38.5),
}
_KEYPOINT = {
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": (53.6, 64.0),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x": (55.4, 65.5),
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": (56.4, 66.1),
    "COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x": (57.3, 66.0),
}
_PROPOSALS = {
    "COCO-Detection/rpn_R_50_C4_1x": (51.6,),
    "COCO-Detection/rpn_R_50_FPN_1x": (58.0,),
}


def _entries(models: dict[str, tuple[float, ...]], *tasks: str) -> tuple[ModelEntry, ...]:
    return tuple(
        ModelEntry(
            name=f"detectron2/{name}",
            file_name=f"detectron2_{name.rpartition('/')[2]}.pkl",
            note="trained by detectron2 on COCO; bring its model_final_*.pkl under this name",
            published=figures(*values, tasks=tasks),
        )
        for name, values in models.items()
    )


DETECTRON2 = (
    *_entries(_PUBLISHED, "box", "mask"),
    *_entries(_KEYPOINT, "box", "keypoint"),
    *_entries(_PROPOSALS, "proposal"),
)
