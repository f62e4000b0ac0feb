"""Formats of the tensors that come from outside: graph inputs and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qrnn.model.float_model import FloatModel
from qrnn.model.formats import fraction_bits
from qrnn.model.parts import FloatArray, TensorFormat
from qrnn.quantization.calibrate import Histogram, Ranges
from qrnn.quantization.scheme import InputScheme
from qrnn.quantization.source_values import SourceValues, Span

PER_FEATURE_HEADROOM = 1.5
"""Room above each feature's own range, up to the widest one's: the range of one feature over little data is soon exceeded, which
costs more than the half bit of room. docs/accuracy.md has such a case, the noise suppressor calibrated on a third of its clip."""

WIDE_HEADROOM = 2.0
"""The least room above a range of a 16-bit format: the bit that it takes lies far below the weights' rounding."""

USUAL_ROOM = 4.0
"""The room above a range of a 16-bit format that other data may need, however slowly their largest values grow, while `QUIET_DB` are left."""

MOST_ROOM = 16.0
"""The most room above a range of a 16-bit format, which a heavy tail has; see `_wide_half`."""

QUIET_DB = 70.0
"""The ratio of a feature's variation to its rounding that the room of a 16-bit format leaves: 20 to 30 dB more than weights of 8 bits do."""

LEAST_DB = 50.0
"""The least such ratio with which all features have equal columns of weights; what is wider has a range of its own."""

_STEPS = 32767 * np.sqrt(12.0)
"""The ratio of a range to the deviation of its rounding, for 16 bits."""

LEAST_STEP = 2.0**-48
"""The least step of a format, as a part of the range's middle: an offset then stays below 2^49, and real values keep their float64 bits."""


def source_tensors(model: FloatModel) -> tuple[str, ...]:
    """Return the names of the tensors whose format `input_format` decides."""
    inputs = tuple(i.name for i in model.inputs if i.kind == "features")
    return inputs + tuple(layer.output for layer in model.layers if layer.source_values is not None)


def source_values(model: FloatModel, ranges: Ranges) -> dict[str, SourceValues]:
    """Return each source tensor's values: those of graph inputs in calibration, and an embedding's table."""
    for name, rows in ranges.rows.items():
        ranges.values.setdefault(name, SourceValues(rows))
    found: dict[str, SourceValues] = dict(ranges.values)
    for layer in model.layers:
        if (table := layer.source_values) is not None:
            found[layer.output] = SourceValues(table)
    return found


def largest_weights(matrices: Sequence[FloatArray], features: int) -> FloatArray:
    """Return the largest magnitude of the weights of each feature, [F], in matrices [R, F] or [O, F, K]; 0 where there are none."""
    found = np.zeros(features)
    for matrix in matrices:
        found = np.maximum(found, np.abs(matrix).reshape(len(matrix), features, -1).max(axis=(0, 2)))
    return found


def offset_text(fmt: TensorFormat) -> str:
    """Return what a decision says about a format's offsets: how many features have one, and the largest; empty where there is none."""
    scales, offsets = fmt.scales_and_offsets
    if not offsets.any():
        return ""
    middles = np.abs(scales * offsets)
    which = f"{int(np.count_nonzero(offsets))} of {fmt.features} features" if len(fmt.offset) > 1 else "all features"
    return f", about the middle of their range for {which} (up to {middles.max():.6g})"


def input_span(values: SourceValues, scheme: InputScheme, calibrator: str, offsets: bool, weights: FloatArray) -> Span:
    """Return the range that the format of a source tensor covers under ``scheme``, of each feature or of all together.

    ``offsets``: whether a range may lie about another middle than zero. ``weights`` [F] is the largest magnitude of the weights that multiply
    each feature, 0 where that is unknown; see `_living`.
    """
    wide, per_feature = scheme.startswith("16"), scheme.endswith("per-feature")
    values = values if per_feature else values.whole
    span = values.span(calibrator, 32767 if wide else 127, offsets)
    half = values.remembered(("wide", calibrator, offsets), lambda: _wide_half(values, span)) if wide else span.half
    if per_feature:
        half = half if wide else np.minimum(PER_FEATURE_HEADROOM * span.half, span.half.max())
        half = np.where(span.dead, _living(replace(span, half=half), values.largest, weights), half)
    elif span.dead[0]:
        half = np.maximum(values.largest, 0.0) if values.largest[0] > 0.0 else np.ones(1)
    return Span(span.centre, half, span.dead)


def _wide_half(values: SourceValues, span: Span) -> FloatArray:
    """Return the range of each feature for a 16-bit format, with room for values that calibration did not show, [F].

    The room is how the largest values grow with 64 times the data, or `USUAL_ROOM` where that is more, as far as `QUIET_DB` are left. Then all
    features get the same multiple of their spread, so that the weights' columns are those of features of equal size, as the floor has them.
    """
    spread = values.spread(span.centre)
    quiet = spread * _STEPS / 10 ** (QUIET_DB / 20) / np.where(span.half > 0.0, span.half, 1.0)
    wanted = np.maximum(values.growth(span.centre) ** 2, USUAL_ROOM)
    room = np.minimum(wanted, np.clip(quiet, WIDE_HEADROOM, MOST_ROOM))
    half: FloatArray = span.half * room
    varied = ~span.dead & (spread > 0.0)
    if varied.any():
        ratio = (half[varied] / spread[varied]).max()
        half = np.where(varied, np.maximum(half, min(ratio, _STEPS / 10 ** (LEAST_DB / 20)) * spread), half)
    return half


def _living(span: Span, largest: FloatArray, weights: FloatArray) -> FloatArray:
    """Return a range for each feature that has one value only in calibration, [F].

    It is the range with which the feature's largest product with a weight is that of the middle one of the others: then the feature's column
    is no larger than theirs, and the rows of weights keep their steps for the others. A feature that is not zero has no wider range than down
    to zero. A range about zero covers the value.
    """
    alive = ~span.dead & (span.half > 0.0)
    others = np.median(span.half[alive]) if alive.any() else 1.0
    products = (weights * span.half)[alive & (weights > 0.0)]
    guess = np.full(len(span.half), others)
    if len(products):
        guess = np.where(weights > 0.0, np.median(products) / np.where(weights > 0.0, weights, 1.0), guess)
    guess = np.where(largest > 0.0, np.minimum(guess, largest), guess)
    return np.where(span.centre == 0.0, np.maximum(guess, largest), guess)


def input_format(span: Span, features: int, has_time: bool, bits: int, limit: int) -> TensorFormat:
    """Return the format of ``bits`` whose integers within ±``limit`` cover ``span``; each offset is a whole number of steps."""
    least = max(float(span.half.max()), 1e-30) * 2.0**-60
    scale = np.maximum(np.maximum(span.half / limit, np.abs(span.centre) * LEAST_STEP), least)
    offset = np.round(span.centre / scale)
    offsets = tuple(int(o) for o in offset) if offset.any() else (0,)
    return TensorFormat(features, has_time, bits, tuple(scale.tolist()), limit, offsets)


def feature_scales(model: FloatModel, ranges: Ranges, tensor: str, calibrator: str) -> FloatArray:
    """Return the scale of each feature, [F], with which int8 covers the values of a tensor that others read as int16 too."""
    if tensor in ranges.per_feature:
        total, per_feature = ranges.total[tensor], ranges.per_feature[tensor]
    else:
        table = next(t for layer in model.layers if layer.output == tensor and (t := layer.source_values) is not None)
        total, per_feature = Histogram(1), Histogram(table.shape[1])
        total.add(table.reshape(-1, 1))
        per_feature.add(table)
    threshold = np.minimum(
        PER_FEATURE_HEADROOM * per_feature.threshold(calibrator, 127), total.threshold(calibrator, 127)
    )
    least = max(float(total.largest[0]), 1e-30) * 2.0**-24  # a feature that is always zero still needs a scale
    scales: FloatArray = np.maximum(threshold, least) / 127
    return scales


def power_of_two_format(largest: float, features: int, has_time: bool) -> tuple[TensorFormat, int]:
    """Return an int16 format with a power-of-two scale, and its fraction bits.

    It is for a source that is not read by matrices alone.
    """
    frac = fraction_bits(largest, 15)
    return TensorFormat(features, has_time, 16, (2.0**-frac,), 32767), frac
