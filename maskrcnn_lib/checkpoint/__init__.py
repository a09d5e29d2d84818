"""Weights in and out.

A name becomes a file (``download``, ``transfer``), the file a dictionary (``files``), and that what
the model takes (``loading``): ``importers`` has a module for each toolbox, and ``exporters`` reads
their tables backwards. ``checkpointer`` saves and resumes trainings in the ``native`` format.
"""

from maskrcnn_lib.checkpoint.checkpointer import Checkpointer, DetectronCheckpointer
from maskrcnn_lib.checkpoint.loading import LoadReport, load_weights
from maskrcnn_lib.checkpoint.native import save_weights

__all__ = ["Checkpointer", "DetectronCheckpointer", "LoadReport", "load_weights", "save_weights"]
