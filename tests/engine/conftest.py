"""Loads the tiny training beside this file, which is a script, too."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("tiny_training.py")


@pytest.fixture(scope="session")
def tiny():
    """The module ``tiny_training``."""
    spec = importlib.util.spec_from_file_location("tiny_training", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_training"] = module
    spec.loader.exec_module(module)
    return module
