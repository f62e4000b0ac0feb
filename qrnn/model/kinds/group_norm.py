"""Group normalization normalizes groups of features of a step: each band over its channels, each channel over its bands, or both together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qrnn.model.layer_facts import Loop, RowLoop
from qrnn.model.normalized import Normalized, QuantNormalized
from qrnn.model.surroundings import Equations, Plan


@dataclass(frozen=True)
class GroupNorm(Normalized):
    """Compute `Normalized` with the mean and the variance of the features of each group of a step, or of a vector."""

    def equation(self, run: Equations) -> None:
        """Compute the normalization in float64."""
        x = run.read(self.input)
        grouped = self.grouped(x)
        mean = grouped.mean(axis=-2, keepdims=True) if self.centred else grouped[..., :1, :] * 0.0
        run.write(self.output, self.normalized(x, mean, ((grouped - mean) ** 2).mean(axis=-2, keepdims=True)))

    def quantize(self, plan: Plan) -> QuantGroupNorm:
        """Choose the output's fraction bits, and make the integers of gain, bias and epsilon."""
        return QuantGroupNorm(self.name, self.input, self.output, *self.integers(plan))


def group_norm_rows(contract: Any) -> Loop:
    """Return the loop that normalizes each group of a row by the exact sums of its values and of their squares."""
    mean_square, mean_distance, added_root = contract.mean_square, contract.mean_distance, contract.added_root
    norm_exponent, norm_scale, saturate = contract.norm_exponent, contract.norm_scale, contract.saturate
    normalize_distance = contract.normalize_distance

    def rows(
        first: int, last: int, gain: Any, gain_shift: Any, bias: Any, epsilon: int, count: int, inner: int, centred: int, outside: int,
        least: int, most: int, x: Any, out: Any,
    ) -> None:  # fmt: skip
        for m in range(first, last):
            for g in range(out.shape[1] // count):
                start = g // inner * count * inner + g % inner
                total = 0
                squares = 0
                for c in range(count):
                    total += centred * x[m, start + c * inner]
                    squares += x[m, start + c * inner] * x[m, start + c * inner]
                square = mean_square(count, total, squares) + epsilon
                if outside > 0:
                    square = added_root(square, outside)
                square = saturate(square, least, most)
                exponent = norm_exponent(square)
                scale = norm_scale(square, exponent)
                for c in range(count):
                    k = start + c * inner
                    distance = mean_distance(x[m, k], count, total)
                    out[m, k] = normalize_distance(distance, scale, exponent, gain[k], gain_shift[k], bias[k])

    return rows


@dataclass(frozen=True)
class QuantGroupNorm(QuantNormalized):
    """Compute `GroupNorm` of integers; see `QuantNormalized`."""

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which normalizes the groups of every row."""
        return (RowLoop(group_norm_rows, self.numbers, self.inputs),)
