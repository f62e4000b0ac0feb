"""A session of a model with float parts: the interface of `qrnn.Session`, whose parts run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, NoReturn

import numpy as np

from qrnn.backends import DEFAULT_BACKEND
from qrnn.errors import DataError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.inputs import carried_inputs, part_data
from qrnn.hybrid.model import FloatPart, HybridModel, IntegerPart
from qrnn.hybrid.runtime import Runtime
from qrnn.hybrid.stream import HybridPool, HybridStream
from qrnn.model.batch import Batch, make_batch, with_time_axis, without_time_axis
from qrnn.model.in_words import port_lines
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.real_types import FLOAT64, as_type, asked_type, real_names, type_of_inputs
from qrnn.model.user_values import as_array, check_mapping
from qrnn.running.model_states import streams_of
from qrnn.running.session import Session
from qrnn.running.state import RunResult, State, checked_steps, last_steps

MAGIC = b"qrnn states of parts 1\n"
"""The first bytes of a saved state; the number is the version of their layout."""

_SIZE_BYTES = 8


class HybridSession(Session):
    """A model with float parts, ready to run; `qrnn.Session` makes it of such a model.

    It takes and gives what any session does, but integers and arrays on a device. The layers of a state have the name of their part before
    their own, as in ``integers2/lstm``. Float parts run by ONNX Runtime on the host, whatever ``backend`` the integer parts run on.
    """

    def __init__(
        self,
        model: HybridModel,
        backend: str = DEFAULT_BACKEND,
        threads: int | None = None,
        isa: str | None = None,
        cache: str | PathLike[str] | None = None,
        tuning: object | None = None,
        integers: bool = False,
    ) -> None:
        self.hybrid, self.backend = model, backend
        self.model = model  # type: ignore[assignment]  # what it describes itself by
        self._no_integers(integers)
        self.integers = False
        self.reals = real_names(model.inputs)
        self.runtimes: Mapping[str, Runtime] = {p.name: Runtime(p, p.content.tobytes()) for p in model.float_parts}
        self.sessions: Mapping[str, Session] = {
            p.name: Session(p.model, backend, threads, isa, cache, tuning) for p in model.integer_parts
        }

    def describe_lines(self) -> Iterator[str]:
        """Yield what runs where, and what it takes and gives."""
        yield f"HybridSession of {self.hybrid.name!r}: integer parts on backend {self.backend}, float parts by ONNX Runtime"
        yield from port_lines(self.hybrid)

    def _no_integers(self, integers: bool | None) -> None:
        if integers:
            raise DataError(self.hybrid.refusal("integers=True"))

    def warm_up(self, batch: int | None = None, steps: int | None = None, streams: int | None = None) -> None:
        """Bring the compiled code that the integer parts need; see `Session.warm_up`."""
        for session in self.sessions.values():
            session.warm_up(batch, steps, streams)

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """Return the state before the first step of ``size`` sequences; see `Session.initial_state`."""
        given = dict(states or {})
        layers = {}
        for name, session in self.sessions.items():
            own = {i.name: given.pop(i.name) for i in session.model.inputs if i.kind == "state" and i.name in given}
            layers.update(_named(name, session.initial_state(size, own or None)))
        if given:
            known = sorted(i.name for i in self.hybrid.inputs if i.kind == "state")
            raise DataError(f"state {next(iter(given))!r} is not a state input of the model; expected some of {known}")
        return State(layers)

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """Raise DataError for a state that is not of ``size`` streams of the model."""
        if not isinstance(state, State) or not isinstance(state.layers, Mapping):
            raise DataError(
                f"state: {type(state).__name__}, expected a State from this model's own run, step or stream"
            )
        known = {f"{name}/{layer.name}" for name, s in self.sessions.items() for layer in s.model.layers_with_states}
        extra = next((layer for layer in state.layers if layer not in known), None)
        if extra is not None:
            raise DataError(f"state of layer {extra!r}: no layer of the model with a state; expected {sorted(known)}")
        for name, session in self.sessions.items():
            session.check_state(_of_part(name, state), size)

    def run(
        self,
        inputs: Mapping[str, Any],
        lengths: Any = None,
        state: State | None = None,
        progress: Callable[[int, int], Any] | None = None,
        end: bool = True,
        integers: bool | None = None,
        steps: str = "all",
        real: str | None = None,
    ) -> RunResult:
        """Run whole sequences, and return their outputs and final state; see `Session.run`."""
        self._no_integers(integers)
        last, kind = checked_steps(steps), asked_type(real)
        check_mapping(inputs)
        kind = kind or type_of_inputs(self.reals, inputs)
        if state is not None or not end:
            self.check_streamable()
        without = False
        if self.hybrid.rows:
            inputs, without = with_time_axis(self.hybrid.inputs, inputs)
        batch = make_batch(self.hybrid.inputs, inputs, lengths)
        if state is not None:
            self.check_state(state, batch.size)
        result = self._run_parts(batch, state, progress, end, kind)
        if last:
            return last_steps(self.hybrid.outputs, result)
        if without:
            return replace(result, outputs=without_time_axis(self.hybrid.outputs, result.outputs))
        return result

    def _run_parts(
        self,
        batch: Batch,
        state: State | None,
        progress: Callable[[int, int], Any] | None,
        end: bool,
        kind: str,
    ) -> RunResult:
        carried = carried_inputs(self.hybrid.inputs, batch)
        after = {}
        for number, part in enumerate(self.hybrid.parts, 1):
            if isinstance(part, FloatPart):
                carried.update(self.runtimes[part.name].run(carried))
            else:
                result = self._run_integers(part, carried, batch, state, end)
                after.update(_named(part.name, result.state))
                for output in part.outputs:
                    counts = result.lengths[output.name] if output.has_time else None
                    carried[output.name] = Carried(result.outputs[output.name], counts)
            if progress is not None:
                progress(batch.size * number // len(self.hybrid.parts), batch.size)
        outputs, counted = {}, {}
        for output in self.hybrid.outputs:
            values, counts = carried[output.name]
            outputs[output.name] = as_type(values, kind)
            counted[output.name] = np.ones(batch.size, np.int64) if counts is None else counts
        return RunResult(outputs, State(after), counted)

    def _run_integers(
        self, part: IntegerPart, carried: Mapping[str, Carried], batch: Batch, state: State | None, end: bool
    ) -> RunResult:
        data = part_data(part.inputs, carried, batch)
        lengths: Any = data.pop("lengths", None)
        own = None if state is None else _of_part(part.name, state)
        return self.sessions[part.name].run(data, lengths, own, end=end, real="float64")

    def check_streamable(self) -> None:
        """Raise DataError where a part cannot be streamed."""
        if (why := self.hybrid.not_streamed) is not None:
            raise DataError(f"model {self.hybrid.name!r} cannot be streamed: {why}; use run with whole sequences")

    def step(
        self,
        inputs: Mapping[str, Any],
        state: State | None = None,
        integers: bool | None = None,
        real: str | None = None,
    ) -> RunResult:
        """Take one time step of N streams; see `Session.step`."""
        self._no_integers(integers)
        check_mapping(inputs)
        if self.hybrid.rows:
            return self.run(inputs, real=real)
        self.check_streamable()
        result = self.run(self.one_step(inputs), state=state, end=False, real=real)
        timed = {o.name for o in self.hybrid.outputs if o.has_time}
        return replace(result, outputs={k: v[:, 0] if k in timed else v for k, v in result.outputs.items()})

    def one_step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arrays of one step [N, …] with the time axis that sequences have."""
        check_mapping(inputs)
        timed = {i.name for i in self.hybrid.inputs if i.has_time}
        arrays = {name: as_array(f"input {name!r}", value) for name, value in inputs.items()}
        return {name: v[:, None] if name in timed and v.ndim else v for name, v in arrays.items()}

    def finish(self, state: State, integers: bool | None = None, real: str | None = None) -> RunResult:
        """Return what the layers of streams that end in ``state`` still hold back: nothing, since such models have no delays."""
        self._no_integers(integers)
        self.check_streamable()
        self.check_state(state, size := streams_of(state))
        kind = asked_type(real) or FLOAT64
        outputs = {o.name: np.zeros((size, *([0] if o.has_time else []), *o.shape), kind) for o in self.hybrid.outputs}
        counted: dict[str, IndexArray] = {o.name: np.zeros(size, np.int64) for o in self.hybrid.outputs}
        return RunResult(outputs, state, counted)

    def stream(
        self,
        size: int = 1,
        state: State | None = None,
        integers: bool | None = None,
        inputs: Mapping[str, Any] | None = None,
        lengths: Any = None,
        real: str | None = None,
    ) -> HybridStream:
        """Return ``size`` streams that keep their state; see `Session.stream`. Sequences that are given whole are refused."""
        self._no_integers(integers)
        if inputs is not None:
            raise DataError(self.hybrid.refusal("stream with inputs="))
        self.check_streamable()
        return HybridStream(self, size, state, real)

    def pool(self, capacity: int = 64, integers: bool | None = None, real: str | None = None) -> HybridPool:
        """Return a pool of streams that open, close and step independently of each other; see `Session.pool`."""
        self._no_integers(integers)
        self.check_streamable()
        return HybridPool(self, capacity, real)

    def device_stream(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, since float parts run on the host."""
        raise DataError(self.hybrid.refusal("device_stream"))

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Raise DataError: tokens are chosen by integers alone."""
        raise DataError(self.hybrid.refusal("generate"))

    def run_batch(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: only models of integers alone are looked into layer by layer."""
        raise DataError(self.hybrid.refusal("run_batch"))

    def save_state(self, state: State) -> bytes:
        """Return a state as bytes; see `Session.save_state`."""
        self.check_state(state, streams_of(state))
        pieces = [MAGIC]
        for name, session in self.sessions.items():
            content = session.save_state(_of_part(name, state)) if session.model.layers_with_states else b""
            pieces += [len(content).to_bytes(_SIZE_BYTES, "little"), content]
        return b"".join(pieces)

    def load_state(self, content: bytes) -> State:
        """Return the state that `save_state` wrote; see `Session.load_state`."""
        if not isinstance(content, (bytes, bytearray, memoryview)) or not bytes(content).startswith(MAGIC):
            raise DataError(
                "a saved state of a model with float parts begins with other bytes; give those that save_state gave"
            )
        content, at = bytes(content), len(MAGIC)
        layers = {}
        for name, session in self.sessions.items():
            size = int.from_bytes(content[at : at + _SIZE_BYTES], "little")
            at += _SIZE_BYTES
            if size > len(content) - at:
                raise DataError(f"a saved state of {len(content)} bytes is damaged or cut off; save it again")
            if size:
                layers.update(_named(name, session.load_state(content[at : at + size])))
            at += size
        if at != len(content):
            raise DataError(f"a saved state of {len(content)} bytes has {len(content) - at} too many; save it again")
        return State(layers)


def _named(part: str, state: State) -> dict[str, Any]:
    return {f"{part}/{layer}": arrays for layer, arrays in state.layers.items()}


def _of_part(part: str, state: State) -> State:
    prefix = f"{part}/"
    return State({k[len(prefix) :]: v for k, v in state.layers.items() if k.startswith(prefix)})
