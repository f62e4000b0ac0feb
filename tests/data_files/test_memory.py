"""What is held while a file is read, computed and written does not grow with the number of its sequences, whatever the format.

What Python and NumPy hold is counted by tracemalloc, to the byte and whatever tests before have left behind. The pages of a memory map are seen
in the peak of the process.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from cli.running import make_cli
from onnx_import.builders import Graph
from peak import forget_peak, peak
from schemes import BYTES

import qrnn
from qrnn.data_files import opening, stores
from qrnn.data_files.opening import open_data
from qrnn.data_files.sinks import open_sink

pytestmark = pytest.mark.skipif("coverage" in sys.modules, reason="coverage.py allocates for each line that it sees")

STEPS, FEATURES = 20, 512
FEW, MANY = 100, 800
"""Sequences of a small file, and of one that has 29 MB more."""
DRAWN = np.random.default_rng(0).normal(size=(20, STEPS, FEATURES)).astype(np.float32)


class Held(NamedTuple):
    """The most bytes that were held: by Python and NumPy, and how many more by the process than before."""

    allocated: int
    pages: int


def held(work: Callable[[], None]) -> Held:
    """Return what a piece of work held at most."""
    gc.collect()
    before = forget_peak()
    tracemalloc.start()
    try:
        work()
        allocated = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Held(allocated, peak() - before)


KEPT = {"run": 0, "compare": 512}
"""The bytes that a command may keep of each sequence: `compare` keeps the errors of each, of which it shows the worst."""


def check_alike(few: Held, many: Held, kept: int = 0) -> None:
    """Compare what two files took, of which one is 29 MB larger; ``kept`` bytes of each sequence may stay."""
    assert many.allocated < few.allocated + 100_000 + kept * (MANY - FEW)  # 100,000: a fourth of a piece
    assert many.pages < few.pages + 10_000_000


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with many inputs, as ONNX and converted."""
    folder, g = tmp_path_factory.mktemp("model"), Graph()
    x = g.node("Transpose", [g.input("x", ["N", "T", FEATURES])], perm=[1, 0, 2])
    g.node("Squeeze", [g.recurrent("GRU", x, FEATURES, 5)[0], g.const(np.array([1], np.int64))], ["y"])
    g.output("y")
    (folder / "m.onnx").write_bytes(g.model().SerializeToString())
    qrnn.save(qrnn.quantize(qrnn.load_onnx(folder / "m.onnx"), {"x": DRAWN}, BYTES), folder / "m.qrnn")
    return folder / "m.onnx", folder / "m.qrnn"


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of ten sequences, so that small files have many."""
    monkeypatch.setattr(opening, "PIECE_BYTES", 10 * DRAWN[0].nbytes)
    monkeypatch.setattr(opening, "WHOLE_BYTES", 1)
    monkeypatch.setattr(stores, "AHEAD_BYTES", 50 * DRAWN[0].nbytes)


def _parts(size: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for start in range(0, size, len(DRAWN)):
        yield start, DRAWN


def _npy(path: Path, size: int) -> Path:
    path = path.with_suffix(".npy")
    with open_sink(path, size) as sink:
        for _, part in _parts(size):
            sink.write({"x": part})
    return path


def _npz(path: Path, size: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(_npy(path, size), "x.npy")
    return path


def _columns_first(path: Path, size: int) -> Path:
    shape = (size, *DRAWN.shape[1:])
    written = np.lib.format.open_memmap(path, "w+", DRAWN.dtype, shape, fortran_order=True)  # type: ignore[no-untyped-call]
    for start, part in _parts(size):
        written[start : start + len(part)] = part
    return path


def _zarr(path: Path, size: int) -> Path:
    zarr = pytest.importorskip("zarr")
    shape = (size, *DRAWN.shape[1:])
    group = zarr.open_group(str(path), mode="w")
    array = group.create_array("x", shape=shape, chunks=(15, *shape[1:]), dtype="f4", compressors=None)
    for start, part in _parts(size):
        array[start : start + len(part)] = part
    return path


def _parquet(path: Path, size: int) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    column = pyarrow.array(DRAWN.reshape(-1))
    for length in (FEATURES, STEPS):
        column = pyarrow.FixedSizeListArray.from_arrays(column, length)
    table = pyarrow.table({"x": column})
    with parquet.ParquetWriter(path, table.schema, use_dictionary=False) as writer:
        for _ in _parts(size):
            writer.write_table(table)
    return path


FORMATS = [_npz, _npy, _columns_first, _zarr, _parquet]


@pytest.mark.parametrize("write", FORMATS, ids=lambda f: f.__name__.strip("_"))
def test_a_large_file_is_read_in_the_memory_of_a_small_one(write: Any, model_files: Any, tmp_path: Path) -> None:
    model = qrnn.load(model_files[1])

    def read(path: Path, size: int) -> Callable[[], None]:
        def work() -> None:
            with open_data(path, model) as data:
                assert sum(len(piece.arrays["x"]) for piece in data.chunks()) == size

        return work

    few, many = (read(write(tmp_path / f"of_{size}", size), size) for size in (FEW, MANY))
    few()  # libraries are imported
    check_alike(held(few), held(many))


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_command_holds_as_much_of_many_sequences_as_of_few(
    command: str,
    model_files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli, (source, model) = make_cli(monkeypatch, capsys), model_files

    def of(size: int) -> Callable[[], None]:
        data = _npz(tmp_path / f"of_{size}", size)
        arguments = {
            "run": ("run", model, "--input", data, "-o", tmp_path / "y.npy"),
            "compare": ("compare", source, model, "--data", data),
        }[command]

        def work() -> None:
            done = cli(*arguments, "--quiet")
            assert done.status == 0, done.err

        return work

    few, many = of(FEW), of(MANY)
    few()  # code is compiled
    check_alike(held(few), held(many), KEPT[command])
