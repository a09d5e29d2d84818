"""D2Go's FBNetV3-A models, dequantised from their int8 exports; the figures are those of int8."""

from maskrcnn_lib.config.zoo.entry import ModelEntry, figures

D2GO = (
    ModelEntry(
        name="d2go/mask_rcnn_fbnetv3a_C4",
        file_name="mask_rcnn_fbnetv3a_float.pth",
        sha256="769ce9d805a8a165546db787e1d1317ca7c51c13462febfd11a52f2cc787a506",
        size=10_275_238,
        note="trained by D2Go on COCO (model zoo id 268421013), dequantised from its int8 export",
        published=figures(23.05, 20.71),
    ),
    ModelEntry(
        name="d2go/faster_rcnn_fbnetv3a_C4",
        file_name="faster_rcnn_fbnetv3a_C4_float.pth",
        sha256="23b935d294da2d5a7066527027c78fddbc83a94d16fac4645209d7f97e2c7184",
        size=7_019_055,
        note="trained by D2Go on COCO (model zoo id 246823121), dequantised from its int8 export",
        published=figures(22.99),
    ),
    ModelEntry(
        name="d2go/keypoint_rcnn_fbnetv3a_dsmask_C4",
        file_name="keypoint_rcnn_fbnetv3a_dsmask_float.pth",
        sha256="cc560c29eff77b4ecc2f39913d35db2919d2ccd0b5871f6e3004e4028eda4eec",
        size=6_063_445,
        note="trained by D2Go on COCO (model zoo id 250430934), dequantised from its int8 export",
        published=figures(31.24, 35.56, tasks=("box", "keypoint")),
    ),
)
