"""What a run gives and takes: the state of streams as a value, and results; and what streams need of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.model.batch import Batch
from qrnn.model.parts import FloatArray, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel


@dataclass(frozen=True)
class State:
    """The state of N streams: layer name → h [N, D, P] int16 and c [N, D, H] int32. Exact; safe to copy, store and send.

    h is within ±32767. Whatever takes a state checks its layers, types, shapes and values.
    """

    layers: Mapping[str, LayerState]

    @property
    def size(self) -> int:
        """Number of streams N."""
        return int(next(iter(self.layers.values()))[0].shape[0])


@dataclass(frozen=True)
class RunResult:
    """Float ``outputs`` by graph output name, [N, T, *shape] or [N, *shape], zero on padded steps; and the final ``state``."""

    outputs: dict[str, FloatArray]
    state: State


class Runner(Protocol):
    """What streams need of the session that they belong to; see `qrnn.Session`."""

    model: QuantModel
    engine: Engine

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """The state before the first step."""

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """DataError for a state that is not of ``size`` streams of the model."""

    def run_batch(
        self, batch: Batch, state: State | None = None, trace: Trace | None = None, steps: int | None = None
    ) -> tuple[RunResult, Mapping[str, Int16Array | Int32Array]]:
        """Run a checked batch."""
