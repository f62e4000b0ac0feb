"""Models of every kind with every small edit: refused as a model file, or alike by reference, whole runs, streams and pools."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn.layers as ql
from model.mutations import Edit, edits
from model.qrnn_files import QrnnFile
from model.test_edited_files import CASES, data_for, fit_proof, good
from qrnn.errors import ModelFileError
from qrnn.model.file import load, save
from qrnn.model.float_model import FloatModel, GraphInput
from qrnn.model.quant_model import QuantModel
from qrnn.quantization import Scheme, quantize
from qrnn.session import RunResult, Session, State

FEW, T, N = 45, 3, 2


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
    from dataclasses import replace

    model = make_model(Shape("lstm", 3, 4, states=True, head=2), np.random.default_rng(3))
    return replace(model, one_step=True), {"x": np.random.default_rng(4).normal(size=(4, 6, 3))}


def with_lengths() -> tuple[FloatModel, dict[str, Any]]:
    from dataclasses import replace

    model = make_model(Shape("gru", 3, 4, (False, True), layers=2), np.random.default_rng(5))
    inputs = (*model.inputs, GraphInput("n", "lengths", (), False))
    x = np.random.default_rng(6).normal(size=(4, 6, 3))
    return replace(model, inputs=inputs), {"x": x, "n": np.array([6, 3, 1, 6])}


MORE = {"mixed": mixed, "one step": one_step, "lengths": with_lengths}
NAMES = (*CASES, "tokens", *MORE)


@cache
def saved(name: str) -> QrnnFile:
    if name not in MORE:
        return good(name)
    with tempfile.TemporaryDirectory() as folder:
        save(quantize(*MORE[name](), Scheme(input="8")), Path(folder) / "m.qrnn")
        return QrnnFile(Path(folder) / "m.qrnn")


def states_of(result: RunResult | State) -> dict[str, Any]:
    state = result if isinstance(result, State) else result.state
    return {f"{n}.{k}": v for n, pair in state.layers.items() for k, v in zip("hc", pair, strict=True)}


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
    numbers = [
        pool.open(State({k: (h[n : n + 1], c[n : n + 1]) for k, (h, c) in begin.layers.items()})) for n in range(N)
    ]
    for t in range(T):
        frame = {name: v[:, t] if name in timed else v for name, v in given.items()}
        upto = reference.run({name: v[:, : t + 1] if name in timed else v for name, v in data.items()})
        step = {o.name: upto.outputs[o.name][:, t] if o.has_time else upto.outputs[o.name] for o in model.outputs}
        result = cpu.step(frame, carried)
        carried = result.state
        assert_same(result.outputs, step, f"step {t}")
        assert_same(stream.step(frame), step, f"stream, step {t}")
        assert_same(pool.step(numbers, frame), step, f"pool, step {t}")
    assert_same(states_of(carried), states_of(want), "state of the steps")
    assert_same(states_of(stream.state), states_of(want), "state of the stream")


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


def every_edit() -> Iterator[tuple[str, Edit]]:
    for name, other in pairwise((*NAMES, NAMES[0])):
        for edit in edits(saved(name), saved(other)):
            yield name, edit


@pytest.mark.parametrize("name", NAMES)
def test_unedited_models(name: str, tmp_path: Path) -> None:
    assert outcome(saved(name), Edit("nothing", ("name",), "another"), tmp_path) == "alike"


@pytest.mark.parametrize(("name", "other"), pairwise((*NAMES, NAMES[0])))
def test_some_edits(name: str, other: str, tmp_path: Path) -> None:
    """A sample that is the same in every run; the long test has all."""
    every = list(edits(saved(name), saved(other)))
    found = Counter()
    for edit in random.Random(name).sample(every, FEW):
        try:
            found[outcome(saved(name), edit, tmp_path)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {edit.label}") from error
    assert found["refused"] > FEW / 4


@pytest.mark.long
@pytest.mark.parametrize(("name", "other"), pairwise((*NAMES, NAMES[0])))
def test_every_edit(name: str, other: str, tmp_path: Path) -> None:
    for edit in edits(saved(name), saved(other)):
        try:
            outcome(saved(name), edit, tmp_path)
        except Exception as error:
            raise AssertionError(f"{name}: {edit.label}") from error
