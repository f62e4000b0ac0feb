"""Make .npz archives for the command line's reader: whole, damaged, lying about their sizes, and compressed without bounds."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzzing import quant_corpus
from fuzzing.array_edits import OTHERS, REALS
from fuzzing.bytes_edits import edit_bytes
from fuzzing.outcome import FaultError
from fuzzing.watch import Unwatched, Watch
from qrnn.cli import run
from qrnn.errors import QrnnError
from qrnn.running.session import Session

MODEL = "rnn"
"""The model that they are given to, which reads x [N, T, 3]."""

BOMB = 1536
"""Megabytes that the bomb unpacks to."""


def npy(header: str, data: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an .npy file with any header."""
    text = header.encode("latin-1", "replace") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) & (0xFFFF if version == (1, 0) else 0xFFFFFFFF))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def header(descr: Any, shape: Any, fortran: Any = False) -> str:
    """Return the header of an .npy file."""
    return str({"descr": descr, "fortran_order": fortran, "shape": shape})


@cache
def bomb() -> bytes:
    """Return a small archive of one array of zeros of `BOMB` megabytes."""
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


def valid(dtype: str) -> bytes:
    """Return an archive that must be read."""
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((2, 4, 3), dtype))
    return buffer.getvalue()


def make(rng: Random) -> bytes:
    """Draw an archive."""
    if rng.random() < 0.01:
        return bomb()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        others = ("lengths.npy", "labels.npy", "é.npy", "../x.npy", "x", "file.npy", ".npy")
        names = ["x.npy"] if rng.random() < 0.9 else []
        for name in names + rng.sample(others, rng.choice((0, 0, 0, 0, 1, 2))):
            archive.writestr(name, member(rng))
    content = buffer.getvalue()
    return edit_bytes(rng, content, content) if rng.random() < 0.4 else content


def member(rng: Random) -> bytes:
    """Draw an .npy file, mostly a right one."""
    dtype = rng.choice(REALS if rng.random() < 0.8 else OTHERS)
    size = rng.choice(((2, 4, 3), (2, 4, 3), (2, 1, 3), (2, 3, 3), (2,), (0, 2, 3)))
    array = np.zeros(size, dtype if dtype[0] != "O" else "f4")
    if array.dtype.kind in "fiu":
        array += rng.choice((0, 1, 3))
    if rng.random() < 0.6:
        held = io.BytesIO()
        np.lib.format.write_array(held, np.asarray(array), allow_pickle=False)
        return held.getvalue()
    big = rng.choice((0, 1, 3, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 64, -1))
    shapes = ((big,), (big, 1, 3), (1, big, 3), array.shape, (), [2, 3], "x", (True,), (2.0,), None, ((2,),))
    kinds = (array.dtype.str, ">f8", "|O", "<U9", "<U1000000000", "V4", [("a", "<f8")], "x", 3, None, "|S0")
    text = header(rng.choice(kinds), rng.choice(shapes), rng.choice((False, True, 1, None)))
    if rng.random() < 0.1:
        text = rng.choice(("", "{", "(" * 5000, "1" * 70_000, "{'descr': 'f8'}", "__import__('os')", "\0"))
    return npy(text, array.tobytes(), rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9))))


class CommandLine:
    """Runs ``qrnn run`` on archives, in this process."""

    def __init__(self, folder: Path) -> None:
        self._model, self._input, self._output = (folder / name for name in ("m.qrnn", "case.npz", "out.npz"))
        entry = next(e for e in quant_corpus.entries() if e.name == MODEL)
        self._model.write_bytes(entry.content)
        self._plain = Session(entry.model, "reference")

    def judge(self, content: bytes, watch: Watch | Unwatched, facts: list[str]) -> str:
        """Require a DataError with nothing written, or the result of the same arrays, plain, on the reference."""
        self._input.write_bytes(content)
        self._output.unlink(missing_ok=True)
        facts.append("archive")
        try:
            with watch.loading(self._input.parent), contextlib.redirect_stdout(io.StringIO()):
                run.run(self._model, self._input, self._output, "cpu", 1, None, True)
        except QrnnError:
            if self._output.exists():
                raise FaultError("qrnn run refused its data and wrote a file") from None
            raise
        facts.append("archive run")
        with np.load(self._input) as given, np.load(self._output) as outputs:
            plain = {k: given[k].astype(np.float64) if k == "x" else given[k] for k in given.files if k != "labels"}
            want = self._plain.run(plain).outputs
            if any(not np.array_equal(want[name], outputs[name]) for name in want):
                raise FaultError("qrnn run: another result than plain arrays give")
        return "archive run"
