"""Reads pickled weight files without running anything that they ask for.

A pickle is a program. Detectron and detectron2 published their weights as pickles of dictionaries
of numpy arrays, so the few callables that such a dictionary needs are enough to read it. They are
replaced here by stand-ins that only collect sizes and bytes and check them against each other; not
even numpy's own constructors are reachable, because a forged dtype could make them read bytes as
pointers. Every other callable is refused before it is called.
"""

import pickle
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_KINDS = frozenset(
    ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
)  # no objects, strings, structures or dates
_MAX_DEPTH = 16

_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class RefusedPickleError(ValueError):
    """The pickle asks for a callable that a file of weights has no use for."""


class _Type:
    """Stand-in for numpy.dtype: a checked kind such as "f4", with its byte order."""

    __slots__ = ("value",)

    def __init__(self, code: str) -> None:
        code = code.lstrip("<>=|")
        if code not in _KINDS:
            raise ValueError(f"arrays of type {code!r} do not belong in a file of weights")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stand-in for numpy.ndarray: raw bytes that fit the stated shape and type."""

    __slots__ = ("value",)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, raw = state
        self.fill(raw, dtype, shape, "F" if fortran_order else "C")

    def fill(self, raw: Any, dtype: _Type, shape: tuple[int, ...], order: str) -> None:
        if not isinstance(dtype, _Type) or any(
            not isinstance(size, int) or size < 0 for size in shape
        ):
            raise ValueError(f"array with a malformed type or shape {shape!r}")
        data = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        if len(data) != prod(shape) * dtype.value.itemsize:
            raise ValueError(f"array of shape {shape} has {len(data)} bytes of data")
        flat = np.frombuffer(data, dtype.value).astype(dtype.value.newbyteorder("="))
        self.value = flat.reshape(shape, order="F" if order == "F" else "C")


# The stand-ins that a pickle may call are instances without attributes: it can change none of them.


class _ArrayType:
    __slots__ = ()


class _MakeType:
    __slots__ = ()

    def __call__(self, code: str, *_: Any) -> _Type:
        return _Type(code)


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _MakeArrayFromBuffer:
    __slots__ = ()

    def __call__(self, raw: Any, dtype: _Type, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.fill(raw, dtype, shape, order)
        return array


class _MakeScalar:
    __slots__ = ()

    def __call__(self, dtype: _Type, raw: Any) -> _Array:
        array = _Array()
        array.fill(raw, dtype, (), "C")
        return array


class _Encode:
    """Protocol 2 writes bytes as ``_codecs.encode(text, "latin1")``."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes encoded as {encoding!r}")
        return text.encode("latin1")


class _MakeEmptyBytes:
    """Protocol 2 writes no bytes as ``bytes()``."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _MakeOrderedDict:
    __slots__ = ()

    def __call__(self, items: Any = ()) -> dict[Any, Any]:
        return OrderedDict(items)


_ALLOWED: dict[tuple[str, str], object] = {
    ("__builtin__", "bytes"): _MakeEmptyBytes(),
    ("_codecs", "encode"): _Encode(),
    ("collections", "OrderedDict"): _MakeOrderedDict(),
    ("numpy", "dtype"): _MakeType(),
    ("numpy", "ndarray"): _ArrayType(),
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _MakeArray()),
            ("multiarray", "scalar", _MakeScalar()),
            ("numeric", "_frombuffer", _MakeArrayFromBuffer()),
        )
    },
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise RefusedPickleError(f"it asks to call {module}.{name}") from None

    def persistent_load(self, pid: object) -> object:
        raise RefusedPickleError("it refers to objects outside the file")


def load_pickle(path: str | Path) -> Any:
    """Reads a pickle of plain containers, numbers, strings and numpy arrays.

    Strings of Python 2 are decoded as latin-1. Arrays come back as ``numpy.ndarray`` in native byte
    order.

    Raises:
        ValueError: the file is not a pickle, is truncated or damaged, or asks for anything beyond
            the allow-list (``RefusedPickleError``); nothing that it asks for has been run.
    """
    with open(path, "rb") as file:
        return _load(file, path)


def _load(file: BinaryIO, path: str | Path) -> Any:
    try:
        return _resolve(_AllowListUnpickler(file, encoding="latin1").load(), _MAX_DEPTH)
    except RefusedPickleError as error:
        raise RefusedPickleError(
            f"{path} is refused: {error}, and a file of weights holds arrays alone. If you trust "
            "where it came from, read it in a program of your own and store the arrays with "
            "torch.save({name: tensor})"
        ) from None
    except _UNPICKLING_ERRORS as error:
        raise ValueError(
            f"{path} cannot be read as a pickle of arrays ({type(error).__name__}: {error}); "
            "it is damaged or incomplete, delete it and fetch it again"
        ) from error


def _resolve(value: Any, depth: int) -> Any:
    """Puts the collected arrays in place of their stand-ins, inside plain containers."""
    if depth == 0:
        raise ValueError(f"containers are nested deeper than {_MAX_DEPTH}")
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: _resolve(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item, depth - 1) for item in value)
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise ValueError(f"an object of type {type(value).__name__} does not belong among weights")
