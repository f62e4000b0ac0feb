"""The integers of a normalization over F features are gain, bias and epsilon as `qrnn.arithmetic.norms` reads them; they are chosen here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.arithmetic.norms import NORM_BIAS_BITS, NORM_FEATURES, NORM_TERM_MAX
from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.parts import FloatArray, Int8Array, Int16Array, Int32Array, Int64Array, check_array, require
from qrnn.system.brief import Brief

ROOT_BITS = 16
"""`norm_scale` is 2^(16 + exponent) over the root."""

GAIN_FRAC_MAX = 62
"""The most fraction bits of a gain: a smaller gain than 2^-62 is 0."""


def least_exponent(features: int) -> int:
    """Return the least exponent of a row whose distances from the mean are not all 0, minus half the variance's shift.

    F · Q - S² is then at least F - 1, and F · Q at least F.
    """
    return (max(features - 1, 1).bit_length() - 1) // 2


@dataclass(frozen=True)
class NormParameters(Brief):
    """The arguments of `norm_variance` and `normalize` that belong to a layer: gain [F] int16, gain_shift [F] int8, bias [F] int32."""

    gain: Int16Array
    gain_shift: Int8Array
    bias: Int32Array
    variance_shift: int
    epsilon: int

    def __post_init__(self) -> None:
        features = self.features
        require(1 <= features <= NORM_FEATURES, f"a normalization over {features} features, expected 1…{NORM_FEATURES}")
        for name, dtype in (("gain", np.int16), ("gain_shift", np.int8), ("bias", np.int32)):
            check_array("normalization", name, getattr(self, name), dtype, (features,))
        shift = self.variance_shift
        require(
            0 <= shift <= 30 and shift % 2 == 0 and features * features << shift <= 1 << 31,
            f"a normalization over {features} features has variance_shift {shift}, expected an even one with F² · 2^shift ≤ 2^31",
        )
        require(
            0 <= self.epsilon < NORM_TERM_MAX,
            f"a normalization has the integer epsilon {self.epsilon}, expected 0…2^61 - 1",
        )
        least = -(shift // 2 + least_exponent(features))
        require(
            int(self.gain_shift.min()) >= least,
            f"a normalization has a gain_shift of {int(self.gain_shift.min())}, expected at least {least}",
        )

    @property
    def features(self) -> int:
        """Return the number of features F."""
        return self.gain.size


def norm_parameters(
    owner: str, gain: FloatArray, bias: FloatArray, epsilon: float, in_frac: int, out_frac: int | Int64Array
) -> NormParameters:
    """Return the integers of gain [F], bias [F] and epsilon ≥ 0, of an input with in_frac fraction bits and an output with out_frac of them.

    Each gain has the most fraction bits with which it fits an int16, so that it is exact to 2^-15 of itself; a bias has 8 more bits than
    the output. The variance has the largest even shift with which it and epsilon fit, and epsilon is F² · epsilon · 2^(shift + 2 ·
    in_frac), rounded half up. QuantizationError, which names ``owner``, says what does not fit.
    """
    features, out_fracs = len(gain), np.broadcast_to(out_frac, len(gain)).astype(np.int64)
    if not 1 <= features <= NORM_FEATURES:
        raise QuantizationError(f"{owner}: normalizes over {features} features, expected 1…{NORM_FEATURES}")
    for shift in range(30, -1, -2):
        folded = round_half_up(float(features * features) * epsilon * 2.0 ** (shift + 2 * in_frac))
        if features * features << shift <= 1 << 31 and folded < NORM_TERM_MAX:
            break
    else:
        most = NORM_TERM_MAX / (features * features * 4.0**in_frac)
        raise QuantizationError(
            f"{owner}: epsilon {epsilon:g} is too large for {features} features with {in_frac} fraction bits, expected below {most:.3g}"
        )
    whole = np.frexp(np.abs(gain))[1]  # |gain| < 2^whole
    frac = np.minimum(15 - whole, GAIN_FRAC_MAX)
    frac -= round_half_up(np.ldexp(gain, frac)) > 32767  # such a gain rounds to 2^15
    gain_shift = ROOT_BITS + frac - shift // 2 - out_fracs - NORM_BIAS_BITS
    least = -(shift // 2 + least_exponent(features))
    worst = int(np.argmin(gain_shift))
    if gain_shift[worst] < least:
        raise QuantizationError(
            f"{owner}: gain {gain[worst]:g} of feature {worst} is too large for an output with {out_fracs[worst]} fraction bits"
        )
    with np.errstate(over="ignore"):  # infinity is refused
        wide = round_half_up(np.ldexp(bias, out_fracs + NORM_BIAS_BITS))
    worst = int(np.argmax(np.abs(wide)))
    if abs(wide[worst]) >= 1 << 31:
        raise QuantizationError(
            f"{owner}: bias {bias[worst]:g} of feature {worst} is too large for an output with {out_fracs[worst]} fraction bits"
        )
    return NormParameters(
        round_half_up(np.ldexp(gain, frac)).astype(np.int16),
        gain_shift.astype(np.int8),
        wide.astype(np.int32),
        shift,
        int(folded),
    )


def norm_worth(p: NormParameters, out_frac: int | Int64Array) -> tuple[FloatArray, FloatArray]:
    """Return the real gain [F] and bias [F] that the integers are worth, for an output with out_frac fraction bits, one or [F]."""
    frac = p.gain_shift.astype(np.int64) - ROOT_BITS + p.variance_shift // 2 + out_frac + NORM_BIAS_BITS
    bias: FloatArray = np.ldexp(p.bias.astype(np.float64), -(np.asarray(out_frac) + NORM_BIAS_BITS))
    return np.ldexp(p.gain.astype(np.float64), -frac), bias
