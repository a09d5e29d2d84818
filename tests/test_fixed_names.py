"""Names that users' scripts rely on stay importable."""

from importlib import import_module

import pytest

TOP = ["COCODemo", "BoxList", "SegmentationMask", "cfg", "get_cfg", "build_detection_model"]

# Import paths of maskrcnn-benchmark under this package's name.
OLD_PATHS = [
    "config.cfg",
    "structures.bounding_box.BoxList",
    "structures.segmentation_mask.SegmentationMask",
    "structures.keypoint.PersonKeypoints",
    "structures.image_list.to_image_list",
    "structures.boxlist_ops.boxlist_nms",
    "structures.boxlist_ops.boxlist_iou",
    "structures.boxlist_ops.cat_boxlist",
    "structures.boxlist_ops.remove_small_boxes",
    "layers.nms",
    "layers.ROIAlign",
    "layers.roi_align",
    "layers.FrozenBatchNorm2d",
    "layers.smooth_l1_loss",
    "layers.Conv2d",
    "layers.ConvTranspose2d",
    "layers.DFConv2d",
    "layers.interpolate",
    "modeling.detector.build_detection_model",
    "modeling.registry.BACKBONES",
    "modeling.registry.RPN_HEADS",
    "modeling.registry.ROI_BOX_FEATURE_EXTRACTORS",
    "modeling.registry.ROI_BOX_PREDICTOR",
    "modeling.registry.ROI_KEYPOINT_FEATURE_EXTRACTORS",
    "modeling.registry.ROI_KEYPOINT_PREDICTOR",
    "modeling.registry.ROI_MASK_FEATURE_EXTRACTORS",
    "modeling.registry.ROI_MASK_PREDICTOR",
    "modeling.backbone.build_backbone",
    "modeling.rpn.rpn.build_rpn",
    "modeling.roi_heads.roi_heads.build_roi_heads",
    "modeling.roi_heads.mask_head.inference.Masker",
    "modeling.box_coder.BoxCoder",
    "modeling.poolers.Pooler",
    "modeling.poolers.LevelMapper",
    "modeling.poolers.make_pooler",
    "modeling.matcher.Matcher",
    "data.make_data_loader",
    "data.datasets.COCODataset",
    "data.datasets.CityScapesDataset",
    "data.datasets.ConcatDataset",
    "data.datasets.PascalVOCDataset",
    "data.samplers.GroupedBatchSampler",
    "data.samplers.IterationBasedBatchSampler",
    "data.transforms.build_transforms",
    "solver.make_optimizer",
    "solver.make_lr_scheduler",
    "solver.WarmupMultiStepLR",
    "engine.trainer.do_train",
    "engine.inference.inference",
    "tools.train_net.train",
    "utils.metric_logger.MetricLogger",
    "utils.metric_logger.SmoothedValue",
    "utils.comm.reduce_dict",
    "utils.comm.all_gather",
    "utils.comm.get_world_size",
    "utils.comm.get_rank",
    "utils.comm.is_main_process",
    "utils.comm.synchronize",
    "utils.logger.setup_logger",
    "utils.collect_env.collect_env_info",
    "utils.miscellaneous.mkdir",
    "utils.checkpoint.Checkpointer",
    "utils.checkpoint.DetectronCheckpointer",
    "checkpoint.load_weights",
]


@pytest.mark.parametrize("name", [*TOP, "__version__"])
def test_top_level_names_are_there(name):
    package = import_module("maskrcnn_lib")
    assert getattr(package, name) is not None
    assert name in dir(package)


@pytest.mark.parametrize("path", OLD_PATHS)
def test_old_import_path_gives_a_named_object(path):
    module, _, name = path.rpartition(".")
    assert getattr(import_module(f"maskrcnn_lib.{module}"), name) is not None


def test_layers_serve_as_l():
    import maskrcnn_lib.layers as L

    assert callable(L.nms) and callable(L.ROIAlign)


def test_unknown_name_is_an_attribute_error():
    package = import_module("maskrcnn_lib")
    with pytest.raises(AttributeError, match="NoSuchThing"):
        package.NoSuchThing  # noqa: B018


def test_global_config_is_one_object_and_get_cfg_gives_fresh_ones():
    from maskrcnn_lib import cfg, get_cfg
    from maskrcnn_lib.config import cfg as same

    assert cfg is same
    assert get_cfg() is not get_cfg()
