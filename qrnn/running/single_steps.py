"""One time step of streams whose states are values: `qrnn.Session.step` for arrays of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.model.quant_model import QuantModel
from qrnn.running.kept_buffers import KeptBuffers
from qrnn.running.state import Runner, RunResult, State
from qrnn.running.stream_io import StreamIO


class SingleSteps:
    """Steps of a session's model that go through buffers of streams, into which each call copies the states that it is given.

    The session, which owns this object, is an argument of each call.
    """

    def __init__(self, model: QuantModel, kept: KeptBuffers[Any]) -> None:
        """Keep buffers in ``kept``, which other calls of the session may share."""
        self._kept = kept
        self._starts = [i.name for i in model.inputs if i.kind in ("state", "lengths")]

    def step(
        self, session: Runner, inputs: Mapping[str, Any], state: State | None, real: str | None
    ) -> RunResult | None:
        """Take one step of arrays [N, …]; None, with nothing done, where it has to be run as a sequence of one step.

        That is so where graph inputs say with what streams begin, and where buffers would not pay for themselves (`KeptBuffers.made`).
        """
        first = next(iter(inputs.values()), None)
        size = len(first) if isinstance(first, np.ndarray) and first.ndim else 0
        if not size or any(name in inputs for name in self._starts):
            return None
        kind = (size, real)
        io = self._kept.take(kind) or self._kept.made(kind, lambda: StreamIO(session, size, real))
        if io is None:
            return None
        if state is None:
            state = session.initial_state(size)
        else:
            session.check_state(state, size)
        rows = slice(None)
        io.set_state(rows, state)
        outputs = io.step(inputs, size)
        result = RunResult(outputs, io.state(rows), io.lengths(size))
        self._kept.give_back(kind, io)
        return result
