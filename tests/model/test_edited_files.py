"""Files edited with care, digest and proof made to fit: refused as a model file, or run without harm, alike on every backend."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.generators import Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import Shape

from model.qrnn_files import QrnnFile, token_model
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError, QrnnError
from qrnn.model.activation import Activation
from qrnn.model.codec import decode
from qrnn.model.describe import describe
from qrnn.model.file import load, save
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

UNBOUNDED = {"gate": Activation("softplus"), "candidate": Activation("elu", 1.0), "output": Activation("relu")}
CASES = {
    "gru, states, concat": Case(Shape("gru", states=True), head="tanh", concat=True),
    "gru, reset first": Case(Shape("gru", linear_before_reset=False), head="dense", last_step=True),
    "lstm, two ways": Case(
        Shape("lstm", directions=(False, True)), head="softmax", scheme=Scheme(input="8-per-feature")
    ),
    "lstm, states": Case(Shape("lstm", states=True), head="sigmoid", scheme=Scheme(activations=16)),
    "rnn": Case(Shape("rnn", layers=2), head="hard_sigmoid"),
    "lstm, peepholes": Case(Shape("lstm", forget="coupled", peephole=0.5, clip=3.0), head="elu"),
    "lstm, projection": Case(
        Shape(
            "lstm",
            6,
            4,
            (False, True),
            projection=3,
            projected=Activation("leaky_relu", 0.1),
            states=True,
            residual=True,
        )
    ),
    "rnn, softmax fed back": Case(Shape("rnn", 4, 5, projection=4, projected="softmax", residual=True), head="dense"),
    "lstm, no forget gate": Case(Shape("lstm", forget="one", activations=UNBOUNDED, weight=0.2), head="affine"),
    "lstm, four bits": Case(Shape("lstm", 35, 5), head="dense", scheme=Scheme(input="8", weights=4)),
    "gru, thresholds": Case(Shape("gru", update_keeps=False), head="step", scheme=Scheme(input="8", gates="step")),
}
NAMES = (*CASES, "tokens")
SMALL = (-2, -1, 0, 1, 2, 3, 7, 8, 14, 15, 16, 17, 30, 31, 32, 126, 127, 128, 32767, 32768)
LARGE = (65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**61, -(2**61))


@cache
def good(name: str) -> QrnnFile:
    """The file of one of the models."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.qrnn"
        if name in CASES:
            case = CASES[name]
            model = quantize(case.model(), case.data(), case.scheme)
        else:
            (Path(folder) / "m.onnx").write_bytes(token_model().SerializeToString())
            ids = np.random.default_rng(0).integers(0, 7, (4, 5))
            model = quantize(load_onnx(Path(folder) / "m.onnx"), {"ids": ids}, Scheme(input="8"))
        save(model, path)
        return QrnnFile(path)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside the structure, but those of the provenance."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if key != "provenance":
            yield (*path, key)
            if isinstance(item, dict | list):
                yield from places(item, (*path, key))


def texts(value: Any) -> list[str]:
    """Every text in the structure: names to confuse."""
    if isinstance(value, dict | list):
        return [t for item in (value.values() if isinstance(value, dict) else value) for t in texts(item)]
    return [value] if isinstance(value, str) else []


def edit_structure(draw: st.DrawFn, file: QrnnFile) -> None:
    path = draw(st.sampled_from(sorted(places(file.structure), key=str)))
    where = file.structure
    for key in path[:-1]:
        where = where[key]
    key, old = path[-1], where[path[-1]]
    if isinstance(old, list) and old and draw(st.booleans()):
        k = draw(st.integers(0, len(old) - 1))
        where[key] = draw(st.sampled_from([old[:k] + old[k + 1 :], [*old, old[k]], old[::-1], []]))
    elif isinstance(old, bool) or draw(st.integers(0, 9)) == 0:
        where[key] = draw(st.sampled_from([None, True, False, [], {}, "", 0, -1, 0.5, 10**400, [[]]]))
    elif isinstance(old, int):
        where[key] = draw(st.sampled_from(SMALL + LARGE))
    elif isinstance(old, float):
        where[key] = draw(
            st.sampled_from([0.0, -1.0, 1e-320, 1e-30, 3.0, 1e30, 1e308, float("nan"), float("inf"), 10**400])
        )
    elif isinstance(old, str):
        where[key] = draw(st.sampled_from(sorted(set(texts(file.structure)))))
    elif isinstance(old, dict) and set(old) == {"tensor"}:
        where[key] = {"tensor": draw(st.sampled_from(sorted(file.tensors)))}
    else:
        del where[key]


def edit_tensor(draw: st.DrawFn, file: QrnnFile) -> None:
    key = draw(st.sampled_from(sorted(file.tensors)))
    array = file.tensors[key]
    how = draw(st.integers(0, 9))
    if how == 0 and array.size:
        file.tensors[key] = array[:-1].copy()
    elif how == 1:
        file.tensors[key] = array.reshape(1, *array.shape).copy()
    elif how == 2:
        file.tensors[key] = array.astype(draw(st.sampled_from([np.int8, np.int16, np.int32, np.int64, np.float32])))
    elif array.size and array.dtype.kind == "i":
        limits = np.iinfo(array.dtype)
        values = st.sampled_from([v for v in SMALL + LARGE if limits.min <= v <= limits.max])
        extreme = st.sampled_from([int(limits.min), int(limits.min) + 1, int(limits.max), int(limits.max) - 1])
        flat = array.reshape(-1)
        flat[draw(st.integers(0, array.size - 1))] = draw(st.one_of(values, extreme))


def fit_proof(file: QrnnFile) -> None:
    """Store the proof of the edited model, where there is one."""
    try:
        model: QuantModel = decode(copy.deepcopy(file.structure), QuantModel, file.tensors, "model")
    except QrnnError:
        return
    file.metadata["proof"] = json.dumps(dict(model.proof))


def data_for(model: QuantModel) -> dict[str, Any] | None:
    """Two sequences of three steps with values of every size; None when the model asks for too much."""
    rng = np.random.default_rng(0)
    data: dict[str, Any] = {}
    for i in model.inputs:
        if not 0 <= i.features <= 1000:
            return None
        lead = (2, 3) if i.has_time else (2,)
        if i.kind == "tokens":
            data[i.name] = rng.integers(0, max(1, min(i.vocabulary, 1 << 40)), lead)
        elif i.kind == "lengths":
            data[i.name] = np.array([3, 2])
        else:
            data[i.name] = rng.normal(size=(*lead, i.features)) * 10.0 ** rng.integers(-3, 4, (*lead, 1))
    return data


def check_harmless(file: QrnnFile, folder: Path) -> bool:
    """Return whether the file loads; if so it must run the same on every backend, or be refused as the wrong data."""
    fit_proof(file)
    path = file.write(folder / "edited.qrnn")
    try:
        model = load(path)
    except ModelFileError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "edited.qrnn: " in str(error)  # noqa: PT017
        return False
    json.dumps(describe(model), allow_nan=False)
    data = data_for(model)
    if data is None:
        return True
    results = []
    for backend in available_backends():
        try:
            result = Session(model, backend).run(data, lengths=[3, 0])
        except QrnnError as error:
            results.append({"error": np.array(str(error))})
            continue
        states = {f"{n}.{k}": v for n, pair in result.state.layers.items() for k, v in zip("hc", pair, strict=True)}
        results.append({**result.outputs, **states})
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for key, value in other.items():
            np.testing.assert_array_equal(value, results[0][key])
    return True


@st.composite
def edited(draw: st.DrawFn) -> QrnnFile:
    file = copy.deepcopy(good(draw(st.sampled_from(NAMES))))
    for _ in range(draw(st.integers(1, 2))):
        (edit_structure if draw(st.integers(0, 2)) else edit_tensor)(draw, file)
    return file


def run_edited(file: QrnnFile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_harmless(file, Path(folder))


QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


@settings(max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(file=edited())
def test_edited_files(file: QrnnFile) -> None:
    run_edited(file)


@pytest.mark.matrix
@settings(max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(file=edited())
def test_more_edited_files(file: QrnnFile) -> None:
    run_edited(file)


@pytest.mark.long
@settings(max_examples=20000, deadline=None, database=None, suppress_health_check=QUIET)
@given(file=edited())
def test_edited_files_long(file: QrnnFile) -> None:
    run_edited(file)


@pytest.mark.parametrize("name", NAMES)
def test_unedited_files_load_and_run(name: str, tmp_path: Path) -> None:
    assert check_harmless(copy.deepcopy(good(name)), tmp_path)
