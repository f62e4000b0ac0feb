"""Streams that stay on the device: a call is a fixed row of kernels over arrays that are allocated once, launched as one CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from qrnn.backends.base import LayerState
from qrnn.backends.cuda import heads, work
from qrnn.backends.cuda.arrays import count_states, on_device, outputs_of, quantized, refusal, refuse_states
from qrnn.backends.cuda.graph import CapturedGraph
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.recurrent import Lengths, zeros
from qrnn.backends.cuda.walk import DeviceModel, copied
from qrnn.errors import DataError
from qrnn.model.batch import checked_lengths
from qrnn.model.float_model import IndexArray

if TYPE_CHECKING:
    from qrnn.session import Session, State

REALS = ("float32", "float64")
"""Types of a stream's real inputs."""

SIMULATOR = "Numba's CUDA simulator has no graphs"


class DeviceStream:
    """``size`` streams that go on together on the device; from `qrnn.session.Session.device_stream`.

    A call of `advance` reads ``inputs``, writes ``outputs`` and replaces the state. These arrays stay the same for as long as the stream.
    They are Numba's, with the CUDA array interface, so that other libraries share their memory::

        stream = session.device_stream(size=8)
        x, y = (torch.as_tensor(a, device="cuda") for a in (stream.inputs["x"], stream.outputs["y"]))
        x.copy_(frame)
        stream.advance()          # y has the step's output

    A call does not wait for the device. Values that `Session.step` would refuse therefore become 0 and are counted; `check` and ``state`` wait
    and raise. Not for several threads at once. The bits are those of `Session.step` and `Session.run`.
    """

    def __init__(
        self,
        session: Session,
        model: DeviceModel,
        size: int,
        state: State | None,
        steps: int | None,
        real: str,
        lengths: IndexArray | None = None,
    ) -> None:
        """See `qrnn.session.Session.device_stream`; ``lengths`` [size]: how many of the steps each stream takes in a call, all without it."""
        for name, value in (("size", size), *([] if steps is None else [("steps", steps)])):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise DataError(f"{name}={value!r}, expected a whole number of at least 1")
        if real not in REALS:
            raise DataError(f"real={real!r}, expected one of {', '.join(map(repr, REALS))}")
        self._session, self._model, self.size, self.steps = (
            session,
            model,
            int(size),
            None if steps is None else int(steps),
        )
        count = self.steps or 1
        timed = (self.size,) if steps is None else (self.size, count)
        self.inputs: Mapping[str, Any] = MappingProxyType(
            {
                i.name: zeros(
                    (*(timed if i.has_time else (self.size,)), *i.shape), np.int64 if i.kind == "tokens" else real
                )
                for i in model.model.inputs
                if i.kind in ("features", "tokens")
            }
        )
        """Where `advance` reads, by graph input name: [size, *shape], or [size, steps, *shape] of an input over time where ``steps`` are given.
        Of the type ``real``, or int64 tokens. Zero at first."""
        self._given = {
            i.name: self.inputs[i.name].reshape(self.size, count, *i.shape) if i.has_time else self.inputs[i.name]
            for i in model.model.inputs
            if i.name in self.inputs
        }
        self._lengths = Lengths.of(checked_lengths(lengths, self.size, count))
        self._refused = zeros((len(self._given),), np.int32)
        self._layers: dict[str, LayerState] = {
            name: (on_device(name, h), on_device(name, c))
            for name, (h, c) in session.initial_state(self.size).layers.items()
        }
        self._buffers = work.Buffers()
        self._outputs: dict[str, Any] = {}
        self._launch(0)  # compiles the kernels and allocates the arrays
        cuda.synchronize()
        self.outputs: Mapping[str, Any] = MappingProxyType(self._outputs)
        """Where `advance` writes, by graph output name: [size, *shape] or [size, steps, *shape], float64. The next call
        writes over them."""
        self.not_captured: str | None = None
        """Why `advance` launches its kernels one by one; None where it launches a graph."""
        self._graph: CapturedGraph | None = None
        if SIMULATED:
            self.not_captured = SIMULATOR
        else:
            try:
                self._graph = CapturedGraph(self._launch)
            except Exception as error:  # noqa: BLE001  (whatever the driver or Numba cannot do: the same launches do without a graph)
                self.not_captured = f"{type(error).__name__}: {error}"
        self.reset(state)

    def _launch(self, stream: Any) -> None:
        """Launch everything on one of Numba's streams."""
        with work.on(stream, self._buffers):
            integers = quantized(self._model, self._given, self._refused)
            tensors, _ = self._model.run(integers, self._layers, self._lengths, None, in_place=True)
            self._outputs = outputs_of(self._model, tensors, self._lengths, self.steps or 1, self.steps is None)

    def advance(self, stream: int = 0) -> None:
        """One time step from ``inputs`` to ``outputs``, or ``steps`` of them, queued on a CUDA stream.

        ``stream`` is its number, such as ``torch.cuda.current_stream().cuda_stream``; 0 is the legacy default stream, on which the rest of
        backend cuda works.
        """
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            self._launch(cuda.external_stream(stream) if stream else 0)

    def check(self) -> None:
        """Wait for the device. DataError where a call since the last check, or the last reset, read a value that is refused.

        The states and outputs since then are those of zeros in its place: go on with `reset`.
        """
        found = self._refused.copy_to_host()
        self._forget_refused()
        if (refused := refusal(self._model, self._given, found.tolist())) is not None:
            raise DataError(f"{refused}; the calls since the last check took them as 0, begin anew with reset")

    def _forget_refused(self) -> None:
        for_each(heads.fill_zero, self._refused.size, self._refused)

    @property
    def state(self) -> State:
        """The state now, as a value whose arrays are on the device; waits and raises as `check` does."""
        from qrnn.session import State

        self.check()
        return State({name: (copied(h), copied(c)) for name, (h, c) in self._layers.items()})

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` of as many streams (from `Session.initial_state`, `run`, `step` or a stream) or from the model's start."""
        if state is None:
            state = self._session.initial_state(self.size)
        else:
            self._session.check_state(state, self.size, on_device=True)
        given: dict[str, Any] = {
            name: (on_device(f"state of layer {name!r}", h), on_device(f"state of layer {name!r}", c))
            for name, (h, c) in state.layers.items()
        }
        hidden = {name: h for name, (h, _) in given.items()}
        counts = zeros((len(hidden),), np.int32)
        count_states(hidden, counts)
        refuse_states(hidden, counts.copy_to_host().tolist())
        for name, pair in given.items():
            targets: Any = self._layers[name]
            for source, target in zip(pair, targets, strict=True):
                count = source.size
                for_each(heads.copy_columns, count, source.reshape(1, count), 0, target.reshape(1, count), 0, count)
        self._forget_refused()
