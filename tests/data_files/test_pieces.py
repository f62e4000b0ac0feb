"""Files read in pieces give what they hold, whatever the format and the size of the pieces; and runs of pieces the bits of one run."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_import.builders import head

import qrnn
from qrnn.data_files import opening, sinks, stores
from qrnn.data_files.archive import npz_bytes
from qrnn.data_files.opening import open_data
from qrnn.data_files.sinks import check_sink, open_sink
from qrnn.errors import DataError, MissingLibraryError

RNG = np.random.default_rng(4)
X = RNG.normal(size=(23, 5, 4)).astype(np.float32)
LENGTHS = RNG.integers(0, 6, 23)
ARRAYS = {"x": X, "lengths": LENGTHS}


@pytest.fixture(scope="module")
def model() -> qrnn.QuantModel:
    return qrnn.quantize(qrnn.load_onnx(head("GRU")), {"x": X}, qrnn.Scheme(input="8"))


def _npz(folder: Path, arrays: Any) -> Path:
    (folder / "a.npz").write_bytes(npz_bytes(arrays))
    return folder / "a.npz"


def _stored(folder: Path, arrays: Any) -> Path:
    np.savez(folder / "s.npz", **arrays)
    return folder / "s.npz"


def _npy(folder: Path, arrays: Any) -> Path:
    place = folder / "arrays"
    place.mkdir()
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array)
    return place


def _columns_first(folder: Path, arrays: Any) -> Path:
    return _npy(folder, {name: np.asfortranarray(array) for name, array in arrays.items()})


def _columns_first_npz(folder: Path, arrays: Any) -> Path:
    return _npz(folder, {name: np.asfortranarray(array) for name, array in arrays.items()})


def _zarr(folder: Path, arrays: Any) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / "a.zarr"), mode="w")
    for name, array in arrays.items():
        group.create_array(name, shape=array.shape, chunks=(4, *array.shape[1:]), dtype=array.dtype)[...] = array
    return folder / "a.zarr"


def _parquet(folder: Path, arrays: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {name: pyarrow.array(array.tolist(), _type_of(pyarrow, array)) for name, array in arrays.items()}
    )
    parquet.write_table(table, folder / "a.parquet", row_group_size=7)
    return folder / "a.parquet"


def _type_of(pyarrow: Any, array: Any) -> Any:
    kind = pyarrow.from_numpy_dtype(array.dtype)
    for size in array.shape[:0:-1]:
        kind = pyarrow.list_(kind, size) if size % 2 else pyarrow.list_(kind)
    return kind


FORMATS: list[Callable[[Path, Any], Path]] = [_npz, _stored, _npy, _columns_first, _columns_first_npz, _zarr, _parquet]
each_format = pytest.mark.parametrize("written", FORMATS, ids=lambda f: f.__name__.strip("_"))


@each_format
@pytest.mark.parametrize("sequences", [1, 6, 23, 100, None])
def test_pieces_are_what_the_file_holds(
    written: Any, sequences: int | None, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "AHEAD_BYTES", 3 * X[0].nbytes)  # of columns, three sequences are read at a time
    with open_data(written(tmp_path, ARRAYS), model) as data:
        assert (data.size, data.nbytes) == (23, X.nbytes + LENGTHS.nbytes)
        for _ in range(2):  # each call begins anew
            pieces = list(data.chunks(sequences))
            assert [p.start for p in pieces] == list(range(0, 23, sequences or 23))
            for name, array in ARRAYS.items():
                together = np.concatenate([p.arrays[name] for p in pieces])
                assert together.dtype == array.dtype
                np.testing.assert_array_equal(together, array)


def test_one_array_is_that_of_the_only_input(model: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with open_data(tmp_path / "x.npy", model) as data:
        (piece,) = data.chunks()
    np.testing.assert_array_equal(piece.arrays["x"], X)


@each_format
def test_chunks_give_the_bits_of_one_run(written: Any, model: Any, tmp_path: Path) -> None:
    session = qrnn.Session(model)
    want = session.run({"x": X}, LENGTHS).outputs["logits"]
    with open_data(written(tmp_path, ARRAYS), model) as data:
        got = [outputs["logits"] for outputs in session.run_chunks(data.chunks(7))]
    assert [len(part) for part in got] == [7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(got), want)


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    cuts=st.lists(st.integers(1, 22), unique=True).map(sorted),
    kinds=st.lists(st.sampled_from(["<f4", ">f8", "<f2"]), min_size=1, max_size=3),
)
def test_chunks_of_any_size_and_type(cuts: list[int], kinds: list[str], model: Any) -> None:
    session = qrnn.Session(model)
    x = X.astype("<f2").astype(np.float32)
    parts = [{"x": part.astype(kinds[k % len(kinds)])} for k, part in enumerate(np.split(x, cuts))]
    got = np.concatenate([outputs["logits"] for outputs in session.run_chunks(parts)])
    np.testing.assert_array_equal(got, session.run({"x": x}).outputs["logits"])


def test_errors_count_from_the_first_sequence(model: Any, tmp_path: Path) -> None:
    bad = X.copy()
    bad[20, 3, 1] = np.nan
    session = qrnn.Session(model)
    with open_data(_npz(tmp_path, {"x": bad}), model) as data, pytest.raises(DataError, match=r"nan at \[20, 3, 1\]"):
        list(session.run_chunks(data.chunks(6)))
    lengths = np.full(23, 5)
    lengths[9] = 6
    with (
        open_data(_npz(tmp_path, {"x": X, "lengths": lengths}), model) as data,
        pytest.raises(DataError, match=r"6 at \[9\]"),
    ):
        list(session.run_chunks(data.chunks(4)))


def test_compare_of_a_file_is_that_of_its_arrays(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PIECE_BYTES", 500)
    source = qrnn.load_onnx(head("GRU"))
    labels = RNG.integers(0, 3, 23)
    arrays = {"x": X, "lengths": np.maximum(LENGTHS, 1), "labels": labels}
    want = qrnn.compare(source, model, arrays)
    with open_data(_npz(tmp_path, arrays), source) as data:
        assert len(list(data.chunks())) > 4
        got = qrnn.compare(source, model, data)
    assert not got.by_sequence
    assert want.by_sequence
    one, other = want.to_dict(), got.to_dict()
    assert one.keys() == other.keys()
    for name in ("decisions", "saturation", "sequences", "steps", "range_used"):
        assert one[name] == other[name]
    for part in ("outputs", "layers", "floor"):
        assert one[part].keys() == other[part].keys()
        for name, figures in one[part].items():
            assert figures["sqnr_db"] == pytest.approx(other[part][name]["sqnr_db"], rel=1e-9)
            assert figures["rmse_by_step"] == pytest.approx(other[part][name]["rmse_by_step"], rel=1e-9)


# --- outputs ------------------------------------------------------------------------------------------------------------------------------

OUT = {"y": RNG.normal(size=(9, 3, 2)), "n": RNG.integers(0, 9, 9)}


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        return {name: array[...] for name, array in zarr.open_group(str(path), mode="r").arrays()}
    if path.suffix == ".npy":
        return {"y": np.load(path)}
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


@pytest.mark.parametrize("name", ["out.npz", "out.npy", "out.zarr", "out"])
@pytest.mark.parametrize("rows", [1, 4, 9])
def test_what_is_written_in_pieces_is_read_whole(
    name: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sinks, "ZARR_CHUNK_BYTES", 3 * OUT["y"][0].nbytes
    )  # chunks of three rows and of more than there are
    arrays = {"y": OUT["y"]} if name.endswith(".npy") else OUT
    path = tmp_path / name
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    check_sink(path, tuple(arrays))
    with open_sink(path, 9) as sink:
        for start in range(0, 9, rows):
            sink.write({key: array[start : start + rows] for key, array in arrays.items()})
            assert not path.exists()
    got = _read(path)
    assert got.keys() == arrays.keys()
    for key, array in arrays.items():
        assert got[key].dtype == array.dtype
        np.testing.assert_array_equal(got[key], array)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["out.npz", "out.npy", "out.zarr"])
def test_what_fails_leaves_nothing(name: str, tmp_path: Path) -> None:
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    arrays = {"y": OUT["y"]} if name.endswith(".npy") else OUT

    def stop() -> None:
        with open_sink(tmp_path / name, 9) as sink:
            sink.write({key: array[:4] for key, array in arrays.items()})
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert not os.listdir(tmp_path)


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one array, and the outputs are y, n"):
        check_sink(tmp_path / "out.npy", ("y", "n"))
    pytest.importorskip("zarr")
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(DataError, match="is there already"):
        check_sink(tmp_path / "there.zarr", ("y",))
    with pytest.raises(DataError, match="no folder"):
        check_sink(tmp_path / "none" / "out.zarr", ("y",))


# --- files that are damaged or of another kind --------------------------------------------------------------------------------------------


def refused(path: Path, model: Any, *says: str) -> None:
    with pytest.raises(DataError) as caught, open_data(path, model) as data:
        list(data.chunks(3))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for text in says:
        assert text in message


def test_sizes_are_checked_before_anything_is_allocated(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(path, model, "bytes in all, and the file has")
    path.write_bytes(content.replace(b"(23, 5, 4), }          ", b"(23000000000, 5, 4), } "))
    refused(path, model, "1840000000128 bytes in all")


def test_a_member_that_ends_early(model: Any, tmp_path: Path) -> None:
    """Its checksum is compared when the last rows are read."""
    path = tmp_path / "x.npz"
    np.savez(path, x=X)
    damaged = bytearray(path.read_bytes())
    damaged[200 + X.nbytes // 2] ^= 1
    path.write_bytes(damaged)
    refused(path, model, "Bad CRC-32")


def test_a_sequence_that_is_larger_than_memory(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qrnn.data_files import archive

    path = _npz(tmp_path, {"x": X})
    monkeypatch.setattr(archive, "available_memory", lambda: 100)
    refused_by = "one sequence takes 80 B, and at most half of the memory"
    with pytest.raises(DataError, match=refused_by), open_data(path, model) as data:
        list(data.chunks())


def test_folders(model: Any, tmp_path: Path) -> None:
    refused(tmp_path, model, "a folder without files NAME.npy")
    np.save(tmp_path / "z.npy", X)
    refused(tmp_path, model, "'z' is not an input of the model")


def test_zip_bombs_take_little(model: Any, tmp_path: Path) -> None:
    """A member that unpacks to 64 MB is read 80 bytes at a time."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out, out.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (800_000, 5, 4)})
        member.write(bytes(64_000_000))
    with open_data(path, model) as data:
        piece = next(iter(data.chunks()))
    assert piece.arrays["x"].nbytes <= opening.PIECE_BYTES
    assert path.stat().st_size < 100_000


def test_columns_that_are_no_arrays(model: Any, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    for values, says in (
        ([[[1.0] * 4] * 3, [[1.0] * 4] * 2], "pad them"),
        ([[[1.0] * 4] * 3, None], "missing values"),
        ([[[1.0, None, 1.0, 1.0]] * 3] * 2, "missing values"),
        (["a", "b"], "expected numbers"),
    ):
        parquet.write_table(pyarrow.table({"x": values}), path)
        refused(path, model, says)
    path.write_bytes(b"PAR1" + bytes(100))
    refused(path, model, "not a readable Parquet file")


@pytest.mark.parametrize("library", ["zarr", "pyarrow"])
def test_a_library_that_is_missing_is_named(
    library: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, library, None)
    if library == "zarr":
        (tmp_path / "zarr.json").write_text("{}")
        path = tmp_path
    else:
        path = tmp_path / "a.parquet"
        path.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(MissingLibraryError, match=rf"{library}.*qrnn\[data\]"):
        open_data(path, model)


def test_the_format_of_damaged_zarr_stores(model: Any, tmp_path: Path) -> None:
    if importlib.util.find_spec("zarr") is None:
        pytest.skip("needs zarr")
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"')
    refused(tmp_path, model, "not a readable Zarr store")
