"""Layers of kind log softmax compute y_k = x_k - ln Σ_j e^(x_j) over all features of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Bytes, Loop, Rounding, RowLoop
from qrnn.model.log_table import check_log_table, log_table
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import Int32Array, check_exp_table
from qrnn.model.softmax_rows import MOST_FEATURES
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class LogSoftmax(Layer):
    """Compute the logarithm of the softmax over all features of each step."""

    name: str
    input: str
    output: str

    least_frac: ClassVar[int] = 0

    def equation(self, run: Equations) -> None:
        """Compute the logarithm of the softmax in float64."""
        x = run.read(self.input)
        distance = x - x.max(axis=-1, keepdims=True)
        run.write(self.output, distance - np.log(np.exp(distance).sum(axis=-1, keepdims=True)))

    def quantize(self, plan: Plan) -> QuantLogSoftmax:
        """Give the output the bits of calibration, and make the integer layer with the tables of e^-d and of the logarithm."""
        out_frac, reason = output_frac(plan, self.output)
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        in_frac = plan.frac(self.input, self.name)
        return QuantLogSoftmax(self.name, self.input, self.output, plan.exp_table(), log_table(), in_frac, out_frac)


def log_softmax_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to `log_softmax16` of the distance of x_k from the row's largest element and the sum of all weights."""
    exp_weight, log_softmax16 = contract.exp_weight, contract.log_softmax16

    def rows(first: int, last: int, exp_table: Any, table: Any, in_frac: int, out_frac: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            top = x[m, 0]
            for k in range(x.shape[1]):
                top = max(top, x[m, k])
            total = 0
            for k in range(x.shape[1]):
                total += exp_weight(top - x[m, k], in_frac, exp_table)
            for k in range(x.shape[1]):
                out[m, k] = log_softmax16(top - x[m, k], total, in_frac, out_frac, table)

    return rows


@dataclass(frozen=True)
class QuantLogSoftmax(QuantOneInput):
    """Compute the logarithm of the softmax in integers; ``exp_table`` [129] holds e^-d, ``table`` [129] the logarithm."""

    name: str
    input: str
    output: str
    exp_table: Int32Array
    table: Int32Array
    in_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        check_exp_table(self.name, self.exp_table)
        check_log_table(f"layer {self.name}", self.table)
        self.check_fracs()

    def check(self, checks: Checks) -> None:
        """Refuse more than `MOST_FEATURES` features, and an output of another shape than the input's."""
        source = checks.tensors[self.input]
        if source.features > MOST_FEATURES:
            checks.fail(f"{source.features} features, at most {MOST_FEATURES} sum within 32 bits")
        checks.expect(self.output, source.features, source.has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        numbers = (self.exp_table, self.table, self.in_frac, self.out_frac)
        return (RowLoop(log_softmax_rows, numbers, self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each logarithm, and the saturation of the argument of e^-d."""
        return (Rounding(self.name, f"each logarithm, once, to {self.out_frac} bits", "int16, exp argument at 16"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of the tables."""
        return Bytes(weights=self.exp_table.nbytes + self.table.nbytes)
