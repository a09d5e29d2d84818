"""The environment report."""

import numpy
import pytest
import torch

from maskrcnn_lib.utils import collect_env


def test_report_names_versions_and_extra_rows():
    rows = dict(
        line.split(maxsplit=1)
        for line in collect_env.collect_env_info({"_C": "loaded from here"}).splitlines()
    )
    assert rows["torch"].startswith(torch.__version__)
    assert rows["numpy"] == numpy.__version__
    assert rows["_C"] == "loaded from here"


def test_required_package_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(collect_env, "_REQUIRED", ("no-such-package",))
    assert "no-such-package  missing, but required" in collect_env.collect_env_info()


def opencv_row(monkeypatch, installed):
    """The row of OpenCV where of its distributions just these are installed."""

    def version(name):
        if "opencv" in name and name not in installed:
            raise collect_env.metadata.PackageNotFoundError(name)
        return "9.8" if "opencv" in name else "1.0"

    monkeypatch.setattr(collect_env.metadata, "version", version)
    (row,) = (
        line for line in collect_env.collect_env_info().splitlines() if line.startswith("opencv")
    )
    return row.split(maxsplit=1)[1]


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ([], "missing, but required"),
        (["opencv-python", "opencv-contrib-python"], "9.8"),
        (["opencv-python-headless"], "9.8 (opencv-python-headless)"),
        (["opencv-contrib-python"], "9.8 (opencv-contrib-python)"),
        (["opencv-contrib-python-headless"], "9.8 (opencv-contrib-python-headless)"),
    ],
)
def test_every_distribution_of_opencv_counts(monkeypatch, installed, said):
    assert opencv_row(monkeypatch, installed) == said


def test_torchvision_that_does_not_fit_is_explained(monkeypatch):
    def fail(name):
        raise RuntimeError(f"operator {name}::nms does not exist")

    monkeypatch.setattr(collect_env, "import_module", fail)
    text = collect_env.collect_env_info()
    assert (
        "operator torchvision::nms does not exist; install torch and torchvision together" in text
    )


def test_settings_of_this_library_are_shown(monkeypatch):
    monkeypatch.setenv("MASKRCNN_REQUIRE_OPS", "1")
    assert "MASKRCNN_REQUIRE_OPS=1" in collect_env.collect_env_info()
