"""What the page of tools/bench_devices.py compares with: a peer's figures, what is asked for, and lower bounds."""

from __future__ import annotations

from fractions import Fraction

CMSIS_NN = {
    ("cortex-m3", 32): 41_425,
    ("cortex-m3", 64): 126_210,
    ("cortex-m3", 128): 436_945,
    ("cortex-m4", 32): 32_995,
    ("cortex-m4", 64): 93_210,
    ("cortex-m4", 128): 300_085,
    ("cortex-m7", 32): 33_020,
    ("cortex-m7", 64): 93_240,
    ("cortex-m7", 128): 300_110,
    ("cortex-m55", 32): 16_215,
    ("cortex-m55", 64): 39_490,
    ("cortex-m55", 128): 113_685,
}
"""(target, units) → instructions of an LSTM step, `arm_lstm_unidirectional_s8`, as many inputs as units."""

LIMITS = {
    ("lstm", "cortex-m4", 128): 0.65,
    ("lstm", "cortex-m4", 64): 0.65,
    ("lstm", "cortex-m3", 128): 0.8,
    ("lstm", "cortex-m3", 64): 0.8,
    ("lstm", "cortex-m55", 128): 0.5,
    **{("gru", name, units): 0.8 for name in ("cortex-m3", "cortex-m4", "cortex-m55") for units in (32, 64, 128)},
}
"""(cell, target, units) → the ratio that is asked for: of CMSIS-NN, and for a GRU of the own LSTM."""

LEAST = {
    "dsp": (
        Fraction(14, 16),
        "14 instructions for 16 products: one load of four words of weights, one of two words of operands, and three for four products",
    ),
    "mve": (
        Fraction(9, 64),
        "9 instructions for 64 products: a load of operands, and for each of four rows a load of weights and VMLADAVA",
    ),
    "long": (
        Fraction(23, 16),
        "plain kernels with a 64-bit multiply-add (M3): 23 instructions for 16 products: three loads, and five for each column of four rows",
    ),
    "plain": (
        Fraction(13, 4),
        "plain kernels: 13 instructions for four products: a load of the operand, and for each row a load, a product and a sum",
    ),
}
"""Kind of dot product → instructions a multiply-add, without the loop, and their count in words."""


def bound(kernels: str, target: str, macs: int) -> float:
    """Instructions that the multiply-adds of a step take at least."""
    kind = "long" if kernels == "plain" and target == "cortex-m3" else kernels
    return float(LEAST[kind][0] * macs)
