"""Normalized LSTMs and GRUs of random integers, up to the ends of what a model file may hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backends.raw_layers import alone, any_matrix, ends, gate_function
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import C_FRAC_MAX, QuantDirection, QuantNorm, QuantNorms
from qrnn.model.norm_parameters import NormParameters, least_exponent
from qrnn.model.parts import CELL_MAX, Operand, QuantInitialState
from qrnn.model.quant_model import QuantModel


def number(rng: np.random.Generator, low: int, high: int) -> int:
    return int(ends(rng, low, high, 1)[0])


def raw_norm(rng: np.random.Generator, features: int) -> QuantNorm:
    """Gains, biases and epsilons of any size."""
    most = max(shift for shift in range(0, 31, 2) if features * features << shift <= 1 << 31)
    shift = 2 * number(rng, 0, most // 2)
    least = -(shift // 2 + least_exponent(features))
    gain_shift = least + ends(rng, 0, 12 if rng.random() < 0.7 else 62, features)
    bias = ends(rng, -(1 << 31), (1 << 31) - 1, features) >> rng.integers(0, 31, features)
    epsilon = number(rng, 0, (1 << 61) - 1) >> int(rng.integers(0, 62))
    gain = ends(rng, -32768, 32767, features).astype(np.int16)
    made = NormParameters(gain, gain_shift.astype(np.int8), bias.astype(np.int32), shift, epsilon)
    return QuantNorm(made, number(rng, 0, 15))


def raw_groups(rng: np.random.Generator, rows: int, middle: int) -> tuple[QuantNorm, ...]:
    """Groups of any sizes; one ends after ``middle`` rows."""
    cuts = {0, middle, rows} | set(rng.integers(1, rows, int(rng.integers(0, 3))).tolist())
    return tuple(raw_norm(rng, size) for size in np.diff(sorted(cuts)).tolist() if size)


def normalized_model(rng: np.random.Generator, cell: str) -> QuantModel:
    """One layer of random integers, from x to y, h_n and c_n."""
    lstm, after = cell == "layer_norm_lstm", bool(rng.integers(2))
    roles = ("i", "f", "g", "o", "output") if lstm else ("r", "z", "n")
    H, I, D = int(rng.integers(1, 6)), int(rng.integers(1, 5)), int(rng.integers(1, 3))
    rows = (4 if lstm else 3) * H
    x_op, h_op = (Operand(number(rng, 0, 15), int(rng.choice([1, 127, 8191, 32767]))) for _ in "xh")
    values = {role: number(rng, 0, 15) for role in roles}
    c_frac = number(rng, 0, min(C_FRAC_MAX, values["i"] + values["g"])) if lstm else C_FRAC_MAX
    own = values["o"] + values["output"] if lstm else values["n"]
    directions = []
    for reverse in range(D):
        of_c = lstm and rng.random() < 0.5
        arguments = {role: number(rng, 0, min(15, c_frac) if role == "output" else 15) for role in roles}
        apart = bool(rng.integers(2))
        middle = 0 if lstm or (apart and after) else 2 * H
        cell_norm = raw_norm(rng, H) if of_c else None
        if cell_norm is not None:
            cell_norm = replace(cell_norm, in_frac=number(rng, 0, min(15, c_frac)))
        norms = QuantNorms(
            raw_groups(rng, rows, middle), raw_groups(rng, rows, middle) if apart else (), cell_norm,
            number(rng, 0, 15) if apart else 0,
        )  # fmt: skip
        directions.append(
            QuantDirection(
                bool(reverse),
                any_matrix(rng, rows, I, x_op.limit),
                any_matrix(rng, rows, H, h_op.limit),
                np.where(rng.random(rows) < 0.7, 0, ends(rng, 0, 15, rows)).astype(np.int8),
                tuple(gate_function(rng, arguments[role], values[role]) for role in roles),
                QuantInitialState(ends(rng, -32767, 32767, H).astype(np.int32)),
                QuantInitialState(ends(rng, -CELL_MAX, CELL_MAX, H).astype(np.int32)) if lstm else None,
                norms=norms,
            )
        )
    layer = QuantRecurrent(
        "rnn", cell, "x", "y", "h_n", "c_n" if lstm else None, tuple(directions), after,
        number(rng, 0, min(15, own)), c_frac, x_op, h_op,
    )  # fmt: skip
    return alone(layer)
