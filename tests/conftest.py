"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

DATA_VARIABLE = "MASKRCNN_TEST_DATA"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Directory of the real images, annotations and weights; skips the test where it is not set."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"{DATA_VARIABLE} is not set: real images and weights are not at hand")
    path = Path(value).resolve()
    if not path.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={value} is not a directory")
    return path
