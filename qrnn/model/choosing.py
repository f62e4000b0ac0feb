"""Which token follows: the largest score, or one drawn by a softmax of the scores (docs/arithmetic.md, section 12).

`choose_rows` is the definition, of which every backend and the exported C give the integers. `ChoiceNumbers` are its numbers for a unit of the
scores and a temperature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.choices import MOST_CHOICES
from qrnn.arithmetic.logarithms import LOG_FRAC
from qrnn.arithmetic.reals import round_half_up
from qrnn.arithmetic.running_softmax import PLACE_BITS
from qrnn.errors import DataError
from qrnn.model.layer_facts import Loop, RowLoop
from qrnn.model.log_table import log_table
from qrnn.model.power_table import power_table
from qrnn.model.user_values import check_count

SEEDS: Final = 1 << 64
"""The number of seeds."""

TOP_P_BITS: Final = 16
"""The fraction bits of a top-p."""

_MULTIPLIERS: Final = 1 << 31
_MOST_SHIFT: Final = 62


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: by the softmax of score / ``temperature``, among the likeliest tokens alone where that is asked for.

    ``top_k`` keeps the k tokens with the largest scores. ``top_p`` keeps the fewest tokens, the likeliest first, whose probabilities add up to
    at least p (Holtzman et al. 2020, nucleus sampling); p is rounded to 16 bits, and is of what ``top_k`` has kept. Among equal scores those
    with the lower index are kept. DataError for a temperature or a p that is not above 0, a p above 1 and a k below 1.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        t, k, p = self.temperature, self.top_k, self.top_p
        if isinstance(t, bool) or not isinstance(t, (int, float, np.number)) or not 0.0 < t < math.inf:
            raise DataError(f"temperature={t!r}, expected a number above 0; leave out sampling for the largest score")
        if k is not None:
            check_count("top_k", k)
        if p is not None and (isinstance(p, bool) or not isinstance(p, (int, float, np.number)) or not 0.0 < p <= 1.0):
            raise DataError(f"top_p={p!r}, expected a number above 0 and at most 1")


@dataclass(frozen=True)
class ChoiceNumbers:
    """The integers by which `choose_rows` chooses; ``multiplier`` 0 takes the largest score, and 0 for ``top_k`` and ``top_p`` keeps all."""

    multiplier: int = 0
    shift: int = 0
    top_k: int = 0
    top_p: int = 0

    @property
    def greedy(self) -> bool:
        """Return whether the largest score is chosen."""
        return self.multiplier == 0


def choice_numbers(sampling: Sampling | None, unit: float, probabilities: bool) -> ChoiceNumbers:
    """Return the integers of a choice among scores of ``unit``, or among ``probabilities`` of any unit.

    None for ``sampling`` chooses the largest. DataError for a temperature so low that nothing but the largest could be drawn.
    """
    if sampling is None:
        return ChoiceNumbers()
    of_one = (2.0**-LOG_FRAC if probabilities else unit) * math.log2(math.e) * 2.0**PLACE_BITS
    factor = of_one / sampling.temperature
    if factor >= _MULTIPLIERS - 0.5:
        least = of_one / (_MULTIPLIERS - 1)
        raise DataError(
            f"temperature={sampling.temperature}, expected at least {least:.3g}; leave out sampling for the largest score"
        )
    shift = min(_MOST_SHIFT, 31 - math.frexp(factor)[1])
    multiplier = int(round_half_up(math.ldexp(factor, shift)))
    if multiplier == _MULTIPLIERS:
        multiplier, shift = multiplier >> 1, shift - 1
    if multiplier < 1:
        most = math.ldexp(of_one, _MOST_SHIFT + 1)
        raise DataError(f"temperature={sampling.temperature}, expected at most {most:.3g}")
    kept = 0 if sampling.top_p is None else max(1, int(round_half_up(sampling.top_p * (1 << TOP_P_BITS))))
    return ChoiceNumbers(multiplier, shift, int(sampling.top_k or 0), 0 if kept == 1 << TOP_P_BITS else kept)


def choose_rows(contract: Any) -> Loop:
    """Return the loop that chooses a token for each row of scores.

    Its inputs are ``scores`` [M, V] and ``draws`` [M, 4]: the lower and the upper 32 bits of a row's seed, and those of the number of its
    draw. The draw is the first word of Philox4x32-10 (Salmon et al. 2011) with the seed as its key and the number as its counter.
    """
    choice_distance, choice_weight = contract.choice_distance, contract.choice_weight
    product_high, product_low, weight_share = contract.product_high, contract.product_low, contract.weight_share

    def rows(
        first: int, last: int, multiplier: int, shift: int, top_k: int, top_p: int, probabilities: int, powers: Any, logs: Any,
        scores: Any, draws: Any, out: Any,
    ) -> None:  # fmt: skip
        for m in range(first, last):
            best = 0
            lowest = 0
            for k in range(scores.shape[1]):
                if scores[m, k] > scores[m, best]:
                    best = k
                if scores[m, k] < scores[m, lowest]:
                    lowest = k
            chosen = best
            if multiplier > 0:
                # kept are tokens less than `edge` below the largest score, and of those that are just as far the first `ties`
                top = scores[m, best]
                edge = top - scores[m, lowest]
                ties = scores.shape[1]
                if 0 < top_k and top_k < scores.shape[1]:  # noqa: SIM300
                    low = 0
                    for _halving in range(34):
                        if low < edge:
                            middle = (low + edge) >> 1
                            within = 0
                            for k in range(scores.shape[1]):
                                if top - scores[m, k] <= middle:
                                    within += 1
                            if within < top_k:
                                low = middle + 1
                            else:
                                edge = middle
                    ties = top_k
                    for k in range(scores.shape[1]):
                        if top - scores[m, k] < edge:
                            ties -= 1
                total = 0
                equal = 0
                for k in range(scores.shape[1]):
                    gap = top - scores[m, k]
                    if gap < edge or (gap == edge and equal < ties):
                        distance = choice_distance(top, scores[m, k], probabilities, logs)
                        total += choice_weight(distance, multiplier, shift, powers)
                        if gap == edge:
                            equal += 1
                if top_p > 0:
                    target = (total * top_p + 65535) >> 16
                    low = 0
                    high = edge
                    for _halving in range(34):
                        if low < high:
                            middle = (low + high) >> 1
                            summed = 0
                            for k in range(scores.shape[1]):
                                if top - scores[m, k] <= middle:
                                    distance = choice_distance(top, scores[m, k], probabilities, logs)
                                    summed += choice_weight(distance, multiplier, shift, powers)
                            if summed < target:
                                low = middle + 1
                            else:
                                high = middle
                    summed = 0
                    own = 0
                    for k in range(scores.shape[1]):
                        gap = top - scores[m, k]
                        if gap <= low:
                            distance = choice_distance(top, scores[m, k], probabilities, logs)
                            if gap < low:
                                summed += choice_weight(distance, multiplier, shift, powers)
                            else:
                                own = choice_weight(distance, multiplier, shift, powers)
                    if own > 0:
                        needed = (target - summed + own - 1) // own
                        if low < edge or needed < ties:
                            ties = needed
                        edge = low
                        total = summed + ties * own
                # Philox: ten rounds on a counter of four words, of which the upper two are 0
                c0 = draws[m, 2]
                c1 = draws[m, 3]
                c2 = 0
                c3 = 0
                k0 = draws[m, 0]
                k1 = draws[m, 1]
                for _round in range(10):
                    upper0 = product_high(3528531795, c0)
                    lower0 = product_low(3528531795, c0)
                    upper1 = product_high(3449720151, c2)
                    lower1 = product_low(3449720151, c2)
                    c0 = upper1 ^ c1 ^ k0
                    c1 = lower1
                    c2 = upper0 ^ c3 ^ k1
                    c3 = lower0
                    k0 = (k0 + 2654435769) & 4294967295
                    k1 = (k1 + 3144134277) & 4294967295
                point = weight_share(total, c0)
                equal = 0
                for k in range(scores.shape[1]):
                    gap = top - scores[m, k]
                    if gap < edge or (gap == edge and equal < ties):
                        distance = choice_distance(top, scores[m, k], probabilities, logs)
                        point -= choice_weight(distance, multiplier, shift, powers)
                        if gap == edge:
                            equal += 1
                        if point < 0:
                            chosen = k
                            break
            out[m, 0] = chosen

    return rows


def choice_loop(numbers: ChoiceNumbers, probabilities: bool) -> RowLoop:
    """Return the loop over rows of scores and draws, with its parameters."""
    tables = power_table(), log_table()
    parameters = (numbers.multiplier, numbers.shift, numbers.top_k, numbers.top_p, int(probabilities), *tables)
    return RowLoop(choose_rows, parameters, ("scores", "draws"))


def words_of(draws: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Return the rows [M, 4] of words for the seeds and the numbers of draws of streams, [M, 2]."""
    words: npt.NDArray[np.uint32] = draws.astype("<u8", copy=False).view("<u4")
    return words.astype(np.uint32, copy=False)


def check_choices(where: str, count: int) -> None:
    """Raise DataError for more tokens than a choice is made among."""
    if not 1 <= count <= MOST_CHOICES:
        raise DataError(f"{where}: {count} scores, expected 1 to {MOST_CHOICES}")
