"""These streams keep inputs, outputs and state on the CUDA device."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from qrnn.errors import DataError
from qrnn.model.given_lengths import checked_lengths
from qrnn.model.parts import IndexArray
from qrnn.model.user_values import check_count
from qrnn.running.state import Runner, State
from qrnn.running.streamable import check_one_row, check_remembers, check_streamable

DEVICE_REALS = ("float32", "float64")
"""The types that the reals of a `DeviceStream` may have."""


class DeviceStream:
    """``size`` streams that go on together on the CUDA device, where inputs, outputs and state stay; `Session.device_stream` makes one.

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
        session: Runner,
        size: int = 1,
        state: State | None = None,
        steps: int | None = None,
        real: str = "float32",
        lengths: IndexArray | None = None,
    ) -> None:
        """Make the buffers of ``size`` streams on the device; see `Session.device_stream`.

        ``lengths`` [size] says how many of the steps each stream takes in a call; without it, each takes all of them.
        """
        check_streamable(session.model)
        check_remembers(session.model)
        check_one_row(session.model)
        check_count("size", size)
        if steps is not None:
            check_count("steps", steps)
        if real not in DEVICE_REALS:
            raise DataError(f"real={real!r}, expected one of {', '.join(map(repr, DEVICE_REALS))}")
        self._session, self.size, self.steps = session, int(size), None if steps is None else int(steps)
        known = checked_lengths(lengths, self.size, self.steps or 1)
        start = session.initial_state(self.size).layers
        self._rows = session.engine.device_rows(self.size, self.steps, real, start, known)
        self.inputs: Mapping[str, Any] = MappingProxyType(self._rows.inputs)
        """Where `advance` reads, by graph input name: [size, *shape], or [size, steps, *shape] of an input over time where ``steps`` are given.
        Of the type ``real``, or int64 tokens. Zero at first."""
        self.outputs: Mapping[str, Any] = MappingProxyType(self._rows.outputs)
        """Where `advance` writes, by graph output name: [size, *shape] or [size, steps, *shape], of ``real``. The next call replaces them."""
        if state is not None:
            self.reset(state)

    @property
    def not_captured(self) -> str | None:
        """Return why `advance` launches its kernels one by one; None where it launches a graph."""
        return self._rows.not_captured

    def advance(self, stream: int = 0) -> None:
        """Take one time step from ``inputs`` to ``outputs``, or ``steps`` of them, queued on a CUDA stream.

        ``stream`` is its number, such as ``torch.cuda.current_stream().cuda_stream``; 0 is the legacy default stream, on which the rest of
        backend cuda works.
        """
        self._rows.advance(stream)

    def check(self) -> None:
        """Wait for the device, and raise DataError where a call since the last check or reset read a value that is refused.

        The states and outputs since then are those of zeros in its place: go on with `reset`.
        """
        if (refused := self._rows.refused()) is not None:
            raise DataError(f"{refused}; the calls since the last check took them as 0, begin anew with reset")

    @property
    def state(self) -> State:
        """Return the state now, with its arrays on the device; wait and raise as `check` does."""
        self.check()
        return State(self._rows.layers())

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` of as many streams (from `Session.initial_state`, `run`, `step` or a stream) or from the model's start."""
        if state is None:
            state = self._session.initial_state(self.size)
        else:
            self._session.check_state(state, self.size, on_device=True)
        self._rows.set_layers(state.layers)
