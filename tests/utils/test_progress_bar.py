"""Progress in a file: lines that end, and not one for each image."""

import io
import sys

import pytest

from maskrcnn_lib.utils.progress_bar import progress_bar


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _written(stream, monkeypatch, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(500, "image", **options) as bar:
        for _ in range(500):
            bar.update()
    return stream.getvalue()


def test_a_file_gets_the_first_and_the_last_state_as_lines(monkeypatch):
    lines = _written(io.StringIO(), monkeypatch).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("0%") and lines[1].startswith("100%")
    assert "500/500" in lines[1] and "image/s" in lines[1]


def test_a_terminal_gets_a_bar_that_is_drawn_again(monkeypatch):
    text = _written(_Terminal(), monkeypatch)
    assert text.count("\n") == 1 and "\r" in text and "500/500" in text


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_nothing_is_written_on_request(stream, monkeypatch):
    assert _written(stream(), monkeypatch, shown=False) == ""
