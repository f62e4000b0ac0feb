"""Calibration measures the ranges of the model's tensors on real data; the float64 oracle carries the state through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import DataError
from qrnn.model.activation import Activation
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import FloatArray
from qrnn.quantization.gate_tables import needs_input_range

PERCENTILE = 99.99
BINS = 1024


class Histogram:
    """The distribution of |x| per feature: [F, BINS] counts over [0, top[f]); a range doubles when a larger value arrives.

    ``largest`` [F] is the largest |x| of each feature; ``least`` and ``greatest`` [F] are the ends of x, +inf and -inf before the first value.
    """

    def __init__(self, features: int) -> None:
        self.counts = np.zeros((features, BINS), np.int64)
        self.top = np.full(features, 2.0**-40)
        self.largest = np.zeros(features)
        self.least, self.greatest = np.full(features, np.inf), np.full(features, -np.inf)

    def add(self, values: FloatArray) -> None:
        """Count values [M, F]."""
        magnitude = np.abs(values)
        self.largest = np.maximum(self.largest, magnitude.max(axis=0, initial=0.0))
        self.least = np.minimum(self.least, values.min(axis=0, initial=np.inf))
        self.greatest = np.maximum(self.greatest, values.max(axis=0, initial=-np.inf))
        for feature in np.nonzero(self.largest >= self.top)[0]:
            doublings = int(np.floor(np.log2(self.largest[feature] / self.top[feature]))) + 1
            self.top[feature] *= 2.0**doublings
            factor = 1 << min(doublings, BINS.bit_length() - 1)
            merged = self.counts[feature].reshape(-1, factor).sum(axis=1)
            self.counts[feature] = 0
            self.counts[feature, : merged.size] = merged
        bins = np.minimum((magnitude / self.top * BINS).astype(np.int64), BINS - 1)
        flat = np.arange(values.shape[1]) * BINS + bins
        self.counts += np.bincount(flat.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def threshold(self, calibrator: str, limit: int) -> FloatArray:
        """Return the largest magnitude of each feature, [F], that integers within ±limit should represent.

        robust and minmax take the largest value seen (of data that `qrnn.quantization.source_checks` has cut for robust); percentile the upper
        edge of the bin that holds the 99.99th percentile; mse the clip that minimizes rounding plus clipping error over the histogram.
        """
        if calibrator in ("robust", "minmax"):
            return self.largest.copy()
        edges = (np.arange(BINS) + 1) / BINS
        result = np.empty(len(self.top))
        for feature, (counts, top) in enumerate(zip(self.counts, self.top, strict=True)):
            total = counts.sum()
            if calibrator == "percentile":
                index = int(np.searchsorted(np.cumsum(counts), total * PERCENTILE / 100))
                clip = edges[min(index, BINS - 1)] * top
            else:
                clip = top * edges[_best_clip(counts, edges, limit)]
            result[feature] = min(clip, self.largest[feature])
        return result


def _best_clip(counts: npt.NDArray[np.int64], edges: FloatArray, limit: int) -> int:
    """Return the index of the clip edge with the least expected squared error.

    A value within the clip counts (clip/limit)²/12 for its rounding; a value beyond it counts the square of its excess.
    """
    centres = edges - 0.5 / BINS
    inside = np.cumsum(counts)
    tail = counts[::-1].cumsum()[::-1] - counts
    first = (counts * centres)[::-1].cumsum()[::-1] - counts * centres
    second = (counts * centres**2)[::-1].cumsum()[::-1] - counts * centres**2
    clipping = second - 2 * edges * first + edges**2 * tail
    # Bins below half a step round to zero: their error is their square.
    zeroed = (edges / limit / 2 * BINS).astype(np.int64)
    squares = np.concatenate([[0.0], np.cumsum(counts * centres**2)])[zeroed]
    rounding = (inside - np.concatenate([[0], inside])[zeroed]) * (edges / limit) ** 2 / 12 + squares
    error = clipping + rounding
    used = np.nonzero(counts)[0]
    return int(np.argmin(error[: used[-1] + 1])) if used.size else 0


class Ranges:
    """The histograms by which formats are chosen.

    There is one for every tensor between layers. Inside recurrent layers there are those of the states ``<layer>[d].h``, ``.c``,
    ``.hidden`` and ``.reset_h``, and of the arguments of gates that need a range. Each covers all features together; graph feature inputs
    and tensors that matrices read have one per feature too. ``rows`` holds the values of each graph input of features, [M, F], at all real
    steps, and ``values`` what conversions have found out about these (`qrnn.quantization.source_values`).
    """

    def __init__(self, model: FloatModel) -> None:
        self.total: dict[str, Histogram] = {}
        self.rows: dict[str, FloatArray] = {}
        self.values: dict[str, Any] = {}
        self.per_feature: dict[str, Histogram] = {}
        inputs = {i.name for i in model.inputs if i.kind == "features"}
        sources = {layer.output for layer in model.layers if layer.source_values is not None}  # known without data
        read = {layer.input for layer in model.layers if layer.input_weights}
        self._by_feature = frozenset(inputs | (read - sources))
        inside = (quantity for layer in model.layers for quantity in layer.quantities(self))
        self._wanted = frozenset(model.tensors).union(inside)
        self.sequences = 0
        self.steps = 0

    def needs_input_range(self, activation: Activation) -> bool:
        """Return whether a function needs an input range; see `qrnn.quantization.gate_tables.needs_input_range`."""
        return needs_input_range(activation)

    def observe(self, name: str, values: FloatArray, mask: npt.NDArray[np.bool_] | None) -> None:
        """Count the real steps of values [N, T, F] or [N, F]; see `qrnn.equations.oracle.Observer`."""
        if name not in self._wanted:  # most gates and their arguments: their formats follow from their functions
            return
        if mask is not None and not mask.any():
            raise DataError(
                f"calibration: no sequence is long enough to give a step of {name!r}; calibrate on longer ones"
            )
        flat = values[mask] if mask is not None else values
        if not np.isfinite(flat).all():
            raise DataError(
                f"calibration: the float model diverges, {name!r} is not finite; scale its inputs or weights down, or keep 0 out of its "
                "logarithms and divisors"
            )
        flat = flat.reshape(-1, values.shape[-1])
        self.total.setdefault(name, Histogram(1)).add(flat.reshape(-1, 1))
        if name in self._by_feature:
            self.per_feature.setdefault(name, Histogram(values.shape[-1])).add(flat)

    def largest(self, name: str) -> float:
        """Return the largest magnitude of a tensor."""
        return float(self.total[name].largest[0])


def _observe_initial_states(model: FloatModel, batch: Batch, ranges: Ranges) -> None:
    """Count initial states as states: the first step reads them, and the oracle shows only what follows a step."""
    for layer in model.layers:
        for name, values in layer.initial_values(batch.size, batch.states).items():
            if values.any():
                ranges.observe(name, values, None)


def real_rows(model: FloatModel, batch: Batch, name: str) -> FloatArray:
    """Return the values of a graph input of features at all real steps of ``batch``, [M, F]."""
    values = batch.features[name]
    rows = batch.along(model.length_rules[name]).real(values) if values.ndim == 3 else values
    return rows.reshape(-1, values.shape[-1])


def calibrate(
    model: FloatModel, batch: Batch, chunk: int = 64, progress: Callable[[int, int], Any] | None = None
) -> Ranges:
    """Run the oracle over the calibration sequences and return every range; ``progress`` is called with (done, all) sequences."""
    if not batch.lengths.any():
        raise DataError("calibration: every sequence has length 0; expected at least one step")
    ranges = Ranges(model)
    for _, stop, piece in batch.chunks(chunk):
        run_oracle_batch(model, piece, ranges.observe)
        _observe_initial_states(model, piece, ranges)
        if progress is not None:
            progress(stop, batch.size)
    ranges.rows = {name: real_rows(model, batch, name) for name in batch.features}
    ranges.sequences, ranges.steps = batch.size, batch.step_count
    return ranges
