"""The model whose weights come with the package; training/README.md says how it was made."""

from maskrcnn_lib.config.zoo.entry import ModelEntry

PACKAGED = (
    ModelEntry(
        name="maskrcnn_lib/mask_rcnn_mobilenetv2",
        file_name="mask_rcnn_mobilenetv2_int8.safetensors",
        sha256="96c8942aa982455d4f89dad4587190b4f9ec0aeacf8bad9f4899627df8848270",
        size=4_596_296,
        note="small model of 12 classes that comes with the package: box AP 8.5, mask AP 6.5, "
        "for persons box AP50 28.5, on 206 images of COCO's val2017",
    ),
)
