"""Make the golden vectors of layers: draw the inputs of every kind of case, and read layers back from a case's entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from golden_primitives import edge_values, sample
from golden_specs import Projected, Spec

from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.definition import CellKind, gate_blocks
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantPeephole, QuantProjection
from qrnn.model.parts import FloatArray, GateFunction, Operand, QuantInitialState, QuantMatrix
from qrnn.quantization.matrix import bounded_rows, quantize_matrix

# --- recurrent layers -----------------------------------------------------------------------------------------------------------


def _matrix_entry(matrix: QuantMatrix, suffix: str) -> dict[str, Any]:
    return {
        f"weight_{suffix}": matrix.weight.tolist(),
        f"bias_{suffix}": matrix.bias.tolist(),
        f"multiplier_{suffix}": matrix.multiplier.tolist(),
        f"left_shift_{suffix}": matrix.left_shift.tolist(),
    }


def read_matrix(entry: Mapping[str, Any], suffix: str, limit: int) -> QuantMatrix:
    """Read a matrix from a case's entry."""
    return QuantMatrix(
        np.asarray(entry[f"weight_{suffix}"], np.int8),
        np.asarray(entry[f"bias_{suffix}"], np.int32),
        np.asarray(entry[f"multiplier_{suffix}"], np.int32),
        np.asarray(entry[f"left_shift_{suffix}"], np.int8),
        limit,
    )


def _integers(rng: np.random.Generator, limit: int, shape: tuple[int, ...], extreme: bool) -> Any:
    drawn = rng.integers(-limit, limit + 1, shape)
    if extreme:
        drawn = np.where(rng.random(shape) < 0.5, np.where(drawn < 0, -limit, limit), drawn)
    return drawn


def make_recurrent(spec: Spec, functions: Mapping[str, GateFunction], rng: np.random.Generator) -> dict[str, Any]:
    """Return the entry of a recurrent case without its results."""
    names = spec.functions
    G, H, I, N, D = (
        len(gate_blocks(spec.cell, spec.forget)),
        spec.hidden,
        spec.inputs,
        len(spec.lengths),
        len(spec.reverse),
    )
    T, P = max(spec.lengths), spec.projection.size if spec.projection is not None else H
    fracs = np.repeat([functions[name].in_frac for name in names[:G]], H).astype(np.int64)
    x_op, h_op = Operand(*spec.x_operand), Operand(*spec.h_operand)

    def rows(columns: int, unit: float) -> tuple[FloatArray, FloatArray]:
        size = 10.0 ** -rng.uniform(0.0, spec.decades, G * H)
        return rng.normal(size=(G * H, columns)) * spec.weight * unit * size[:, None], rng.normal(
            size=G * H
        ) * spec.bias * size

    directions = []
    for reverse in spec.reverse:
        w_ih, b_ih = rows(I, 2.0 ** (x_op.shift - spec.x_frac))
        w_hh, b_hh = rows(P, 2.0 ** (h_op.shift - spec.h_frac))
        if spec.cell == "lstm" and spec.extreme:
            b_hh[: 2 * H] = 2 * spec.bias + 20.0  # i and f stay at 1, so that the cell saturates
        pre_shift = np.maximum(
            bounded_rows(spec.name, w_ih, b_ih, fracs, x_op.limit),
            bounded_rows(spec.name, w_hh, b_hh, fracs, h_op.limit),
        )
        entry = {
            "reverse": reverse,
            "gates": list(names),
            "pre_shift": pre_shift.tolist(),
            **_matrix_entry(quantize_matrix(w_ih, b_ih, fracs, pre_shift, x_op.limit), "ih"),
            **_matrix_entry(quantize_matrix(w_hh, b_hh, fracs, pre_shift, h_op.limit), "hh"),
        }
        if spec.peephole is not None:
            weight = np.minimum(_integers(rng, 32768, (G * H,), spec.extreme), 32767)
            shift = rng.integers(spec.peephole[0], spec.peephole[1] + 1, G * H)
            entry["peephole"] = {"weight": weight.tolist(), "shift": shift.tolist()}
        if spec.projection is not None:
            entry["projection"] = _projection_entry(spec, spec.projection, rng)
        directions.append(entry)
    c_limit = int(((1 << 31) - 1 if spec.extreme else 1 << (spec.c_frac + 1)) * spec.states)
    return {
        "name": spec.name,
        "cell": spec.cell,
        **({"forget": spec.forget} if spec.forget != "gate" else {}),
        "linear_before_reset": spec.linear_before_reset,
        "h_frac": spec.h_frac,
        "c_frac": spec.c_frac,
        "x_operand": {"shift": x_op.shift, "limit": x_op.limit},
        "h_operand": {"shift": h_op.shift, "limit": h_op.limit},
        "directions": directions,
        "lengths": list(spec.lengths),
        "x": _integers(rng, 32767 if x_op.shift else x_op.limit, (N, T, I), spec.extreme).tolist(),
        "h_0": _integers(rng, int(32767 * spec.states), (N, D, P), spec.extreme).tolist(),
        "c_0": _integers(rng, c_limit, (N, D, H if spec.cell == "lstm" else 0), spec.extreme).tolist(),
    }


def _projection_entry(spec: Spec, p: Projected, rng: np.random.Generator) -> dict[str, Any]:
    operand = Operand(*p.operand)
    size = 10.0 ** -rng.uniform(0.0, spec.decades, p.size) * spec.weight
    weight = rng.normal(size=(p.size, spec.hidden)) * size[:, None] * 2.0 ** (operand.shift - p.hidden_frac)
    bias, fracs = rng.normal(size=p.size) * spec.bias, np.full(p.size, p.in_frac, np.int64)
    pre_shift = bounded_rows(spec.name, weight, bias, fracs, operand.limit)
    return {
        "hidden_frac": p.hidden_frac,
        "operand": {"shift": operand.shift, "limit": operand.limit},
        "in_frac": p.in_frac,
        "function": p.function,
        "pre_shift": pre_shift.tolist(),
        **_matrix_entry(quantize_matrix(weight, bias, fracs, pre_shift, operand.limit), "p"),
    }


def read_recurrent(
    case: Mapping[str, Any], functions: Mapping[str, GateFunction], exp_table: list[int]
) -> QuantRecurrent:
    """Return the layer ``rnn`` of a recurrent case, which reads x and writes y, h_n and c_n."""
    x_op, h_op = Operand(**case["x_operand"]), Operand(**case["h_operand"])
    cell = cast(CellKind, case["cell"])
    hidden = len(case["directions"][0]["pre_shift"]) // len(gate_blocks(cell, case.get("forget", "gate")))
    directions = []
    for entry in case["directions"]:
        peephole, projection = entry.get("peephole"), entry.get("projection")
        directions.append(
            QuantDirection(
                entry["reverse"],
                read_matrix(entry, "ih", x_op.limit),
                read_matrix(entry, "hh", h_op.limit),
                np.asarray(entry["pre_shift"], np.int8),
                tuple(functions[name] for name in entry["gates"]),
                QuantInitialState(np.zeros(len(entry["weight_hh"][0]), np.int32)),
                QuantInitialState(np.zeros(hidden, np.int32)) if cell == "lstm" else None,
                None if peephole is None else _read_peephole(peephole),
                None if projection is None else _read_projection(projection, functions, exp_table),
            )
        )
    return QuantRecurrent(
        "rnn", cell, "x", "y", "h_n", "c_n" if cell == "lstm" else None, tuple(directions),
        case["linear_before_reset"], case["h_frac"], case["c_frac"], x_op, h_op, case.get("forget", "gate"),
    )  # fmt: skip


def _read_peephole(entry: Mapping[str, Any]) -> QuantPeephole:
    return QuantPeephole(np.asarray(entry["weight"], np.int16), np.asarray(entry["shift"], np.int8))


def _read_projection(
    entry: Mapping[str, Any], functions: Mapping[str, GateFunction], exp_table: list[int]
) -> QuantProjection:
    operand = Operand(**entry["operand"])
    return QuantProjection(
        read_matrix(entry, "p", operand.limit),
        np.asarray(entry["pre_shift"], np.int8),
        operand,
        entry["hidden_frac"],
        entry["in_frac"],
        functions.get(entry["function"]),
        np.asarray(exp_table, np.int32) if entry["function"] == "softmax" else None,
    )


# --- other layers ---------------------------------------------------------------------------------------------------------------


def dense_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the cases of dense layers."""
    found = []
    for name, weight, (shift, limit), x_limit in (
        ("int8 operands", 0.02, (0, 127), 127),
        ("int8 operands of an int16 tensor", 0.02, (8, 127), 32767),
        ("16-bit operands", 0.001, (0, 32767), 32767),
        ("rows with pre_shift, saturated", 3e4, (7, 127), 32767),
    ):
        size = 10.0 ** -rng.uniform(0.0, 4.0 if weight > 1.0 else 0.0, 6) * weight
        w, b, fracs = rng.normal(size=(6, 9)) * size[:, None], rng.normal(size=6) * size * 9, np.full(6, 9, np.int64)
        pre_shift = bounded_rows(name, w, b, fracs, limit)
        found.append(
            {
                "name": name,
                "operand": {"shift": shift, "limit": limit},
                "out_frac": 9,
                "pre_shift": pre_shift.tolist(),
                **_matrix_entry(quantize_matrix(w, b, fracs, pre_shift, limit), "w"),
                "x": _integers(rng, x_limit, (5, 9), True).tolist(),
            }
        )
    return found


def pointwise_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the cases of pointwise layers."""
    kinds = (
        ("sigmoid pwl:128", 11, 14), ("sigmoid pwl:128", 3, 14), ("tanh pwl:128", 12, 15), ("tanh pwl:128", 15, 15),
        ("hard_sigmoid(0.2, 0.5)", 11, 14), ("relu frac 9", 9, 9), ("step", 9, 14), ("elu(1.5) frac 11 pwl:8", 8, 11),
        ("leaky_relu(0.1) frac 10", 12, 3),
    )  # fmt: skip
    return [
        {"function": f, "in_frac": i, "out_frac": o, "x": [[*sample(rng, edge_values(16), 24)]]} for f, i, o in kinds
    ]


def softmax_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the cases of softmax layers."""
    rows = [
        rng.integers(-20000, 20000, (4, 8)),
        np.array([[-32768, 32767, 0]]),
        np.array([[5, 5, 5]]),
        np.array([[-30000, -28000, -27000]]),
    ]
    return [{"in_frac": frac, "x": x.tolist()} for frac in (0, 9, 11, 15) for x in rows]


def align_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the cases of changes of format."""
    return [
        {"from_frac": a, "to_frac": b, "x": [sample(rng, edge_values(16), 16)]} for a, b in ((15, 12), (9, 14), (7, 7))
    ]


def add_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the cases of sums of two tensors."""
    return [
        {
            "left_frac": left,
            "right_frac": right,
            "out_frac": out,
            "x": [sample(rng, edge_values(16), 16)],
            "right": [sample(rng, edge_values(16), 16)],
        }
        for left, right, out in ((15, 15, 15), (15, 0, 15), (0, 15, 0), (9, 12, 10), (12, 9, 8), (5, 5, 0))
    ]


def read_add(case: Mapping[str, Any]) -> QuantAdd:
    """Return the layer ``add`` of an add case, which reads x and right and writes y."""
    return QuantAdd("add", "x", "right", "y", case["left_frac"], case["right_frac"], case["out_frac"])


def boundary_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the cases of quantize and dequantize."""
    found = []
    for scale, limit in ((0.0078125, 127), (0.1, 127), (3.0517578125e-05, 32767), (1 / 3, 16383)):
        x = np.concatenate(
            [np.array([-0.5, 0.5, 1.5, -1.5, 0.0, 1e9, -1e9]) * scale, rng.normal(size=9) * scale * limit]
        )
        found.append({"scale": scale, "limit": limit, "x": x.tolist()})
    return found
