"""Fraction bits are chosen and read here: how many a value may have, and how many a format has."""

from __future__ import annotations

import math

import numpy as np

from qrnn.model.layer import Layer
from qrnn.model.parts import TensorFormat
from qrnn.model.surroundings import Plan


def fraction_bits(largest: float, most: int = 15, least: int = 0, headroom: float = 2.0, width: int = 16) -> int:
    """Return the most fraction bits with which ``headroom`` · largest still fits a signed ``width``-bit integer, within [least, most]."""
    if largest <= 0.0:
        return most
    whole = int(np.ceil(np.log2(headroom * largest)))
    return max(least, min(most, width - 1 - whole))


def fraction_bits_of(fmt: TensorFormat) -> int | None:
    """Return the fraction bits of a fixed-point tensor, which may be negative; None for a format that is not fixed-point."""
    if fmt.bits != 16 or len(fmt.scale) != 1:
        return None
    mantissa, exponent = math.frexp(fmt.scale[0])
    return 1 - exponent if mantissa == 0.5 else None


def output_frac(plan: Plan, tensor: str) -> tuple[int, str]:
    """Return the fraction bits of what a layer writes, and why: those that its only reader wants, or else those that calibration showed."""
    readers = plan.readers(tensor)
    if len(readers) == 1 and not plan.is_output(tensor):
        wanted = readers[0].wanted_frac(plan)
        if wanted is not None:
            return wanted[0], f"the input format of {wanted[1]}"
    largest = plan.largest(tensor)
    least = max((reader.least_frac for reader in readers), default=Layer.least_frac)
    return fraction_bits(largest, least=least), f"|y| ≤ {largest:.3g} in calibration"
