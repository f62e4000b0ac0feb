"""What the last operations of a cell say: which elements are its gates, and which are the states that it reads.

An LSTM ends with h' = o · tanh(c') and c' = f · c + i · g, a GRU with h' = (1 - z) · n + z · h, an RNN with h' = tanh(…); every way to
write these is the same sum of products. The first step of a sequence that starts from zeros lacks the products with the state: it is `first`,
and by itself no cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qrnn.onnx_import.cells.elements import WHAT, Block, Elements, Function
from qrnn.onnx_import.cells.forms import NotACell, Polynomial, applied, ids_of, is_all, polynomial
from qrnn.onnx_import.values import Array

GATES = ("Sigmoid", "HardSigmoid")
"""The functions by which a gate is told from a candidate where the equation leaves both open."""


PATTERN_WORK = 100_000
"""Nominal nanoseconds to look at one sum or product."""


@dataclass(frozen=True)
class Pattern:
    """The end of a cell: its gates as the elements that their functions are applied to, before any matrix is looked at."""

    op: str
    home: str
    new_h: Array
    gates: dict[str, Array]
    functions: tuple[Function, ...]
    """Those of the cell in ONNX's order."""
    new_c: Array | None = None
    old_h: Array | None = None
    old_c: Array | None = None
    negated: bool = False
    """The file's update gate is one minus ONNX's."""
    first: bool = False
    start: dict[str, Array] = field(default_factory=dict)
    """The numbers of the initial states that a first step shows: ``h`` of a GRU, ``c`` of an LSTM."""


def patterns_of(elements: Elements, block: Block) -> list[Pattern]:
    """Return the cells of which this block may be the new hidden state, those with all of their states first."""
    ids = np.arange(block.start, block.start + block.size)
    found: list[Pattern] = []
    if block.kind == "unary":
        made = applied(elements, ids)
        return [] if made is None else [Pattern("RNN", block.home, ids, {"i": made[1]}, (made[0],))]
    if block.kind not in ("sum", "product"):
        return []
    elements.budget.spend(WHAT, PATTERN_WORK)
    try:
        terms = polynomial(elements, ids)
    except NotACell:
        return []
    found += _lstm(elements, block, ids, _terms(terms))
    found += _gru(elements, block, ids, _terms(terms))
    return sorted(found, key=lambda p: p.first)


Term = tuple[tuple[Array, ...], Array]
"""A product: the elements that it multiplies, and its coefficient."""


def _terms(polynomial: Polynomial) -> list[Term]:
    return [(tuple(ids_of(k) for k in key), value) for key, value in polynomial.items()]


def _lstm(elements: Elements, block: Block, ids: Array, terms: list[Term]) -> list[Pattern]:
    """Return the LSTM that h' = o · tanh(c') ends."""
    key, coefficient = terms[0] if len(terms) == 1 else ((), np.zeros(1))
    if len(key) != 2 or not is_all(coefficient, 1):
        return []
    found = []
    for o, t in (key, key[::-1]):
        gate, output = applied(elements, o), applied(elements, t)
        if gate is None or output is None:
            continue
        try:
            inner = polynomial(elements, output[1])
        except NotACell:
            continue
        split = _cell_state(elements, _terms(inner), gate[0])
        if split is None:
            continue
        gates, candidate, old_c, start = split
        found.append(
            Pattern(
                "LSTM",
                block.home,
                ids,
                {**gates, "o": gate[1]},
                (gate[0], candidate, output[0]),
                new_c=output[1],
                old_c=old_c,
                first=old_c is None,
                start=start,
            )
        )
    return found


def _cell_state(
    elements: Elements, terms: list[Term], gate: Function
) -> tuple[dict[str, Array], Function, Array | None, dict[str, Array]] | None:
    """Take c' = f · c + i · g apart: the gates' arguments, the candidate's function, c, and the numbers of c in a first step."""
    for at, coefficient in terms:
        if len(at) != 2 or not is_all(coefficient, 1):
            continue
        for i, g in (at, at[::-1]):
            inner, candidate = applied(elements, i), applied(elements, g)
            if inner is None or candidate is None or inner[0] != gate:
                continue
            gates = {"i": inner[1], "c": candidate[1]}
            rest = [term for term in terms if term[0] is not at]
            if not rest:
                return gates, candidate[0], None, {}
            if len(rest) > 1:
                continue
            factors, last = rest[0]
            forget = [applied(elements, v) for v in factors]
            if len(factors) == 1 and forget[0] is not None and forget[0][0] == gate:
                return {**gates, "f": forget[0][1]}, candidate[0], None, {"c": last}
            if len(factors) != 2 or not is_all(last, 1):
                continue
            for f, other, c in ((forget[0], forget[1], factors[1]), (forget[1], forget[0], factors[0])):
                if f is not None and f[0] == gate and other is None:
                    return {**gates, "f": f[1]}, candidate[0], c, {}
    return None


def _gru(elements: Elements, block: Block, ids: Array, terms: list[Term]) -> list[Pattern]:
    """Return the GRU that h' = (1 - z) · n + z · h ends, or that with one minus this z."""
    by_degree: dict[int, list[Term]] = {}
    for key, coefficient in terms:
        by_degree.setdefault(len(key), []).append((key, coefficient))
    single, double = by_degree.get(1, []), by_degree.get(2, [])
    if max(by_degree, default=0) > 2 or not 1 <= len(double) <= 2 or len(single) > 2:
        return []
    found = []
    for key, coefficient in double:
        for z, n in (key, key[::-1]):
            update, candidate = applied(elements, z), applied(elements, n)
            if update is None or candidate is None:
                continue
            rest = [other for other in double if other[0] is not key]
            end = _kept(z, n, coefficient, rest, single, next((value for _, value in by_degree.get(0, [])), None))
            if end is None or (end.first and update[0].name not in GATES):
                continue
            found.append(
                Pattern(
                    "GRU",
                    block.home,
                    ids,
                    {"z": update[1], "h": candidate[1]},
                    (update[0], candidate[0]),
                    old_h=end.h,
                    negated=end.negated,
                    first=end.first,
                    start=end.start,
                )
            )
    return found


@dataclass(frozen=True)
class _Kept:
    """What a GRU's end keeps of its state."""

    h: Array | None
    negated: bool
    first: bool
    start: dict[str, Array]


def _same(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a, b))


def _kept(
    z: Array,
    n: Array,
    coefficient: Array,
    double: list[Term],
    single: list[Term],
    number: Array | None,
) -> _Kept | None:
    """Return what else than z · n stands in the sum, where it makes the whole one a GRU."""
    alone = [(key[0], value) for key, value in single]
    if is_all(coefficient, -1):  # n - z · n + z · h
        if not any(_same(a, n) and is_all(value, 1) for a, value in alone) or number is not None:
            return None
        others = [(a, value) for a, value in alone if not _same(a, n)]
        if double and not others:
            key, value = double[0]
            h = next((key[1 - k] for k in (0, 1) if _same(key[k], z)), None)
            return _Kept(h, False, False, {}) if h is not None and is_all(value, 1) else None
        if not double and len(others) == 1 and _same(others[0][0], z):
            return _Kept(None, False, True, {"h": others[0][1]})
        return _Kept(None, False, True, {}) if not double and not others else None
    if not is_all(coefficient, 1):
        return None
    if double:  # z · n + h - z · h
        key, value = double[0]
        h = next((key[1 - k] for k in (0, 1) if _same(key[k], z)), None)
        right = h is not None and len(alone) == 1 and _same(alone[0][0], h) and is_all(alone[0][1], 1)
        return _Kept(h, True, False, {}) if right and is_all(value, -1) and number is None else None
    if not alone and number is None:
        return _Kept(None, True, True, {})
    if number is not None and len(alone) == 1 and _same(alone[0][0], z) and np.array_equal(alone[0][1], -number):
        return _Kept(None, True, True, {"h": number})
    return None
