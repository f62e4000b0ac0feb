"""A decoder streams where what it is started with is given whole: the model is cut behind what follows from the given sequences alone.

The first part runs once. The other part is a model of its own: the initial states that the first part computes are the state that its streams
begin with, and vectors that its steps read are inputs without time, which stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.boundary import dequantize_array
from qrnn.model.float_model import GraphInput
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.start import QuantStartPart, with_start
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import as_type, real_names, type_of_inputs
from qrnn.model.user_values import check_mapping
from qrnn.running.integers import Integers
from qrnn.running.state import Runner, State
from qrnn.running.streaming import Stream

Starts = dict[str, tuple[tuple[QuantStartPart, ...], tuple[QuantStartPart, ...]]]
"""The parts of h_0 and of c_0, by the layer's name."""


@dataclass(frozen=True)
class Halves:
    """A model in two: ``first`` follows from the given inputs alone, and ``rest`` goes on from ``starts`` and the tensors ``held``."""

    first: QuantModel
    rest: QuantModel
    starts: Starts
    held: tuple[str, ...]


def halves(model: QuantModel, given: frozenset[str]) -> Halves:
    """Cut a model behind the layers that read nothing but the ``given`` inputs; DataError where the rest cannot be run step by step."""
    known = set(given)
    mine, others = list[QuantLayer](), list[QuantLayer]()
    for layer in model.layers:
        own = known.issuperset(layer.inputs)
        (mine if own else others).append(layer)
        known.update(layer.outputs if own else ())
    starts: Starts = {}
    rest = [_without_starts(layer, known, starts) for layer in others]
    written = {tensor for layer in rest for tensor in layer.outputs}
    outputs = tuple(o for o in model.outputs if all(tensor in written for tensor, _, _ in o.parts))
    if not outputs or not starts:
        raise DataError(
            f"inputs {sorted(given)} given whole start no layer that computes an output from the others; give those of the encoder, or "
            "leave inputs= out"
        )
    held = dict.fromkeys(t for layer in rest for t in layer.inputs if t in known and t not in given)
    for tensor in (*held, *(t for layer in rest for t in layer.inputs if t in given)):
        if model.tensors[tensor].has_time or model.tensors[tensor].bits != 16:
            reader = next(layer.name for layer in rest if tensor in layer.inputs)
            raise DataError(
                f"layer {reader!r} reads {tensor!r} of the sequences that are given at each of its steps, and cannot be streamed; use run "
                "with whole sequences"
            )
    vectors = tuple(GraphInput(t, "features", (model.tensors[t].features,), False) for t in held)
    inputs = tuple(i for i in model.inputs if i.name not in given)
    kept = {i.name for i in inputs} | set(held) | written
    tensors = {name: fmt for name, fmt in model.tensors.items() if name in kept}
    behind = replace(model, inputs=(*inputs, *vectors), layers=tuple(rest), outputs=outputs, tensors=tensors)
    own_inputs = tuple(i for i in model.inputs if i.name in given or i.kind in ("state", "lengths"))
    before = replace(
        model,
        inputs=own_inputs,
        layers=tuple(mine),
        outputs=(),
        tensors={name: fmt for name, fmt in model.tensors.items() if name in known},
    )
    return Halves(before, behind, starts, tuple(held))


def _without_starts(layer: QuantLayer, known: set[str], starts: Starts) -> QuantLayer:
    """Return a layer whose initial states no longer read ``known`` tensors, which are noted in ``starts``."""
    if not isinstance(layer, QuantRecurrent) or not known.intersection(layer.begins_with):
        return layer
    inside, outside = (
        [tuple(p for p in parts if (p.tensor in known) == own) for parts in (layer.h_start, layer.c_start)]
        for own in (True, False)
    )
    starts[layer.name] = (inside[0], inside[1])
    return replace(layer, h_start=outside[0], c_start=outside[1])


class DecoderStream(Stream):
    """Streams of the part of a model behind sequences that were given whole; `reset` begins with these again."""

    def __init__(
        self,
        session: Runner,
        size: int,
        begin: State,
        held: Mapping[str, npt.NDArray[Any]],
        integers: Integers | None,
        real: str | None = None,
    ) -> None:
        """Make the streams, which begin with ``begin``; each step reads the vectors ``held``, [size, F] real numbers, or integers."""
        self._begin, self._held = begin, held
        others = tuple(i for i in session.model.inputs if i.name not in held)
        self._follows = real_names(others) if integers is None and real is None else None
        super().__init__(session, size, None, integers, real)

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` or from what the given sequences end with."""
        super().reset(self._begin if state is None else state)
        for name, values in self._held.items():
            self.inputs[name][...] = values

    def step(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Take one time step of the inputs that were not given whole; see `Stream.step`."""
        check_mapping(inputs)
        outputs = super().step({**inputs, **self._held})
        if self._follows is None:
            return outputs
        kind = type_of_inputs(self._follows, inputs)  # of what the user gives, beside which the held values are float64
        return {name: as_type(values, kind) for name, values in outputs.items()}


def decoder_stream(
    session: Runner,
    make: Callable[[QuantModel], Runner],
    inputs: Mapping[str, Any],
    lengths: Any,
    formats: Integers | None,
    real: str | None = None,
) -> DecoderStream:
    """Return streams of the decoder whose encoder's sequences are ``inputs``; see `qrnn.Session.stream`.

    Parameters
    ----------
    session: that of the whole model.
    make: returns a session like it for another model.
    inputs, lengths: arrays by graph input name, and lengths of their time axes, as for `qrnn.Session.run`.
    formats: those of the whole model's tensors, where inputs and outputs are integers; None for real numbers.
    real: the type of the outputs of steps, as for `qrnn.Session.stream`.
    """
    check_mapping(inputs)
    model = session.model
    names = {i.name for i in model.inputs if i.kind in ("features", "tokens")}
    if unknown := sorted(inputs.keys() - {i.name for i in model.inputs} - {"lengths"}):
        raise DataError(f"array {unknown[0]!r} is not an input of the model; expected some of {sorted(names)}")
    cut = halves(model, frozenset(names.intersection(inputs)))
    batch = make_batch(cut.first.inputs, inputs if formats is None else formats.reals(inputs), lengths)
    tensors = _computed(make(cut.first), batch)
    rest = make(cut.rest)
    layers = dict(rest.initial_state(batch.size, batch.states).layers)
    every = np.ones(batch.size, np.bool_)
    for name, (h_start, c_start) in cut.starts.items():
        h, c, *others = layers[name]
        layers[name] = (with_start(h_start, tensors, h, every), with_start(c_start, tensors, c, every), *others)
    integers = None if formats is None else Integers(cut.rest)
    held = {
        name: tensors[name] if integers is not None else dequantize_array(tensors[name], model.tensors[name])
        for name in cut.held
    }
    return DecoderStream(rest, batch.size, State(layers), held, integers, real)


def _computed(runner: Runner, batch: Batch) -> Mapping[str, Any]:
    """Return the integers of all tensors of a run, the graph inputs among them."""
    _, tensors = runner.run_batch(batch)
    return tensors
