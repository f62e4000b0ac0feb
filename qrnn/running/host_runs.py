"""Arrays of the host are run here: whole sequences of one length in buffers for their shape, where the backend has such, others as batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from qrnn.model.batch import Batch, make_batch
from qrnn.model.given_lengths import time_axes
from qrnn.model.pad_values import is_padded, without_padding
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import real_names, type_of_inputs
from qrnn.running.kept_buffers import KeptBuffers
from qrnn.running.model_states import check_one_state, on_host
from qrnn.running.sequence_io import SequenceIO
from qrnn.running.state import Runner, RunResult, State, joined, last_steps

REAL_KINDS = ("f", "d")
"""The characters of the types that buffers for real numbers may have: float32 and float64."""

PROGRESS_PIECES = 40
"""The number of pieces of a batch whose progress is watched; there may be a few less, as pieces have equal sizes."""


class HostRuns:
    """Runs of a session's model on sequences in arrays of the host.

    The session, which owns this object, is an argument of each call, so that the two are freed together when the session is dropped.
    """

    def __init__(self, model: QuantModel, kept: KeptBuffers[Any]) -> None:
        """Keep buffers in ``kept``, which other calls of the session may share."""
        self._kept, inputs = kept, model.inputs
        self._widest = max(fmt.features for fmt in model.tensors.values())
        self._padded, self._reals = is_padded(inputs), real_names(inputs)
        self._one_axis = len(time_axes(inputs)) == 1
        self._timed_input = next((i.name for i in inputs if i.has_time and i.kind in ("features", "tokens")), "")
        self._forgetful = frozenset(layer.name for layer in model.recurrent_layers if not layer.memory)

    def run(
        self,
        session: Runner,
        inputs: Mapping[str, Any],
        lengths: Any,
        state: State | None,
        progress: Callable[[int, int], Any] | None,
        end: bool,
        as_step: bool = False,
        last: bool = False,
        kind: str | None = None,
    ) -> RunResult:
        """Run arrays with all of their axes; see `qrnn.Session.run`.

        With ``as_step`` they are a step of streams, which is never padding. With ``last``, the result has last steps alone. ``kind`` is the
        character of the type of the outputs, None for that of the inputs.
        """
        if state is not None:
            state = on_host(session.engine, state)
        whole = lengths is None and progress is None and (as_step or not self._padded)
        kind = kind or type_of_inputs(self._reals, inputs)
        if whole and (found := self._whole(session, inputs, state, end, kind)) is not None:
            return last_steps(session.model.outputs, found) if last else found
        declared = session.model.inputs
        batch = make_batch(without_padding(declared) if as_step else declared, inputs, lengths, keep_float32=True)
        if state is not None:
            check_one_state(batch.states)
            session.check_state(state, batch.size)
        return self._in_pieces(session, batch, state, progress, end, kind, last)

    def _in_pieces(
        self,
        session: Runner,
        batch: Batch,
        state: State | None,
        progress: Callable[[int, int], Any] | None,
        end: bool,
        kind: str,
        last: bool,
    ) -> RunResult:
        """Run a checked batch in pieces of so many sequences that the engine's memory stays bounded; see `run`.

        With ``progress``, there are about `PROGRESS_PIECES` pieces, or as many as there are sequences.
        """
        rows = max(1, session.engine.chunk_elements // (4 * self._widest * batch.steps))
        if progress is not None:
            rows = min(rows, -(-batch.size // PROGRESS_PIECES))
        pieces = []
        for start, stop, piece in batch.chunks(rows):
            part = None if state is None else state.rows(slice(start, stop))
            found = session.run_batch(piece, part, steps=batch.steps, end=end, kind=kind)[0]
            pieces.append(last_steps(session.model.outputs, found) if last else found)
            if progress is not None:
                progress(stop, batch.size)
        return pieces[0] if len(pieces) == 1 else joined(pieces)

    def _whole(
        self, session: Runner, inputs: Mapping[str, Any], state: State | None, end: bool, given: str
    ) -> RunResult | None:
        """Run arrays [N, T, …], and return outputs of the type of character ``given``; None where the general way has to be taken.

        That is so where the backend has no own way, where an array is not of the type and shape that it wants, and where layers skip, merge
        or delay steps in a part of a sequence: only from its beginning to its end has it as many steps everywhere as its length says.
        """
        if session.model.counted and (state is not None or not end):
            return None
        x = inputs.get(self._timed_input)
        if type(x) is not np.ndarray or x.ndim < 2 or x.size == 0:
            return None
        size, steps = x.shape[:2]
        if state is not None:
            session.check_state(state, size)
        shape = (size, steps, "f" if x.dtype.char == "f" else "d", given)
        io = self._kept.take(shape) or self._kept.made(shape, lambda: self._laid_out(session, *shape))
        if io is None:
            return None
        found = io.run(inputs, state)
        self._kept.give_back(shape, io)
        if found is None:
            return None
        outputs, after = found
        if self._forgetful:
            begin = io.begin(state)
            after = {**after, **{name: tuple(array.copy() for array in begin[name]) for name in self._forgetful}}
        return RunResult(outputs, State(after), io.lengths)

    def prepare(self, session: Runner, size: int, steps: int) -> None:
        """Lay out the buffers for ``size`` sequences of ``steps`` steps ahead."""
        for kind in REAL_KINDS:
            shape = (size, steps, kind, kind)
            self._kept.prepare(shape, partial(self._laid_out, session, *shape))

    def _laid_out(self, session: Runner, size: int, steps: int, taken: str, given: str) -> SequenceIO | None:
        """Return new buffers; None for a model that the backend does not run so, as such runs carry every state on and have one time axis."""
        if (self._forgetful and steps > 1) or not self._one_axis:
            return None
        rows = session.engine.sequences(size, steps, np.dtype(taken), np.dtype(given))
        return None if rows is None else SequenceIO(session, rows)
