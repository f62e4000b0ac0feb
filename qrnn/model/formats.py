"""Fraction bits: how many a value may have, and how many a format has."""

from __future__ import annotations

import math

import numpy as np

from qrnn.model.parts import TensorFormat


def fraction_bits(largest: float, most: int = 15, least: int = 0, headroom: float = 2.0, width: int = 16) -> int:
    """The most fraction bits with which ``headroom`` · largest still fits a signed ``width``-bit integer, within [least, most]."""
    if largest <= 0.0:
        return most
    whole = int(np.ceil(np.log2(headroom * largest)))
    return max(least, min(most, width - 1 - whole))


def fraction_bits_of(fmt: TensorFormat) -> int | None:
    """The fraction bits of a fixed-point tensor, negative ones too; None for a format that is not fixed-point."""
    if fmt.bits != 16 or len(fmt.scale) != 1:
        return None
    mantissa, exponent = math.frexp(fmt.scale[0])
    return 1 - exponent if mantissa == 0.5 else None
