""".npz archives for the command line's reader: whole, damaged, lying about their sizes, and compressed without bounds."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzzing.array_edits import OTHERS, REALS
from fuzzing.bytes_edits import edit_bytes
from fuzzing.outcome import FaultError
from fuzzing.watch import Watch
from qrnn.cli.run import read_arrays  # whatever module it lies in: the one that the command calls

BOMB = 1536
"""Megabytes that the bomb unpacks to."""


def npy(header: str, data: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy file with any header."""
    text = header.encode("latin-1", "replace") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) & (0xFFFF if version == (1, 0) else 0xFFFFFFFF))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def header(descr: Any, shape: Any, fortran: Any = False) -> str:
    return str({"descr": descr, "fortran_order": fortran, "shape": shape})


@cache
def bomb() -> bytes:
    """A small archive of one array of zeros of `BOMB` megabytes."""
    first = npy(header("<f8", (BOMB << 17,)), b"")
    piece, compressor = bytes(1 << 20), zlib.compressobj(9, zlib.DEFLATED, -15)
    start = compressor.compress(first) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(piece) + compressor.flush(zlib.Z_FULL_FLUSH)
    data = start + block * BOMB + compressor.flush()
    crc = zlib.crc32(first)
    for _ in range(BOMB):
        crc = zlib.crc32(piece, crc)
    size = len(first) + (BOMB << 20)
    name = b"x.npy"
    fields = (20, 0, 8, 0, 0, crc, len(data), size, len(name), 0)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *fields) + name + data
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, *fields, 0, 0, 0, 0, 0) + name
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def make(rng: Random) -> bytes:
    """An archive."""
    if rng.random() < 0.01:
        return bomb()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in rng.sample(
            ("x.npy", "lengths.npy", "é.npy", "../x.npy", "x", "file.npy", ".npy"), rng.choice((0, 1, 1, 2))
        ):
            archive.writestr(name, member(rng))
    content = buffer.getvalue()
    return edit_bytes(rng, content, content) if rng.random() < 0.4 else content


def member(rng: Random) -> bytes:
    """An .npy file, mostly right."""
    dtype = rng.choice((*REALS, *OTHERS))
    array = np.zeros((2, 3), dtype) if dtype[0] != "O" else np.zeros((2, 3), "f4")
    if rng.random() < 0.5:
        held = io.BytesIO()
        np.lib.format.write_array(held, np.asarray(array), allow_pickle=False)
        return held.getvalue()
    big = rng.choice((0, 1, 3, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 64, -1))
    shapes = ((big,), (big, big), (2, 3), (), [2, 3], "x", (True,), (2.0,), None, ((2,),))
    kinds = (array.dtype.str, ">f8", "|O", "<U9", "<U1000000000", "V4", [("a", "<f8")], "x", 3, None, "|S0")
    text = header(rng.choice(kinds), rng.choice(shapes), rng.choice((False, True, 1, None)))
    if rng.random() < 0.1:
        text = rng.choice(("", "{", "(" * 5000, "1" * 70_000, "{'descr': 'f8'}", "__import__('os')", "\0"))
    return npy(text, array.tobytes(), rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9))))


def judge(content: bytes, file: Path, watch: Watch, facts: list[str]) -> str:
    """Read an archive as the command line does: arrays of plain numbers and text come out, or DataError."""
    file.write_bytes(content)
    facts.append("archive")
    with watch.loading(file):
        arrays = read_arrays(file)
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise FaultError(f"the reader gave {type(value).__name__} of Python's objects\narray {name}")
    return "archive"
