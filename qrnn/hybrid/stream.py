"""Streams and pools of a model with float parts: those of its integer parts, with the float parts computed between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.inputs import carried_inputs
from qrnn.hybrid.model import FloatPart, HybridModel
from qrnn.hybrid.runtime import Runtime
from qrnn.model.batch import make_batch
from qrnn.model.in_words import port_lines
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.real_types import FLOAT64, asked_type, type_of_inputs
from qrnn.model.user_values import check_count, check_mapping
from qrnn.running.pool import StreamPool
from qrnn.running.session import Session
from qrnn.running.state import RunResult, State
from qrnn.running.streaming import Stream


class PartsSession(Protocol):
    """What streams need of the session that they belong to; see `qrnn.hybrid.session.HybridSession`."""

    hybrid: HybridModel
    runtimes: Mapping[str, Runtime]
    sessions: Mapping[str, Session]
    reals: tuple[str, ...]
    """The names of the graph inputs of real numbers."""

    def one_step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arrays of one step with the time axis that sequences have."""

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """Return the state before the first step."""

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """Raise DataError for a state that is not of ``size`` streams of the model."""

    def finish(self, state: State, integers: bool | None = None, real: str | None = None) -> RunResult:
        """Return what is still held back of streams that end in ``state``."""


Steps = Callable[[str, Mapping[str, Any]], Mapping[str, FloatArray]]
"""Takes a step of an integer part, by its name, and returns its outputs [size, *shape]."""


def take_step(
    session: PartsSession, inputs: Mapping[str, Any], size: int, steps: Steps, kind: str | None
) -> dict[str, FloatArray]:
    """Take one step of ``size`` streams through all parts, and return the outputs of the model, [size, *shape] each.

    They are of the type of character ``kind``, or of that of the inputs.
    """
    model = session.hybrid
    check_mapping(inputs)
    kind = kind or type_of_inputs(session.reals, inputs)
    given = session.one_step(inputs)
    for graph_input in model.inputs:
        if graph_input.kind in ("state", "lengths") and graph_input.name in given:
            raise DataError(
                f"input {graph_input.name!r} of kind {graph_input.kind} has no place in a stream's step; give states when it is opened"
            )
    batch = make_batch(model.inputs, given)
    if batch.size != size:
        raise DataError(f"inputs of {batch.size} streams, expected {size}")
    carried = carried_inputs(model.inputs, batch)
    ones = np.ones(size, np.int64)
    for part in model.parts:
        if isinstance(part, FloatPart):
            carried.update(session.runtimes[part.name].run(carried))
            continue
        own = {}
        for place in part.inputs:
            if place.kind in ("features", "tokens"):
                values = carried[place.name].values
                values = values[:, 0] if place.has_time else values
                own[place.name] = values.astype(np.int64) if place.kind == "tokens" else values
        made = steps(part.name, own)
        for output in part.outputs:
            values = made[output.name]
            carried[output.name] = Carried(values[:, None], ones) if output.has_time else Carried(values, None)
    return {
        o.name: (carried[o.name].values[:, 0] if o.has_time else carried[o.name].values).astype(kind)
        for o in model.outputs
    }


class HybridStream(Stream):
    """``size`` streams that step together and keep their state between calls; see `qrnn.running.streaming.Stream`."""

    def __init__(
        self, session: PartsSession, size: int = 1, state: State | None = None, real: str | None = None
    ) -> None:
        check_count("size", size)
        self.hybrid, self.size, self._kind, self._asked = session, size, asked_type(real), real
        kind = self._kind or FLOAT64
        self._streams = {name: own.stream(size, real="float64") for name, own in session.sessions.items()}
        model = session.hybrid
        self.inputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(
            {
                i.name: np.zeros((size, *i.shape), np.int64 if i.kind == "tokens" else kind)
                for i in model.inputs
                if i.kind in ("features", "tokens")
            }
        )
        self.outputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(
            {o.name: np.zeros((size, *o.shape), kind) for o in model.outputs}
        )
        self.lengths: Mapping[str, IndexArray] = MappingProxyType(
            {o.name: np.ones(size, np.int64) for o in model.outputs}
        )
        if state is not None:
            self.reset(state)

    def describe_lines(self) -> Iterator[str]:
        """Yield how many streams of which model these are."""
        yield f"HybridStream of {self.hybrid.hybrid.name!r}: {self.size} at a time"
        yield from port_lines(self.hybrid.hybrid)

    def step(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Take one time step; see `Stream.step`."""
        before = self.state if len(self._streams) > 1 else None
        try:
            return take_step(
                self.hybrid, inputs, self.size, lambda name, own: self._streams[name].step(own), self._kind
            )
        except DataError:
            if before is not None:  # an earlier part may have taken the step
                self.reset(before)
            raise

    def advance(self) -> None:
        """Take one time step from ``inputs`` to ``outputs``, in place; see `Stream.advance`."""
        for name, values in self.step(self.inputs).items():
            self.outputs[name][...] = values

    def finish(self) -> RunResult:
        """Return what the layers still hold back, which is nothing; then begin anew."""
        result = self.hybrid.finish(self.state, real=self._asked)
        self.reset()
        return result

    @property
    def state(self) -> State:
        """Return the state now, as a value."""
        return State({f"{name}/{k}": v for name, own in self._streams.items() for k, v in own.state.layers.items()})

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` or from the model's own start."""
        if state is None:
            state = self.hybrid.initial_state(self.size)
        self.hybrid.check_state(state, self.size)
        for name, own in self._streams.items():
            prefix = f"{name}/"
            own.reset(State({k[len(prefix) :]: v for k, v in state.layers.items() if k.startswith(prefix)}))


class HybridPool(StreamPool):
    """Any number of independent streams, of which any can take a step together; see `qrnn.running.pool.StreamPool`."""

    def __init__(self, session: PartsSession, capacity: int = 64, real: str | None = None) -> None:
        self.hybrid, self._kind, self._asked = session, asked_type(real), real
        self._pools = {name: own.pool(capacity, real="float64") for name, own in session.sessions.items()}
        self._count = 0

    @property
    def _first(self) -> StreamPool:
        """Return a pool that says which streams are open; the others open and close with it, and so give the same numbers."""
        return next(iter(self._pools.values()))

    def describe_lines(self) -> Iterator[str]:
        """Yield how many streams of which model are open."""
        yield f"HybridPool of {self.hybrid.hybrid.name!r}: {len(self)} of {self.capacity} streams open"
        yield from port_lines(self.hybrid.hybrid)

    def __len__(self) -> int:
        """Return the number of streams that are open."""
        return len(self._first)

    @property
    def capacity(self) -> int:
        """Return the number of streams that there is room for."""
        return self._first.capacity

    def choose(self, *_: Any, **__: Any) -> NoReturn:
        """Raise DataError: tokens are chosen by integers alone."""
        raise DataError(self.hybrid.hybrid.refusal("choose"))

    def drawn(self, stream: int) -> int:
        """Return 0: no token is ever drawn."""
        self._first.check_open([stream])
        return 0

    def open(self, state: State | None = None, seed: int = 0, drawn: int = 0) -> int:
        """Open a stream; see `StreamPool.open`. ``seed`` and ``drawn`` serve nothing, as no token is drawn."""
        if state is None:
            state = self.hybrid.initial_state(1)
        self.hybrid.check_state(state, 1)
        numbers = set()
        for name, pool in self._pools.items():
            prefix = f"{name}/"
            own = State({k[len(prefix) :]: v for k, v in state.layers.items() if k.startswith(prefix)})
            numbers.add(pool.open(own))
        (number,) = numbers
        return number

    def close(self, stream: int) -> None:
        """Forget a stream; DataError for one that is not open."""
        for pool in self._pools.values():
            pool.close(stream)

    def state(self, stream: int) -> State:
        """Return a stream's state, as a value."""
        return State({f"{n}/{k}": v for n, pool in self._pools.items() for k, v in pool.state(stream).layers.items()})

    def step(self, streams: Sequence[int] | IndexArray, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Take one time step of ``streams``; see `StreamPool.step`."""
        count = self._first.check_open(streams)
        self._count = count
        if not count:
            check_mapping(inputs)
            kind = self._kind or type_of_inputs(self.hybrid.reals, inputs)
            return {o.name: np.zeros((0, *o.shape), kind) for o in self.hybrid.hybrid.outputs}
        before = [self.state(int(s)) for s in streams] if len(self._pools) > 1 else None
        try:
            return take_step(
                self.hybrid, inputs, count, lambda name, own: self._pools[name].step(streams, own), self._kind
            )
        except DataError:
            if before is not None:
                for stream, state in zip(streams, before, strict=True):
                    self._set(int(stream), state)
            raise

    def _set(self, stream: int, state: State) -> None:
        for name, pool in self._pools.items():
            prefix = f"{name}/"
            pool.set_state(
                stream, State({k[len(prefix) :]: v for k, v in state.layers.items() if k.startswith(prefix)})
            )

    @property
    def lengths(self) -> dict[str, IndexArray]:
        """Return how many steps of each output came out in the latest call of `step`: 1 each."""
        return {o.name: np.ones(self._count, np.int64) for o in self.hybrid.hybrid.outputs}

    def finish(self, stream: int) -> RunResult:
        """Return what the layers still hold back of a stream that ends here, which is nothing, and close the stream."""
        result = self.hybrid.finish(self.state(stream), real=self._asked)
        self.close(stream)
        return result
