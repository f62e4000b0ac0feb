"""Damaged .npz files: whatever the bytes, either arrays come out or one kind of error."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.data_files.archive import npz_bytes, read_arrays
from qrnn.errors import DataError

ARRAYS = {"x": np.arange(12, dtype=np.float32).reshape(1, 3, 4), "lengths": np.array([3]), "n": np.array(1.5)}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def archive(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as out:
        for name, array in ARRAYS.items():
            member = io.BytesIO()
            np.save(member, array)
            out.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


CONTENTS = tuple(archive(method) for method in METHODS)


def assert_same(got: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    assert list(got) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("content", [*CONTENTS, npz_bytes(ARRAYS)])
def test_good_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert_same(read_arrays(tmp_path / "a.npz"))


def test_what_is_written_can_be_read_by_numpy() -> None:
    with np.load(io.BytesIO(npz_bytes(ARRAYS))) as data:
        assert_same({name: data[name] for name in data.files})


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(
    content=st.sampled_from(CONTENTS),
    flips=st.dictionaries(st.integers(0, 5000), st.one_of(st.integers(1, 255), st.sampled_from([1, 2, 8])), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 900)),
)
def test_damaged_bytes(content: bytes, flips: dict[int, int], cut: int | None) -> None:
    damaged = bytearray(content)
    for place, mask in flips.items():
        damaged[place % len(damaged)] ^= mask
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(bytes(damaged)[:cut])
        try:
            arrays = read_arrays(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            return
    for array in arrays.values():
        assert isinstance(array, bytes | np.ndarray)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(place=st.integers(0, 127), byte=st.one_of(st.integers(0, 255), st.sampled_from(b"{}()[],:'\"<>0129 \n#\\")))
def test_damaged_headers(place: int, byte: int) -> None:
    """An array's header is text that NumPy parses; here it is damaged with the checksums made to fit."""
    member = io.BytesIO()
    np.save(member, ARRAYS["x"])
    header = bytearray(member.getvalue())
    header[place] = byte
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("x.npy", bytes(header))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(buffer.getvalue())
        try:
            read_arrays(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
