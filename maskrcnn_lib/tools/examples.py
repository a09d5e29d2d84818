"""Examples of each sub-command, for the end of its ``--help``; a test parses them all."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "predict": (
        "maskrcnn predict photo.jpg",
        "maskrcnn predict photos/ 'more/*.png' --model torchvision/maskrcnn_resnet50_fpn",
        "maskrcnn predict photos/ --format pdf json --confidence 0.5 --output out",
        "maskrcnn predict photo.jpg --config-file run/config.yaml --weights run/model_final.pth",
    ),
    "test": (
        "maskrcnn test --model torchvision/maskrcnn_resnet50_fpn --test-json val.json "
        "--test-images photos",
        "maskrcnn test --config-file run/config.yaml --weights run/model_final.pth",
        "maskrcnn test --config-file run/config.yaml --weights run/model_final.pth --num-gpus 8",
        "maskrcnn test --config-file my.yaml --eval bbox segm --show-dir pictures --range 0 2500",
    ),
    "video": (
        "maskrcnn video in.mp4 --output result.mp4",
        "maskrcnn video frames/ --model torchvision/maskrcnn_resnet50_fpn --output result.mp4",
        "maskrcnn video 0 --show",
    ),
    "eval": (
        "maskrcnn eval output/inference/val",
        "maskrcnn eval bbox.json segm.json --test-json instances_val2017.json",
    ),
    "show": ("maskrcnn show output/inference/val --output pictures --worst --first 50",),
    "report": (
        "maskrcnn report output -o report.html",
        "maskrcnn report segm.json --test-json val.json --test-images photos",
    ),
    "plot": (
        "maskrcnn plot run1 run2/metrics.jsonl --keys loss bbox/AP --out curve.png",
        "maskrcnn plot run1 run2 --times",
    ),
    "flops": ("maskrcnn flops --config-file e2e_mask_rcnn_R_50_FPN_1x --size 800 1344",),
    "benchmark": (
        "maskrcnn benchmark photo.jpg --model torchvision/maskrcnn_resnet50_fpn",
        "maskrcnn benchmark photos/*.jpg --config-file run/config.yaml --weights "
        "run/model_final.pth --batch-size 8",
    ),
    "browse": ("maskrcnn browse coco:train.json:photos --config-file my.yaml --output pictures",),
    "anchors": ("maskrcnn anchors coco:train.json:photos --config-file my.yaml",),
    "train": (
        "maskrcnn train --config-file balloon/mask_rcnn_mobilenetv2",
        "maskrcnn train --config-file e2e_mask_rcnn_R_50_FPN_1x --train-json train.json "
        "--train-images photos OUTPUT_DIR run SOLVER.IMS_PER_BATCH 2",
        "maskrcnn train --config-file run/config.yaml --resume",
        "maskrcnn train --config-file e2e_mask_rcnn_R_50_FPN_1x --num-gpus 8",
    ),
    "proposals": (
        "maskrcnn proposals --config-file rpn_R_50_FPN_1x --weights rpn.pth --json train.json "
        "--images photos --output train.npz",
    ),
    "check-dataset": (
        "maskrcnn check-dataset --json train.json --images photos",
        "maskrcnn check-dataset coco:train.json:photos --decode",
    ),
    "convert": (
        "maskrcnn convert voc VOCdevkit/VOC2012 -o voc.json --split train",
        "maskrcnn convert via via_region_data.json -o balloon.json --default-class balloon",
        "maskrcnn convert yolo data.yaml -o yolo.json --split train",
    ),
    "convert-weights": (
        "maskrcnn convert-weights model_final.pkl model.safetensors",
        "maskrcnn convert-weights model_final.pth model.pth --to detectron2",
    ),
    "export": (
        "maskrcnn export --format onnx --output model.onnx",
        "maskrcnn export --config-file run/config.yaml --weights run/model_final.pth "
        "--output model.pt2 --check photo.jpg",
    ),
    "config": (
        "maskrcnn config e2e_mask_rcnn_R_50_FPN_1x --diff",
        "maskrcnn config e2e_mask_rcnn_R_50_FPN_1x SOLVER.IMS_PER_BATCH 2 > mine.yaml",
        "maskrcnn config --reference",
    ),
    "models": ("maskrcnn models", "maskrcnn models torchvision keypoint"),
    "checks": ("maskrcnn checks", "maskrcnn checks --require-ops"),
    "completion": (
        "maskrcnn completion bash > ~/.local/share/bash-completion/completions/maskrcnn",
        "maskrcnn completion zsh > ~/.zfunc/_maskrcnn",
        "maskrcnn completion fish > ~/.config/fish/completions/maskrcnn.fish",
    ),
}
