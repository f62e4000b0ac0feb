"""Kinds of layers that the CPU has no loops of its own for: they run by their own definitions, compiled (`qrnn.backends.cpu.rows.defined`)."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn import arithmetic
from qrnn.backends.base import Choose, ModelRows
from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.layer_calls import Flow, LayerCalls, SequenceCalls, StreamCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import ROWS, Reused, Tasks
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import ANY_STEPS, RowLoop, Scratch, StateArray, StepLoop
from qrnn.model.parts import IndexArray, Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import TIME, Axis

# --- what the code of a definition is kept under ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Definition:
    """The function that makes a definition's loop, by its name, and a digest of all that the loop's code depends on."""

    module: str
    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    digest: str

    def make(self) -> Callable[[Any], Any]:
        """Return the function that makes the loop from the contract."""
        found = getattr(importlib.import_module(self.module), self.name)
        return partial(found, *self.arguments, **dict(self.options))


def definition_of(make: Callable[[Any], Any]) -> Definition:
    """Return the `Definition` of ``make`` of a `RowLoop` or `StepLoop`.

    ``make`` is a function of a module, or a `functools.partial` of one and of constants. A kernel's code is kept under its name. Another
    function has none by which another process would find it.
    """
    function, arguments, options = make, (), {}
    if isinstance(make, partial):
        function, arguments, options = make.func, make.args, make.keywords
    constants = all(isinstance(value, (int, str)) for value in (*arguments, *options.values()))
    module = sys.modules.get(getattr(function, "__module__", ""))
    named = module is not None and isinstance(function, FunctionType)
    if not constants or not named or vars(module).get(function.__qualname__) is not function:
        raise AssertionError(
            f"{make!r} makes the loop of a layer: expected a function of a module, by its name there, or a functools.partial of one whose "
            "further arguments are integers and texts"
        )
    return Definition(
        function.__module__, function.__name__, arguments, tuple(sorted(options.items())), _digest_of(function)
    )


@cache
def _digest_of(function: FunctionType) -> str:
    """Return the SHA-256 of what a function is compiled from.

    It covers the source of the function's module, and what its code, and that of functions that it calls, names elsewhere. The functions
    of the contract are part of every kernel's key.
    """
    digest, waiting, seen = hashlib.sha256(), [function], {function}
    while waiting:
        found = waiting.pop()
        digest.update(f"{found.__module__}.{found.__qualname__}".encode() + _source(found.__module__))
        for name, value in _named_values(found):
            digest.update(name.encode())
            if isinstance(value, ModuleType):
                digest.update(_source(value.__name__))
            elif isinstance(value, type):
                digest.update(_source(value.__module__))
            elif isinstance(value, FunctionType):
                if value not in seen and not value.__module__.startswith(f"{arithmetic.__name__}."):
                    seen.add(value)
                    waiting.append(value)
            elif isinstance(value, np.ndarray):
                digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
            elif isinstance(value, (int, str, tuple)):
                digest.update(repr(value).encode())
            else:
                raise TypeError(
                    f"{found.__qualname__} uses {name}, a {type(value).__name__}: expected integers, texts, tuples of them, arrays or functions"
                )
    return digest.hexdigest()


def _named_values(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the values of a function's module that its code, and that of the functions in it, looks up by name."""
    codes: list[CodeType] = [function.__code__]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [value for value in code.co_consts if isinstance(value, CodeType)]
    yield from ((name, function.__globals__[name]) for name in sorted(names) if name in function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents


@cache
def _source(module: str) -> bytes:
    """Return the text of a module. It is empty for one that has no file, as those that are a part of Python."""
    try:
        return Path(inspect.getfile(importlib.import_module(module))).read_bytes()
    except (OSError, TypeError):
        return b""


def _parameters(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return a definition's parameters as calls take them."""
    return tuple(
        np.ascontiguousarray(v, v.dtype.newbyteorder("=")) if isinstance(v, np.ndarray) else int(v) for v in values
    )


def _work(parameters: Sequence[Any], features: int) -> int:
    """Return what a row or a step counts as, in multiply-adds: as many as it has numbers."""
    return features + sum(p.size for p in parameters if isinstance(p, np.ndarray))


# --- rows ---------------------------------------------------------------------------------------------------------------------------------


class _Loop:
    """A `RowLoop` of the layer ``key`` names."""

    def __init__(self, found: RowLoop, key: tuple[Any, ...], tasks: Tasks) -> None:
        self.inputs, self._key, self._tasks = found.inputs, key, tasks
        self._kernel = Kernel(f"{ROWS}.defined", "rows", (definition_of(found.make),))
        self._parameters = _parameters(found.parameters)

    def call(self, place: Int64Array, arrays: Sequence[Any]) -> Call:
        """Return the call for rows place[FIRST] … place[LAST] - 1 of the inputs and the output."""
        return Call(self._kernel, place, *self._parameters, *arrays, isa=self._tasks.isa)

    def run(self, arrays: Sequence[Any]) -> None:
        """Run all rows now."""
        how = Reused(self._key, self.call, 1 + len(self._parameters))
        work = _work(self._parameters, sum(a[0].size for a in arrays) if len(arrays[0]) else 0)
        self._tasks.in_tasks(arrays, how, work, self._tasks.tuning.task_macs)


FEW_CHOICES = 16
"""The most tokens chosen at once by a call that is laid out beforehand, for arrays of its own: to lay one out takes longer than to make it."""


def choice_call(loop: RowLoop, tasks: Tasks) -> Call:
    """Return a call of a choice for arrays of one score: what every choice needs compiled."""
    arrays = [np.zeros((1, 1), np.int64), np.zeros((1, 4), np.uint32), np.zeros((1, 1), np.int64)]
    return _Loop(loop, (), tasks).call(np.zeros(3, np.int64), arrays)


def chooser(loop: RowLoop, count: int, tasks: Tasks) -> Choose:
    """Return the compiled choice of tokens among ``count`` scores; see `Engine.chooser`."""
    compiled = _Loop(loop, ("choice", *(p for p in loop.parameters if isinstance(p, int))), tasks)
    scores_of, words_of = np.zeros((FEW_CHOICES, count), np.int64), np.zeros((FEW_CHOICES, 4), np.uint32)
    chosen, control = np.zeros((FEW_CHOICES, 1), np.int64), np.zeros(3, np.int64)
    few = CallList((compiled.call(control, [scores_of, words_of, chosen]),), control, tasks.code)

    def choose(scores: Int64Array, words: npt.NDArray[np.uint32]) -> Int64Array:
        rows = len(scores)
        if rows > FEW_CHOICES:
            out = np.empty((rows, 1), np.int64)
            compiled.run([np.ascontiguousarray(scores), np.ascontiguousarray(words), out])
            return out[:, 0]
        scores_of[:rows], words_of[:rows] = scores, words
        few.run(0, rows)
        return chosen[:rows, 0].copy()

    return choose


class DefinedRows(LayerRun):
    """A layer by its `QuantLayer.row_loops`."""

    def __init__(self, layer: QuantLayer, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        self._loops = [_Loop(found, (layer.name, k), tasks) for k, found in enumerate(layer.row_loops())]

    @property
    def has_calls(self) -> bool:
        """Return whether rows of the output are computed from the same rows of the inputs: a vector that is repeated has fewer of them."""
        return self._layer.repeated is None

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        if not self.has_calls:
            return []
        (output,) = self._layer.outputs
        place, out = walk.place_of(output), walk.tensors[output]
        return [loop.call(place, [*(walk.source(name) for name in loop.inputs), out]) for loop in self._loops]

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        (output,) = self._layer.outputs
        given = {name: np.ascontiguousarray(x) for name, x in zip(self._layer.inputs, inputs, strict=True)}
        out = np.empty((len(inputs[0]), self.model.tensors[output].features), np.int16)
        for loop in self._loops:
            loop.run([*(given[name] for name in loop.inputs), out])
        return out


# --- steps --------------------------------------------------------------------------------------------------------------------------------


class StepCalls:
    """A `StepLoop` that reads so many ``inputs`` and keeps these ``states``; ``key`` names it among all of an engine."""

    def __init__(
        self, loop: StepLoop, states: Sequence[StateArray], key: Hashable, tasks: Tasks, inputs: int = 1
    ) -> None:
        definition, kept = definition_of(loop.make), (inputs, len(states))
        self._loop, self._states, self._key, self._tasks = loop, states, key, tasks
        first = () if loop.before is None else (definition_of(loop.before),)
        self._kernel = Kernel(f"{ROWS}.defined", "steps", (definition, *kept, *first))
        self._stream_kernel = Kernel(f"{ROWS}.defined", "stream_step", (definition, *kept))
        self._parameters, self._inputs = _parameters(loop.parameters), inputs

    def run(
        self,
        inputs: Sequence[Int16Array],
        states: Sequence[Any],
        lengths: IndexArray,
        out: Int16Array,
        reverse: bool = False,
        past: int = 0,
        scratch: Sequence[Any] | None = None,
    ) -> Int64Array:
        """Take the steps of the inputs, [N, T, F] each, write rows of out [N, T', F'], and return how many of each sequence were written, [N].

        The states, [N, *shape] each, change in place. With ``reverse``, steps go from the last one of a sequence to its first, and each of them
        writes the one row that has the step's number. Then ``past`` steps past the end follow. ``scratch`` are the arrays of `scratch`, for a
        caller that looks at them afterwards.
        """
        N, T = inputs[0].shape[:2]
        assert len(inputs) == self._inputs
        assert all(x.shape[:2] == (N, T) and x.dtype == out.dtype == np.int16 for x in inputs)
        assert len(lengths) == len(out) == N
        for state, expected in zip(states, self._states, strict=True):
            shape = [
                have if want == ANY_STEPS else want for have, want in zip(state.shape[1:], expected.shape, strict=True)
            ]
            assert (state.shape, state.dtype) == ((N, *shape), expected.dtype)
        assert N == 0 or 0 <= lengths.min() <= lengths.max() <= T
        out_lengths = np.zeros(N, np.int64)
        kept = [np.ascontiguousarray(state) for state in states]
        own = self.scratch(N) if scratch is None else scratch
        arrays = (
            np.ascontiguousarray(lengths, np.int64),
            out_lengths,
            *(np.ascontiguousarray(x) for x in inputs),
            out,
            *kept,
            *own,
        )
        how = Reused((self._key, "steps", reverse, past), lambda control, a: self.call(control, a, reverse, past), 4)
        if N:
            work = (T + past) * _work(self._parameters, sum(x.shape[2] for x in inputs) + out.shape[2])
            self._tasks.in_tasks(arrays, how, work, self._tasks.tuning.task_macs)
        for state, after in zip(states, kept, strict=True):
            if after is not state:
                state[...] = after
        return out_lengths

    @property
    def work(self) -> int:
        """Return what a step counts as, in multiply-adds."""
        return _work(self._parameters, 0)

    def stream_call(
        self, before: Flow, after: Flow, inputs: Sequence[Int16Array], out: Int16Array, states: Sequence[Any]
    ) -> Call:
        """Return the call of one step of streams that read the inputs, [N, F] each, and write out [N, F'].

        The loop writes at most one row in a step. ``before`` is the flow of the inputs, and ``after`` that of out.
        """
        N = len(states[0])
        own = [np.zeros((N, 1, x.shape[1]), np.int16) for x in (*inputs, out)]
        arrays = (*inputs, out, *own, *states, *self.scratch(N))
        return Call(self._stream_kernel, before, after, self._parameters, *arrays, isa=self._tasks.isa)

    def sequence_call(
        self,
        place: Int64Array,
        lengths: Int64Array,
        inputs: Sequence[Int16Array],
        out: Int16Array,
        states: Sequence[Any],
        reverse: bool = False,
        past: int = 0,
    ) -> Call:
        """Return the call of whole sequences, [N, T, F] for each input, that write out [N, T', F']. The other arguments are as for `run`."""
        N = len(out)
        arrays = (lengths, np.zeros(N, np.int64), *inputs, out, *states, *self.scratch(N))
        return self.call(place, arrays, reverse, past)

    def scratch(self, sequences: int) -> list[Any]:
        """Make the scratch arrays for so many sequences."""
        return [np.zeros((sequences, *s.shape), s.dtype) for s in self._loop.scratch]

    def call(self, place: Int64Array, arrays: Sequence[Any], reverse: bool, past: int) -> Call:
        """Return the call for sequences place[FIRST] … place[LAST] - 1.

        ``arrays`` are the lengths, out_lengths, the inputs, out, the states and the scratch.
        """
        return Call(self._kernel, place, reverse, past, self._parameters, *arrays, isa=self._tasks.isa)

    def ahead(self) -> Call:
        """Return a call that needs what all calls need."""
        numbers, rows = np.zeros(1, np.int64), np.zeros((1, 1, 1), np.int16)
        kept: list[StateArray | Scratch] = [*self._states, *self._loop.scratch]
        own = [np.zeros((1, *(max(size, 0) for size in a.shape)), a.dtype) for a in kept]
        return self.call(
            np.zeros(3, np.int64), [numbers, numbers, *(rows for _ in range(self._inputs)), rows, *own], False, 0
        )


def at_most_one_row(layer: QuantLayer) -> bool:
    """Return whether no step of a layer with a `step_loop` gives several rows of the output, by how many a long sequence gives."""
    rule = layer.length_rule(Axis())
    many = 1 << 32
    return rule.of({TIME: 2 * many}) - rule.of({TIME: many}) <= many


class DefinedSteps(LayerRun):
    """A layer by its `QuantLayer.step_loop`."""

    def __init__(self, layer: QuantLayer, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        self._steps = StepCalls(layer.step_loop(), layer.step_arrays(), layer.name, tasks, len(layer.inputs))

    @property
    def has_calls(self) -> bool:
        """Say whether streams and whole sequences of this layer are lists of calls; see `LayerRun.has_calls`.

        They are where a step of its inputs gives at most one row of its one output, and all are over time and read step by step.
        """
        if self._layer.read_whole:
            return False
        inputs, outputs = self._layer.inputs, self._layer.outputs
        over_time = all(self.model.tensors[name].has_time for name in (*inputs, *outputs) if name in self.model.tensors)
        return len(outputs) == 1 and over_time and at_most_one_row(self._layer)

    @property
    def step_macs(self) -> int:
        """Return what a step counts as, in multiply-adds."""
        return self._steps.work

    def stream_calls(self, walk: StreamCalls) -> list[Call]:
        """Return the calls of one step of streams; see `LayerRun.stream_calls`."""
        if not self.has_calls:
            return []
        inputs, out, states = self._arrays(walk, walk.streams)
        flows = walk.flow_of(self._layer.inputs[0]), walk.flow_of(self._layer.outputs[0])
        return [self._steps.stream_call(*flows, inputs, out, states)]

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences; see `LayerRun.sequence_calls`."""
        if not self.has_calls:
            return []
        inputs, out, states = self._arrays(walk, walk.rows)
        name, (output,) = self._layer.inputs[0], self._layer.outputs
        N, T, steps, place = walk.rows.size, walk.steps[name], walk.steps[output], walk.place(False)
        # Compiled code does not check what a step writes, so there is room for all that the layer may write.
        room = max(steps, self._layer.rows_in(T))
        rows = out.reshape(N, steps, out.shape[1]) if room == steps else np.zeros((N, room, out.shape[1]), np.int16)
        past = self._layer.steps_past_end
        given = [x.reshape(N, T, x.shape[1]) for x in inputs]
        call = self._steps.sequence_call(place, walk.lengths(name), given, rows, states, past=past)
        if room == steps:
            return [call]
        return [call, self.tasks.call("copying", "take_steps", place, steps, rows, out)]

    def _arrays(self, walk: LayerCalls, rows: ModelRows) -> tuple[list[Int16Array], Int16Array, Sequence[Any]]:
        """Return the rows of the inputs and of the output, and the states."""
        (output,) = self._layer.outputs
        return [walk.source(name) for name in self._layer.inputs], walk.tensors[output], rows.layers[self._layer.name]

    def steps(
        self, inputs: Sequence[Int16Array], states: Sequence[Any], lengths: IndexArray, out_rows: int, past: int
    ) -> tuple[Int16Array, Int64Array]:
        """Run the layer over a padded batch; see `CpuEngine.steps`."""
        (output,) = self._layer.outputs
        # Compiled code does not check what a step writes, so there is room for all that the layer may write.
        room = max(out_rows, self._layer.rows_in(inputs[0].shape[1]))
        out = np.zeros((len(inputs[0]), room, self.model.tensors[output].features), np.int16)
        written = self._steps.run(inputs, states, lengths, out, past=past)
        assert written.max(initial=0) <= out_rows
        return np.ascontiguousarray(out[:, :out_rows]), written

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the calls that have to be compiled ahead; see `LayerRun.ahead`."""
        yield self._steps.ahead()


def run_of_definition(layer: QuantLayer, model: QuantModel, tasks: Tasks) -> LayerRun:
    """Return the run of a layer of a kind that the CPU has no loops of its own for."""
    return (DefinedRows if layer.by_rows else DefinedSteps)(layer, model, tasks)
