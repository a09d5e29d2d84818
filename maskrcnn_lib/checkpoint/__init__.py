"""Weights in and out: our own checkpoints, and one importer per foreign format."""

from maskrcnn_lib.checkpoint.checkpointer import Checkpointer, DetectronCheckpointer
from maskrcnn_lib.checkpoint.loading import LoadReport, load_weights
from maskrcnn_lib.checkpoint.native import save_weights

__all__ = ["Checkpointer", "DetectronCheckpointer", "LoadReport", "load_weights", "save_weights"]
