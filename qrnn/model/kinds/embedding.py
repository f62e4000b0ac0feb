"""Embedding layers: y = table[token]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Bytes, Loop, Part, Reading, RowLoop, Weights, Written
from qrnn.model.parts import FloatArray, Int16Array, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Embedding(Layer):
    """y = table[token]; table [V, F]; the input is a graph input of kind ``tokens``."""

    name: str
    input: str
    output: str
    table: FloatArray

    @property
    def source_values(self) -> FloatArray:
        return self.table

    def equation(self, run: Equations) -> None:
        run.write(self.output, self.table[run.tokens(self.input)])

    def weights(self) -> tuple[Weights, ...]:
        return (Weights(self.table.reshape(1, -1)),)

    def with_weights(self, values: Sequence[FloatArray]) -> Embedding:
        return replace(self, table=values[0].reshape(self.table.shape))

    def quantize(self, plan: Plan) -> QuantEmbedding:
        return QuantEmbedding(self.name, self.input, self.output, plan.to_format(self.output, self.table))


def embedding_rows(contract: Any) -> Loop:
    """out = the row of the table that each token names."""

    def rows(first: int, last: int, table: Any, tokens: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = table[tokens[m], k]

    return rows


@dataclass(frozen=True)
class QuantEmbedding(QuantLayer):
    """y = table[token]; table [V, F] int16 values."""

    name: str
    input: str
    output: str
    table: Int16Array

    reads_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        fits = self.table.dtype == np.int16 and self.table.ndim == 2 and self.table.size > 0
        require(fits, f"layer {self.name}: table is not int16[V, F]")

    def check(self, checks: Checks) -> None:
        if checks.vocabulary(self.input) != self.table.shape[0]:
            checks.fail(f"table has {self.table.shape[0]} rows, expected the vocabulary of {self.input!r}")
        checks.expect(self.output, self.table.shape[1], checks.tensors[self.input].has_time)

    def readings(self) -> tuple[Reading, ...]:
        return ()

    def integer_parts(self) -> tuple[Part, ...]:
        return ()

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        return {}

    def check_source(self, checks: Checks) -> None:
        checks.as_source(self.output)
        limit = checks.tensors[self.output].limit
        if int(np.abs(self.table.astype(np.int64)).max()) > limit:
            checks.fail(f"its table leaves ±{limit}, the range of {self.output!r}")

    def row_loops(self) -> tuple[RowLoop, ...]:
        return (RowLoop(embedding_rows, (self.table,), self.inputs),)

    def own_bytes(self) -> Bytes:
        return Bytes(weights=self.table.nbytes)
