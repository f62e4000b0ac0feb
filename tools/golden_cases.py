"""What the golden vectors are made of: the drawn inputs of every kind of case, and layers read back from a case's entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.model.float_model import GATES, Activation, CellKind, FloatArray
from qrnn.model.parts import GateFunction, Operand, QuantInitialState, QuantMatrix
from qrnn.model.quant_model import (
    ROLES,
    QuantDirection,
    QuantRecurrent,
)
from qrnn.quantization.gate_tables import exp_table, gate_function
from qrnn.quantization.matrix import bounded_rows, quantize_matrix

_GATE_FUNCTIONS: tuple[tuple[Activation, str], ...] = (
    (Activation("sigmoid"), "pwl:128"),
    (Activation("tanh"), "pwl:128"),
    (Activation("sigmoid"), "pwl:8"),
    (Activation("tanh"), "pwl:8"),
    (Activation("sigmoid"), "pwl:1024"),
    (Activation("tanh"), "pwl:1024"),
    (Activation("hard_sigmoid", 0.2, 0.5), ""),
    (Activation("hard_sigmoid", 1 / 6, 0.5), ""),
    (Activation("hard_sigmoid", -3.7, -1.25), ""),
    (Activation("hard_sigmoid", 0.001, 0.5), ""),
)
_RELU_FRACS = (15, 9, 0)


def gate_functions() -> dict[str, GateFunction]:
    """The gate functions of the file, by name."""
    found = [gate_function(a, text or "pwl:128") for a, text in _GATE_FUNCTIONS]
    functions = {f.name: f for f in found}
    for frac in _RELU_FRACS:
        functions[f"relu frac {frac}"] = gate_function(Activation("relu"), relu_frac=frac)
    return functions


# --- primitives -----------------------------------------------------------------------------------------------------------------


def edge_values(bits: int) -> list[int]:
    """Zero and the neighbours of every power of two and its negative that fit a signed integer of ``bits`` bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    near = {sign * (1 << k) + d for k in range(bits) for d in (-1, 0, 1) for sign in (-1, 1)} | {0}
    return sorted(v for v in near if low <= v <= high)


def _sample(rng: np.random.Generator, values: Sequence[int], count: int) -> list[int]:
    return [int(v) for v in rng.choice(np.asarray(values, np.int64), min(count, len(values)), replace=False)]


def _requantize_cases(rng: np.random.Generator) -> Iterator[list[int]]:
    multipliers = [0, 2, 1 << 30, (1 << 30) - 2, (1 << 30) + 2, (1 << 31) - 2]
    for acc in _sample(rng, edge_values(32), 60):
        for left_shift in (0, 1, int(rng.integers(2, 31))):
            if abs(acc) << left_shift < 1 << 31:
                for multiplier in (*_sample(rng, multipliers, 2), 2 * int(rng.integers(1 << 30))):
                    yield [acc, multiplier, left_shift]
    for multiplier in multipliers:
        for acc in (-(1 << 31) + 1, (1 << 31) - 1, 1, -1):
            yield [acc, multiplier, 0]


def primitive_cases(rng: np.random.Generator) -> dict[str, tuple[Any, list[str], list[list[int]]]]:
    """Name → function, argument names, argument lists."""
    edges16, edges32 = edge_values(16), edge_values(32)
    q15 = (0, 1, 16384, 32767, 32768, -1, -32768)
    exp = exp_table().tolist()
    lstm = [
        [i, f, g, c, c_frac]
        for i, f, g in (
            (32768, 32768, 32767),
            (32768, 32768, -32767),
            (1, 32767, -1),
            (20000, 31000, -12345),
            (0, 0, 9),
        )
        for c in (2147483647, -2147483648, 12345678, -1, 0)
        for c_frac in (12, 20, 23)
    ]
    gru = [
        [z, n, h, h_frac]
        for z in (0, 1, 16384, 32767, 32768)
        for n, h in ((32767, -32767), (-32767, -32767), (32767, 32767), (12345, -321), (-1, 0))
        for h_frac in (15, 10)
    ]
    return {
        "requantize": (
            fixedpoint.requantize,
            ["acc", "multiplier", "left_shift"],
            list(_requantize_cases(rng)),
        ),
        "shift_right_round": (
            fixedpoint.shift_right_round,
            ["x", "shift"],
            [[x, s] for s in (0, 1, 2, 7, 15, 16, 31) for x in _sample(rng, edges32, 24)],
        ),
        "saturate16_shifted": (
            fixedpoint.saturate16_shifted,
            ["x", "left_shift"],
            [[x, s] for s in (0, 1, 4, 15) for x in _sample(rng, edges32, 24)],
        ),
        "multiply_q15": (
            fixedpoint.multiply_q15,
            ["x", "q15"],
            [[x, q] for q in q15 for x in _sample(rng, edges32, 16)],
        ),
        "align16": (
            fixedpoint.align16,
            ["x", "from_frac", "to_frac"],
            [[x, *f] for f in ((15, 15), (0, 15), (15, 0), (9, 12), (12, 9)) for x in _sample(rng, edges16, 14)],
        ),
        "to_operand": (
            fixedpoint.to_operand,
            ["x", "shift", "limit"],
            [[x, *f] for f in ((8, 127), (0, 127), (3, 127), (0, 32767), (1, 8191)) for x in _sample(rng, edges16, 14)],
        ),
        "exp_weight": (
            lambda d, frac: gates.exp_weight(d, frac, exp),
            ["d", "frac"],
            [[d, frac] for frac in (0, 5, 11, 12, 15) for d in (0, 1, 2, 255, 256, 257, 4095, 32767, 32768, 65535)],
        ),
        "softmax_divide": (
            gates.softmax_divide,
            ["weight", "total"],
            [[w, t] for t in (32768, 32769, 65536, 99999, 2147483647) for w in (0, 1, 2, 3, 16384, 32767, 32768)],
        ),
        "lstm_cell_state": (cells.lstm_cell_state, ["i", "f", "g", "c", "c_frac"], lstm),
        "lstm_output_argument": (
            cells.lstm_output_argument,
            ["c", "c_frac", "in_frac"],
            [[c, f, 12] for f in (12, 20, 23) for c in _sample(rng, edges32, 16)],
        ),
        "lstm_hidden_state": (
            cells.lstm_hidden_state,
            ["o", "activated_c", "h_frac"],
            [[o, a, f] for o in (0, 1, 16384, 32768) for a in (-32767, -1, 0, 1, 12345, 32767) for f in (15, 14)],
        ),
        "gru_hidden_state": (cells.gru_hidden_state, ["z", "n", "h", "h_frac"], gru),
        "candidate_after_reset": (
            cells.candidate_after_reset,
            ["x_part", "h_part", "r", "pre_shift"],
            [[x, h, r, s] for x in (0, 9999, -(1 << 29)) for h in (1, -77777, 1 << 29) for r in (0, 1, 32768) for s in (0, 3)],
        ),
        "reset_operand": (
            cells.reset_operand,
            ["r", "h", "shift", "limit"],
            [[r, h, *f] for r in (0, 1, 20000, 32768) for h in (-32767, -128, 127, 32767) for f in ((8, 127), (2, 127), (0, 32767))],
        ),
    }  # fmt: skip


def gate_function_entries(functions: Mapping[str, GateFunction]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rng = np.random.default_rng(2)
    for name, function in functions.items():
        samples = [-32768, -32767, -1, 0, 1, 32767, *sorted(_sample(rng, range(-32766, 32767), 40))]
        odd = function.params[gates.KIND] == gates.ODD
        names = ["offset", "segment_bits"] if odd else ["slope", "intercept", "shift", "low", "high"]
        values = function.params.tolist()
        found[name] = {
            "kind": values[0],
            "in_frac": values[1],
            "out_frac": values[2],
            **dict(zip(names, values[3:], strict=False)),
            "table": function.table.tolist(),
            "samples": [[x, 0] for x in samples],
            "all_inputs_sha256": "",
        }
    return found


def read_gate_function(name: str, entry: Mapping[str, Any]) -> GateFunction:
    """A gate function from its entry in the file."""
    params = np.zeros(gates.PARAMS, np.int64)
    params[:3] = entry["kind"], entry["in_frac"], entry["out_frac"]
    if entry["kind"] == gates.ODD:
        params[[gates.OFFSET, gates.SEGMENT_BITS]] = entry["offset"], entry["segment_bits"]
    else:
        params[gates.SLOPE :] = [entry[k] for k in ("slope", "intercept", "shift", "low", "high")]
    return GateFunction(name, params, np.asarray(entry["table"], np.int32))


# --- layers ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """A recurrent case: how its integers are drawn. Weights and biases are real here, and integers in the file."""

    name: str
    cell: CellKind
    linear_before_reset: bool = False
    gate: str = "sigmoid pwl:128"
    candidate: str = "tanh pwl:128"
    reverse: tuple[bool, ...] = (False,)
    h_frac: int = 15
    c_frac: int = 23
    x_frac: int = 5
    x_operand: tuple[int, int] = (0, 127)
    h_operand: tuple[int, int] = (8, 127)
    weight: float = 0.4
    bias: float = 0.5
    decades: float = 0.0
    """Rows shrink by up to so many powers of ten, so that shifts and multipliers of all sizes occur."""
    extreme: bool = False
    lengths: tuple[int, ...] = (6, 1, 4)
    inputs: int = 5
    hidden: int = 7


def wide(spec: Spec) -> Spec:
    """The case with 16-bit operands."""
    return replace(spec, x_frac=13, x_operand=(0, 32767), h_operand=(0, 32767))


SPECS: tuple[Spec, ...] = (
    Spec("lstm", "lstm"),
    Spec("lstm, bidirectional, segments 1024", "lstm", gate="sigmoid pwl:1024", candidate="tanh pwl:1024", reverse=(False, True)),
    wide(Spec("lstm, 16-bit operands", "lstm")),
    Spec("lstm, hard sigmoid", "lstm", gate="hard_sigmoid(0.2, 0.5)"),
    Spec("lstm, hard sigmoid 1/6, reverse", "lstm", gate="hard_sigmoid(0.166667, 0.5)", reverse=(True,)),
    Spec("lstm, every saturation", "lstm", weight=30.0, bias=60.0, x_operand=(2, 127), h_operand=(3, 127), extreme=True),
    Spec("lstm, coarse cell", "lstm", c_frac=12, weight=1.5, extreme=True),
    Spec("lstm, rows with pre_shift", "lstm", weight=1e5, bias=1e5, decades=6.0),
    Spec("gru, linear_before_reset 1", "gru", True),
    Spec("gru, linear_before_reset 0", "gru", False),
    Spec("gru, linear_before_reset 1, bidirectional", "gru", True, reverse=(False, True)),
    Spec("gru, linear_before_reset 0, segments 8, reverse", "gru", False, gate="sigmoid pwl:8", candidate="tanh pwl:8", reverse=(True,)),
    wide(Spec("gru, linear_before_reset 1, 16-bit operands", "gru", True)),
    wide(Spec("gru, linear_before_reset 0, 16-bit operands", "gru", False)),
    Spec("gru, linear_before_reset 1, extreme, pre_shift", "gru", True, weight=1e5, bias=1e4, decades=6.0, h_operand=(2, 127), extreme=True),
    Spec("gru, linear_before_reset 0, extreme, h_frac 12", "gru", weight=100.0, decades=4.0, h_frac=12, h_operand=(5, 127), extreme=True),
    Spec("rnn, tanh", "rnn"),
    Spec("rnn, tanh, extreme", "rnn", weight=1e5, bias=1e5, decades=7.0, h_operand=(4, 127), extreme=True),
    Spec("rnn, relu", "rnn", candidate="relu frac 9", h_frac=9, h_operand=(5, 127), extreme=True),
    wide(Spec("rnn, relu, bidirectional, 16-bit operands", "rnn", candidate="relu frac 9", h_frac=9, reverse=(False, True))),
    Spec("rnn, one unit, one input", "rnn", inputs=1, hidden=1, lengths=(9,)),
)  # fmt: skip


def _matrix_entry(matrix: QuantMatrix, suffix: str) -> dict[str, Any]:
    return {
        f"weight_{suffix}": matrix.weight.tolist(),
        f"bias_{suffix}": matrix.bias.tolist(),
        f"multiplier_{suffix}": matrix.multiplier.tolist(),
        f"left_shift_{suffix}": matrix.left_shift.tolist(),
    }


def read_matrix(entry: Mapping[str, Any], suffix: str, limit: int) -> QuantMatrix:
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
    """The entry of a recurrent case without its results."""
    G, H, I, N, D = len(GATES[spec.cell]), spec.hidden, spec.inputs, len(spec.lengths), len(spec.reverse)
    T = max(spec.lengths)
    names = [spec.candidate if gate in "gnh" else spec.gate for gate in GATES[spec.cell]]
    names += [spec.candidate] if spec.cell == "lstm" else []
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
        w_hh, b_hh = rows(H, 2.0 ** (h_op.shift - spec.h_frac))
        if spec.cell == "lstm" and spec.extreme:
            b_hh[: 2 * H] = 2 * spec.bias + 20.0  # i and f stay at 1, so that the cell saturates
        pre_shift = np.maximum(
            bounded_rows(spec.name, w_ih, b_ih, fracs, x_op.limit),
            bounded_rows(spec.name, w_hh, b_hh, fracs, h_op.limit),
        )
        directions.append(
            {
                "reverse": reverse,
                "gates": names,
                "pre_shift": pre_shift.tolist(),
                **_matrix_entry(quantize_matrix(w_ih, b_ih, fracs, pre_shift, x_op.limit), "ih"),
                **_matrix_entry(quantize_matrix(w_hh, b_hh, fracs, pre_shift, h_op.limit), "hh"),
            }
        )
    c_limit = (1 << 31) - 1 if spec.extreme else 1 << (spec.c_frac + 1)
    return {
        "name": spec.name,
        "cell": spec.cell,
        "linear_before_reset": spec.linear_before_reset,
        "h_frac": spec.h_frac,
        "c_frac": spec.c_frac,
        "x_operand": {"shift": x_op.shift, "limit": x_op.limit},
        "h_operand": {"shift": h_op.shift, "limit": h_op.limit},
        "directions": directions,
        "lengths": list(spec.lengths),
        "x": _integers(rng, 32767 if x_op.shift else x_op.limit, (N, T, I), spec.extreme).tolist(),
        "h_0": _integers(rng, 32767, (N, D, H), spec.extreme).tolist(),
        "c_0": _integers(rng, c_limit, (N, D, H if spec.cell == "lstm" else 0), spec.extreme).tolist(),
    }


def read_recurrent(case: Mapping[str, Any], functions: Mapping[str, GateFunction]) -> QuantRecurrent:
    """The layer ``rnn`` of a recurrent case: reads x, writes y, h_n and c_n."""
    x_op, h_op = Operand(**case["x_operand"]), Operand(**case["h_operand"])
    cell = cast(CellKind, case["cell"])
    directions = []
    for entry in case["directions"]:
        hidden = len(entry["weight_hh"][0])
        zero = QuantInitialState(np.zeros(hidden, np.int32))
        directions.append(
            QuantDirection(
                entry["reverse"],
                read_matrix(entry, "ih", x_op.limit),
                read_matrix(entry, "hh", h_op.limit),
                np.asarray(entry["pre_shift"], np.int8),
                tuple(functions[name] for name in entry["gates"]),
                zero,
                zero if cell == "lstm" else None,
            )
        )
        assert len(entry["gates"]) == len(ROLES[cell])
    return QuantRecurrent(
        "rnn", cell, "x", "y", "h_n", "c_n" if cell == "lstm" else None, tuple(directions),
        case["linear_before_reset"], case["h_frac"], case["c_frac"], x_op, h_op,
    )  # fmt: skip


def dense_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
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
    kinds = (
        ("sigmoid pwl:128", 11, 14), ("sigmoid pwl:128", 3, 14), ("tanh pwl:128", 12, 15), ("tanh pwl:128", 15, 15),
        ("hard_sigmoid(0.2, 0.5)", 11, 14), ("relu frac 9", 9, 9),
    )  # fmt: skip
    return [
        {"function": f, "in_frac": i, "out_frac": o, "x": [[*_sample(rng, edge_values(16), 24)]]} for f, i, o in kinds
    ]


def softmax_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = [
        rng.integers(-20000, 20000, (4, 8)),
        np.array([[-32768, 32767, 0]]),
        np.array([[5, 5, 5]]),
        np.array([[-30000, -28000, -27000]]),
    ]
    return [{"in_frac": frac, "x": x.tolist()} for frac in (0, 9, 11, 15) for x in rows]


def align_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {"from_frac": a, "to_frac": b, "x": [_sample(rng, edge_values(16), 16)]} for a, b in ((15, 12), (9, 14), (7, 7))
    ]


def boundary_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    found = []
    for scale, limit in ((0.0078125, 127), (0.1, 127), (3.0517578125e-05, 32767), (1 / 3, 16383)):
        x = np.concatenate(
            [np.array([-0.5, 0.5, 1.5, -1.5, 0.0, 1e9, -1e9]) * scale, rng.normal(size=9) * scale * limit]
        )
        found.append({"scale": scale, "limit": limit, "x": x.tolist()})
    return found
