"""Pickles of weights are read, and whatever else a pickle asks for is refused and not run."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.utils.safe_pickle import RefusedPickleError, load_pickle

VALUES = {
    "float": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.linspace(0, 1, 5, dtype=np.float16),
    "double": np.full((1,), np.pi),
    "integer": np.arange(-3, 3),
    "boolean": np.array([[True, False]]),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7.0),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(4, dtype=np.float32).astype(">f4"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, protocol):
    path = tmp_path / "weights.pkl"
    content = {"blobs": OrderedDict(VALUES), "note": "text", "number": np.float64(2.5), "list": [1]}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = load_pickle(path)
    assert loaded["note"] == "text"
    assert loaded["number"] == 2.5
    assert loaded["list"] == [1]
    assert list(loaded["blobs"]) == list(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(loaded["blobs"][name], value)
        assert loaded["blobs"][name].dtype == value.dtype.newbyteorder("=")


def test_python_2_files_are_read_as_pickle_reads_them(python2_pickle):
    blobs = {"conv1_w": VALUES["float"], "half": VALUES["half"], "long name " * 40: VALUES["float"]}
    path = python2_pickle({"blobs": blobs, "cfg": "MODEL: !!python/object/new:evil {}"})
    loaded = load_pickle(path)
    with path.open("rb") as file:
        expected = pickle.load(file, encoding="latin1")
    assert loaded["cfg"] == expected["cfg"]
    for name in blobs:
        np.testing.assert_array_equal(loaded["blobs"][name], expected["blobs"][name])


class _Calls:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def _touch(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def _attacks(victim: Path) -> dict[str, object]:
    import builtins
    import os
    import subprocess

    return {
        "os.system": _Calls(os.system, f"touch {victim}"),
        "builtins.eval": _Calls(eval, _touch(victim)),
        "builtins.exec": _Calls(exec, _touch(victim)),
        "subprocess.Popen": _Calls(subprocess.Popen, ["touch", str(victim)]),
        "nested call": _Calls(getattr, _Calls(__import__, "os"), "system"),
        "inside an ordered dict": OrderedDict(x=[{"y": (_Calls(os.mkdir, str(victim)),)}]),
        "as an argument of what is allowed": _Calls(OrderedDict, [("a", _Calls(eval, "1"))]),
        "getattr": _Calls(builtins.getattr, "", "join"),
    }


ATTACKS = list(_attacks(Path("x")))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pickle_that_calls_something_is_refused_and_nothing_runs(tmp_path, attack, protocol):
    victim = tmp_path / "victim"
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        pickle.dumps(
            {"blobs": {"conv1_w": VALUES["float"], "evil": _attacks(victim)[attack]}}, protocol
        )
    )
    with pytest.raises(RefusedPickleError, match=r"weights\.pkl is refused.*torch\.save"):
        load_pickle(path)
    assert not victim.exists()


def test_a_torch_file_that_calls_something_is_refused_and_nothing_runs(tmp_path):
    victim = tmp_path / "victim"
    for zipped in (True, False):
        path = tmp_path / "weights.pth"
        attack = _attacks(victim)["os.system"]
        torch.save({"model": attack}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"weights\.pth is refused: it asks for \w+\.system"):
            read_checkpoint(path)
        assert not victim.exists()


def _forged_array(shape: tuple[int, ...], dtype: object, raw: object) -> object:
    class Forged:
        def __reduce__(self):
            array = np.zeros(1, np.float32).__reduce__()
            return array[0], array[1], (1, shape, dtype, False, raw)

    return Forged()


@pytest.mark.parametrize(
    "forged",
    [
        _forged_array((2**40,), np.dtype("f4"), b"1234"),
        _forged_array((-1,), np.dtype("f4"), b"1234"),
        _forged_array((1,), np.dtype("O"), b"12345678"),
        _forged_array((1,), np.dtype("V8"), b"12345678"),
        _forged_array((1,), "f4", b"1234"),
        _forged_array((1,), np.dtype("f4"), [object]),
        np.array([object()], dtype=object).tolist()[0],
        np.array(["text"]),
    ],
)
def test_forged_arrays_are_an_error_that_names_the_file(tmp_path, forged):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": forged}, protocol=2))
    with pytest.raises(ValueError, match=r"weights\.pkl"):
        load_pickle(path)


def test_what_a_pickle_may_call_cannot_be_changed_by_it(tmp_path, python2_pickle):
    # Opcodes: fetch numpy.dtype, then BUILD it with attributes, as a hostile file could.
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02cnumpy\ndtype\n}U\x08__call__I1\nsb.")
    with pytest.raises(ValueError, match=r"weights\.pkl"):
        load_pickle(path)
    good = load_pickle(python2_pickle({"conv1_w": VALUES["float"]}))
    np.testing.assert_array_equal(good["conv1_w"], VALUES["float"])


@pytest.mark.parametrize("cut", [1, 40, 0.5, -1])
def test_a_truncated_pickle_is_an_error_that_names_the_file(python2_pickle, cut):
    path = python2_pickle({"blobs": {"conv1_w": VALUES["float"]}})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(ValueError, match=r"model_final\.pkl.*fetch it again"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_torch_file_is_an_error_that_names_the_file(tmp_path, zipped):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"model\.pth.*fetch it again"):
        read_checkpoint(path)


def test_damaged_bytes_never_raise_anything_but_an_error_that_names_the_file(python2_pickle):
    path = python2_pickle({"blobs": {"conv1_w": np.ones((4, 4), np.float32)}, "cfg": "text"})
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    failed = 0
    for _ in range(200):
        damaged = bytearray(data)
        for position in generator.integers(2, len(data), 3):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            load_pickle(path)
        except ValueError as error:
            failed += 1
            assert str(path) in str(error)
    assert failed > 50


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"<html>404</html>", b"\x89PNG\r\n"])
def test_other_files_are_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth is neither"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_torchscript_program_is_named_as_such(tmp_path):
    path = tmp_path / "model.pth"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    with pytest.raises(ValueError, match=r"model\.pth is a TorchScript program"):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_checkpoint(tmp_path / "nowhere.pth")
