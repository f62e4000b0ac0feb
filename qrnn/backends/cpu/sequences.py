"""Whole sequences of one shape on the CPU, from floats to floats, as calls that compiled code goes through.

What lies between the layers stays between runs; inputs are read where the user has them, and outputs written where the user gets them.
"""

from __future__ import annotations

from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import ModelRows, SequenceRows
from qrnn.backends.cpu.calls import STATUS, CallList
from qrnn.backends.cpu.layer_calls import USERS, SequenceCalls
from qrnn.backends.cpu.layer_run import LayerRunner
from qrnn.backends.cpu.python_calls import address_of
from qrnn.backends.cpu.threads.pool import shared_pool
from qrnn.backends.cpu.threads.team import ListsCall, most_workers
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantModel


class CpuSequences(SequenceRows):
    """See `SequenceRows`. Sequences, of so many multiply-adds together, are shared out over ``threads``."""

    def __init__(
        self, engine: LayerRunner, size: int, steps: int, real: Any, given: Any, threads: int, macs: int = 0
    ) -> None:
        super().__init__(engine.model, size, steps, real, given)
        tensors = {
            name: np.zeros((size * self.steps_of.get(name, 1), fmt.features), np.int16)
            for name, fmt in engine.model.tensors.items()
        }
        for layer in engine.model.layers:
            if engine.layer_runs[layer.name].in_place and _read_once(engine.model, layer.inputs[0]):
                tensors[layer.outputs[0]] = tensors[layer.inputs[0]]
        self.tensors = tensors
        bounds = [size * k // threads for k in range(threads + 1)]
        spans = [span for span in pairwise(bounds) if span[0] < span[1]]
        self.shares = [_Share(engine, self, tensors, span, teams=len(spans) == 1) for span in spans]
        self._together: CallList | None = None
        tuning = engine.tasks.tuning
        if len(spans) > 1 and most_workers(tuning) > 1:
            helpers = min(len(spans), most_workers(tuning)) - 1
            control = np.zeros(3, np.int64)
            shared = ListsCall(control, [share.calls for share in self.shares], helpers, tuning)
            shared.share([share.span for share in self.shares], macs)
            self._together = CallList((shared,), control, engine.code)
            self._run = self._together.runner(0, 0)
        self.whole = frozenset(
            o.name
            for o in engine.model.outputs
            if len(np.unique(np.concatenate([p[2] for p in o.parts]))) == o.features
        )
        # Inputs and outputs are kept apart, for they may have the same names.
        self._readers = {name: [p for share in self.shares for p in share.readers(name)] for name in self.inputs}
        self._writers = {name: [p for share in self.shares for p in share.writers(name)] for name in self.outputs}

    def read_from(self, name: str, values: npt.NDArray[Any]) -> None:
        """Let the calls read a graph input from the user's own array; see `SequenceRows.read_from`."""
        _put(self._readers[name], values)

    def write_to(self, name: str, values: npt.NDArray[Any]) -> None:
        """Let the calls write a graph output to the user's own array; see `SequenceRows.write_to`."""
        _put(self._writers[name], values)

    def run(self, count: int) -> bool:
        """Run the first ``count`` sequences or streams; see `ModelRows.run`."""
        if self._together is not None:
            for share in self.shares:
                share.prepare()
            self._together.wake()
            self._run()
            return not any(share.failed for share in self.shares)
        if len(self.shares) == 1:
            self.shares[0].calls.wake()
            return self.shares[0].run()
        return all(list(shared_pool().map(_Share.run, self.shares)))


def _read_once(model: QuantModel, tensor: str) -> bool:
    """Return whether one layer reads a tensor, and nothing else does."""
    layers = sum(layer.inputs.count(tensor) for layer in model.layers)
    return layers + sum(name == tensor for output in model.outputs for name, _, _ in output.parts) == 1


Place = tuple[Int64Array, int, int]
"""Where the address of a user's array is to be put, words and number, and the bytes before this share of it."""


def _put(users: list[Place], values: npt.NDArray[Any]) -> None:
    """Let calls read or write ``values``."""
    address = address_of(values)
    for words, word, offset in users:
        words[word] = address + offset


class _Share:
    """Sequences span[0] … span[1] - 1, by one thread; with ``teams`` a sequence alone also by several."""

    def __init__(
        self,
        engine: LayerRunner,
        rows: ModelRows,
        tensors: dict[str, Any],
        span: tuple[int, int],
        teams: bool,
    ) -> None:
        first, last = span
        steps = rows.steps_of
        cut = {name: array[first * steps.get(name, 1) : last * steps.get(name, 1)] for name, array in tensors.items()}
        calls = SequenceCalls(engine.model, engine.tasks, _part_of(rows, first, last), cut, steps, teams)
        self._without_time = calls.place(False)
        self._checks_without_time = not all(i.has_time for i in engine.model.inputs if i.name in rows.inputs)
        self._reading = {name: calls.input_call(name) for name in rows.inputs}
        work = [call for run in engine.layer_runs.values() for call in run.sequence_calls(calls)]
        self._writing = {name: calls.output_calls(name) for name in rows.outputs}
        writing = [call for part in self._writing.values() for call in part]
        self.calls = CallList([*self._reading.values(), *work, *writing], calls.place(True), engine.code)
        self.span = 0, (last - first) * (rows.steps or 1)
        self._run = self.calls.runner(*self.span)
        self._first, self._of_all = first, rows

    def _offset(self, array: npt.NDArray[Any]) -> int:
        """Return the bytes before this share of an array of all sequences."""
        return int(self._first * (len(array) // self._of_all.size) * array[:1].nbytes)

    def readers(self, name: str) -> list[Place]:
        """Return where an input's values are read."""
        return [(*self._reading[name].frame.place(USERS), self._offset(self._of_all.inputs[name]))]

    def writers(self, name: str) -> list[Place]:
        """Return where an output's values are written."""
        offset = self._offset(self._of_all.outputs[name])
        return [(*call.frame.place(USERS), offset) for call in self._writing[name]]

    def prepare(self) -> None:
        """Forget what an earlier run said of the inputs without time."""
        if self._checks_without_time:
            self._without_time[STATUS] = 0

    @property
    def failed(self) -> bool:
        """Whether the last run found an input out of its range."""
        return self.calls.failed or (self._checks_without_time and bool(self._without_time[STATUS] != 0))

    def run(self) -> bool:
        """Run the share, and return False where an input is out of its range."""
        self.prepare()
        return self._run() == 0 and not self.failed


def _part_of(rows: ModelRows, first: int, last: int) -> ModelRows:
    """Return the rows with the inputs, outputs and states of these sequences alone, which stay where they are."""
    part = copy(rows)
    part.size = last - first

    def cut(array: Any) -> Any:
        each = len(array) // rows.size
        return array[first * each : last * each]

    part.inputs = {name: cut(array) for name, array in rows.inputs.items()}
    part.outputs = {name: cut(array) for name, array in rows.outputs.items()}
    part.layers = {name: tuple(array[first:last] for array in arrays) for name, arrays in rows.layers.items()}
    return part
