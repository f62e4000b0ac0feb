"""Fraction bits are chosen and read here: how many a value may have, and how many a format has."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.model.layer import Layer
from qrnn.model.parts import CELL_MAX, INT32_MAX, TensorFormat
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


def cell_bits_of(fmt: TensorFormat) -> int | None:
    """Return the fraction bits of a tensor of int32 cells; None for another format."""
    return fraction_bits_of(replace(fmt, bits=16)) if fmt.bits == 32 and fmt.limit == CELL_MAX else None


def wanted_by_reader(plan: Plan, tensor: str) -> tuple[int, str] | None:
    """Return the fraction bits that a tensor's only reader wants, and the name of its function; None where it has no wish, or is not alone."""
    readers = plan.readers(tensor)
    return readers[0].wanted_frac(plan) if len(readers) == 1 and not plan.is_output(tensor) else None


def needed(plan: Plan, tensor: str) -> float:
    """Return the largest magnitude that a tensor's format has to hold: of its values, or of those that its readers need, where all say so."""
    largest, readers = plan.largest(tensor), plan.readers(tensor)
    if plan.is_output(tensor) or not readers:
        return largest
    needs = [reader.needed_of(plan, tensor) for reader in readers]
    found = [need for need in needs if need is not None]
    return min(largest, max(found)) if len(found) == len(needs) else largest


def output_frac(plan: Plan, tensor: str) -> tuple[int, str]:
    """Return the fraction bits of what a layer writes, and why: those that its only reader wants, or else those that calibration showed."""
    if (wanted := wanted_by_reader(plan, tensor)) is not None:
        return wanted[0], f"the input format of {wanted[1]}"
    largest = needed(plan, tensor)
    least = max((reader.least_frac for reader in plan.readers(tensor)), default=Layer.least_frac)
    how = "" if largest == plan.largest(tensor) else ", as far as it is read"
    return fraction_bits(largest, least=least), f"|y| ≤ {largest:.3g} in calibration{how}"


OFFSET_HEADROOM = 4.0
"""Room about the middle of the values seen, as a multiple of their distance from it, where the format has an offset. It is twice the room of
a format without one, so that a format gives up no room that a later value is likely to need."""


class OutputFormat(NamedTuple):
    """The fraction bits and the offset of what a layer with a bias writes, and why."""

    frac: int
    offset: int
    reason: str


def output_format(plan: Plan, tensor: str) -> OutputFormat:
    """Return the fraction bits of `output_frac` and no offset, or those about the middle of the values that calibration showed.

    A tensor has an offset where that gives it at least one more fraction bit, and nothing but graph outputs reads it.
    """
    frac, reason = output_frac(plan, tensor)
    if plan.only_outputs_read(tensor):
        low, high = plan.span(tensor)
        middle, half = (low + high) / 2, (high - low) / 2
        finer = fraction_bits(half, least=Layer.least_frac, headroom=OFFSET_HEADROOM) if half > 0.0 else frac
        while finer > frac and abs(middle) * 2.0**finer > INT32_MAX:
            finer -= 1
        if finer > frac:
            offset = int(round_half_up(middle * 2.0**finer))
            return OutputFormat(finer, offset, f"{low:.6g} ≤ y ≤ {high:.6g} in calibration, with the offset {offset}")
    return OutputFormat(frac, 0, reason)
