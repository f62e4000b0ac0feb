"""Normalizations of groups of features, of a step or of several: they compute moments of any number of values (`qrnn.arithmetic.moments`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from qrnn.arithmetic.moments import MOMENT_BITS, ROOT_MAX, TERM_MAX
from qrnn.arithmetic.norms import NORM_BIAS_BITS
from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Bytes, Rounding
from qrnn.model.norm_parameters import GAIN_FRAC_MAX, ROOT_BITS
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import LEFT_OUT, FloatArray, Int8Array, Int16Array, Int32Array, check_array, require
from qrnn.model.surroundings import Checks, Plan

LEAST_MAX = (1 << 62) - 1
"""The largest square of a root."""

MOST_FEATURES = 1 << 24
"""The most features of a step."""


@dataclass(frozen=True)
class Normalized(Layer):
    """Compute y = gain · (x - mean) / max(sqrt(variance + epsilon) + outside, least) + bias, with a mean and a variance for each group.

    A step of the input is [outer, count, inner], row-major, and the ``count`` features of each [outer, inner] are one group. gain [F] and
    bias [F] belong to features. Without ``centred`` the mean is 0, and the variance the mean of the squares. What has no variance gives the
    bias, whatever epsilon is.
    """

    name: str
    input: str
    output: str
    gain: FloatArray
    bias: FloatArray
    epsilon: float
    count: int
    inner: int = 1
    centred: bool = True
    outside: float = 0.0
    least: float = 0.0

    least_frac: ClassVar[int] = 0

    @property
    def features(self) -> int:
        """Return the number of features of a step."""
        return int(self.gain.size)

    def with_output_affine(self, scale: FloatArray, offset: FloatArray) -> Self:
        """Return the layer that writes y · scale + offset, [F] each."""
        return replace(self, gain=self.gain * scale, bias=self.bias * scale + offset)

    def with_output_scaled(self, scale: FloatArray) -> Self:
        """Return the layer that writes y · ``scale`` [F]."""
        return self.with_output_affine(scale, np.zeros(1))

    def grouped(self, x: FloatArray) -> FloatArray:
        """Return x [..., F] as [..., outer, count, inner]."""
        return x.reshape(*x.shape[:-1], self.features // (self.count * self.inner), self.count, self.inner)

    def normalized(self, x: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
        """Return y of x [..., F] for a mean and a variance [..., outer, 1, inner] of each group."""
        grouped = self.grouped(x) - (mean if self.centred else 0.0)
        root = np.maximum(np.sqrt(variance + self.epsilon) + self.outside, self.least)
        y: FloatArray = (grouped / np.where(root > 0.0, root, 1.0)).reshape(x.shape)
        return self.gain * y + self.bias

    def integers(self, plan: Plan) -> NormIntegers:
        """Decide the output's format, and return the integers of a `QuantNormalized`; QuantizationError names what they cannot hold."""
        where, in_frac = f"layer {self.name!r}", plan.frac(self.input, self.name)
        out_frac, reason = output_frac(plan, self.output)
        whole = np.frexp(np.abs(self.gain))[1]  # |gain| < 2^whole
        frac = np.minimum(15 - whole, GAIN_FRAC_MAX)
        frac -= round_half_up(np.ldexp(np.abs(self.gain), frac)) > 32767  # such a gain rounds to 2^15
        out_frac = min(out_frac, ROOT_BITS - NORM_BIAS_BITS + int(frac.min()))
        if out_frac < -16:
            raise QuantizationError(f"{where}: gain {np.abs(self.gain).max():g} is too large for a format of 16 bits")
        with np.errstate(over="ignore"):  # infinity is refused
            bias = round_half_up(np.ldexp(self.bias, out_frac + NORM_BIAS_BITS))
        worst = int(np.argmax(np.abs(bias)))
        if not abs(bias[worst]) < 1 << 31:
            raise QuantizationError(
                f"{where}: bias {self.bias[worst]:g} of feature {worst} is too large for an output with {out_frac} fraction bits"
            )
        unit = 2.0 ** (in_frac + MOMENT_BITS)
        epsilon, outside = (int(round_half_up(value)) for value in (self.epsilon * unit**2, self.outside * unit))
        least = max(1, int(round_half_up((self.least * unit) ** 2)))
        for name, value, most in (
            ("epsilon", epsilon, TERM_MAX - 1),
            ("outside", outside, ROOT_MAX),
            ("least", least, LEAST_MAX),
        ):
            if value > most:
                raise QuantizationError(
                    f"{where}: {name} {getattr(self, name):g} is too large beside an input with {in_frac} fraction bits"
                )
        plan.set_format(self.output, out_frac)
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({reason})")
        return NormIntegers(
            round_half_up(np.ldexp(self.gain, frac)).astype(np.int16),
            (ROOT_BITS - NORM_BIAS_BITS + frac - out_frac).astype(np.int8),
            bias.astype(np.int32),
            epsilon,
            self.count,
            in_frac,
            out_frac,
            self.inner,
            self.centred,
            outside,
            least,
        )


class NormIntegers(NamedTuple):
    """The fields that integer normalizations have in common, from ``gain`` on, in their order."""

    gain: Int16Array
    gain_shift: Int8Array
    bias: Int32Array
    epsilon: int
    group: int
    in_frac: int
    out_frac: int
    inner: int
    centred: bool
    outside: int
    least: int


@dataclass(frozen=True)
class QuantNormalized(QuantOneInput):
    """Compute `Normalized` of integers: y = `normalize_distance` of a `mean_distance` by a `mean_square`, int16 with out_frac fraction bits.

    gain [F] int16, gain_shift [F] int8 from 0, bias [F] int32 with out_frac + 8 fraction bits; epsilon and ``least`` in units of
    2^(-28 - 2 · in_frac), ``outside`` in units of 2^(-14 - in_frac).
    """

    name: str
    input: str
    output: str
    gain: Int16Array
    gain_shift: Int8Array
    bias: Int32Array
    epsilon: int
    count: int
    in_frac: int
    out_frac: int
    inner: int = field(default=1, metadata=LEFT_OUT)
    centred: bool = field(default=True, metadata=LEFT_OUT)
    outside: int = field(default=0, metadata=LEFT_OUT)
    least: int = field(default=1, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        owner, features = f"layer {self.name}", self.gain.size
        require(1 <= features <= MOST_FEATURES, f"{owner}: {features} features")
        for name, dtype in (("gain", np.int16), ("gain_shift", np.int8), ("bias", np.int32)):
            check_array(owner, name, getattr(self, name), dtype, (features,))
        require(int(self.gain_shift.min()) >= 0, f"{owner}: a gain_shift below 0")
        fits = 1 <= self.count <= features and 1 <= self.inner <= features
        require(
            fits and features % (self.count * self.inner) == 0,
            f"{owner}: {features} features by {self.count} and {self.inner}",
        )
        require(0 <= self.epsilon < TERM_MAX, f"{owner}: epsilon {self.epsilon} not in 0…2^61 - 1")
        require(0 <= self.outside <= ROOT_MAX, f"{owner}: outside {self.outside} not in 0…2^31 - 1")
        require(1 <= self.least <= LEAST_MAX, f"{owner}: least {self.least} not in 1…2^62 - 1")
        self.check_fracs()

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return self.gain.size // self.count

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Return the parameters that the loops of normalizations have in common, in their order."""
        parts = (self.gain, self.gain_shift, self.bias, self.epsilon, self.count, self.inner)
        return (*parts, int(self.centred), self.outside, self.least, LEAST_MAX)

    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not have one feature per gain, and tensors of which one alone is over time."""
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, self.gain.size, has_time)
        checks.expect(self.output, self.gain.size, has_time)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the roundings of each feature; a distance has 14 more bits than the input, so that its own is not seen."""
        return (Rounding(self.name, f"each feature, once, to {self.out_frac} bits", "int16"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of gain, gain_shift and bias, and of the state."""
        return Bytes(rows=self.gain.nbytes + self.gain_shift.nbytes + self.bias.nbytes, state=super().own_bytes().state)
