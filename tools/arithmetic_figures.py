"""Print every figure that docs/arithmetic.md quotes, measured here and now.

    python tools/arithmetic_figures.py                  all of them
    python tools/arithmetic_figures.py gates cells      some: gates, minimax, ramps, softmax, cells, operands, rows, biases, sizes, nibbles

All inputs come from fixed seeds. ``minimax`` needs SciPy; without it the section says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.accuracy.gate_errors import measure
from qrnn.accuracy.metrics import sqnr_db
from qrnn.arithmetic import CONTRACT_VERSION, cells, gates
from qrnn.arithmetic.reals import round_half_up
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.activation import Activation
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput, TensorInfo
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import GATES, CellKind, Direction, InitialState
from qrnn.model.parts import FloatArray, Operand, pack_gates
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.build import Builder
from qrnn.quantization.calibrate import calibrate
from qrnn.quantization.gate_choice import GateChoice
from qrnn.quantization.gate_fit import fit_knots
from qrnn.quantization.gate_tables import SIGMOID_FRAC, TANH_FRAC, exp_table, gate_function, needs_input_range
from qrnn.quantization.matrix import bounded_rows, row_scales
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

SEGMENTS = (8, 16, 32, 64, 128, 256, 512, 1024)
INPUTS = np.arange(-32768, 32768)
IntArray = npt.NDArray[np.int64]


def evaluate_all(activation: Activation, segments: int = 128) -> tuple[IntArray, int]:
    """Return the gate function at every int16 input, and its input's fraction bits."""
    function = gate_function(activation, GateChoice(segments=segments))
    params, tables = pack_gates((function,))
    return np.array([gates.evaluate(int(x), params, tables, 0) for x in INPUTS], np.int64), function.in_frac


def real_function(kind: str) -> Callable[[FloatArray], FloatArray]:
    """Return the odd part that is fitted."""
    return (lambda x: 0.5 * np.tanh(0.5 * x)) if kind == "sigmoid" else np.tanh


def gate_errors() -> None:
    """Print the largest error of each table over all 65536 inputs."""
    print("largest error over all int16 inputs, in units of 2^-15 and real (sigmoid input Q4.11, tanh input Q3.12)")
    print("segments  sigmoid          tanh")
    for segments in SEGMENTS:
        row = f"{segments:8}"
        for kind in ("sigmoid", "tanh"):
            y, in_frac = evaluate_all(Activation(kind), segments)
            x = INPUTS / 2.0**in_frac
            real = 0.5 + 0.5 * np.tanh(0.5 * x) if kind == "sigmoid" else np.tanh(x)
            error = float(np.abs(y - 2.0**15 * real).max())
            row += f"  {error:7.2f} {error / 2**15:.1e}"
        print(row)
    print("others under pwl:128 | input | output | table entries | largest error, output LSB | real")
    sigmoid, tanh = Activation("sigmoid"), Activation("tanh")
    for activation, choice in (
        (sigmoid, GateChoice("hard")),
        (tanh, GateChoice("hard")),
        (sigmoid, GateChoice("step")),
    ):
        print_error(f"{activation} as {choice}", activation, choice, 11)
    for activation, in_frac in OTHERS:
        print_error(str(activation), activation, GateChoice(), in_frac)


OTHERS = (
    (Activation("scaled_tanh", 1.0, 0.5), 11),
    (Activation("scaled_tanh", 1.7159, 2 / 3), 11),
    (Activation("softsign"), 11),
    (Activation("softsign"), 6),
    (Activation("elu", 1.0), 12),
    (Activation("elu", 1.0), 11),
    (Activation("softplus"), 11),
    (Activation("swish", 1.0), 11),
    (Activation("hard_swish"), 11),
    (Activation("gelu"), 11),
    (Activation("gelu_tanh"), 11),
    (Activation("mish"), 11),
    (Activation("leaky_relu", 0.01), 11),
    (Activation("affine", 0.3, 0.1), 11),
    (Activation("thresholded_relu", 1.0), 11),
)
"""Functions besides sigmoid and tanh, and the fraction bits of the input for those that take them from calibration."""


def print_error(label: str, activation: Activation, choice: GateChoice, in_frac: int) -> None:
    """Print one line: formats, entries and the largest error against ``activation``."""
    function = gate_function(activation, choice, in_frac=in_frac if needs_input_range(activation) else None)
    d = measure(label, activation, function).to_dict()
    formats = " | ".join(f"Q{15 - d[name]}.{d[name]}" for name in ("in_frac", "out_frac"))
    print(f"  {label} | {formats} | {d['table_entries']} | {d['max_error_lsb']:.2f} | {d['max_error']:.1e}")


def best_error(kind: str, segments: int, fine: int = 64) -> tuple[float, float]:
    """Return the errors of the closed form and of the linear program, in units of 2^-15, on a grid of ``fine`` points per segment."""
    from scipy import optimize, sparse  # type: ignore[import-untyped,unused-ignore]

    width = 2.0 ** (15 - (SIGMOID_FRAC if kind == "sigmoid" else TANH_FRAC)) / segments
    x = np.linspace(0.0, width * segments, fine * segments + 1)
    f = real_function(kind)(x)
    fitted = np.interp(x, width * np.arange(segments + 1), fit_knots(real_function(kind), width, segments))
    k = np.minimum(np.arange(x.size) // fine, segments - 1)
    s = x / width - k
    hat = sparse.csr_matrix(
        (np.concatenate([1 - s, s]), (np.tile(np.arange(x.size), 2), np.concatenate([k, k + 1]))),
        (x.size, segments + 1),
    )
    one = np.ones((x.size, 1))
    constraints = sparse.vstack([sparse.hstack([hat, -one]), sparse.hstack([-hat, -one])]).tocsr()
    bounds = [(0.0, 0.0)] + [(None, None)] * segments + [(0.0, None)]
    cost = np.r_[np.zeros(segments + 1), 1.0]
    found = optimize.linprog(cost, constraints, np.concatenate([f, -f]), bounds=bounds, method="highs")
    return float(np.abs(fitted - f).max()) * 2**15, float(found.fun) * 2**15


def minimax() -> None:
    """Print the closed-form fit beside a linear program."""
    try:
        import scipy  # type: ignore[import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        print("minimax: SciPy is not installed")
        return
    print("fit before rounding to integers, largest error in units of 2^-15: closed form, linear program")
    for segments in (8, 16, 32, 64, 128):
        row = f"{segments:8}"
        for kind in ("sigmoid", "tanh"):
            own, best = best_error(kind, segments)
            row += f"  {kind} {own:9.3f} {best:9.3f}"
        print(row)


def ramps() -> None:
    """Print the largest error of ramps."""
    print("hard sigmoid, largest error over all int16 inputs in units of 2^-15")
    for alpha, beta in ((0.2, 0.5), (1 / 6, 0.5), (0.25, 0.5), (0.001, 0.5), (700.0, 0.5), (-5.0, -1.25)):
        y, in_frac = evaluate_all(Activation("hard_sigmoid", alpha, beta))
        real = np.clip(alpha * INPUTS / 2.0**in_frac + beta, 0.0, 1.0)
        print(f"  alpha {alpha:8.4f} beta {beta:5.2f}: {np.abs(y - 2.0**15 * real).max():.2f}")


def softmax() -> None:
    """Print the errors of the exp table and of the integer softmax."""
    table = exp_table().tolist()
    d = np.arange(32768)
    weights = np.array([gates.exp_weight(int(v), gates.EXP_FRAC, table) for v in d])
    print(f"exp table: largest error {np.abs(weights - 2.0**15 * np.exp(-d / 2.0**11)).max():.1f} units of 2^-15")
    rng, worst = np.random.default_rng(0), 0.0
    for features in (2, 10, 100):
        for _ in range(200):
            x = np.clip(np.floor(rng.normal(size=features) * 2.0**11 * 2.0), -32768, 32767)
            w = [gates.exp_weight(int(x.max() - v), gates.EXP_FRAC, table) for v in x]
            p = np.array([gates.softmax_divide(v, sum(w)) for v in w]) / 2.0**14
            e = np.exp((x - x.max()) / 2.0**gates.EXP_FRAC)
            worst = max(worst, float(np.abs(p - e / e.sum()).max()))
    print(f"softmax of 2, 10, 100 normal logits: largest error of a probability {worst:.1e}")


def cell_widths() -> None:
    """Print the state's error after many steps, caused by its width alone: gates are the same integers in every variant."""
    steps, units = 10000, 64
    rng = np.random.default_rng(0)
    print("LSTM cell, f = 0.999, |i·g| up to 0.05, 64 cells: SQNR of c in dB after 100, 1000 and 10000 steps")
    f = round(0.999 * 32768)
    i = round(0.05 * 32768)
    g = rng.integers(-32767, 32768, (steps, units))
    exact = np.zeros(units)
    two, one, wide = (np.zeros(units, np.int64) for _ in range(3))
    histories: dict[str, list[FloatArray]] = {name: [] for name in ("exact", "two", "one", "wide")}
    for t in range(steps):
        exact = exact * f / 2**15 + i * g[t] / 2.0**30
        two = np.clip(((two * f + 16384) >> 15) + ((i * g[t] + (1 << 18)) >> 19), -32768, 32767)
        one = np.clip((one * f * 16 + i * g[t] + (1 << 18)) >> 19, -32768, 32767)
        wide = np.array(
            [cells.lstm_cell_state(i, f, int(v), int(c), 15, 7) for v, c in zip(g[t], wide, strict=True)], np.int64
        )
        for name, value in (("exact", exact), ("two", two / 2.0**11), ("one", one / 2.0**11), ("wide", wide / 2.0**23)):
            histories[name].append(value)
    labels = {
        "two": "int16 Q4.11, two roundings",
        "one": "int16 Q4.11, one rounding",
        "wide": "int32 Q8.23, two roundings (the contract)",
    }
    whole = {name: np.array(values) for name, values in histories.items()}
    for name, label in labels.items():
        values = [sqnr_db(whole["exact"][t - 1], whole[name][t - 1]) for t in (100, 1000, steps)]
        print(f"  {label:42}" + "".join(f"{v:8.1f}" for v in values))
    print("GRU state, n uniform in ±1, 64 units, 10000 steps: SQNR of h in dB for z = 0.9, 0.99, 0.999")
    n = rng.integers(-32767, 32768, (steps, units))
    rows: dict[str, list[float]] = {
        "int8 Q0.7, one rounding": [],
        "int16 Q0.15, two roundings": [],
        "int16 Q0.15, 32767 for 1": [],
    }
    rows["int16 Q0.15, one rounding (the contract)"] = []
    for real_z in (0.9, 0.99, 0.999):
        z = round(real_z * 32768)
        state = {name: np.zeros(units, np.int64) for name in rows}
        real, want = np.zeros(units), []
        got: dict[str, list[FloatArray]] = {name: [] for name in rows}
        for t in range(steps):
            real = (z * real + (32768 - z) * n[t] / 2.0**15) / 2**15
            want.append(real)
            narrow, twice, capped, ours = state.values()
            state = {
                "int8 Q0.7, one rounding": (z * narrow + (((32768 - z) * n[t]) >> 8) + 16384) >> 15,
                "int16 Q0.15, two roundings": ((z * twice + 16384) >> 15) + (((32768 - z) * n[t] + 16384) >> 15),
                "int16 Q0.15, 32767 for 1": (z * capped + (32767 - z) * n[t] + 16384) >> 15,
                "int16 Q0.15, one rounding (the contract)": (z * ours + (32768 - z) * n[t] + 16384) >> 15,
            }
            for name, value in state.items():
                got[name].append(value / 2.0 ** (7 if name.startswith("int8") else 15))
        for name in rows:
            rows[name].append(sqnr_db(np.array(want), np.array(got[name])))
    for name, values in rows.items():
        print(f"  {name:42}" + "".join(f"{v:8.1f}" for v in values))


def one_layer(cell: CellKind, hidden: int, inputs: int, weight: float, bias: float, seed: int) -> FloatModel:
    """Return a random forward layer that reads x and writes y."""
    rng = np.random.default_rng(seed)
    G = len(GATES[cell])
    tanh, sigmoid = Activation("tanh"), Activation("sigmoid")
    zeros = InitialState(np.zeros(hidden))
    direction = Direction(
        False,
        rng.normal(size=(G * hidden, inputs)) * weight,
        rng.normal(size=(G * hidden, hidden)) * weight,
        rng.normal(size=G * hidden) * bias,
        rng.normal(size=G * hidden) * bias,
        {"gate": sigmoid, "candidate": tanh, "output": tanh},
        zeros,
        zeros if cell == "lstm" else None,
    )
    c_n = "c_n" if cell == "lstm" else None
    layer = Recurrent("rnn", cell, "x", "y", "h_n", c_n, (direction,), linear_before_reset=True)
    tensors = {"x": TensorInfo(inputs, True)} | {
        name: TensorInfo(hidden, name == "y") for name in ("y", "h_n", c_n) if name is not None
    }
    every = np.arange(hidden)
    output = GraphOutput("y", (hidden,), True, (("y", every, every),))
    return FloatModel("figure", (GraphInput("x", "features", (inputs,), True),), (layer,), (output,), tensors)


class FixedShift(Builder):
    """A conversion in which the h operand is always the upper byte."""

    def operand(self, name: str, largest: float, row_sum: float, bits: int) -> Operand:
        """Return an operand that takes the upper byte of every fixed-point tensor."""
        operand = super().operand(name, largest, row_sum, bits)
        return Operand(8, 127) if name in self.fracs else operand


def converted(model: FloatModel, data: dict[str, Any], builder: type[Builder]) -> tuple[QuantModel, float]:
    """Return the model with 16-bit inputs, and the SQNR of its output on the calibration data."""
    batch = make_batch(model.inputs, data)
    provenance = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
    built = builder(model, calibrate(model, batch), Scheme(), {"x": "16"}, []).build(provenance)
    want = run_oracle_batch(model, batch).outputs["y"]
    return built, sqnr_db(want, Session(built).run_batch(batch)[0].outputs["y"])


def operands() -> None:
    """Print what the calibrated shift of the h operand gains over the upper byte."""
    print("8-bit operand of h, SQNR of y in dB: upper byte (shift 8), calibrated shift")
    for cell in ("lstm", "gru", "rnn"):
        for amplitude in (0.02, 0.1, 1.0):
            model = one_layer(cell, 32, 8, 0.1 if cell == "rnn" else 0.3, 0.0, seed=1)
            data = {"x": np.random.default_rng(2).normal(size=(16, 64, 8)) * amplitude}
            _, upper = converted(model, data, FixedShift)
            built, own = converted(model, data, Builder)
            shift = built.recurrent_layers[0].h_operand.shift
            print(f"  {cell:4} inputs of {amplitude:4}: {upper:6.1f} {own:6.1f}  (shift {shift})")


def long_rows() -> None:
    """Print how many rows need a pre_shift, by their length and the size of their inputs."""
    print("rows of W of an LSTM with 32 units, weights of 1, 8-bit operands, that need a pre_shift:")
    for columns in (8, 256):
        for largest in (100.0, 670.0, 1e4, 1e5, 1e6):
            model = one_layer("lstm", 32, columns, 1.0, 0.3, seed=1)
            layer = model.layers[0]
            assert isinstance(layer, Recurrent)
            fracs = np.repeat([SIGMOID_FRAC, SIGMOID_FRAC, TANH_FRAC, SIGMOID_FRAC], 32).astype(np.int64)
            weight = layer.directions[0].weight_ih * largest / 127
            shifts = bounded_rows("figure", weight, np.zeros(128), fracs, 127)
            print(
                f"  {columns:3} inputs up to {largest:7g}: {int((shifts > 0).sum()):3} of 128, up to {int(shifts.max())} bits"
            )


def biases() -> None:
    """Print the rounding error of the biases, summed for the finer accumulator or rounded apart."""
    print(
        "largest bias rounding error of an LSTM(8→32), in units of the gate's input: rounded apart, summed for the finer accumulator"
    )
    for largest in (1.0, 30.0, 300.0):
        model = one_layer("lstm", 32, 8, 0.5, 0.5, seed=3)
        layer = model.layers[0]
        assert isinstance(layer, Recurrent)
        d = layer.directions[0]
        scales = [row_scales(w, np.zeros(128)) for w in (d.weight_ih * largest / 127, d.matrix_hh / 127)]

        def error(bias: FloatArray, scale: FloatArray) -> FloatArray:
            rounded: FloatArray = round_half_up(bias / scale) * scale - bias
            return rounded * 2.0**SIGMOID_FRAC

        apart = np.abs(error(d.bias_ih, scales[0]) + error(d.bias_hh, scales[1])).max()
        summed = np.abs(error(d.bias_ih + d.bias_hh, np.minimum(*scales))).max()
        print(f"  inputs up to {largest:5g}: {apart:8.3f} {summed:8.3f}")


def sizes() -> None:
    """Print how long a row may be."""
    print("longest row whose sums fit 31 bits even if every weight is ±127 (no bias, left_shift 0):")
    for limit in (127, 8191, 16383, 32767):
        print(f"  operands within ±{limit}: {((1 << 31) - 1) // (127 * limit)} columns")


def nibbles() -> None:
    """Print the error of four-bit weights by the ranges of q and of the integer scales."""

    def sqnr(group: int, least: int, scales: Sequence[int], largest: int) -> float:
        """The best scale of each group, the row's largest weight standing at ``largest``."""
        rows = weight / np.abs(weight).max(axis=1, keepdims=True) * largest
        blocks = rows.reshape(len(rows), -1, group)
        tried = [np.clip(round_half_up(blocks / s), least, 7) * s - blocks for s in scales]
        error = np.min([(e**2).sum(axis=2) for e in tried], axis=0)
        return float(10 * np.log10((rows**2).sum() / error.sum()))

    signed = [s for s in range(-15, 16) if s]
    print("SQNR of the weights, dB: normal, rows of 512")
    weight = np.random.default_rng(0).normal(size=(256, 512))
    choices: tuple[tuple[str, int, int, Sequence[int], int], ...] = (
        ("q in -7…7, scales 1…18, groups of 32", 32, -7, range(1, 19), 126),
        ("q in -8…7, scales 1…15, groups of 32", 32, -8, range(1, 16), 112),
        ("q in -8…7, scales ±1…±15, groups of 64", 64, -8, signed, 112),
        ("q in -8…7, scales ±1…±15, groups of 32", 32, -8, signed, 112),
        ("q in -8…7, scales ±1…±15, groups of 16", 16, -8, signed, 112),
    )
    for text, group, least, scales, largest in choices:
        print(f"  {text}: {sqnr(group, least, scales, largest):.1f}")


SECTIONS: dict[str, Callable[[], None]] = {
    "gates": gate_errors,
    "minimax": minimax,
    "ramps": ramps,
    "softmax": softmax,
    "cells": cell_widths,
    "operands": operands,
    "rows": long_rows,
    "biases": biases,
    "sizes": sizes,
    "nibbles": nibbles,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the chosen sections and return the exit status."""
    parser = argparse.ArgumentParser(description="Print the figures that docs/arithmetic.md quotes.")
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"any of {', '.join(SECTIONS)}; all when none is given"
    )
    chosen = parser.parse_args(arguments).sections or list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        parser.error(f"section {unknown[0]!r} is unknown; expected any of {', '.join(SECTIONS)}")
    print(f"contract {CONTRACT_VERSION}")
    for name in chosen:
        print(f"\n[{name}]")
        SECTIONS[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
