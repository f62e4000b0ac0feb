"""Make the golden vectors of single functions: arguments of every primitive, and gate functions of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.model.activation import Activation
from qrnn.model.parts import GateFunction
from qrnn.quantization.gate_choice import GateChoice
from qrnn.quantization.gate_tables import complement, exp_table, gate_function

# --- primitives -----------------------------------------------------------------------------------------------------------------


def edge_values(bits: int) -> list[int]:
    """Return zero and the neighbours of every power of two and its negative that fit a signed integer of ``bits`` bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    near = {sign * (1 << k) + d for k in range(bits) for d in (-1, 0, 1) for sign in (-1, 1)} | {0}
    return sorted(v for v in near if low <= v <= high)


def sample(rng: np.random.Generator, values: Sequence[int], count: int) -> list[int]:
    """Return at most ``count`` of the values."""
    return [int(v) for v in rng.choice(np.asarray(values, np.int64), min(count, len(values)), replace=False)]


def _requantize_cases(rng: np.random.Generator) -> Iterator[list[int]]:
    multipliers = [0, 2, 1 << 30, (1 << 30) - 2, (1 << 30) + 2, (1 << 31) - 2]
    for acc in sample(rng, edge_values(32), 60):
        for left_shift in (0, 1, int(rng.integers(2, 31))):
            if abs(acc) << left_shift < 1 << 31:
                for multiplier in (*sample(rng, multipliers, 2), 2 * int(rng.integers(1 << 30))):
                    yield [acc, multiplier, left_shift]
    for multiplier in multipliers:
        for acc in (-(1 << 31) + 1, (1 << 31) - 1, 1, -1):
            yield [acc, multiplier, 0]


_ENDS = (-32768, -1, 0, 1, 20000, 32768)
"""Outputs of gates of any kind."""


class Primitive(NamedTuple):
    """A function of the contract, the names of its arguments, and lists of arguments."""

    function: Any
    arguments: list[str]
    cases: list[list[int]]


def primitive_cases(rng: np.random.Generator) -> dict[str, Primitive]:
    """Return the primitives by name, with arguments that meet every edge."""
    edges16, edges32 = edge_values(16), edge_values(32)
    q15 = (0, 1, 16384, 32767, 32768, -1, -32768)
    c_ends = (-2147483648, -1, 12345678, 2147483647)
    exp = exp_table().tolist()
    lstm = [
        [i, f, g, c, 15, shift]
        for i, f, g in (
            (32768, 32768, 32767),
            (32768, 32768, -32767),
            (1, 32767, -1),
            (20000, 31000, -12345),
            (0, 0, 9),
        )
        for c in (2147483647, -2147483648, 12345678, -1, 0)
        for shift in (18, 10, 7)
    ]
    gru = [
        [z, n, h, 15, shift]
        for z in (0, 1, 16384, 32767, 32768)
        for n, h in ((32767, -32767), (-32767, -32767), (32767, 32767), (12345, -321), (-1, 0))
        for shift in (0, 5)
    ]
    reset = [
        [r, h, 15, *f]
        for r in (0, 1, 20000, 32768)
        for h in (-32767, -128, 127, 32767)
        for f in ((8, 127), (2, 127), (0, 32767))
    ]
    return {
        "requantize": Primitive(
            fixedpoint.requantize,
            ["acc", "multiplier", "left_shift"],
            list(_requantize_cases(rng)),
        ),
        "shift_right_round": Primitive(
            fixedpoint.shift_right_round,
            ["x", "shift"],
            [[x, s] for s in (0, 1, 2, 7, 15, 16, 31) for x in sample(rng, edges32, 24)],
        ),
        "saturate16_shifted": Primitive(
            fixedpoint.saturate16_shifted,
            ["x", "left_shift"],
            [[x, s] for s in (0, 1, 4, 15) for x in sample(rng, edges32, 24)],
        ),
        "multiply_q15": Primitive(
            fixedpoint.multiply_q15,
            ["x", "q15"],
            [[x, q] for q in q15 for x in sample(rng, edges32, 16)],
        ),
        "align16": Primitive(
            fixedpoint.align16,
            ["x", "from_frac", "to_frac"],
            [[x, *f] for f in ((15, 15), (0, 15), (15, 0), (9, 12), (12, 9)) for x in sample(rng, edges16, 14)],
        ),
        "to_operand": Primitive(
            fixedpoint.to_operand,
            ["x", "shift", "limit"],
            [[x, *f] for f in ((8, 127), (0, 127), (3, 127), (0, 32767), (1, 8191)) for x in sample(rng, edges16, 14)],
        ),
        "exp_weight": Primitive(
            lambda d, frac: gates.exp_weight(d, frac, exp),
            ["d", "frac"],
            [[d, frac] for frac in (0, 5, 11, 12, 15) for d in (0, 1, 2, 255, 256, 257, 4095, 32767, 32768, 65535)],
        ),
        "softmax_divide": Primitive(
            gates.softmax_divide,
            ["weight", "total"],
            [[w, t] for t in (32768, 32769, 65536, 99999, 2147483647) for w in (0, 1, 2, 3, 16384, 32767, 32768)],
        ),
        "lstm_cell_state": Primitive(
            cells.lstm_cell_state,
            ["i", "f", "g", "c", "f_frac", "product_shift"],
            lstm + [[i, f, -i, c, *s] for i in (-32768, 32768) for f in (*_ENDS, 65536) for c in c_ends for s in ((0, 0), (9, 30))],
        ),
        "lstm_output_argument": Primitive(
            cells.lstm_output_argument,
            ["c", "shift"],
            [[c, s] for s in (0, 8, 11, 23) for c in sample(rng, edges32, 16)],
        ),
        "lstm_hidden_state": Primitive(
            cells.lstm_hidden_state,
            ["o", "activated_c", "shift"],
            [[o, a, s] for o in (0, 1, 16384, 32768) for a in (-32767, -1, 0, 1, 12345, 32767) for s in (15, 16)]
            + [[o, a, s] for o in _ENDS for a in (-32768, -3, 32768) for s in (0, 9, 30)],
        ),
        "gru_hidden_state": Primitive(
            cells.gru_hidden_state,
            ["z", "n", "h", "z_frac", "n_shift"],
            gru + [[z, n, h, *s] for z in _ENDS for n in (-32768, 32768) for h in (-32767, 321) for s in ((0, 0), (9, 4), (15, 15))],
        ),
        "candidate_after_reset": Primitive(
            cells.candidate_after_reset,
            ["x_part", "h_part", "r", "r_frac", "pre_shift"],
            [[x, h, r, 15, s] for x in (0, 9999, -(1 << 29)) for h in (1, -77777, 1 << 29) for r in (0, 1, 32768) for s in (0, 3)]
            + [[9999, h, r, f, 2] for h in (-77777, 5, 1 << 29) for r in _ENDS for f in (0, 9)],
        ),
        "reset_operand": Primitive(
            cells.reset_operand,
            ["r", "h", "r_frac", "shift", "limit"],
            reset + [[r, h, f, 8, 127] for r in _ENDS for h in (-32767, 127) for f in (0, 9)],
        ),
        "peephole": Primitive(
            cells.peephole,
            ["c", "weight", "shift"],
            [[c, w, s] for c in c_ends for w in (-32768, -77, 1, 32767) for s in (0, 15, 16, 31, 46)],
        ),
        "coupled_forget": Primitive(cells.coupled_forget, ["i", "i_frac"], [[i, f] for i in _ENDS for f in (0, 9, 15)]),
        "rnn_hidden_state": Primitive(
            cells.rnn_hidden_state,
            ["activated", "shift"],
            [[a, s] for a in (-32768, -32767, -3, 0, 5, 32767, 32768) for s in (0, 1, 6, 15)],
        ),
        "add16": Primitive(
            fixedpoint.add16,
            ["a", "b", "a_shift", "b_shift", "out_shift"],
            [[a, b, *s] for a in (-32768, -7, 32767) for b in (-32768, 2, 32767) for s in ((0, 0, 0), (3, 0, 1), (0, 15, 15), (2, 0, 0))],
        ),
    }  # fmt: skip


# --- gate functions -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Drawn:
    """The parameters from which a gate function of the file is made."""

    name: str
    activation: Activation
    segments: int = 128
    in_frac: int | None = None
    clip: float | None = None

    def make(self) -> GateFunction:
        """Make the gate function."""
        return gate_function(self.activation, GateChoice(segments=self.segments), in_frac=self.in_frac, clip=self.clip)


_DRAWN = (
    _Drawn("sigmoid pwl:128", Activation("sigmoid")),
    _Drawn("tanh pwl:128", Activation("tanh")),
    _Drawn("sigmoid pwl:8", Activation("sigmoid"), 8),
    _Drawn("tanh pwl:8", Activation("tanh"), 8),
    _Drawn("sigmoid pwl:1024", Activation("sigmoid"), 1024),
    _Drawn("tanh pwl:1024", Activation("tanh"), 1024),
    _Drawn("hard_sigmoid(0.2, 0.5)", Activation("hard_sigmoid", 0.2, 0.5)),
    _Drawn("hard_sigmoid(0.166667, 0.5)", Activation("hard_sigmoid", 1 / 6, 0.5)),
    _Drawn("hard_sigmoid(-3.7, -1.25)", Activation("hard_sigmoid", -3.7, -1.25)),
    _Drawn("hard_sigmoid(0.001, 0.5)", Activation("hard_sigmoid", 0.001, 0.5)),
    _Drawn("relu frac 15", Activation("relu"), in_frac=15),
    _Drawn("relu frac 9", Activation("relu"), in_frac=9),
    _Drawn("relu frac 0", Activation("relu"), in_frac=0),
    _Drawn("step", Activation("step")),
    _Drawn("affine(-1.5, 0.25) frac 9", Activation("affine", -1.5, 0.25), in_frac=9),
    _Drawn("affine(2, 0) frac 1", Activation("affine", 2.0, 0.0), in_frac=1),
    _Drawn("leaky_relu(0.1) frac 10", Activation("leaky_relu", 0.1), in_frac=10),
    _Drawn("thresholded_relu(1.5) frac 10", Activation("thresholded_relu", 1.5), in_frac=10),
    _Drawn("scaled_tanh(-1.7159, 0.6667) pwl:32", Activation("scaled_tanh", -1.7159, 0.6667), 32),
    _Drawn("elu(1.5) frac 11 pwl:8", Activation("elu", 1.5), 8, 11),
    _Drawn("softsign frac 12 pwl:32", Activation("softsign"), 32, 12),
    _Drawn("softplus frac 11 pwl:8", Activation("softplus"), 8, 11),
    _Drawn("sigmoid pwl:8 clip 1.5", Activation("sigmoid"), 8, clip=1.5),
    _Drawn("tanh pwl:8 clip 0.3", Activation("tanh"), 8, clip=0.3),
    _Drawn("hard_sigmoid(0.2, 0.5) clip 1", Activation("hard_sigmoid", 0.2, 0.5), clip=1.0),
    _Drawn("elu(1.5) frac 11 pwl:8 clip 2", Activation("elu", 1.5), 8, 11, 2.0),
    _Drawn("relu frac 9 clip 20", Activation("relu"), in_frac=9, clip=20.0),
    _Drawn("thresholded_relu(1.5) frac 10 clip 3", Activation("thresholded_relu", 1.5), in_frac=10, clip=3.0),
)
HARD_TANH = GateFunction(
    "hard_tanh", np.array([gates.RAMP, 14, 15, 2, 0, 0, -32767, 32767], np.int64), np.zeros(0, np.int32)
)
"""The hard tanh with two more fraction bits than converters now give its argument; files that have it stay valid."""

_COMPLEMENTS = (
    "sigmoid pwl:8",
    "sigmoid pwl:8 clip 1.5",
    "hard_sigmoid(0.2, 0.5)",
    "hard_sigmoid(-3.7, -1.25)",
    "step",
)

_FIELDS = {
    gates.ODD: ("offset", "segment_bits", "cut"),
    gates.RAMP: ("slope", "intercept", "shift", "low", "high"),
    gates.TABLE: ("lowest", "segment_bits", "highest"),
    gates.THRESHOLD: ("threshold", "slope", "intercept", "high", "below"),
}
"""Kind → its parameters, in the order of their columns from the fourth on."""


def gate_functions() -> dict[str, GateFunction]:
    """Return the gate functions of the file, by name."""
    functions = {drawn.name: drawn.make() for drawn in _DRAWN}
    functions["hard_tanh"] = HARD_TANH
    return functions | {f"1 - {name}": complement(functions[name]) for name in _COMPLEMENTS}


def gate_function_entries(functions: Mapping[str, GateFunction]) -> dict[str, Any]:
    """Return the entries of the file, without their results."""
    found: dict[str, Any] = {}
    rng = np.random.default_rng(2)
    for name, function in functions.items():
        samples = [-32768, -32767, -1, 0, 1, 32767, *sorted(sample(rng, range(-32766, 32767), 40))]
        kind, in_frac, out_frac, *values = function.params.tolist()
        parameters = dict(zip(_FIELDS[kind], values, strict=False))
        if parameters.get("cut") == 0:
            del parameters["cut"]
        found[name] = {
            "kind": kind,
            "in_frac": in_frac,
            "out_frac": out_frac,
            **parameters,
            "table": function.table.tolist(),
            "samples": [[x, 0] for x in samples],
            "all_inputs_sha256": "",
        }
    return found


def read_gate_function(name: str, entry: Mapping[str, Any]) -> GateFunction:
    """Return a gate function from its entry in the file."""
    params = np.zeros(gates.PARAMS, np.int64)
    params[:3] = entry["kind"], entry["in_frac"], entry["out_frac"]
    for column, field in enumerate(_FIELDS[entry["kind"]], 3):
        params[column] = entry.get(field, 0) if field == "cut" else entry[field]
    return GateFunction(name, params, np.asarray(entry["table"], np.int32))
