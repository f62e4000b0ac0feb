"""Wrong input of every kind: one line on stderr, exit status 2, and no file left behind."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.running import Workplace, unsupported

# --- ONNX files ---------------------------------------------------------------------------------------------------------------------


def onnx_bytes(place: Workplace) -> bytes:
    return place.path("gru.onnx").read_bytes()


BAD_ONNX: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "missing": (lambda _: None, "cannot read"),
    "empty": (lambda _: b"", "is empty"),
    "truncated": (lambda good: good[: len(good) // 2], "bad.onnx"),
    "text": (lambda _: b"x,y\n1,2\n3,4\n", "not an ONNX model"),
    "zip": (lambda _: b"PK\x03\x04" + bytes(64), "a damaged .keras file"),
    "unsupported": (lambda _: unsupported(), "Sin"),
}


@pytest.mark.wide
@pytest.mark.parametrize("kind", BAD_ONNX)
@pytest.mark.parametrize("command", ["convert", "compare"])
def test_onnx(place: Workplace, kind: str, command: str) -> None:
    make, says = BAD_ONNX[kind]
    content = make(onnx_bytes(place))
    bad = place.path("bad.onnx")
    if content is not None:
        bad.write_bytes(content)
    if command == "convert":
        arguments = ["convert", bad, "--calibration", place.path("x.npz"), "-o", place.path("out.qrnn")]
    else:
        arguments = [
            "compare",
            bad,
            place.path("gru.qrnn"),
            "--data",
            place.path("x.npz"),
            "--json",
            place.path("o.json"),
        ]
    place.refused(*arguments, says=says)


def test_onnx_is_a_folder(place: Workplace) -> None:
    place.refused(
        "convert", place.folder, "--calibration", place.path("x.npz"), "-o", place.path("out.qrnn"), says="cannot read"
    )


# --- data -------------------------------------------------------------------------------------------------------------------------------


X = np.zeros((2, 3, 4), np.float32)


def with_value(value: float) -> np.ndarray[Any, Any]:
    x = X.astype(np.float64)
    x[1, 2, 3] = value
    return x


BAD_ARRAYS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "missing array": ({"lengths": np.array([1, 1])}, ("'x' is missing",)),
    "unknown name": ({"x": X, "y": X}, ("'y' is not an input",)),
    "rank 2": ({"x": X[0]}, ("[3, 4]", "[N, T, 4]")),
    "rank 4": ({"x": X[None]}, ("[1, 2, 3, 4]", "[N, T, 4]")),
    "size": ({"x": np.zeros((2, 3, 5))}, ("[2, 3, 5]", "[N, T, 4]")),
    "no sequences": ({"x": np.zeros((0, 3, 4))}, ("at least 1",)),
    "no steps": ({"x": np.zeros((2, 0, 4))}, ("at least 1",)),
    "scalar": ({"x": np.float32(1)}, ("[N, T, 4]",)),
    "nan": ({"x": with_value(np.nan)}, ("nan at [1, 2, 3]", "finite")),
    "inf": ({"x": with_value(np.inf)}, ("inf at [1, 2, 3]", "finite")),
    "-inf": ({"x": with_value(-np.inf)}, ("-inf at [1, 2, 3]", "finite")),
    "longdouble beyond float64": ({"x": np.full((1, 1, 4), np.longdouble(2) ** 2000)}, ("finite",)),
    "beyond float32": ({"x": with_value(-1.7e308)}, ("-1.7e+308 at [1, 2, 3]", "finite")),
    "text": ({"x": np.full((2, 3, 4), "1")}, ("<U1", "real numbers")),
    "complex": ({"x": X.astype(np.complex64)}, ("complex64", "real numbers")),
    "bool": ({"x": X.astype(bool)}, ("bool", "real numbers")),
    "dates": ({"x": X.astype("datetime64[s]")}, ("datetime64", "real numbers")),
    "lengths: rank": ({"x": X, "lengths": np.ones((2, 1), np.int64)}, ("lengths", "[2]")),
    "lengths: count": ({"x": X, "lengths": np.ones(3, np.int64)}, ("lengths", "[2]")),
    "lengths: float": ({"x": X, "lengths": np.ones(2)}, ("lengths", "integers")),
    "lengths: negative": ({"x": X, "lengths": np.array([-1, 3])}, ("value -1 at [0]",)),
    "lengths: beyond T": ({"x": X, "lengths": np.array([3, 4])}, ("value 4 at [1]", "0…3")),
}  # fmt: skip

BAD_IDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "too large": ({"ids": np.array([[1, 7]])}, ("value 7 at [0, 1]", "0…6")),
    "negative": ({"ids": np.array([[-1, 2]])}, ("value -1 at [0, 0]", "0…6")),
    "float": ({"ids": np.ones((1, 2))}, ("float64", "integers")),
    "rank": ({"ids": np.ones((1, 2, 1, 1), np.int64)}, ("[N, T]",)),
    "huge": ({"ids": np.array([[2**63]], np.uint64)}, ("0…6",)),
}


def reading(place: Workplace, command: str, data: Path, name: str) -> list[Any]:
    onnx, model = place.path(f"{name}.onnx"), place.path(f"{name}.qrnn")
    return {
        "convert": ["convert", onnx, "--calibration", data, "-o", place.path("out.qrnn")],
        "run": ["run", model, "--input", data, "-o", place.path("out.npz")],
        "compare": ["compare", onnx, model, "--data", data, "--json", place.path("out.json"), "--plot", place.path("p.png")],
    }[command]  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("command", ["convert", "run", "compare"])
@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays(place: Workplace, command: str, kind: str) -> None:
    arrays, says = BAD_ARRAYS[kind]
    place.refused(*reading(place, command, place.npz(**arrays), "gru"), says=says)


@pytest.mark.wide
@pytest.mark.parametrize("command", ["convert", "run", "compare"])
@pytest.mark.parametrize("kind", BAD_IDS)
def test_tokens(place: Workplace, command: str, kind: str) -> None:
    arrays, says = BAD_IDS[kind]
    place.refused(*reading(place, command, place.npz(**arrays), "ids"), says=says)


BAD_LABELS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "count": (np.zeros(3, np.int64), ("labels", "[3]", "[2]")),
    "rank": (np.zeros((2, 3, 1), np.int64), ("labels", "[2, 3, 1]")),
    "float": (np.zeros(2), ("labels", "integers")),
    "steps": (np.zeros((2, 4), np.int64), ("labels", "[2, 3]")),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_labels(place: Workplace, kind: str) -> None:
    labels, says = BAD_LABELS[kind]
    place.refused(*reading(place, "compare", place.npz(x=X, labels=labels), "gru"), says=says)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz_of(member: bytes, name: str = "x.npy", method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, member)
    return buffer.getvalue()


def huge_header() -> bytes:
    """An array said to be far larger than memory."""
    good = npy(np.zeros((1, 1, 4)))
    return npz_of(good.replace(b"(1, 1, 4), }" + b" " * 12, b"(1, 9999999999999, 4), }"))


def encrypted() -> bytes:
    """A good file with the flag of encryption set on its member."""
    content = bytearray(npz_of(npy(X)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


BAD_FILES: dict[str, bytes] = {
    "empty": b"",
    "text": b"x: 1, 2, 3\n",
    "npy": npy(X),
    "npy of objects": npy(np.array([{}], object)),
    "cut npy": npy(X)[:-5],
    "pickle": b"\x80\x04N.",
    "objects": npz_of(npy(np.array([{}], object))),
    "cut zip": npz_of(npy(X))[:-30],
    "zip of cut npy": npz_of(npy(X)[:-5]),
    "zip of bare header": npz_of(b"\x93NUMPY\x01\x00"),
    "unclosed header": npz_of(npy(X).replace(b"}", b"(", 1)),
    "header of other keys": npz_of(npy(X).replace(b"'descr'", b"'descx'")),
    "header with a bad type": npz_of(npy(X).replace(b"'<f4'", b"'<z9'")),
    "huge": huge_header(),
    "encrypted": encrypted(),
    "wrong checksum": npz_of(npy(X)).replace(bytes(96), bytes(95) + b"\x01", 1),
}


@pytest.mark.wide
@pytest.mark.parametrize("command", ["convert", "run", "compare"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_data_files(place: Workplace, command: str, kind: str) -> None:
    path = place.path("bad.npz")
    path.write_bytes(BAD_FILES[kind])
    if kind == "npy" and command != "convert":  # of a model with one input it will do, whatever its name
        assert place.cli(*reading(place, command, path, "gru")).status == 0
        return
    place.refused(*reading(place, command, path, "gru"), says=("bad.npz", ".npz"))


@pytest.mark.parametrize("command", ["convert", "run", "compare"])
def test_data_missing_or_a_folder(place: Workplace, command: str) -> None:
    place.refused(*reading(place, command, place.path("none.npz"), "gru"), says=("none.npz", "no such file"))
    place.refused(*reading(place, command, place.folder, "gru"), says="is a folder")


def test_member_that_is_no_array(place: Workplace) -> None:
    path = place.path("bad.npz")
    path.write_bytes(npz_of(b"hello", "x"))
    place.refused(*reading(place, "run", path, "gru"), says=("bad.npz", "member 'x' is no array"))


# --- outputs ----------------------------------------------------------------------------------------------------------------------------


def writing(place: Workplace, what: str, output: Path) -> list[Any]:
    onnx, model, data = place.path("gru.onnx"), place.path("gru.qrnn"), place.path("x.npz")
    return {
        "convert": ["convert", onnx, "--calibration", data, "-o", output],
        "run": ["run", model, "--input", data, "-o", output],
        "json": ["compare", onnx, model, "--data", data, "--json", output],
        "plot": ["compare", onnx, model, "--data", data, "--plot", output],
    }[what]


WRITERS = ["convert", "run", "json", "plot"]


@pytest.mark.matrix
@pytest.mark.parametrize("what", WRITERS)
def test_outputs(place: Workplace, what: str) -> None:
    place.refused(*writing(place, what, place.path("none") / "out"), says=("no folder", "make it first"))
    place.refused(*writing(place, what, place.folder), says="it is a folder")
    place.refused(*writing(place, what, place.path("x.npz") / "out"), says="no folder")
    place.refused(*writing(place, what, place.folder / ("n" * 300)), says="File name too long")


@pytest.mark.parametrize("what", WRITERS)
def test_outputs_that_are_inputs(place: Workplace, what: str) -> None:
    for name in ("x.npz", "gru.qrnn" if what != "convert" else "gru.onnx"):
        place.refused(*writing(place, what, place.path(name)), says="also an input")
    link = place.path("link")
    link.symlink_to(place.path("x.npz"))
    place.refused(*writing(place, what, link), says="also an input")


def test_two_reports_in_one_file(place: Workplace) -> None:
    out = place.path("out")
    place.refused(*writing(place, "json", out), "--plot", out, says="--plot")


def test_a_long_file_name_is_written(place: Workplace) -> None:
    name = "n" * 250
    assert place.cli(*writing(place, "run", place.path(name))).status == 0
    assert place.path(name).is_file()


def test_a_full_disk_leaves_nothing(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qrnn.system.atomic.os.replace", fail)
    place.refused(*writing(place, "run", place.path("out.npz")), says="No space left on device")


def test_an_old_output_survives_a_failure(place: Workplace) -> None:
    old = place.path("out.npz")
    old.write_bytes(b"old")
    place.refused("run", place.path("gru.qrnn"), "--input", place.npz(x=with_value(np.nan)), "-o", old, says="finite")
    assert old.read_bytes() == b"old"


# --- options ------------------------------------------------------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, tuple[str, list[str], str, bool]] = {
    "target": ("convert", ["--target", "toaster"], "toaster", False),
    "target path": ("convert", ["--target", "../targets/generic"], "unknown", False),
    "gates": ("convert", ["--gates", "pwl:100"], "pwl:100", False),
    "gates text": ("convert", ["--gates", "spline"], "spline", False),
    "gates empty": ("convert", ["--gates", ""], "pwl:N", False),
    "calibrator": ("convert", ["--calibrator", "kl"], "minmax, percentile, mse", False),
    "activations": ("convert", ["--activations", "12"], "expected 8, 16 or auto", False),
    "activations 0": ("convert", ["--activations", "0"], "expected 8, 16 or auto", False),
    "weights": ("convert", ["--weights", "6"], "expected 16, 8, 4 or auto", False),
    "activations text": ("convert", ["--activations", "eight"], "activations='eight', expected 8, 16 or auto", False),
    "input scheme": ("convert", ["--input-scheme", "4"], "8-per-feature", False),
    "widths of nothing": ("convert", ["--widths", "nothing.h=16"], "'nothing.h' is no choice of model", False),
    "widths without a width": ("convert", ["--widths", "lstm.h"], "'lstm.h', expected KEY=WIDTH", False),
    "unknown option": ("convert", ["--bits", "8"], "--bits", True),
    "backend": ("run", ["--backend", "tpu"], "tpu", False),
    "backend base": ("run", ["--backend", "base"], "unknown", False),
    "threads": ("run", ["--threads", "0"], "threads=0", False),
    "threads negative": ("run", ["--threads", "-3"], "threads=-3", False),
    "threads text": ("run", ["--threads", "many"], "--threads", True),
    "compare backend": ("json", ["--backend", "tpu"], "tpu", False),
    "gate text": ("json", ["--min-sqnr", "high"], "--min-sqnr", True),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_options(place: Workplace, kind: str) -> None:
    what, options, says, usage = BAD_OPTIONS[kind]
    place.refused(*writing(place, what, place.path("out")), *options, says=says, usage=usage)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convert", "m.onnx", "-o", "m.qrnn"], "--calibration"),
        (["convert", "m.onnx", "--calibration", "x.npz"], "--output"),
        (["convert"], "MODEL"),
        (["run", "m.qrnn", "-o", "out.npz"], "--input"),
        (["run", "m.qrnn", "-i", "x.npz"], "--output"),
        (["compare", "m.onnx", "m.qrnn"], "--data"),
        (["compare", "m.onnx", "--data", "x.npz"], "MODEL"),
        (["inspect"], "MODEL"),
        (["fly"], "fly"),
    ],
)
def test_usage(place: Workplace, arguments: list[str], says: str) -> None:
    place.refused(*arguments, says=says, usage=True)


def test_calibration_that_is_no_file(place: Workplace) -> None:
    place.refused(
        *writing(place, "convert", place.path("o"))[:2], "--calibration", "none", "-o", place.path("o"), says="none"
    )


def test_demo_into_a_file(place: Workplace) -> None:
    place.refused("demo", "-o", place.path("x.npz"), says="choose another folder")


def test_demo_onto_its_own_files(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("digits_gru.onnx", "digits_calibration.npz", "digits_test.npz"):
        place.path(name).touch()
    monkeypatch.setattr("qrnn.examples._path", place.path)
    place.refused("demo", "-o", place.folder, says=("same file", "choose another folder"))


def test_gates_without_labels(place: Workplace) -> None:
    done = place.cli(*writing(place, "json", place.path("o.json")), "--max-accuracy-drop", "1")
    assert done.status == 1
    assert done.lines == ["failed: no labels in the data: the accuracy drop is unknown"]
    assert json.loads(place.path("o.json").read_text())["decisions"]["accuracy"] == {}
