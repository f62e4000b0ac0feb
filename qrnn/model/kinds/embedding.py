"""Embedding layers look up a row of a table for each token: y = table[token]."""

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
    """Look up y = table[token]; table [V, F]. The input is a graph input of kind ``tokens``."""

    name: str
    input: str
    output: str
    table: FloatArray

    @property
    def source_values(self) -> FloatArray:
        """Return the table, whose rows are all values that the output can have."""
        return self.table

    def equation(self, run: Equations) -> None:
        """Look up the rows of the float64 table."""
        run.write(self.output, self.table[run.tokens(self.input)])

    def weights(self) -> tuple[Weights, ...]:
        """Return the table as one row, since it has one scale."""
        return (Weights(self.table.reshape(1, -1)),)

    def with_weights(self, values: Sequence[FloatArray]) -> Embedding:
        """Return the layer with another table, given as one row."""
        return replace(self, table=values[0].reshape(self.table.shape))

    def quantize(self, plan: Plan) -> QuantEmbedding:
        """Quantize the table in the format of the output, which was decided before as that of a source."""
        return QuantEmbedding(self.name, self.input, self.output, plan.to_format(self.output, self.table))


def embedding_rows(contract: Any) -> Loop:
    """Return the loop that sets each row of out to the row of the table that its token names."""

    def rows(first: int, last: int, table: Any, tokens: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = table[tokens[m], k]

    return rows


@dataclass(frozen=True)
class QuantEmbedding(QuantLayer):
    """Look up y = table[token]; table [V, F] int16."""

    name: str
    input: str
    output: str
    table: Int16Array

    reads_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        fits = self.table.dtype == np.int16 and self.table.ndim == 2 and self.table.size > 0
        require(fits, f"layer {self.name}: table is not int16[V, F]")

    def check(self, checks: Checks) -> None:
        """Refuse an input whose vocabulary is not the number of the table's rows, and an output of another shape."""
        if checks.vocabulary(self.input) != self.table.shape[0]:
            checks.fail(f"table has {self.table.shape[0]} rows, expected the vocabulary of {self.input!r}")
        checks.expect(self.output, self.table.shape[1], checks.tensors[self.input].has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return no readings: the layer reads tokens, which have no format."""
        return ()

    def integer_parts(self) -> tuple[Part, ...]:
        """Return no parts: the table is quantized in the format of a source, as graph inputs are."""
        return ()

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return no formats: the format of the output is free, and `check_source` checks it."""
        return {}

    def check_source(self, checks: Checks) -> None:
        """Refuse an output whose format no graph input could have, and a table with values beyond the format's limit."""
        checks.as_source(self.output)
        limit = checks.tensors[self.output].limit
        if int(np.abs(self.table.astype(np.int64)).max()) > limit:
            checks.fail(f"its table leaves ±{limit}, the range of {self.output!r}")

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which copies a row of the table for each token."""
        return (RowLoop(embedding_rows, (self.table,), self.inputs),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of the table."""
        return Bytes(weights=self.table.nbytes)
