"""Tokens are chosen by the outputs of a step: the largest score, or one that is drawn for each stream by a seed of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import Choose, Engine
from qrnn.errors import DataError
from qrnn.model.choosing import SEEDS, Sampling, choice_loop, choice_numbers, words_of
from qrnn.model.feedback import Scored
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.user_values import as_array

UIntArray = npt.NDArray[np.uint64]

Rows = slice | IndexArray
"""Some rows of an array, or all of them."""


def check_each_step(model: QuantModel, output: GraphOutput) -> None:
    """Raise DataError for an output that is not new after each step."""
    if any(name in model.counted for name, _, _ in output.parts):
        raise DataError(
            f"output {output.name!r} does not come out of every step: a layer before it skips, merges or delays steps; "
            "an output that is fed back has to come at each step"
        )


class Chooser:
    """Choose a token for each row of a graph output's real values, with the integers of every backend and of the exported C."""

    def __init__(self, engine: Engine, scored: Scored, sampling: Sampling | None) -> None:
        """Make the numbers of the choice; DataError for sampling from an output that is the token itself."""
        if sampling is not None and not isinstance(sampling, Sampling):
            raise DataError(f"sampling={sampling!r}, expected a qrnn.Sampling, or None for the largest score")
        if sampling is not None and scored.kind == "index":
            raise DataError(
                f"output {scored.output.name!r} is the index of the largest score, from which nothing can be drawn; leave out sampling, "
                "or make the scores an output"
            )
        self.scored, self.draws = scored, sampling is not None
        probabilities = scored.kind == "probabilities"
        numbers = choice_numbers(sampling, scored.unit, probabilities)
        self._choose: Choose | None = None
        if not numbers.greedy:
            self._choose = engine.chooser(choice_loop(numbers, probabilities), scored.count)

    def tokens(self, values: FloatArray, draws: UIntArray, rows: Rows) -> IndexArray:
        """Return the tokens of rows [n, V] of the output; ``draws[rows]`` [n, 2] are their streams' seeds and numbers of earlier draws."""
        if self.scored.kind == "index":
            return values[:, 0].astype(np.int64)
        if self._choose is None:
            largest: IndexArray = values.argmax(axis=1)
            return largest
        return self._choose(np.rint(values / self.scored.unit).astype(np.int64), words_of(draws[rows]))

    def log_probabilities(self, values: FloatArray, tokens: IndexArray) -> FloatArray:
        """Return the natural logarithm of each token's probability under the model, [n], in float64: of the softmax of the scores."""
        if self.scored.kind == "index":
            raise DataError(
                f"output {self.scored.output.name!r} is the index of the largest score; it has no probabilities"
            )
        own = np.take_along_axis(values, tokens[:, None], 1)[:, 0]
        if self.scored.kind == "probabilities":
            with np.errstate(divide="ignore"):
                of_ratio: FloatArray = np.log(own / values.sum(axis=1))
            return of_ratio
        top = values.max(axis=1)
        found: FloatArray = own - top - np.log(np.exp(values - top[:, None]).sum(axis=1))
        return found


def checked_blank(blank: Any, scored: Scored) -> int:
    """Return the blank token of a transducer; DataError for one that the output does not score."""
    if isinstance(blank, bool) or not isinstance(blank, (int, np.integer)) or not 0 <= blank < scored.count:
        raise DataError(
            f"blank={blank!r}, expected a token in 0…{scored.count - 1}, one that output {scored.output.name!r} scores"
        )
    return int(blank)


def checked_draws(seed: Any, drawn: Any, size: int) -> UIntArray:
    """Return the seeds of ``size`` streams and how many draws each has had, [size, 2].

    ``seed`` is an array [size], or one number, to which stream n adds n; ``drawn`` is an array [size], or one number for all. DataError
    for what is neither.
    """
    seeds, numbers = _whole_numbers("seed", seed, size), _whole_numbers("drawn", drawn, size)
    if np.ndim(seed) == 0:
        seeds += np.arange(size, dtype=np.uint64)
    return np.stack([seeds, numbers], axis=1)


def _whole_numbers(where: str, value: Any, size: int) -> UIntArray:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < SEEDS:
            raise DataError(f"{where}={value}, expected a whole number in 0…2^64 - 1")
        return np.full(size, value, np.uint64)
    array = as_array(where, value)
    if array.ndim == 0 and array.dtype.kind in "iu":
        return _whole_numbers(where, int(array), size)
    if array.shape != (size,) or array.dtype.kind not in "iu" or (array.size and int(array.min()) < 0):
        raise DataError(
            f"{where}: {array.dtype}{list(array.shape)}, expected a whole number in 0…2^64 - 1, or an array [{size}] of them"
        )
    return array.astype(np.uint64)
