"""What a model generated: tokens or values, and from where it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.in_words import counted
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.running.choosing import UIntArray
from qrnn.running.state import State
from qrnn.system.brief import Described, array_text

SHOWN = 20
"""The most tokens that a result shows of itself."""


@dataclass(frozen=True)
class Generated(Described):
    """What `Session.generate` gives for N sequences; arrays over time are zero past a sequence's length.

    ``state`` is that before the last token is fed, so that ``next_inputs`` and ``state`` go on where this ended.
    """

    tokens: IndexArray
    """The tokens that were chosen, a stop token too, [N, T]; [N, 0] where values are fed back."""
    lengths: IndexArray
    """How many steps each sequence generated, [N]."""
    stopped: npt.NDArray[np.bool_]
    """Whether a stop token was its last, [N]."""
    state: State
    next_inputs: dict[str, npt.NDArray[Any]]
    """What would be fed next, by the input's name: the prompt of a call that goes on, [N, 1, …]."""
    drawn: UIntArray
    """How many draws each sequence has had, [N]: `Session.generate`'s ``drawn`` of a call that goes on."""
    values: npt.NDArray[Any] | None = None
    """Where values are fed back, the output of each step, [N, T, *shape]."""
    scores: FloatArray | None = None
    """Where they were asked for, the natural logarithms of the tokens' probabilities under the model, [N, T]."""
    frames: IndexArray | None = None
    """The frame in which each token was given, [N, T], where the model is a transducer."""

    def describe_lines(self) -> Iterator[str]:
        """Yield how much was generated, the arrays with their shapes, and what the state is of."""
        what = "token" if self.values is None else "step"
        yield f"Generated of {counted(len(self.lengths), 'sequence')}: {counted(int(self.lengths.sum()), what)}"
        for name in ("tokens", "values", "scores", "frames"):
            values = getattr(self, name)
            if values is not None and values.size:
                yield f"  {name} {array_text(values)}"
        if self.values is None and self.tokens.size:
            row = self.tokens[0, : min(SHOWN, int(self.lengths[0]))]
            more = " …" if self.lengths[0] > SHOWN else ""
            yield f"  the first sequence: {' '.join(map(str, row))}{more}"
        yield f"  {int(self.stopped.sum())} ended by a stop token; {next(iter(self.state.describe_lines()))}"
