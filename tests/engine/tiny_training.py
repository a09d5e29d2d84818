"""A training of a second: a few weights, images of noise, and all of the loop's machinery.

As a script it is one process of a run; ``--help`` shows what can be made to go wrong.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from maskrcnn_lib.checkpoint import Checkpointer
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.processes import leave_together
from maskrcnn_lib.engine.trainer import do_train
from maskrcnn_lib.solver import make_lr_scheduler, make_optimizer
from maskrcnn_lib.solver.weight_average import WeightAverage
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.utils.comm import get_rank, get_world_size, sum_over_ranks

SIZE = 8
CLASSES = ("__background", "thing")


class TinyModel(nn.Module):
    """Learns the mean width of the boxes; its losses are normalised over all ranks."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 1)
        self.dropout = 0.0

    def forward(self, images, targets=None):
        features = self.norm(self.conv(images.tensors)).relu().mean(dim=(2, 3))
        widths = self.head(nn.functional.dropout(features, self.dropout, self.training))
        if not self.training:
            return widths
        counts = torch.tensor([float(len(target)) for target in targets])
        wanted = torch.tensor(
            [(t.bbox[:, 2] - t.bbox[:, 0]).mean() if len(t) else 0.0 for t in targets]
        )
        total = sum_over_ranks(counts.sum()).clamp(min=1) / get_world_size()
        error = (widths[:, 0] - wanted) * counts
        return {
            "loss_width": error.square().sum() / total,
            "loss_small": 0.01 * widths.square().sum() / total,
        }


class NoiseDataset:
    def __len__(self):
        return 40

    def get_img_info(self, index):
        return {"id": 1000 + index, "file_name": f"noise{index}.png"}


class TinyLoader:
    """Batch n for iteration n, of which this rank takes its share."""

    def __init__(self, iterations, start, batch_size=4, *, bad=0, interrupt=None):
        self.dataset = NoiseDataset()
        self.iterations, self.start, self.batch_size = iterations, start, batch_size
        self.bad, self.interrupt = bad, interrupt or {}

    def __len__(self):
        return self.iterations

    def __iter__(self):
        for iteration in range(self.start + 1, self.iterations + 1):
            generator = torch.Generator().manual_seed(iteration)
            pixels = torch.rand(self.batch_size, 3, SIZE, SIZE, generator=generator)
            widths = torch.rand(self.batch_size, 2, generator=generator) * SIZE
            if iteration == self.bad:
                pixels[-1] = float("nan")
            mine = slice(get_rank(), None, get_world_size())
            indices = [(iteration * self.batch_size + i) % 40 for i in range(self.batch_size)]
            # the last image is one without objects
            targets = [self._target(w, i < self.batch_size - 1) for i, w in enumerate(widths)]
            images = ImageList(pixels[mine], [(SIZE, SIZE)] * len(pixels[mine]))
            if iteration in self.interrupt:
                os.kill(os.getpid(), self.interrupt[iteration])
            yield images, targets[mine], indices[mine]

    @staticmethod
    def _target(widths, has_objects):
        boxes = torch.stack([torch.tensor([0.0, 0.0, float(w), 4.0]) for w in widths])
        target = BoxList(boxes[: 2 * has_objects], (SIZE, SIZE))
        target.add_field("labels", torch.ones(len(target), dtype=torch.int64))
        return target


def tiny_evaluation(model):
    """A number that changes with the weights, in the place of an average precision."""
    assert not model.training
    value = sum(float(parameter.detach().abs().sum()) for parameter in model.parameters())
    return {"val/bbox/AP": value % 1.0}


def train(folder, *, iterations=12, resume=False, bad=0, interrupt=None, **options):
    """One training; returns the model and the last evaluation."""
    torch.manual_seed(0)
    overrides = ["SOLVER.BASE_LR", 0.01, "SOLVER.MAX_ITER", iterations, "SOLVER.WARMUP_ITERS", 3]
    overrides += ["SOLVER.STEPS", (8,), *options.pop("overrides", ())]
    cfg = get_cfg(None, overrides)
    model = TinyModel()
    model.dropout = options.pop("dropout", 0.3)
    average = WeightAverage(model, 0.9) if options.pop("average", True) else None
    optimizer = make_optimizer(cfg, model)
    scheduler = make_lr_scheduler(cfg, optimizer)
    checkpointer = Checkpointer(
        model,
        optimizer,
        scheduler,
        folder,
        class_names=CLASSES,
        average=average,
        scaler=options.pop("scaler", None),
    )
    arguments = {"iteration": 0}
    if resume:
        arguments |= checkpointer.load()
    loader = TinyLoader(iterations, arguments["iteration"], bad=bad, interrupt=interrupt)
    wrapped = nn.parallel.DistributedDataParallel(model) if get_world_size() > 1 else model
    settings = {"test_period": 6, "log_period": 2, "evaluate": tiny_evaluation} | options
    period = settings.pop("checkpoint_period", 3)
    scores = do_train(
        wrapped, loader, optimizer, scheduler, checkpointer, "cpu", period, arguments, **settings
    )
    return model, scores


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--world-size", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--bad", type=int, default=0, help="iteration with an image of NaN")
    parser.add_argument("--kill", type=int, default=0, help="SIGKILL before this iteration")
    parser.add_argument("--terminate", type=int, default=0, help="SIGTERM before this iteration")
    parser.add_argument("--interrupt", type=int, default=0, help="Ctrl-C before this iteration")
    parser.add_argument("--kill-while-saving", type=int, default=0, help="at the n-th save")
    parser.add_argument("--terminate-while-testing", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.world_size > 1:
        store = args.folder / f"store{args.resume}"
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=args.rank, world_size=args.world_size
        )
    options = {"dropout": args.dropout}
    if args.kill_while_saving:
        _die_in_save(args.kill_while_saving)
    if args.terminate_while_testing:
        options["evaluate"] = _terminated_evaluation
    # in the background of a shell it would be ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = {args.kill: signal.SIGKILL, args.terminate: signal.SIGTERM}
    interrupt[args.interrupt] = signal.SIGINT
    code = 0
    try:
        train(args.folder, resume=args.resume, bad=args.bad, interrupt=interrupt, **options)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 130
    if args.world_size > 1:
        leave_together()
    return code


def _die_in_save(number):
    """The n-th file is written only in part."""
    save, count = torch.save, 0

    def dying_save(content, file):
        nonlocal count
        count += 1
        if count == number:
            file.write(b"PK\x03\x04 a part of the file")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, file)

    torch.save = dying_save


def _terminated_evaluation(model):
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("the process should have ended")


if __name__ == "__main__":
    sys.exit(main())
