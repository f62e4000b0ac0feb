"""Models of every kind with every small edit: refused as a model file, or alike by reference, whole runs, streams and pools."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from models import Shape, make_model

import qrnn.layers as ql
from model.mutations import Edit, edits
from model.qrnn_files import QrnnFile, digest_of
from model.test_edited_files import CASES, data_for, fit_proof, good
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError
from qrnn.model.file import load, save
from qrnn.model.float_model import FloatModel, GraphInput
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import Window
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.running.state import RunResult, State

pytestmark = pytest.mark.usefixtures("loops")

FEWEST, FEW, T, N = 12, 100, 3, 2


def mixed() -> tuple[FloatModel, dict[str, Any]]:
    """Tokens and features, two outputs of several parts, layers after a last step and after h_n."""
    rng = np.random.default_rng(2)

    def drawn(*size: int) -> Any:
        return rng.normal(size=size) * 0.5

    ids, x = ql.tokens("ids", 5), ql.input("x", 3)
    embedded = ql.embedding(ids, drawn(5, 4))
    first = ql.gru(embedded, drawn(12, 4), drawn(12, 4), h_0=drawn(4) * 0.3)
    second = ql.lstm(x, drawn(16, 3), drawn(16, 4), h_0=ql.state("h", 4), c_0=ql.state("c", 4))
    both = ql.concat(first.output, second.output)
    third = ql.rnn(both, drawn(4, 8), drawn(4, 3), projection=ql.projection(drawn(3, 4), drawn(3)))
    logits = ql.dense(ql.last_step(third.output), drawn(4, 3), drawn(4))
    tail = ql.softmax(ql.add(logits, first.h_n))
    model = ql.model("mixed", {"y": (third.output, second.output), "p": (tail, second.h_n), "c": second.c_n})
    return model, {"ids": rng.integers(0, 5, (4, 6)), "x": rng.normal(size=(4, 6, 3))}


def one_step() -> tuple[FloatModel, dict[str, Any]]:
    """A graph that runs one step per call, with its states as inputs."""
    model = make_model(Shape("lstm", 3, 4, states=True, head=2), np.random.default_rng(3))
    return replace(model, one_step=True), {"x": np.random.default_rng(4).normal(size=(4, 6, 3))}


def with_lengths() -> tuple[FloatModel, dict[str, Any]]:
    model = make_model(Shape("gru", 3, 4, (False, True), layers=2), np.random.default_rng(5))
    inputs = (*model.inputs, GraphInput("n", "lengths", (), False))
    x = np.random.default_rng(6).normal(size=(4, 6, 3))
    return replace(model, inputs=inputs), {"x": x, "n": np.array([6, 3, 1, 6])}


def without_kernels(stride: int) -> tuple[FloatModel, dict[str, Any]]:
    """Layers and cells that backends run by their own definition: a convolution, a normalization, minGRU and IndRNN."""
    rng = np.random.default_rng(7)
    x = ql.input("x", 3)
    c = ql.conv(x, rng.normal(0, 0.5, (4, 3, 2)), rng.normal(size=4), stride=stride, dilation=2)
    first = ql.min_gru(ql.layer_norm(c, 1 + 0.1 * rng.normal(size=4)), rng.normal(0, 0.5, (6, 4)), rng.normal(size=6))
    second = ql.indrnn(first.output, rng.normal(0, 0.5, (4, 3)), rng.uniform(-0.9, 0.9, 4), rng.normal(size=4))
    return ql.model("m", {"y": second.output, "c": c, "h": first.h_n}), {"x": rng.normal(size=(4, 6, 3))}


def normalized() -> tuple[FloatModel, dict[str, Any]]:
    """An LSTM with layer normalization inside, of W·x and R·h apart and of c."""
    rng = np.random.default_rng(8)
    gain = ql.normalization(1 + 0.1 * rng.normal(size=16), rng.normal(0, 0.1, 16))
    cell = ql.normalization(1 + 0.1 * rng.normal(size=4))
    h = ql.layer_norm_lstm(
        ql.input("x", 3),
        rng.normal(0, 0.5, (16, 3)),
        rng.normal(0, 0.5, (16, 4)),
        norm_x=gain,
        norm_h=gain,
        norm_c=cell,
    )
    return ql.model("m", {"y": h.output, "c": h.c_n}), {"x": rng.normal(size=(4, 6, 3))}


def reduced(stride: int) -> tuple[FloatModel, dict[str, Any]]:
    """A pool, means of features and of all steps so far, the largest of these, and their last step."""
    rng = np.random.default_rng(9)
    pool = ql.average_pool(ql.input("x", 6), Window(2, stride, 1, 1), band=Window(2, 1, 1, 1), bands=3)
    so_far = ql.running(pool, "mean", 3, inner=2)
    most = ql.running(ql.reduce(pool, "sum", 2), "max")
    last = ql.dense(ql.last_step(so_far), rng.normal(size=(2, 2)))
    return ql.model("m", {"y": so_far, "most": most, "last": last}), {"x": rng.normal(size=(4, 6, 6))}


MORE = {
    "mixed": mixed,
    "one step": one_step,
    "lengths": with_lengths,
    "without kernels": partial(without_kernels, 1),
    "strided": partial(without_kernels, 2),
    "normalized": normalized,
    "reduced": partial(reduced, 1),
    "reduced and strided": partial(reduced, 2),
}
NAMES = (*CASES, "tokens", *MORE)
PAIRS = list(pairwise((*NAMES, NAMES[0])))
"""Each model, and the one that it gets parts from."""


@cache
def saved(name: str) -> QrnnFile:
    if name not in MORE:
        return good(name)
    with tempfile.TemporaryDirectory() as folder:
        save(quantize(*MORE[name](), Scheme(input="8")), Path(folder) / "m.qrnn")
        return QrnnFile(Path(folder) / "m.qrnn")


def states_of(result: RunResult | State) -> dict[str, Any]:
    state = result if isinstance(result, State) else result.state
    return {f"{name}.{k}": array for name, arrays in state.layers.items() for k, array in enumerate(arrays)}


def assert_same(got: dict[str, Any], want: dict[str, Any], what: str) -> None:
    assert got.keys() == want.keys(), what
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=f"{what}: {name}")


def check_alike(model: QuantModel) -> None:
    """Reference, cpu in three runs of one shape, with lengths, in steps, as streams and in a pool."""
    data = data_for(model)
    if data is None:  # a state input of more elements than a test makes; the model reads those that it did
        return
    lengths = next((data.pop(i.name) for i in model.inputs if i.kind == "lengths"), None)
    reference, cpu = Session(model, "reference"), Session(model, "cpu", 1)
    want = reference.run(data)
    for _ in range(3):
        got = cpu.run(data)
        assert_same(got.outputs | states_of(got), want.outputs | states_of(want), "cpu")
    short = [T, 0] if lengths is None else [T, 1]
    got, cut = cpu.run(data, short), reference.run(data, short)
    assert_same(got.outputs | states_of(got), cut.outputs | states_of(cut), "cpu, lengths")
    if any(d.reverse for layer in model.recurrent_layers for d in layer.directions):
        return
    state_inputs = {i.name for i in model.inputs if i.kind == "state"}
    given = {name: v for name, v in data.items() if name not in state_inputs}
    begin = cpu.initial_state(N, {name: v for name, v in data.items() if name in state_inputs})
    timed = {i.name for i in model.inputs if i.has_time}
    stream, pool, carried = cpu.stream(N, begin), cpu.pool(N), begin
    numbers = [pool.open(begin.rows(slice(n, n + 1))) for n in range(N)]
    came = {o.name: 0 for o in model.outputs}
    for t in range(T):
        frame = {name: v[:, t] if name in timed else v for name, v in given.items()}
        upto = reference.run({name: v[:, : t + 1] if name in timed else v for name, v in data.items()}, end=False)
        result = cpu.step(frame, carried)
        carried = result.state
        step = upto.outputs.copy()
        for o in model.outputs:  # zeros where no step of an output comes out
            (new,) = set(result.lengths[o.name].tolist())
            if o.has_time:
                assert (upto.lengths[o.name] == came[o.name] + new).all()
                came[o.name] += new
                step[o.name] = step[o.name][:, max(came[o.name], 1) - 1]
            step[o.name] = step[o.name] * new
        assert_same(result.outputs, step, f"step {t}")
        assert_same(stream.step(frame), step, f"stream, step {t}")
        assert_same(pool.step(numbers, frame), step, f"pool, step {t}")
    assert_same(states_of(carried), states_of(upto), "state of the steps")
    assert_same(states_of(stream.state), states_of(upto), "state of the stream")


def outcome(file: QrnnFile, edit: Edit, folder: Path) -> str:
    """``refused`` or ``alike``; anything else is an error."""
    edited = edit.apply(file)
    fit_proof(edited)
    path = edited.write(folder / "edited.qrnn")
    try:
        model = load(path)
    except ModelFileError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        return "refused"
    check_alike(model)
    return "alike"


@pytest.mark.parametrize("name", NAMES)
def test_unedited_models(name: str, tmp_path: Path) -> None:
    assert outcome(saved(name), Edit("nothing", ("name",), "another"), tmp_path) == "alike"


def put(*path: Any, value: Any) -> Edit:
    return Edit("", path, value)


def tensor(*path: Any, value: Any) -> Edit:
    return Edit("", path, {"tensor": "own"}, (("own", np.asarray(value)),))


FIRST = ("layers", 0, "directions", 0)
JUNK = {"type": "TensorFormat", "features": 2**40, "has_time": True, "bits": 16, "scale": [1.0], "limit": 1}
TWO, STATES, CONCAT = "lstm, two ways", "lstm, states", "gru, states, concat"
REFUSED: tuple[tuple[str, Edit, str], ...] = (
    (TWO, put("layers", 0, "directions", 1, "reverse", value=False), "2 directions, reverse [False, False], expected"),
    (TWO, put("layers", 0, "directions", 0, "reverse", value=True), "2 directions, reverse [True, True], expected"),
    ("one step", put("layers", 0, "directions", 0, "reverse", value=True), "needs whole sequences in a graph of one step"),
    ("mixed", put("one_step", value=True), "needs whole sequences in a graph of one step"),
    ("rnn", put("tensors", "layer0.y", "scale", value=[2.0**-14]), "'layer0.y' is int16 within ±32767 of scale 6.1"),
    ("rnn", put("tensors", "layer0.h_n", "bits", value=8), "'layer0.h_n' is int8"),
    ("rnn", put("tensors", "x", "limit", value=100), "format int8 within ±100 of scale"),
    ("rnn", put("tensors", "x", "bits", value=32), "format int32 within ±127"),
    ("rnn", put("tensors", "junk", value=JUNK), "tensor junk: nothing writes it"),
    (CONCAT, put("layers", 2, "in_frac", value=3), "reads 'logits' with 3 fraction bits, but it is int16"),
    ("mixed", put("tensors", "ids", "limit", value=5), "'ids' is int32 within ±5"),
    ("mixed", put("inputs", 0, "vocabulary", value=0), "vocabulary 0 of an input of kind tokens"),
    ("mixed", put("inputs", 0, "shape", value=[1]), "tokens of shape [1]"),
    ("lengths", put("inputs", 1, "shape", value=[1]), "lengths of shape [1]"),
    ("rnn", put("inputs", 0, "vocabulary", value=3), "vocabulary 3 of an input of kind features"),
    ("rnn", put("inputs", 0, "batch_axis", value=7), "batch and time at the axes [7] of 2"),
    ("rnn", put("outputs", 1, "time_axis", value=1), "has a time axis and no time"),
    (STATES, put("inputs", 1, "shape", value=[2**21]), "at most 1048576 features"),
    (STATES, tensor(*FIRST, "h_0", "value", value=np.ones(5, np.int32)), "constants beside the state input"),
    (STATES, tensor(*FIRST, "c_0", "value", value=np.full(5, -(2**31), np.int32)), "c_0 leaves ±2147483647"),
    ("rnn", tensor("outputs", 0, "parts", 0, 2, value=[0, 1, 1, 3, 4, 5]), "1 more than once"),
    ("rnn", put("outputs", value=[]), "outputs: there are none"),
    ("rnn", put("name", value="\ud800"), "model.name: expected a text of Unicode"),
    ("rnn", put("provenance", "scheme", value={"gates": float("nan")}), "scheme.gates: expected a finite number"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "edit", "says"), REFUSED)
def test_structures_that_no_conversion_makes(name: str, edit: Edit, says: str, tmp_path: Path) -> None:
    edited = edit.apply(saved(name))
    fit_proof(edited)
    with pytest.raises(ModelFileError) as caught:
        load(edited.write(tmp_path / "edited.qrnn"))
    assert says in str(caught.value)


def test_names_that_stand_twice(tmp_path: Path) -> None:
    """JSON readers differ in which of the two they take."""
    file = copy.copy(saved("rnn"))
    text = json.dumps(file.structure, sort_keys=True)
    for twice in (
        text.replace('{"inputs"', '{"name": "a", "inputs"'),
        text.replace('"h_frac": 15', '"h_frac": 15, "h_frac": 15'),
    ):
        assert twice != text
        metadata = file.metadata | {"model": twice, "sha256": digest_of(twice, file.tensors)}
        (tmp_path / "twice.qrnn").write_bytes(safetensors.numpy.save(file.tensors, metadata))
        with pytest.raises(ModelFileError, match="stands twice in one JSON object"):
            load(tmp_path / "twice.qrnn")


@pytest.mark.parametrize("count", [FEWEST, pytest.param(FEW, marks=pytest.mark.matrix)])
@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_some_edits(name: str, other: str, count: int, tmp_path: Path) -> None:
    """A sample that is the same in every run, of fewer edits in the default run; the long test has all."""
    every = list(edits(saved(name), saved(other)))
    found: Counter[str] = Counter()
    for edit in random.Random(name).sample(every, count):
        try:
            found[outcome(saved(name), edit, tmp_path)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {edit.label}") from error
    assert found["refused"] > count / 4


@pytest.mark.long
@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_every_edit(name: str, other: str, tmp_path: Path) -> None:
    for edit in edits(saved(name), saved(other)):
        try:
            outcome(saved(name), edit, tmp_path)
        except Exception as error:
            raise AssertionError(f"{name}: {edit.label}") from error
