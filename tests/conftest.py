"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

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


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Ctrl-C acts as in a terminal: a shell starts jobs in the background without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where the data are said to be at hand, a test that skips for want of them has failed."""
    report = yield
    needs_data = "test_data" in getattr(item, "fixturenames", ()) or item.get_closest_marker("data")
    if os.environ.get(DATA_VARIABLE) and needs_data and report.skipped:
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although {DATA_VARIABLE} is set: {reason}"
    return report
