"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
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
