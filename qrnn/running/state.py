"""The state of streams is a value; it, the results of runs, and what streams need of a session are defined here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.errors import DataError
from qrnn.model.batch import Batch
from qrnn.model.float_model import GraphOutput
from qrnn.model.in_words import counted
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT64
from qrnn.system.brief import Described, array_text


@dataclass(frozen=True)
class State(Described):
    """The state of N streams: the arrays that each layer keeps, [N, …], by the layer's name. It is exact, and safe to copy, store and send.

    A recurrent layer has h [N, D, P] int16, within ±32767, and c [N, D, H] int32. Other layers declare theirs by `QuantLayer.states`.
    Whatever takes a state checks its layers, types, shapes and values.
    """

    layers: Mapping[str, LayerState]

    def describe_lines(self) -> Iterator[str]:
        """Yield how many streams the state is of, and the arrays of each layer."""
        yield f"State of {counted(self.size, 'stream')}" if self.layers else "State of a model that keeps nothing"
        for name, arrays in self.layers.items():
            yield f"  {name}: {', '.join(map(array_text, arrays))}"

    @property
    def size(self) -> int:
        """Return the number of streams N."""
        return int(next(iter(self.layers.values()))[0].shape[0])

    def rows(self, rows: slice | IndexArray) -> State:
        """Return the state of some of the streams, copied."""
        return State({name: tuple(a[rows].copy() for a in arrays) for name, arrays in self.layers.items()})


@dataclass(frozen=True)
class RunResult(Described):
    """Float ``outputs`` by graph output name, [N, T, *shape] or [N, *shape], zero on padded steps; and the final ``state``.

    Outputs are float32 or float64 (see `Session.run`); where integers were asked for, int16 or int32 (`qrnn.running.integers`).

    ``lengths`` [N], by graph output name, counts the steps of an output over time that came out; for any other output it is 1, or 0 where
    no step came out from which the output could be computed. After a single step it says which outputs are new.
    """

    outputs: dict[str, npt.NDArray[Any]]
    state: State
    lengths: Mapping[str, IndexArray] = field(default_factory=dict)

    def describe_lines(self) -> Iterator[str]:
        """Yield the outputs with their shapes and ranges, and what the state is of."""
        yield f"RunResult with {counted(len(self.outputs), 'output')} and a state"
        for name, values in self.outputs.items():
            on_host = isinstance(values, np.ndarray) and values.size
            span = f", {values.min():.4g} … {values.max():.4g}" if on_host else ""
            yield f"  output {name} {array_text(values)}{span}"
        yield f"  state  {next(iter(self.state.describe_lines()))}"


def last_steps(outputs: Iterable[GraphOutput], result: RunResult) -> RunResult:
    """Return a result with the last step that came out of each output over time, [N, *shape]; zero where none did."""
    found = dict(result.outputs)
    for output in outputs:
        if output.has_time:
            values, counts = found[output.name], result.lengths[output.name]
            last = values[np.arange(len(values)), np.maximum(counts, 1) - 1]
            last[counts < 1] = 0
            found[output.name] = last
    return replace(result, outputs=found)


def checked_steps(steps: str) -> bool:
    """Return whether ``steps`` asks for last steps alone; DataError for a text that is neither "all" nor "last"."""
    if steps not in ("all", "last"):
        raise DataError(f"steps={steps!r}, expected 'all' or 'last'")
    return steps == "last"


def joined(pieces: list[RunResult]) -> RunResult:
    """Join the results of pieces of a batch, one after the other; outputs over time get as many steps as one of them has."""

    def together(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if arrays[0].ndim > 1 and len({array.shape[1] for array in arrays}) > 1:
            most = max(array.shape[1] for array in arrays)
            arrays = [np.pad(a, ((0, 0), (0, most - a.shape[1]), *[(0, 0)] * (a.ndim - 2))) for a in arrays]
        return np.concatenate(arrays)

    first = pieces[0]
    return RunResult(
        {name: together([p.outputs[name] for p in pieces]) for name in first.outputs},
        State(
            {
                name: tuple(
                    np.concatenate(parts) for parts in zip(*(p.state.layers[name] for p in pieces), strict=True)
                )
                for name in first.state.layers
            }
        ),
        {name: np.concatenate([p.lengths[name] for p in pieces]) for name in first.lengths},
    )


class Runner(Protocol):
    """What streams need of the session that they belong to; see `qrnn.Session`."""

    model: QuantModel
    engine: Engine

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """Return the state before the first step."""

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """Raise DataError for a state that is not of ``size`` streams of the model."""

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
        """Run whole sequences, and return their outputs and final state."""

    def finish(self, state: State, integers: bool | None = None, real: str | None = None) -> RunResult:
        """Return what the layers of streams that end in ``state`` still hold back."""

    def run_batch(
        self,
        batch: Batch,
        state: State | None = None,
        trace: Trace | None = None,
        steps: int | None = None,
        end: bool = True,
        kind: str = FLOAT64,
    ) -> tuple[RunResult, Mapping[str, Int16Array | Int32Array]]:
        """Run a checked batch; see `Session.run_batch`."""
