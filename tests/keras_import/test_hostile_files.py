"""Damaged and hostile files: each ends in one error of the package, within bounds of time and memory, and nothing outside is read."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn.errors import ModelFileError, QrnnError, UnsupportedError

from .files import golden, golden_names, h5_bytes, keras_bytes, lstm_weights, sequential

sys.path.append(str(Path(__file__).resolve().parents[1]))
from fuzzing.bytes_edits import edit_bytes

h5py = pytest.importorskip("h5py")

CONFIG = sequential(("LSTM", {"units": 2}))


def load(tmp_path: Path, content: bytes) -> qrnn.FloatModel:
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    return qrnn.load_keras(path)


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return buffer.getvalue()


def test_a_member_that_unpacks_to_more_than_the_file_may_take(tmp_path: Path) -> None:
    bomb = bytearray(archive({"config.json": json.dumps(CONFIG).encode(), "model.weights.h5": bytes(1000)}))
    entry = bomb.rindex(b"PK\x01\x02")
    bomb[entry + 24 : entry + 28] = struct.pack("<I", 3 << 30)  # what the directory says of the size
    with pytest.raises(UnsupportedError, match=r"member 'model.weights.h5' takes .* bytes"):
        load(tmp_path, bytes(bomb))


@pytest.mark.parametrize(("members", "words"), [
    ({"config.json": b"{}"}, "no member 'model.weights.h5'"),
    ({"other": b""}, "no member 'config.json'"),
    ({"config.json": b"[" * 100_000, "model.weights.h5": h5_bytes("{}", {})}, "is no JSON"),
    ({"config.json": b"\xff", "model.weights.h5": h5_bytes("{}", {})}, "is no JSON"),
    ({"config.json": b"[]", "model.weights.h5": h5_bytes("{}", {})}, "expected an object"),
    ({"config.json": b"{}", "model.weights.h5": b""}, "damaged or cut off")])  # fmt: skip
def test_other_archives(members: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with pytest.raises((ModelFileError, UnsupportedError), match=words):
        load(tmp_path, archive(members))


def with_weights(write: Any) -> bytes:
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        for path, array in lstm_weights().items():
            file[path] = array
        del group["0"]
        write(group)
    return archive({"config.json": json.dumps(CONFIG).encode(), "model.weights.h5": held.getvalue()})


def external(group: Any) -> None:
    group["0"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft(group: Any) -> None:
    group["0"] = h5py.SoftLink("/layers/lstm/cell/vars/1")


def elsewhere(group: Any) -> None:
    group.create_dataset("0", (3, 8), "f4", external=[("/etc/passwd", 0, 96)])


def chunked(group: Any) -> None:
    group.create_dataset("0", (3, 8), "f4", chunks=(3, 8), compression="gzip")


def huge(group: Any) -> None:
    group.create_dataset("0", (1 << 40, 8), "f4")


def texts(group: Any) -> None:
    group.create_dataset("0", (3, 8), h5py.string_dtype())


def group_in_place(group: Any) -> None:
    group.create_group("0")


def references(group: Any) -> None:
    group.create_dataset("0", (3, 8), h5py.ref_dtype)


HDF5 = {external: "link to elsewhere", soft: "link to elsewhere", elsewhere: "data in other files", chunked: "stored in chunks",
        huge: "more than the file has bytes", texts: "no numbers", group_in_place: "is no dataset", references: "no numbers"}  # fmt: skip


@pytest.mark.parametrize("write", HDF5, ids=lambda write: write.__name__)
def test_datasets_that_are_not_plain(write: Any, tmp_path: Path) -> None:
    with pytest.raises((ModelFileError, UnsupportedError), match=HDF5[write]):
        load(tmp_path, with_weights(write))


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i4"])
def test_types_of_numbers(dtype: str, tmp_path: Path) -> None:
    kernel = np.arange(24).reshape(3, 8).astype(dtype)
    (layer,) = load(tmp_path, with_weights(lambda group: group.create_dataset("0", data=kernel))).recurrent_layers
    order = np.r_[0:2, 6:8, 2:4, 4:6]
    np.testing.assert_array_equal(
        np.sort(layer.directions[0].weight_ih.ravel()), np.sort(kernel[:, order].ravel().astype(float))
    )


def test_the_newer_form_of_hdf5(tmp_path: Path) -> None:
    """Files of ``libver='latest'`` have other headers and links."""
    held = io.BytesIO()
    with h5py.File(held, "w", libver="latest") as file:
        for path, array in lstm_weights().items():
            file[path] = array
    content = archive({"config.json": json.dumps(CONFIG).encode(), "model.weights.h5": held.getvalue()})
    assert len(load(tmp_path, content).layers) == 1


def test_circles_in_hdf5_end(tmp_path: Path) -> None:
    """A group that is its own member, and a continuation of a header that is itself."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for path, array in lstm_weights().items():
            file[path] = array
        file["layers/lstm/cell/vars/x"] = file["layers"]
    content = archive({"config.json": json.dumps(CONFIG).encode(), "model.weights.h5": held.getvalue()})
    with pytest.raises(ModelFileError, match="has 4 weights"):
        load(tmp_path, content)
    # an object header of version 1 whose one message continues at the header's own messages
    header = struct.pack("<BxHII4x", 1, 1, 1, 24) + struct.pack("<HHB3xQQ", 0x10, 16, 0, 96 + 16, 24)
    start = (
        b"\x89HDF\r\n\x1a\n"
        + bytes([0, 0, 0, 0, 0, 8, 8, 0])
        + bytes(8)
        + bytes(32)
        + bytes(8)
        + struct.pack("<Q", 96)
        + bytes(24)
    )
    assert len(start) == 96
    with pytest.raises(UnsupportedError, match="more work"):
        load(tmp_path, start + header)


def edited_config(rng: Random, config: Any) -> Any:
    """Change, lose or add values anywhere in a config."""
    values = (
        None,
        True,
        0,
        -1,
        1,
        2,
        3.5,
        "x",
        "",
        [],
        [1],
        {},
        {"class_name": "x"},
        10**30,
        [[]],
        "linear",
        float("inf"),
    )
    for _ in range(rng.choice((1, 1, 2, 4))):
        spots = [
            (holder, key)
            for holder in walk(config)
            for key in (holder if isinstance(holder, dict) else range(len(holder)))
        ]
        holder, key = rng.choice(spots)
        how = rng.randrange(3)
        if how == 0:
            del holder[key]
        elif how == 1:
            holder[key] = rng.choice(values)
        else:
            other, place = rng.choice(spots)
            holder[key] = (
                json.loads(json.dumps(other[place]))
                if place in other or (isinstance(place, int) and place < len(other))
                else 0
            )
    return config


def walk(value: Any) -> Any:
    if isinstance(value, (dict, list)) and value:
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from walk(part)


def fuzzed(rng: Random) -> bytes:
    case = golden(rng.choice(golden_names()))
    how = rng.randrange(4)
    if how == 0:
        return edit_bytes(rng, case.h5, case.keras)
    with zipfile.ZipFile(io.BytesIO(case.keras)) as found:
        members = {name: found.read(name) for name in found.namelist()}
    if how == 1:
        return edit_bytes(rng, case.keras, case.h5)
    if how == 2:
        members["model.weights.h5"] = edit_bytes(rng, members["model.weights.h5"], members["config.json"])
    else:
        members["config.json"] = json.dumps(edited_config(rng, json.loads(members["config.json"]))).encode()
    return archive(members, zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    "seeds", [range(150), pytest.param(range(150, 3000), marks=pytest.mark.matrix)], ids=["few", "many"]
)
def test_edited_files(seeds: range, tmp_path: Path) -> None:
    """Files with errors anywhere are read, or refused by the package's own errors; every other exception fails."""
    loaded = 0
    for seed in seeds:
        with contextlib.suppress(QrnnError):
            load(tmp_path, fuzzed(Random(seed)))
            loaded += 1
    assert 0.05 * len(seeds) < loaded < 0.95 * len(seeds)


def test_whole_files_are_read(tmp_path: Path) -> None:
    assert len(load(tmp_path, keras_bytes(CONFIG, lstm_weights())).layers) == 1
