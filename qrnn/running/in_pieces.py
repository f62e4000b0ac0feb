"""Runs of data that come in pieces of a few sequences, with what is counted over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from qrnn.model.batch import make_batch
from qrnn.model.given_lengths import is_beside
from qrnn.model.quant_model import QuantModel
from qrnn.model.user_values import check_mapping
from qrnn.running.input_ranges import Beyond, inputs_beyond
from qrnn.running.state import Runner


@runtime_checkable
class HasArrays(Protocol):
    """A piece of a file, such as `qrnn.DataFile.chunks` gives."""

    @property
    def arrays(self) -> Mapping[str, Any]:
        """Return the arrays by name."""


def arrays_of(chunk: Mapping[str, Any] | HasArrays) -> Mapping[str, Any]:
    """Return the arrays of a chunk, given as a mapping or as a piece of a file; DataError for anything else."""
    found = chunk.arrays if isinstance(chunk, HasArrays) else chunk
    check_mapping(found)
    return found


class PieceRuns:
    """Runs of one session, piece after piece; arrays are as `Session.run` takes them, with lengths and labels beside them."""

    def __init__(self, session: Runner, steps: str = "all", real: str | None = None) -> None:
        """``steps`` and ``real`` are those of `Session.run`."""
        self._session, self._of_steps, self._real = session, steps, real
        self.sequences, self.steps = 0, 0
        """How many sequences were run, and their real steps together."""
        self.beyond: tuple[Beyond, ...] = ()
        """The values beyond the calibrated range, of each input; none for a model with float parts."""
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all outputs so far."""
        return {name: (self.sequences, *rest) for name, rest in self._shapes.items()}

    def outputs(self, arrays: Mapping[str, Any], first: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Run the next piece, which begins with sequence ``first``, from which errors count, and return its outputs."""
        model = self._session.model
        batch = make_batch(model.inputs, arrays, first=first, keep_float32=True)
        inputs = {name: value for name, value in arrays.items() if not is_beside(model.inputs, name)}
        result = self._session.run(inputs, batch.given_lengths, steps=self._of_steps, real=self._real)
        self.sequences += batch.size
        self.steps += batch.step_count
        if isinstance(model, QuantModel):
            found = inputs_beyond(model, batch)
            self.beyond = tuple(map(Beyond.plus, self.beyond, found)) if self.beyond else found
        self._shapes = {name: value.shape[1:] for name, value in result.outputs.items()}
        return result.outputs
