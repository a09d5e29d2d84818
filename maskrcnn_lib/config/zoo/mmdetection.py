"""mmdetection's core models under the names of its version 3; their host is gone.

A file is to be brought by hand, under the name of its settings.
"""

from maskrcnn_lib.config.zoo.entry import ModelEntry, figures

_BOX_AND_MASK = {
    "faster-rcnn_r50-caffe_c4-1x_coco": (35.6,),
    "faster-rcnn_r50-caffe-dc5_1x_coco": (37.2,),
    "faster-rcnn_r50-caffe_fpn_1x_coco": (37.8,),
    "faster-rcnn_r50_fpn_1x_coco": (37.4,),
    "faster-rcnn_r50_fpn_amp-1x_coco": (37.5,),
    "faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco": (41.3,),
    "faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco": (41.4,),
    "faster-rcnn_r50_fpn_2x_coco": (38.4,),
    "faster-rcnn_r50_fpn_ms-3x_coco": (40.3,),
    "faster-rcnn_r50-caffe_fpn_ms-2x_coco": (39.7,),
    "faster-rcnn_r50-caffe_fpn_ms-3x_coco": (39.9,),
    "faster-rcnn_r101-caffe_fpn_1x_coco": (39.8,),
    "faster-rcnn_r101_fpn_1x_coco": (39.4,),
    "faster-rcnn_r101_fpn_2x_coco": (39.8,),
    "faster-rcnn_r101_fpn_ms-3x_coco": (41.8,),
    "faster-rcnn_r101-caffe_fpn_ms-3x_coco": (42.0,),
    "faster-rcnn_x101-32x4d_fpn_1x_coco": (41.2,),
    "faster-rcnn_x101-64x4d_fpn_1x_coco": (42.1,),
    "faster-rcnn_x101-32x4d_fpn_ms-3x_coco": (42.5,),
    "faster-rcnn_x101-64x4d_fpn_ms-3x_coco": (43.1,),
    "mask-rcnn_r50-caffe_fpn_1x_coco": (38.0, 34.4),
    "mask-rcnn_r50_fpn_1x_coco": (38.2, 34.7),
    "mask-rcnn_r50_fpn_amp-1x_coco": (38.1, 34.7),
    "mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco": (41.8, 37.4),
    "mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco": (41.5, 37.1),
    "mask-rcnn_r50_fpn_2x_coco": (39.2, 35.4),
    "mask-rcnn_r50_fpn_ms-poly-3x_coco": (40.9, 37.1),
    "mask-rcnn_r50-caffe_fpn_ms-poly-2x_coco": (40.3, 36.5),
    "mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco": (40.8, 37.0),
    "mask-rcnn_r101-caffe_fpn_1x_coco": (40.4, 36.4),
    "mask-rcnn_r101_fpn_1x_coco": (40.0, 36.1),
    "mask-rcnn_r101_fpn_2x_coco": (40.8, 36.6),
    "mask-rcnn_r101_fpn_ms-poly-3x_coco": (42.7, 38.5),
    "mask-rcnn_r101-caffe_fpn_ms-poly-3x_coco": (42.9, 38.5),
    "mask-rcnn_x101-32x4d_fpn_1x_coco": (41.9, 37.5),
    "mask-rcnn_x101-64x4d_fpn_1x_coco": (42.8, 38.4),
    "mask-rcnn_x101-32x4d_fpn_ms-poly-3x_coco": (43.6, 39.0),
    "mask-rcnn_x101-64x4d_fpn_ms-poly-3x_coco": (44.5, 39.7),
    "ms-rcnn_r50-caffe_fpn_1x_coco": (38.2, 36.0),
    "point-rend_r50-caffe_fpn_ms-1x_coco": (38.4, 36.3),
    "point-rend_r50-caffe_fpn_ms-3x_coco": (41.0, 38.0),
    "cascade-rcnn_r50-caffe_fpn_1x_coco": (40.4,),
    "cascade-rcnn_r50_fpn_1x_coco": (40.3,),
    "cascade-rcnn_r50_fpn_20e_coco": (41.0,),
    "cascade-rcnn_r101_fpn_1x_coco": (42.0,),
    "cascade-rcnn_r101_fpn_20e_coco": (42.5,),
    "cascade-mask-rcnn_r50-caffe_fpn_1x_coco": (41.2, 36.0),
    "cascade-mask-rcnn_r50_fpn_1x_coco": (41.2, 35.9),
    "cascade-mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco": (44.4, 38.6),
    "cascade-mask-rcnn_r50_fpn_20e_coco": (41.9, 36.5),
    "cascade-mask-rcnn_r50_fpn_ms-3x_coco": (44.3, 38.5),
    "cascade-mask-rcnn_r101_fpn_1x_coco": (42.9, 37.3),
    "cascade-mask-rcnn_r101_fpn_20e_coco": (43.4, 37.8),
    "cascade-mask-rcnn_r101_fpn_ms-3x_coco": (45.5, 39.6),
    "retinanet_r18_fpn_1x_coco": (31.7,),
    "retinanet_r50-caffe_fpn_1x_coco": (36.3,),
    "retinanet_r50_fpn_1x_coco": (36.5,),
    "retinanet_r50_fpn_amp-1x_coco": (36.4,),
    "retinanet_r50_fpn_2x_coco": (37.4,),
    "retinanet_r50_fpn_ms-640-800-3x_coco": (39.5,),
    "retinanet_r101_fpn_1x_coco": (38.5,),
    "retinanet_r101_fpn_2x_coco": (38.9,),
    "retinanet_r101_fpn_ms-640-800-3x_coco": (41.0,),
    "yolof_r50-c5_8xb8-1x_coco": (37.5,),
}
_PROPOSALS = {"rpn_r50_fpn_1x_coco": (58.2,), "rpn_r101_fpn_1x_coco": (59.7,)}


def _entry(name: str, published: dict[str, float]) -> ModelEntry:
    return ModelEntry(
        name=f"mmdet/{name}",
        file_name=f"{name}.pth",
        note="trained by mmdetection on COCO; bring its file under this name",
        published=published,
    )


def _body(name: str) -> ModelEntry:
    return ModelEntry(
        name=f"ImageNetPretrained/open-mmlab/{name}",
        file_name=f"{name}.pth",
        note="trained on ImageNet, published with mmdetection; bring its file under this name",
    )


MMDETECTION = (
    *(_body(f"resnext101_{groups}") for groups in ("32x4d", "64x4d")),
    *(_entry(name, figures(*values)) for name, values in _BOX_AND_MASK.items()),
    *(_entry(name, figures(*values, tasks=("proposal",))) for name, values in _PROPOSALS.items()),
)
