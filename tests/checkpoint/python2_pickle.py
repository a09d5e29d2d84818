"""Writes pickles as Python 2 wrote them."""

import struct

import numpy as np


class Python2Pickle:
    """Writes the opcodes that Python 2's pickle wrote for a dictionary of numpy arrays.

    Strings, and the arrays' raw bytes among them, are byte strings there; Python 3 cannot write
    such files by itself.
    """

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")

    def finish(self) -> bytes:
        return bytes(self.out + b".")

    def string(self, value: bytes) -> None:
        short = len(value) < 256
        self.out += b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))
        self.out += value

    def integer(self, value: int) -> None:
        self.out += b"J" + struct.pack("<i", value)

    def call(self, name: bytes) -> None:
        module, _, function = name.rpartition(b".")
        self.out += b"c" + module + b"\n" + function + b"\n"

    def array(self, value: np.ndarray) -> None:
        self.call(b"numpy.core.multiarray._reconstruct")
        self.call(b"numpy.ndarray")
        self.integer(0)
        self.out += b"\x85"  # tuple of one
        self.string(b"b")
        self.out += b"\x87R(K\x01("  # tuple of three, call, state: version, shape
        for size in value.shape:
            self.integer(size)
        self.out += b"t"
        self.call(b"numpy.dtype")
        self.out += b"("
        self.string(value.dtype.str[1:].encode())
        self.out += b"K\x00K\x01tR(K\x03"
        self.string(b"<")
        self.out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"  # dtype's state; C order
        self.string(value.tobytes())
        self.out += b"tb"

    def dictionary(self, values: dict[str, object]) -> None:
        self.out += b"}("
        for key, value in values.items():
            self.string(key.encode())
            if isinstance(value, dict):
                self.dictionary(value)
            elif isinstance(value, str):
                self.string(value.encode())
            else:
                self.array(np.ascontiguousarray(value))
        self.out += b"u"
