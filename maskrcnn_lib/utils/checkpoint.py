"""The checkpointers under the import path that maskrcnn-benchmark's users know."""

from maskrcnn_lib.checkpoint.checkpointer import Checkpointer, DetectronCheckpointer

__all__ = ["Checkpointer", "DetectronCheckpointer"]
