"""The choice of a token by integers, and a value that is fed back (docs/arithmetic.md, section 12).

Weights of a softmax at a temperature, the upper and lower halves of products by which Philox draws its numbers, and a number's share of a sum.
"""

from collections.abc import Sequence

from qrnn.arithmetic.fixedpoint import choose, saturate, shift_right_round
from qrnn.arithmetic.logarithms import natural_log
from qrnn.arithmetic.running_softmax import power_exponent, power_mantissa, score_place

LARGEST_DISTANCE = (1 << 31) - 1
"""The largest distance of a score from the largest one; what lies further below counts as this far."""

MOST_CHOICES = 65535
"""The most tokens among which one is chosen: the sum of their weights is below 2^39."""


def choice_distance(top: int, score: int, probabilities: int, logs: Sequence[int]) -> int:
    """Return how far a score is below the largest one, ``top``, 0 … 2^31 - 1; -1 for a probability of 0, which is never chosen.

    With ``probabilities`` 1 both are probabilities of any one unit, at most 32767, and the distance is ln(top) - ln(score) with 24 fraction
    bits, from the table of `natural_log`. With 0 it is top - score, at most 2^31 - 1.
    """
    if probabilities < 1:
        return saturate(top - score, 0, 2147483647)
    if score < 1:
        return -1
    return natural_log(choose(top < 1, 1, top), logs) - natural_log(choose(score < 1, 1, score), logs)


def choice_weight(distance: int, multiplier: int, shift: int, powers: Sequence[int]) -> int:
    """Return the weight of a token, 2^23 · e^(-distance / temperature) rounded, 0 … 2^23; 0 for a distance below 0.

    2^-distance' with distance' = distance · multiplier / 2^(20 + shift): the multiplier, 1 … 2^31 - 1, and shift, 0 … 62, hold the unit of the
    distance, log2(e) and the temperature. ``powers`` is the table of `power_mantissa`.
    """
    place = score_place(0 - distance, multiplier, shift)
    fall = saturate(0 - power_exponent(place), 0, 30)
    return choose(distance < 0, 0, shift_right_round(power_mantissa(place, powers), fall))


def product_high(a: int, b: int) -> int:
    """Return floor(a · b / 2^32) for a and b in 0 … 2^32 - 1, within 49 bits on the way."""
    return (((a * (b & 65535)) >> 16) + a * (b >> 16)) >> 16


def product_low(a: int, b: int) -> int:
    """Return a · b modulo 2^32 for a and b in 0 … 2^32 - 1, within 49 bits on the way."""
    low = a * (b & 65535)
    return ((((low >> 16) + a * (b >> 16)) & 65535) << 16) + (low & 65535)


def weight_share(total: int, word: int) -> int:
    """Return floor(total · word / 2^32) for total in 0 … 2^40 - 1 and word in 0 … 2^32 - 1: 0 … total - 1, or 0 for total 0."""
    return ((total >> 16) * word + (((total & 65535) * word) >> 16)) >> 16


def fed_value(q: int, multiplier: int, bias: int, shift: int, limit: int) -> int:
    """Return clamp(floor((q · multiplier + bias) / 2^shift), ±limit): the integer of an input that is given a value of an output.

    q int16, multiplier 0 … 2^46 - 1, |bias| < 2^61, shift 0 … 62, limit 1 … 32767. Whoever makes the numbers proves for every q that this is
    what the boundary (docs/arithmetic.md, section 7) makes of the output's real value.
    """
    return saturate((q * multiplier + bias) >> shift, -limit, limit)
