"""Registration and lookup by name."""

import pytest

from maskrcnn_lib.utils.registry import Registry


def test_decorator_registers_and_returns_the_function():
    registry = Registry("backbone")

    @registry.register("R-50")
    def build():
        return "built"

    assert build() == "built"
    assert registry["R-50"] is build


def test_plain_call_registers_as_maskrcnn_benchmark_did():
    registry = Registry()
    registry.register("identity", abs)
    assert registry["identity"] is abs


def test_unknown_name_mentions_nearest_neighbour():
    registry = Registry("backbone")
    registry.register("R-50-FPN", abs)
    with pytest.raises(KeyError, match=r"backbone 'R-50-FPM'.*R-50-FPN"):
        registry["R-50-FPM"]


def test_name_is_taken_once():
    registry = Registry("backbone")
    registry.register("R-50", abs)
    registry.register("R-50", abs)
    with pytest.raises(KeyError, match="registered already"):
        registry.register("R-50", min)
