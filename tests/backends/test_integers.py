"""Integers at the boundary: a session takes and gives the integers of the model's tensors, on every backend and as exported C does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import compiler, replayed
from hypothesis import given, settings
from models import Shape, make_model

from backends.generators import Case, cases, fewest, quantized_or_refused
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import DataError
from qrnn.export.expected import random_sequences
from qrnn.export.source import export_source
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session


def drawn_integers(model: QuantModel, case: Case) -> dict[str, Any]:
    """Integers of each input's whole range, with its ends."""
    rng, found = np.random.default_rng(case.seed), {}
    for i in model.inputs:
        if i.kind == "features":
            limit = model.tensors[i.name].limit
            q = rng.integers(-limit, limit + 1, (case.sequences, case.steps, *i.shape))
            q.reshape(-1)[:2] = limit, -limit
            found[i.name] = q.astype(np.int16)
        else:
            found[i.name] = rng.integers(-30000, 30001, (case.sequences, *i.shape))
    return found


def given_back(model: QuantModel, session: Session, inputs: dict[str, Any], lengths: Any) -> None:
    """Assert that the integers of each output are those of the engine's tensors, and real outputs what they stand for, rounded once."""
    result = session.run(inputs, lengths, integers=True)
    features = {i.name: inputs[i.name] for i in model.inputs if i.kind == "features"}
    ran = session.engine.run(
        {name: q.reshape(*q.shape[:2], -1).astype(np.int16) for name, q in features.items()},
        session.initial_state(len(lengths), states_of(model, inputs)).layers,
        np.asarray(lengths, np.int64),
    )
    for name, arrays in ran.states.items():
        for want, got in zip(arrays, result.state.layers[name], strict=True):
            np.testing.assert_array_equal(want, got)
    for output in model.outputs:
        got = result.outputs[output.name]
        assert got.dtype in (np.int16, np.int32)
        flat = got.reshape(*got.shape[: got.ndim - len(output.shape)], -1)
        for tensor, indices, positions in output.parts:
            want = ran.tensors[tensor][..., indices]
            if output.has_time:
                want = np.where(np.arange(want.shape[1])[None, :, None] < np.asarray(lengths)[:, None, None], want, 0)
            np.testing.assert_array_equal(flat[..., positions], want)


def states_of(model: QuantModel, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The real states that integers stand for, by the layers' own formats."""
    found = {}
    for i in model.inputs:
        if i.kind == "state":
            real = np.zeros((len(inputs[i.name]), i.features))
            flat = inputs[i.name].reshape(len(real), -1)
            for layer in model.layers_with_states:
                for declared in layer.states():
                    for start in declared.starts:
                        if start.source == i.name and start.indices is not None:
                            real[:, start.indices] = flat[:, start.indices] * 2.0**-declared.frac
            found[i.name] = real.reshape(-1, *i.shape)
    return found or None


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("backend", available_backends())
@settings(fewest, max_examples=6)
@given(case=cases(usual=True))
def test_integers_are_those_of_the_tensors(backend: str, case: Case) -> None:
    model = quantized_or_refused(case)
    if model is not None:
        given_back(model, Session(model, backend), drawn_integers(model, case), case.lengths)


def small() -> QuantModel:
    rng = np.random.default_rng(1)
    data = rng.normal(size=(8, 9, 3)) * [1.0, 0.01, 40.0]
    return quantize(make_model(Shape("lstm", 3, 6, layers=2, head=4), rng), {"x": data}, Scheme(input="8-per-feature"))


def drawn(model: QuantModel, *shape: int) -> Any:
    limit = model.tensors["x"].limit
    return np.random.default_rng(2).integers(-limit, limit + 1, (*shape, 3)).astype(np.int16)


@pytest.mark.parametrize("backend", available_backends())
def test_steps_streams_and_pools(backend: str) -> None:
    """Every way to take steps gives the integers of the whole run; those of the session are taken where a call says nothing."""
    model = small()
    session = Session(model, backend, integers=True)
    x = drawn(model, 2, 7)
    whole = session.run({"x": x}).outputs["y"]
    real = session.run({"x": x * model.tensors["x"].scales}, integers=False).outputs["y"]
    assert real.dtype == np.float64
    np.testing.assert_array_equal(real, whole * model.tensors[model.outputs[0].parts[0][0]].scales)
    state, stream, in_place, pool = None, session.stream(2), session.stream(2), session.pool()
    numbers = [pool.open() for _ in range(2)]
    for t in range(x.shape[1]):
        result = session.step({"x": x[:, t]}, state)
        state = result.state
        in_place.inputs["x"][...] = x[:, t]
        in_place.advance()
        for outputs in (
            result.outputs,
            stream.step({"x": x[:, t]}),
            in_place.outputs,
            pool.step(numbers, {"x": x[:, t]}),
        ):
            assert outputs["y"].dtype == np.int16
            np.testing.assert_array_equal(outputs["y"], whole[:, t])
    assert pool.step([], {"x": x[:0, 0]})["y"].dtype == np.int16
    assert session.finish(result.state).outputs["y"].dtype == np.int16


@pytest.mark.parametrize("backend", available_backends())
def test_the_integers_of_c(backend: str, tmp_path: Path) -> None:
    """What exported C makes of integers is what a session makes of them."""
    model = small()
    exported = export_source(model, "net", "plain")
    (sequence,) = random_sequences(model, exported, (11,), seed=3)
    (c,) = replayed(exported, [sequence], tmp_path, compiler("gcc"))
    inputs = {p.graph_name: sequence[p.name][None] for p in exported.inputs}
    outputs = Session(model, backend).run(inputs, integers=True).outputs
    for port in exported.outputs:
        np.testing.assert_array_equal(outputs[port.graph_name][0], c.outputs[port.name])
        assert outputs[port.graph_name].dtype == c.outputs[port.name].dtype


def test_what_is_refused() -> None:
    model = small()
    session = Session(model, "reference", integers=True)
    x = drawn(model, 2, 5)
    limit = model.tensors["x"].limit
    with pytest.raises(DataError, match=f"input 'x': float64, expected integers within ±{limit}"):
        session.run({"x": x.astype(np.float64)})
    x[1, 2, 0] = limit + 1
    with pytest.raises(DataError, match=rf"input 'x': {limit + 1} at \[1, 2, 0\], expected integers within ±{limit}"):
        session.run({"x": x})
    with pytest.raises(DataError, match=r"input 'x': shape \[2, 5, 2\], expected \[…, 3\]"):
        session.run({"x": x[..., :2]})
    stream = session.stream(2)
    before = stream.state
    with pytest.raises(DataError, match="expected integers"):
        stream.step({"x": x[:, 2]})
    for name, arrays in before.layers.items():
        for old, new in zip(arrays, stream.state.layers[name], strict=True):
            np.testing.assert_array_equal(old, new)
    with pytest.raises(DataError, match="device_stream takes and gives real numbers"):
        session.device_stream()
