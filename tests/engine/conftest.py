"""Loads the files beside this one that are scripts, too."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny():
    """The module ``tiny_training``."""
    return _load("tiny_training")


@pytest.fixture(scope="session")
def shared():
    """The module ``shared_evaluation``."""
    return _load("shared_evaluation")
