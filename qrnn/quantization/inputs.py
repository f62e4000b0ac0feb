"""Formats of the tensors that come from outside: graph inputs and embeddings."""

from __future__ import annotations

import numpy as np

from qrnn.model.float_model import FloatModel
from qrnn.model.formats import fraction_bits
from qrnn.model.parts import TensorFormat
from qrnn.quantization.calibrate import Histogram, Ranges
from qrnn.quantization.scheme import InputScheme

PER_FEATURE_HEADROOM = 1.5
"""Room above each feature's own largest value, up to the tensor's: the largest of one feature over little data is soon exceeded, which
costs more than the half bit of room. docs/accuracy.md has such a case, the noise suppressor calibrated on a third of its clip."""


def source_tensors(model: FloatModel) -> tuple[str, ...]:
    """Return the names of the tensors whose format `input_format` decides."""
    inputs = tuple(i.name for i in model.inputs if i.kind == "features")
    return inputs + tuple(layer.output for layer in model.layers if layer.source_values is not None)


def source_histograms(model: FloatModel, ranges: Ranges) -> dict[str, tuple[Histogram, Histogram]]:
    """Return each source tensor's histogram over all features and its histogram per feature; an embedding's come from its table."""
    found = {name: (ranges.total[name], ranges.per_feature[name]) for name in ranges.per_feature}
    for layer in model.layers:
        if (values := layer.source_values) is not None:
            total, per_feature = Histogram(1), Histogram(values.shape[1])
            total.add(values.reshape(-1, 1))
            per_feature.add(values)
            found[layer.output] = (total, per_feature)
    return found


def input_format(
    histograms: tuple[Histogram, Histogram],
    features: int,
    has_time: bool,
    scheme: InputScheme,
    calibrator: str,
    limit: int,
) -> TensorFormat:
    """Return the format of one source tensor under ``scheme``; ``limit`` bounds the integers of a 16-bit one."""
    total, per_feature = histograms
    bits = 16 if scheme == "16" else 8
    limit = limit if bits == 16 else 127
    threshold = total.threshold(calibrator, limit)
    if scheme == "8-per-feature":
        threshold = np.minimum(PER_FEATURE_HEADROOM * per_feature.threshold(calibrator, limit), threshold)
    floor = max(float(total.largest[0]), 1e-30) * 2.0**-24  # a feature that is always zero still needs a scale
    scale = np.maximum(threshold, floor) / limit
    return TensorFormat(features, has_time, bits, tuple(scale.tolist()), limit)


def power_of_two_format(largest: float, features: int, has_time: bool) -> tuple[TensorFormat, int]:
    """Return an int16 format with a power-of-two scale, and its fraction bits.

    It is for a source that is not read by matrices alone.
    """
    frac = fraction_bits(largest, 15)
    return TensorFormat(features, has_time, 16, (2.0**-frac,), 32767), frac
