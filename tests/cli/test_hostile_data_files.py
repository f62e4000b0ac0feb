"""Archives that are hostile, huge or for another model: looked at before anything is unpacked, and refused with the array's name."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.running import Workplace
from qrnn.data_files import archive as arrays
from qrnn.data_files.archive import available_memory, npz_bytes, read_arrays
from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput

INPUTS = (
    GraphInput("x", "features", (4,), True),
    GraphInput("ids", "tokens", (), True, vocabulary=9),
    GraphInput("state", "state", (2, 3), False),
)
X, IDS = np.ones((2, 3, 4), np.float32), np.ones((2, 3), np.int64)
GOOD = {"x": X, "ids": IDS}


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def header(shape: Any, dtype: str = "<f8", version: int = 1, padding: int = 0) -> bytes:
    """An array's beginning that says what it likes."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}".encode() + b" " * padding + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def archive(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in members:
            out.writestr(name, content)
    return path


def refused(path: Path, says: str, inputs: Any = INPUTS) -> str:
    """The message; far less than the arrays' size is allocated on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read_arrays(path, inputs)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert says in message
    return message


def test_good_files_of_a_model(tmp_path: Path) -> None:
    more = {"state": np.zeros((2, 6)), "lengths": np.array([3, 1], ">i2"), "labels": np.array([0, 1])}
    for given in (GOOD, GOOD | more, GOOD | {"labels": IDS}, GOOD | {"x": np.asfortranarray(X).astype(">f8")}):
        (tmp_path / "a.npz").write_bytes(npz_bytes(given))
        got = read_arrays(tmp_path / "a.npz", INPUTS)
        assert got.keys() == given.keys()
        for name, value in given.items():
            np.testing.assert_array_equal(got[name], value)
            assert got[name].dtype == value.dtype


def bomb(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """64 MiB of zeros in a few kilobytes, as an array [1, 2^20, 8]."""
    with zipfile.ZipFile(path, "w", method) as out, out.open("x.npy", "w") as member:
        member.write(header((1, 1 << 20, 8)))
        for _ in range(64):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    return path


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (zipfile.ZIP_DEFLATED, "input 'x': shape [1, 1048576, 8], expected [N, T, 4]"),
        (zipfile.ZIP_BZIP2, "array 'x' is compressed by method 12, expected none or deflate"),
        (zipfile.ZIP_LZMA, "array 'x' is compressed by method 14, expected none or deflate"),
    ],
)
def test_a_small_file_that_unpacks_to_a_huge_array(method: int, says: str, tmp_path: Path) -> None:
    """The shape of the array is looked at, its zeros are not."""
    refused(bomb(tmp_path / "bomb.npz", method), says, INPUTS[:1])


def test_arrays_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.npz"
    path.write_bytes(npz_bytes({"x": np.zeros((1, 1 << 16, 4))}))
    monkeypatch.setattr(arrays, "available_memory", lambda: 3 << 20)
    says = "its arrays take 2048.0 KiB, and at most half of the memory that is free (3072.0 KiB) is used for them; give fewer"
    refused(path, says, INPUTS[:1])
    refused(path, says, None)
    monkeypatch.setattr(arrays, "available_memory", lambda: 4 << 20)
    assert read_arrays(path, INPUTS[:1])["x"].shape == (1, 1 << 16, 4)
    monkeypatch.setattr(arrays, "available_memory", lambda: None)
    assert read_arrays(path)["x"].shape == (1, 1 << 16, 4)


def test_available_memory() -> None:
    found = available_memory()
    assert found is None or 1 << 20 < found < 1 << 50


def wrong_sizes() -> dict[str, Callable[[Path], Path]]:
    """Members whose header, directory entry and content say different sizes."""

    def of(*members: tuple[str, bytes]) -> Callable[[Path], Path]:
        return lambda path: archive(path, *members)

    return {
        "small header, huge member": of(("x.npy", header((2, 3, 4)) + bytes(20 << 20))),
        "huge header, small member": of(("x.npy", header((2, 1 << 40, 4)) + bytes(96))),
        "beyond 64 bits": of(("x.npy", header((1 << 40, 1 << 40, 4)))),
        "one byte more": of(("x.npy", npy(X) + b"\0")),
        "one byte less": of(("x.npy", npy(X)[:-1])),
    }


@pytest.mark.parametrize("kind", wrong_sizes())
def test_headers_and_sizes_that_disagree(kind: str, tmp_path: Path) -> None:
    path = wrong_sizes()[kind](tmp_path / "a.npz")
    for inputs in (INPUTS[:1], None):
        refused(path, "array 'x': its header says", inputs)


def test_directories_that_lie_about_a_size(tmp_path: Path) -> None:
    """The directory says what the header says, and far more is packed."""
    content = header((2, 3, 4)) + bytes(192)
    path = archive(tmp_path / "a.npz", ("x.npy", content + bytes(32 << 20)))
    lie = path.read_bytes().replace(struct.pack("<I", len(content) + (32 << 20)), struct.pack("<I", len(content)))
    path.write_bytes(lie)
    refused(path, "CRC", INPUTS[:1])


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((-2, 3, 4), "sizes of at least 0"),
        ((2, -3, -4), "sizes of at least 0"),
        ((2.0, 3, 4), "shape"),
        ((True, 3, 4), ""),
    ],
)
def test_shapes_that_are_none(shape: Any, says: str, tmp_path: Path) -> None:
    refused(archive(tmp_path / "a.npz", ("x.npy", header(shape) + bytes(192))), says)


@pytest.mark.parametrize("version", [1, 2])
def test_long_headers(version: int, tmp_path: Path) -> None:
    """A reader reads no more of a header than a header may have."""
    path = archive(tmp_path / "a.npz", ("x.npy", header((2, 3, 4), version=version, padding=60_000) + bytes(192)))
    refused(path, "header")
    if version == 2:
        content = header((2, 3, 4), version=2, padding=32 << 20)
        refused(archive(path, ("x.npy", content + bytes(192))), "a header of 335")
        claims = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)
        refused(archive(path, ("x.npy", claims + bytes(16 << 20))), "a header of 4294967295 bytes")


@pytest.mark.parametrize(
    "start", [b"", b"\x93NUMPY", b"\x93NUMPY\x03\x00", b"\x93NUMPY\x01\x01", b"GIF89a..", bytes(300)]
)
def test_members_that_are_no_arrays_of_numbers(start: bytes, tmp_path: Path) -> None:
    refused(archive(tmp_path / "a.npz", ("x.npy", start)), "'x'")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    path = archive(tmp_path / "a.npz", ("x.npy", npy(np.array([Evil()], object))))
    for inputs in (INPUTS, None):
        refused(path, "array 'x': type object, expected numbers; Python objects are not read", inputs)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": X.astype("m8[s]")}, "input 'x': type timedelta64[s], expected real numbers"),
        ({"x": X.astype("M8[s]")}, "input 'x': type datetime64[s], expected real numbers"),
        ({"x": X > 0}, "input 'x': type bool"),
        ({"x": X.astype(complex)}, "input 'x': type complex128"),
        ({"x": X.astype("S3")}, "input 'x': type |S3"),
        ({"x": np.zeros((2, 3), [("a", "f4", 4)])}, "input 'x': "),
        ({"x": X[0]}, "input 'x': shape [3, 4], expected [N, T, 4]"),
        ({"x": X[:0]}, "with N and T of at least 1"),
        ({"x": X[:1]}, "input 'ids' has 2 sequences, input 'x' has 1"),
        ({"x": X[:, :2]}, "input 'ids' has 3 steps, others have 2"),
        ({"ids": IDS.astype(float)}, "input 'ids': type float64, expected integers"),
        ({"ids": IDS.astype("m8[s]")}, "input 'ids': type timedelta64[s], expected integers"),
        ({"ids": X}, "input 'ids': shape [2, 3, 4], expected [N, T]"),
        ({"state": np.zeros((2, 7))}, "input 'state': shape [2, 7], expected [N, 2, 3]"),
        ({"state": np.zeros((3, 6))}, "input 'state' has 3 sequences"),
        ({"lengths": np.array([3.0, 1.0])}, "lengths: type float64, expected integers"),
        ({"lengths": np.array([3, 1], "m8[s]")}, "lengths: type timedelta64[s], expected integers"),
        ({"lengths": np.array([3, 1, 1])}, "lengths: shape [3], expected integers [2]"),
        ({"lengths": np.array(3)}, "lengths: shape []"),
        ({"labels": np.array(["a", "b"])}, "labels: type <U1, expected integers"),
        ({"labels": np.zeros((2, 4), int)}, "labels: shape [2, 4], expected [2] or [2, 3]"),
        ({"other": X}, "array 'other' is not an input of the model"),
        ({"": X}, "array '' is not an input of the model"),
        ({"../x": X}, "array '../x' is not an input of the model"),
        ({"/x": X}, "array '/x' is not an input of the model"),
        ({"X": X}, "array 'X' is not an input of the model"),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_of_another_model(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes(GOOD | given))
    refused(tmp_path / "a.npz", says)


def test_missing_arrays(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes({"x": X}))
    refused(tmp_path / "a.npz", "input 'ids' is missing; expected an array [N, T] (the data has 'x')")
    archive(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "input 'x' is missing")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_names_of_members(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    refused(archive(path, ("x.npy", npy(X)), ("x.npy", npy(X))), "holds array 'x' twice")
    refused(archive(path, ("x.npy", npy(X)), ("x", npy(X))), "member 'x' is no array (.npy)")
    refused(archive(path, ("x.npy", npy(X)), ("folder/", b"")), "member 'folder/' is no array")
    refused(archive(path, ("x.npy", npy(X)), ("readme.txt", b"hello")), "member 'readme.txt' is no array")
    refused(archive(path, ("../../x.npy", npy(X))), "array '../../x' is not an input")
    named = (GraphInput("net/x:0", "features", (4,), True),)
    assert list(read_arrays(archive(path, ("net/x:0.npy", npy(X))), named)) == ["net/x:0"]
    archive(path, ("é.npy", npy(X)))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    refused(path, "not a readable .npz file")


def test_encrypted_and_unknown_members(tmp_path: Path) -> None:
    for places, value, says in (
        ((6, 8), 1, "array 'x' is encrypted; save it without a password"),
        ((8, 10), 99, "array 'x' is compressed by method 99, expected none or deflate"),
    ):
        path = archive(tmp_path / "a.npz", ("x.npy", npy(X)))
        content = bytearray(path.read_bytes())
        for signature, place in zip((b"PK\x03\x04", b"PK\x01\x02"), places, strict=True):
            content[content.index(signature) + place] = value
        path.write_bytes(content)
        refused(path, says, INPUTS[:1])


def test_members_that_overlap(tmp_path: Path) -> None:
    """Two names for the same bytes, as in archives that unpack to far more than they hold."""
    path = archive(tmp_path / "a.npz", ("x.npy", npy(X)), ("y.npy", npy(X)), method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)  # where the member begins
    path.write_bytes(content)
    refused(path, "array 'y' lies inside another one", None)


def test_a_single_array_in_place_of_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    refused(tmp_path / "x.npy", "holds one unnamed array; expected an .npz file with one array per graph input")
    (tmp_path / "x.npz").write_bytes(b"\x93NUMPY")
    refused(tmp_path / "x.npz", "holds one unnamed array")


def test_commands_look_first(place: Workplace) -> None:
    """A small archive of a huge array of the wrong width, for each command that reads data."""
    huge, onnx, model = bomb(place.path("bomb.npz")), place.path("gru.onnx"), place.path("gru.qrnn")
    good = place.path("x.npz")
    for command in (
        ["run", model, "--input", huge, "-o", place.path("out.npz")],
        ["compare", onnx, model, "--data", huge],
        ["convert", onnx, "--calibration", huge, "-o", place.path("out.qrnn")],
        ["explain", onnx, model, "--data", huge],
        ["bench", model, "--data", huge],
        ["diff", model, model, "--data", huge],
        ["export", model, "--target", "generic", "--data", huge, "-o", place.path("out")],
        ["sweep", onnx, "--calibration", huge, "--data", good, "-o", place.path("out")],
        ["tune", onnx, "--calibration", good, "--data", huge, "--min-sqnr", "20"],
    ):
        place.refused(*command, says=("bomb.npz", "input 'x': shape [1, 1048576, 8], expected [N, T, 4]"))
