"""A device must give the integers that the host engine gives for the same integer inputs; both are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends import create_engine
from qrnn.backends.base import Engine, Ran
from qrnn.export.ports import Port
from qrnn.export.replay import KINDS, Replayed, Vectors, read_back, sequence_length, sequence_steps
from qrnn.export.source import Exported
from qrnn.model.batch import Batch, make_batch
from qrnn.model.boundary import quantize_array
from qrnn.model.given_lengths import time_axes
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

ROWS = 64
"""The most rows of a model without memory that are put together as a sequence."""


def integer_sequences(
    model: QuantModel, exported: Exported, data: Mapping[str, Any], most: int | None = None
) -> list[Vectors]:
    """Return the first ``most`` sequences of user data as integers, cut to their lengths, without those of no steps.

    ``data`` is given as for `qrnn.Session.run`. Rows of a model without memory are sequences of up to `ROWS` steps, whose states a device
    must not carry on.
    """
    batch = make_batch(model.inputs, data)
    states = _states(exported, batch)
    arrays: dict[str, npt.NDArray[Any]] = dict(batch.tokens)
    arrays |= {name: quantize_array(value, model.tensors[name]) for name, value in batch.features.items()}
    if model.rows:
        real = np.flatnonzero(batch.lengths)[:most]
        most_rows = ROWS if all(s.port.has_time for s in exported.given) else 1
        pieces = [real[k : k + most_rows] for k in range(0, len(real), most_rows)]
        return [
            {p.name: _of_port(arrays[p.graph_name][k, 0], p, len(k)) for p in exported.inputs}
            | {s.port.name: states[s.port.name][k if s.port.has_time else k[0]] for s in exported.given}
            for k in pieces
        ]
    found: list[Vectors] = []
    axis_of = {i.name: i.axis for i in model.inputs}
    for n in range(batch.size):
        lengths = {axis: int(own.lengths[n]) for axis, own in batch.axes.items()}
        if not any(lengths.values()) or (most is not None and len(found) >= most):
            continue
        inputs = {
            p.name: _of_port(arrays[p.graph_name][n], p, lengths.get(axis_of[p.graph_name], 0)) for p in exported.inputs
        }
        found.append(inputs | {name: values[n] for name, values in states.items()})
    return found


def _states(exported: Exported, batch: Batch) -> dict[str, npt.NDArray[Any]]:
    """Return the integers [N, count] of every state that callers may give; those of a model's own start where the data have none."""
    found = {}
    for state in exported.given:
        port = state.port
        if port.graph_name in batch.states:
            values = state.integers(batch.states[port.graph_name])
        else:
            values = np.tile(state.initial(), (batch.size, 1))
        found[port.name] = values.astype(KINDS[port.kind])
    return found


def random_sequences(model: QuantModel, exported: Exported, lengths: Sequence[int], seed: int) -> list[Vectors]:
    """Return random integers of each input's whole range, with its ends more often than chance would have them.

    Where there are several time axes, the first has these ``lengths``, and each further one those of the sequence behind; one more sequence has
    no step of the first axis.
    """
    rng = np.random.default_rng(seed)
    found: list[Vectors] = []
    first, *others = exported.lengths
    every = [
        {name: lengths[(n + k) % len(lengths)] for k, name in enumerate(exported.lengths)} for n in range(len(lengths))
    ]
    every += [{first: 0, **dict.fromkeys(others, lengths[0])}] if others else []
    for own in every:
        length = own[first]
        inputs: dict[str, npt.NDArray[Any]] = {}
        for p in exported.inputs:
            shape = (own[p.steps], p.count) if p.has_time else (p.count,)
            if p.kind.startswith("u"):
                vocabulary = next(i.vocabulary for i in model.inputs if i.name == p.graph_name)
                values = rng.integers(0, vocabulary, shape)
            else:
                limit = model.tensors[p.graph_name].limit
                values = rng.integers(-limit, limit + 1, shape)
                ends = rng.random(shape)
                values = np.where(ends < 0.02, -limit, np.where(ends > 0.98, limit, values))
            inputs[p.name] = values.astype(KINDS[p.kind])
        for s in exported.given:
            states = s.random(length if s.port.has_time else 1, rng).astype(KINDS[s.port.kind])
            inputs[s.port.name] = states if s.port.has_time else states[0]
        found.append(inputs)
    return found


def host_results(
    model: QuantModel, exported: Exported, sequences: Sequence[Vectors], backend: str = "cpu"
) -> list[Replayed]:
    """Return outputs and final states of ``sequences`` by an engine of this machine."""
    engine, session = create_engine(backend, model), Session(model, "reference")
    found = []
    for inputs in sequences:
        own, length = sequence_steps(exported, inputs), sequence_length(exported, inputs)
        tensors, final, came = _ran(model, exported, engine, session, inputs)
        outputs = {}
        for output, port in zip(model.outputs, exported.outputs, strict=True):
            rows = int(came[output.parts[0][0]][0]) if exported.counts_rows else own.get(port.steps, length)
            value = np.zeros((rows, port.count) if port.has_time else port.count, KINDS[port.kind])
            for tensor, indices, positions in output.parts:
                read = tensors[tensor]
                if port.has_time:
                    read = read.reshape(-1, read.shape[-1])[:rows]
                value[..., positions] = (read if port.has_time else read[-1])[..., indices]
            outputs[port.name] = value
        state = {}
        for f in exported.compared_state:
            assert f.array is not None
            value = final[f.layer][f.array][-1]
            state[f.name] = (value if f.part is None else value[f.part]).reshape(-1)
        state |= {read_back(s): s.read(final, -1).astype(KINDS[s.port.kind]) for s in exported.given}
        found.append(Replayed(outputs, state))
    return found


def host_rows(
    model: QuantModel, exported: Exported, inputs: Vectors, backend: str = "cpu"
) -> dict[str, npt.NDArray[np.integer]]:
    """Return every tensor of a sequence by an engine of this machine, [rows, features]; one that is not over time has its last value."""
    engine, session = create_engine(backend, model), Session(model, "reference")
    ran = _ran(model, exported, engine, session, inputs)
    found = {}
    for name, values in ran.tensors.items():
        if model.tensors[name].has_time:
            found[name] = np.concatenate([v[:count] for v, count in zip(values, ran.lengths[name], strict=True)])
        else:
            found[name] = values[-1:].reshape(1, -1)
    return found


def _ran(model: QuantModel, exported: Exported, engine: Engine, session: Session, inputs: Vectors) -> Ran:
    """Return what an engine makes of one sequence; where every step begins with a state of its own, each is one of a batch."""
    own, length = sequence_steps(exported, inputs), sequence_length(exported, inputs)
    apart = any(s.port.has_time for s in exported.given)
    size, steps = (length, 1) if apart else (1, length)
    batch: dict[str, npt.NDArray[Any]] = {}
    for p in exported.inputs:
        tokens = p.kind.startswith("u")
        values = inputs[p.name].astype(np.int64 if tokens else np.int16)
        if p.has_time and len(own) > 1:
            values = np.zeros((1, max(1, own[p.steps]), p.count), values.dtype)
            values[0, : own[p.steps]] = inputs[p.name]
        else:
            values = values.reshape(size, steps, p.count) if p.has_time else np.tile(values, (size, 1))
        batch[p.graph_name] = values[..., 0] if tokens else values
    states = session.initial_state(size).layers
    for s in exported.given:
        s.fill(states, inputs[s.port.name].reshape(-1, s.port.count))
    axes = {
        i.axis: own[p.steps] for p in exported.inputs for i in model.inputs if i.name == p.graph_name and i.has_time
    }
    lengths: Any = np.full(size, steps, np.int64)
    if len(own) > 1:
        lengths = {axis: np.array([axes[axis]]) for axis in time_axes(model.inputs)}
    return engine.run(batch, states, lengths)


@dataclass(frozen=True)
class Difference:
    """The first integer that differs: in which sequence and array, where in it, what it is and should be, and how many of the array differ.

    ``what`` is "output" or "state", and ``layer`` the layer whose state that is. ``index`` is empty where the array has too few or too
    many steps, which are ``got`` and ``expected`` then.
    """

    sequence: int
    what: str
    name: str
    index: tuple[int, ...]
    got: int
    expected: int
    differing: int = 0
    size: int = 0
    layer: str | None = None

    def __str__(self) -> str:
        where = f"sequence {self.sequence}, {self.what} {self.name}"
        if not self.index:
            return f"{where}: {self.got} steps, expected {self.expected}"
        of = "" if self.layer is None else f" of layer {self.layer}"
        return f"{where}{list(self.index)}{of}: {self.got}, expected {self.expected} ({self.differing} of {self.size} differ)"


def first_difference(
    want: Sequence[Replayed], got: Sequence[Replayed], exported: Exported | None = None
) -> Difference | None:
    """Return where the first integer differs, and None where all are equal; ``exported`` knows the layers of states."""
    layers = {} if exported is None else {f.name: f.layer for f in exported.compared_state}
    for n, (expected, found) in enumerate(zip(want, got, strict=True)):
        for what, both in (("output", (expected.outputs, found.outputs)), ("state", (expected.state, found.state))):
            for name, values in both[0].items():
                other = both[1][name]
                if len(values) != len(other):
                    return Difference(n, what, name, (), len(other), len(values))
                wrong = np.argwhere(values != other)
                if len(wrong):
                    at = tuple(int(i) for i in wrong[0])
                    layer = layers.get(name) if what == "state" else None
                    return Difference(
                        n, what, name, at, int(other[at]), int(values[at]), len(wrong), values.size, layer
                    )
    return None


def _of_port(values: npt.NDArray[Any], port: Port, length: int) -> npt.NDArray[Any]:
    """Return one sequence's integers for a port."""
    cut = values[:length] if port.has_time else values
    return cut.reshape(*((length,) if port.has_time else ()), port.count).astype(KINDS[port.kind])
