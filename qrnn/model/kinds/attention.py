"""Layers of kind attention give at each step the mean of the steps of a sequence, weighted by a softmax of products of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from qrnn.arithmetic.running_softmax import LOWEST_EXPONENT, MOST_WEIGHTED, PLACE_BITS
from qrnn.errors import QuantizationError
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import ANY_STEPS, Bytes, Reading, Rounding, Scratch, StateArray, Step, StepLoop, Written
from qrnn.model.parts import LEFT_OUT, STATE_MAX, FloatArray, Int32Array, TensorFormat, require
from qrnn.model.power_table import check_power_table, power_table
from qrnn.model.reduced import MOST_FEATURES, mean_frac
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.model.windowed import MOST_ELEMENTS

MOST_KEPT = 1 << 20
"""The most past steps that a layer keeps."""

PRODUCT_BITS = 62
"""The bits of the largest sum of products of a query and a key times the multiplier."""

MULTIPLIER_BITS = 31

LOST = 40
"""The most bits by which a term of at most 2^39 is shifted that may leave something of it."""


class ThreeInputs:
    """A query at each step, and the keys and values of steps: those of the same sequence up to this one, or all of a whole sequence."""

    if TYPE_CHECKING:  # dataclasses' fields
        queries: str
        keys: str
        values: str
        kept: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the queries, the keys and the values."""
        return (self.queries, self.keys, self.values)

    @property
    def read_whole(self) -> tuple[str, ...]:
        """Return the names of the keys and values, of which every step reads a whole sequence; none for a layer that keeps past steps."""
        return () if self.kept else (self.keys, self.values)


@dataclass(frozen=True)
class Attention(ThreeInputs, Layer):
    """Compute y_t = Σ e^(q_t · k_τ · scale) · v_τ / Σ e^(q_t · k_τ · scale) for each of ``heads`` heads.

    A step of ``queries`` is [heads, size], of ``keys`` [key_heads, size], of ``values`` [key_heads, width], and of the output [heads, width],
    all row-major; every heads / key_heads neighbouring heads read one head of keys and values. With ``kept`` 0 the sum is over all steps τ of
    the sequence of the keys, whose length is its own. Else all go over one time axis, and it is over τ = 0 … t: over the last ``kept`` of
    these steps where it is ``windowed``, while a layer that is not takes no more than ``kept`` steps of a sequence.
    """

    name: str
    queries: str
    keys: str
    values: str
    output: str
    heads: int
    key_heads: int
    size: int
    width: int
    scale: float
    kept: int = 0
    windowed: bool = False

    least_frac: ClassVar[int] = 0

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        """Return whether the layer keeps past steps."""
        return self.kept > 0

    def with_input(self, tensor: str, other: str) -> Self:
        """Return the layer as it reads the tensor ``other`` where it reads ``tensor``."""
        queries, keys, values = (other if name == tensor else name for name in self.inputs)
        return replace(self, queries=queries, keys=keys, values=values)

    def equation(self, run: Equations) -> None:
        """Compute the weighted means in float64, sequence by sequence."""
        q, k, v = (run.read(name) for name in self.inputs)
        own, other = run.over(self.queries), run.over(self.keys)
        y = np.zeros_like(q, np.float64, shape=(len(q), q.shape[1], self.heads * self.width))
        shared = self.heads // self.key_heads
        for n in range(len(q)):
            steps, count = int(own.lengths[n]), int(other.lengths[n])
            if not steps or not count:
                continue
            a, b, c = (
                x[n, :size].reshape(size, heads, -1).swapaxes(0, 1)
                for x, size, heads in ((q, steps, self.heads), (k, count, self.key_heads), (v, count, self.key_heads))
            )
            for h in range(self.heads):
                scores: FloatArray = (a[h] @ b[h // shared].T) * self.scale
                if self.kept:
                    behind = np.arange(steps)[:, None] - np.arange(count)
                    scores[(behind < 0) | (behind >= (self.kept if self.windowed else steps))] = -np.inf
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                mean = weights @ c[h // shared] / weights.sum(axis=1, keepdims=True)
                y[n, :steps, h * self.width : (h + 1) * self.width] = mean
        run.write(self.output, y)

    def quantize(self, plan: Plan) -> QuantAttention:
        """Give the means their fraction bits, and make the integer layer: the scale of the scores becomes a multiplier and a shift."""
        fracs = [plan.frac(name, self.name) for name in self.inputs]
        own = mean_frac(plan, self.output, fracs[2])
        multiplier, shift = multiplier_of(self.name, self.scale, fracs[0] + fracs[1], self.size)
        plan.decide(
            f"{self.name}: scores are exact sums of {self.size} products, times {self.scale:.6g} · log2(e) as {multiplier} · 2^-{shift}"
        )
        return QuantAttention(
            self.name, self.queries, self.keys, self.values, self.output, fracs[0], fracs[1], fracs[2], own,
            self.heads, self.key_heads, self.size, self.width, multiplier, shift, power_table(), self.kept, self.windowed,
        )  # fmt: skip


def multiplier_of(owner: str, scale: float, frac: int, size: int) -> tuple[int, int]:
    """Return M and s such that M · 2^-s is the place of a score of 1 unit: scale · log2(e) · 2^(20 - frac), M as exact as 62 bits allow.

    ``frac`` are the fraction bits of a product, ``size`` the products of a sum. Raises QuantizationError for a scale that integers do not hold.
    """
    real = scale / math.log(2.0) * 2.0 ** (PLACE_BITS - frac)
    bits = most_multiplier(size).bit_length() - 1
    if not math.isfinite(real):
        raise QuantizationError(f"{owner}: the scores' scale is {scale}, expected a finite number")
    if real == 0.0:
        return 0, 0
    shift = min(PRODUCT_BITS, bits - math.frexp(real)[1])
    if shift < 0:
        raise QuantizationError(
            f"{owner}: the scores' scale {scale:.6g} times the units of queries and keys is too large for integers; scale the queries before"
        )
    return round(real * 2.0**shift), shift


def most_multiplier(size: int) -> int:
    """Return the largest magnitude of a multiplier for which sums of so many products of int16 times it fit `PRODUCT_BITS` bits."""
    return int(min(1 << MULTIPLIER_BITS, (1 << PRODUCT_BITS) // (size << 30))) - 1


def attention_step(contract: Any) -> Step:
    """Return the step that keeps a key and a value, where some are ``kept``, and writes the weighted means of all that are there.

    With ``kept`` 0, ``keys`` and ``values`` are those of a whole sequence, ``steps`` says how many these are, and nothing is written there.
    """
    score_place, power_exponent, power_mantissa = contract.score_place, contract.power_exponent, contract.power_mantissa
    weighted_sum, weighted_mean, shift_right_round = (
        contract.weighted_sum,
        contract.weighted_mean,
        contract.shift_right_round,
    )

    def step(
        n: int, t: int, k: int, queries: Any, new_keys: Any, new_values: Any, out: Any, keys: Any, values: Any, steps: Any, place: Any,
        heads: int, shared: int, kept: int, most: int, lowest: int, lost: int, multiplier: int, shift: int, up: int, down: int, table: Any,
        total: Any,
    ) -> int:  # fmt: skip
        begin = 0
        if kept > 0:
            newest = place[n, 0]
            for j in range(new_keys.shape[2]):
                keys[n, newest, j] = new_keys[n, t, j]
            for j in range(new_values.shape[2]):
                values[n, newest, j] = new_values[n, t, j]
            place[n, 0] = 0 if newest + 1 == kept else newest + 1
            steps[n, 0] = min(steps[n, 0] + 1, kept)
            begin = newest + 1 - steps[n, 0]
            if begin < 0:
                begin = begin + kept
        size = queries.shape[2] // heads
        width = out.shape[2] // heads
        for h in range(heads):
            # max lets compilers see that no index is below 0, so that the loops over features become vectors
            own_first = max(h * size, 0)
            key_first = max(h // shared * size, 0)
            value_first = max(h // shared * width, 0)
            largest = lowest
            weight = 0
            for j in range(width):
                total[n, j] = 0
            at = begin
            for _i in range(min(steps[n, 0], most)):
                product = 0
                for j in range(size):
                    product += queries[n, t, own_first + j] * keys[n, at, key_first + j]
                score = score_place(product, multiplier, shift)
                own = power_exponent(score)
                if own > largest:
                    weight = weighted_sum(weight, own - largest, 0, 0)
                    for j in range(width):
                        total[n, j] = weighted_sum(total[n, j], own - largest, 0, 0)
                    largest = own
                below = largest - own
                if below <= lost:
                    mantissa = power_mantissa(score, table)
                    weight += shift_right_round(mantissa << 15, below)
                    for j in range(width):
                        total[n, j] += shift_right_round(mantissa * values[n, at, value_first + j], below)
                at = at + 1
                if at == kept:
                    at = 0
            for j in range(width):
                out[n, k, h * width + j] = weighted_mean(total[n, j], weight, up, down)
        return 1

    return step


@dataclass(frozen=True)
class QuantAttention(ThreeInputs, QuantLayer):
    """Compute `Attention` of int16: exact sums of products, of which powers of 2 with mantissas of 24 bits weigh the values.

    A sum of products times ``multiplier`` · 2^-``shift`` is the place of a score, by a factor log2(e) and with 20 fraction bits. ``table``
    [129] holds 2^(23 + k / 128). The state, of a layer that keeps past steps, is a ring of their keys and values, how many are there, and the
    place of the next one. Sessions refuse a step past ``kept`` ones, where the layer is not ``windowed``.
    """

    name: str
    queries: str
    keys: str
    values: str
    output: str
    query_frac: int
    key_frac: int
    value_frac: int
    out_frac: int
    heads: int
    key_heads: int
    size: int
    width: int
    multiplier: int
    shift: int
    table: Int32Array
    kept: int = field(default=0, metadata=LEFT_OUT)
    windowed: bool = field(default=False, metadata=LEFT_OUT)

    by_rows = False

    def __post_init__(self) -> None:
        fracs = (self.query_frac, self.key_frac, self.value_frac, self.out_frac)
        require(min(fracs) >= 0 and max(fracs) <= 15, f"layer {self.name}: fraction bits {fracs} not in 0…15")
        sizes = (self.heads, self.key_heads, self.size, self.width)
        require(
            min(sizes) >= 1 and max(sizes) <= MOST_FEATURES and self.heads % self.key_heads == 0,
            f"layer {self.name}: {self.heads} heads of {self.size} features, {self.key_heads} of keys, and of values of {self.width} features",
        )
        require(
            abs(self.multiplier) <= most_multiplier(self.size) and 0 <= self.shift <= PRODUCT_BITS,
            f"layer {self.name}: multiplier {self.multiplier} with shift {self.shift}, at most {most_multiplier(self.size)} and {PRODUCT_BITS}",
        )
        kept = self.kept * self.key_heads * (self.size + self.width)
        require(
            0 <= self.kept <= MOST_KEPT and kept <= MOST_ELEMENTS and (self.kept > 0 or not self.windowed),
            f"layer {self.name}: keeps {self.kept} steps, {kept} numbers of keys and values; at most {MOST_KEPT} and {MOST_ELEMENTS}",
        )
        check_power_table(f"layer {self.name}", self.table)

    @property
    def most_steps(self) -> int | None:
        """Return the most steps of a sequence: those that are kept, unless more push the oldest out."""
        return self.kept if self.kept and not self.windowed else None

    @property
    def clamps_output(self) -> bool:
        """Return True: means are saturated to int16."""
        return True

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, and others than those of the layer's heads."""
        for tensor, features in (
            (self.queries, self.heads * self.size),
            (self.keys, self.key_heads * self.size),
            (self.values, self.key_heads * self.width),
            (self.output, self.heads * self.width),
        ):
            checks.expect(tensor, features, True)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each input is read as fixed-point, with its own fraction bits."""
        fracs = (self.query_frac, self.key_frac, self.value_frac)
        return tuple(Reading(name, frac) for name, frac in zip(self.inputs, fracs, strict=True))

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def states(self) -> tuple[StateArray, ...]:
        """Return the rings of keys and values, how many steps are in them, and the place of the next one; none for whole sequences."""
        return self.step_arrays() if self.kept else ()

    def step_arrays(self) -> tuple[StateArray, ...]:
        """Return what the step loop reads beside its inputs, which are its states, or a whole sequence of any number of steps."""
        rows = self.kept or ANY_STEPS
        return (
            StateArray("keys", (rows, self.key_heads * self.size), np.int16, STATE_MAX, least=-STATE_MAX - 1),
            StateArray("values", (rows, self.key_heads * self.width), np.int16, STATE_MAX, least=-STATE_MAX - 1),
            StateArray("steps", (1,), np.int32, self.kept, least=0),
            StateArray("place", (1,), np.int32, max(0, self.kept - 1), least=0),
        )

    def step_loop(self) -> StepLoop:
        """Return the step, which goes over the keys and values once for each head."""
        by = self.out_frac - self.value_frac
        limits = (self.kept, MOST_WEIGHTED, LOWEST_EXPONENT, LOST)
        numbers = (self.multiplier, self.shift, max(by, 0), max(-by, 0))
        scratch = (Scratch((self.width,), np.int64),)
        shared = self.heads // self.key_heads
        return StepLoop(attention_step, (self.heads, shared, *limits, *numbers, self.table), scratch)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the roundings of scores, weights and sums, and that of each mean."""
        return (
            Rounding(
                self.name, "each score, an exact sum of products, once, to 20 bits", "log2 of its power within ±2^16"
            ),
            Rounding(self.name, "weights to 24 bits; sums where a larger score shifts them", "nothing"),
            Rounding(self.name, f"each weighted mean, once, to {self.out_frac} bits", "int16"),
        )

    def own_bytes(self) -> Bytes:
        """Return the bytes of the table and of the state."""
        return Bytes(self.table.nbytes, 0, QuantLayer.own_bytes(self).state)
