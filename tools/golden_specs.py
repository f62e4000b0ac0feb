"""The recurrent cases of the golden vectors: their cells, functions, formats and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qrnn.model.kinds.recurrent.definition import CellKind, Forget, gate_blocks

AFFINE, WHOLE = "affine(-1.5, 0.25) frac 9", "affine(2, 0) frac 1"
ELU, LEAKY, SOFTPLUS = "elu(1.5) frac 11 pwl:8", "leaky_relu(0.1) frac 10", "softplus frac 11 pwl:8"
SCALED = "scaled_tanh(-1.7159, 0.6667) pwl:32"
"""Names of gate functions."""


@dataclass(frozen=True)
class Projected:
    """How the projection of a recurrent case is drawn; ``function`` names a gate function, or is ``softmax``, or empty."""

    size: int
    function: str = ""
    in_frac: int = 15
    hidden_frac: int = 15
    operand: tuple[int, int] = (8, 127)


@dataclass(frozen=True)
class Spec:
    """How the integers of a recurrent case are drawn. Weights and biases are real here, and integers in the file."""

    name: str
    cell: CellKind
    linear_before_reset: bool = False
    gate: str = "sigmoid pwl:128"
    candidate: str = "tanh pwl:128"
    others: Mapping[str, str] = field(default_factory=dict)
    """Gate functions of single roles, in place of ``gate`` or ``candidate``."""
    reverse: tuple[bool, ...] = (False,)
    h_frac: int = 15
    c_frac: int = 23
    x_frac: int = 5
    x_operand: tuple[int, int] = (0, 127)
    h_operand: tuple[int, int] = (8, 127)
    weight: float = 0.4
    bias: float = 0.5
    decades: float = 0.0
    """Rows shrink by up to this many powers of ten, so that shifts and multipliers of all sizes occur."""
    extreme: bool = False
    states: float = 1.0
    """The largest initial state as a fraction of int16; for c_0 as a fraction of two whole units, or of int32 where ``extreme``."""
    lengths: tuple[int, ...] = (6, 1, 4)
    inputs: int = 5
    hidden: int = 7
    forget: Forget = "gate"
    peephole: tuple[int, int] | None = None
    """The shifts of peepholes, from the first to the second."""
    projection: Projected | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """The name of each role's gate function."""
        roles = (*gate_blocks(self.cell, self.forget), *(["output"] if self.cell == "lstm" else []))
        general = {**dict.fromkeys("gnh", self.candidate), "output": self.candidate} | dict(self.others)
        return tuple(general.get(role, self.gate) for role in roles)


def wide(spec: Spec) -> Spec:
    """Return the case with 16-bit operands."""
    return replace(spec, x_frac=13, x_operand=(0, 32767), h_operand=(0, 32767))


def small(name: str, cell: CellKind, linear_before_reset: bool = False, **more: Any) -> Spec:
    """Return a case of few units."""
    sizes: dict[str, Any] = {"inputs": 3, "hidden": 4, "lengths": (5, 1, 3)}
    return Spec(name, cell, linear_before_reset, **(sizes | more))


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
    small("lstm, no forget gate", "lstm", forget="one", extreme=True),
    small("lstm, coupled gates, reverse", "lstm", forget="coupled", reverse=(True,)),
    small("lstm, coupled unbounded gates", "lstm", gate=AFFINE, forget="coupled", c_frac=15, h_frac=8, h_operand=(4, 127), states=0.01),
    small("lstm, peepholes", "lstm", peephole=(25, 29)),
    small("lstm, peepholes, every shift, extreme", "lstm", peephole=(0, 46), extreme=True, weight=30.0),
    wide(small("lstm, coupled gates with peepholes, bidirectional, 16-bit operands", "lstm", forget="coupled", peephole=(25, 29),
          reverse=(False, True))),
    small("lstm, unbounded functions", "lstm", gate="relu frac 9", candidate=AFFINE, others={"output": ELU}, c_frac=14, h_frac=5,
          h_operand=(3, 127), weight=0.5, states=0.002),
    small("lstm, unbounded functions of whole units", "lstm", gate="relu frac 0", candidate=WHOLE,
          others={"output": "relu frac 0"}, c_frac=0, h_frac=0, h_operand=(0, 127), weight=1.0, bias=9.0, states=0.001),
    small("lstm, step gates, hard tanh", "lstm", gate="step", candidate="hard_tanh"),
    small("lstm, clip", "lstm", gate="sigmoid pwl:8 clip 1.5", candidate="tanh pwl:8 clip 0.3", others={"output": "tanh pwl:8"},
          weight=2.0),
    small("lstm, scaled tanh, softplus", "lstm", candidate=SCALED, others={"output": SOFTPLUS}, c_frac=20, h_frac=10),
    small("lstm, sequences of no steps, bidirectional", "lstm", lengths=(0, 3, 0, 1), reverse=(False, True)),
    small("lstm, projection, bidirectional", "lstm", projection=Projected(3), reverse=(False, True), h_frac=13),
    small("lstm, projection to more, with peepholes, rows with pre_shift", "lstm", projection=Projected(6),
          peephole=(25, 29), h_frac=9, h_operand=(5, 127), weight=1e6, bias=1e5, decades=8.0),
    small("lstm, projection to a softmax, no forget gate, a sequence of no steps", "lstm", projection=Projected(5, "softmax", 9),
          forget="one", h_frac=14, lengths=(4, 0)),
    small("rnn, projection, 16-bit operands", "rnn", projection=Projected(2, operand=(0, 32767), hidden_frac=14), h_frac=12,
          reverse=(True,)),
    small("rnn, projection to a function", "rnn", candidate=LEAKY, projection=Projected(6, "sigmoid pwl:8", 11, 8, (4, 127)),
          h_operand=(8, 127), extreme=True),
    small("rnn, projection to a softmax", "rnn", projection=Projected(6, "softmax", 11), h_frac=12, weight=3.0),
    small("rnn, thresholded relu with clip", "rnn", candidate="thresholded_relu(1.5) frac 10 clip 3", h_frac=10, h_operand=(5, 127)),
    small("rnn, softsign", "rnn", candidate="softsign frac 12 pwl:32"),
    small("gru, 1 - z", "gru", True, others={"z": "1 - sigmoid pwl:8"}),
    small("gru, 1 - hard z, reset first", "gru", gate="hard_sigmoid(0.2, 0.5) clip 1", others={"z": "1 - hard_sigmoid(0.2, 0.5)"}),
    small("gru, step gates", "gru", True, gate="step", candidate="hard_tanh", others={"z": "1 - step"}),
    small("gru, unbounded functions", "gru", True, gate=AFFINE, candidate="elu(1.5) frac 11 pwl:8 clip 2", h_frac=8,
          h_operand=(4, 127), weight=0.2, states=0.01),
    small("gru, unbounded functions, reset first", "gru", gate=AFFINE, candidate=LEAKY, h_frac=6, h_operand=(4, 127), weight=0.2,
          states=0.01),
    small("gru, unbounded functions of whole units, extreme", "gru", True, gate=WHOLE, candidate="relu frac 9 clip 20", h_frac=4,
          h_operand=(6, 127), weight=100.0, extreme=True),
    small("gru, unbounded functions of whole units, reset first, extreme", "gru", gate=WHOLE, candidate="relu frac 0", h_frac=0,
          h_operand=(6, 127), weight=100.0, extreme=True),
    small("gru, sequences of no steps, reverse", "gru", lengths=(2, 0), reverse=(True,)),
)  # fmt: skip
