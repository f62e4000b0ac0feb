"""The integers of a converter, called codes, become those of a graph input by a multiplication and a shift (docs/arithmetic.md, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Any, Literal, get_args

import numpy as np

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.codes import CODE_BIAS_MAX, CODE_MULTIPLIER_MAX, CODE_SHIFT_MAX, from_code
from qrnn.errors import DataError
from qrnn.model.integers_only import check_integers
from qrnn.model.parts import Int16Array, TensorFormat
from qrnn.model.quant_model import QuantModel

CodeKind = Literal["int16", "uint16", "int32"]
RANGES: dict[CodeKind, tuple[int, int]] = {
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
}
MOST_ERROR = Fraction(1, 2)
"""The most units by which a code's place may differ from the exact one, so that its integer is at most one unit beside the exact one's."""


@dataclass(frozen=True)
class CodeRule:
    """How one feature's codes become integers: clamp(round((code · multiplier + bias) / 2^shift), ±limit)."""

    multiplier: int
    bias: int
    shift: int


@dataclass(frozen=True)
class CodeFormat:
    """What the codes of a converter are worth, real = code · scale + offset, and how they become the integers of a graph input.

    ``scale``, ``offset`` and ``rules`` have one entry for all features of the input, or one for each. ``limit`` is the input's.
    """

    kind: CodeKind
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    rules: tuple[CodeRule, ...]
    limit: int

    def integers(self, codes: Any) -> Int16Array:
        """Return the input's integers [..., F] for codes [..., F]: what the exported C makes of them, bit for bit.

        Raises DataError where codes are no integers, or out of the range of their type.
        """
        given = np.asarray(codes)
        least, most = RANGES[self.kind]
        if given.dtype.kind not in "iu":
            raise DataError(f"codes of type {given.dtype}, expected integers of type {self.kind}")
        if given.ndim == 0 or len(self.rules) not in (1, given.shape[-1]):
            raise DataError(f"codes of shape {list(given.shape)}, expected [..., {len(self.rules)}]")
        if given.size and not (least <= int(given.min()) and int(given.max()) <= most):
            raise DataError(f"codes from {given.min()} to {given.max()}, expected {least} to {most} ({self.kind})")
        multiplier, bias, shift = np.array([(r.multiplier, r.bias, r.shift) for r in self.rules], np.int64).T
        found: Int16Array = of_arrays(from_code)(given.astype(np.int64), multiplier, bias, shift, self.limit).astype(
            np.int16
        )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what `code_format` is given again, as plain values."""
        return {"kind": self.kind, "scale": list(self.scale), "offset": list(self.offset)}


def code_format(
    model: QuantModel,
    name: str,
    scale: float | Sequence[float],
    offset: float | Sequence[float] = 0.0,
    kind: CodeKind = "int16",
) -> CodeFormat:
    """Return how codes, of which each stands for code · ``scale`` + ``offset``, become the integers of input ``name`` of a model.

    ``scale`` and ``offset`` are one number, or one for each feature; ``kind`` is the type of the codes. The rule is chosen so that a code's
    place is the exact one but for half a unit, and mostly for far less. DataError names what cannot be so: a wrong name or number, a code
    that is worth too much or too little.
    """
    check_integers(model, "code_format")
    port = next((i for i in model.inputs if i.name == name), None)
    if port is None or port.kind != "features":
        known = ", ".join(i.name for i in model.inputs if i.kind == "features") or "none"
        what = "no input has this name" if port is None else f"it takes {port.kind}, which are no real numbers"
        raise DataError(f"codes of {name!r}: {what}; expected an input of features ({known})")
    if kind not in get_args(CodeKind):
        raise DataError(f"codes of {name!r}: type {kind!r}, expected one of {', '.join(get_args(CodeKind))}")
    fmt = model.tensors[name]
    scales, offsets = (_numbers(name, what, v, fmt) for what, v in (("scales", scale), ("offsets", offset)))
    if not all(scales):
        raise DataError(f"codes of {name!r}: a scale of 0, expected what one code is worth")
    features = max(len(scales), len(offsets), len(fmt.scale), len(fmt.offset))
    known_rules: dict[tuple[float, float, float, int], CodeRule] = {}
    rules = []
    for f in range(features):
        key = (_at(scales, f), _at(offsets, f), _at(fmt.scale, f), _at(fmt.offset, f))
        if key not in known_rules:
            where = f"codes of {name!r}" if features == 1 else f"codes of {name!r}, feature {f}"
            known_rules[key] = _rule(where, kind, fmt.limit, *key)
        rules.append(known_rules[key])
    return CodeFormat(kind, scales, offsets, tuple(rules if len(known_rules) > 1 else rules[:1]), fmt.limit)


def _numbers(name: str, what: str, given: float | Sequence[float], fmt: TensorFormat) -> tuple[float, ...]:
    """Return one number or one for each feature, as a tuple."""
    values = tuple(float(v) for v in np.atleast_1d(np.asarray(given, np.float64)))
    if len(values) not in (1, fmt.features):
        raise DataError(f"codes of {name!r}: {len(values)} {what}, expected 1 or {fmt.features}, one for each feature")
    if not all(isfinite(v) for v in values):
        raise DataError(f"codes of {name!r}: {what} that are not finite, expected real numbers")
    return values[:1] if len(set(values)) == 1 else values


def _at(values: Sequence[Any], f: int) -> Any:
    return values[f] if len(values) > 1 else values[0]


def _rule(where: str, kind: CodeKind, limit: int, scale: float, offset: float, unit: float, zero: int) -> CodeRule:
    """Return the finest rule for a feature, whose integers q, within ±``limit``, stand for (q + ``zero``) · ``unit``."""
    least, most = RANGES[kind]
    ratio, start = Fraction(scale) / Fraction(unit), Fraction(offset) / Fraction(unit) - zero
    if abs(ratio) * (most - least) < 1:
        raise DataError(
            f"{where}: one code is worth {scale!r}, and all codes of {kind} together less than one unit of the input, "
            f"{unit!r}; expected a larger scale"
        )
    ends = sorted((place - start) / ratio for place in (-limit - 1, limit + 1))
    if ends[1] < least or ends[0] > most:
        raise DataError(
            f"{where}: one code is worth {scale!r} and code 0 {offset!r}, so that no code of {kind} lies within the input's range, "
            f"{float((zero - limit) * Fraction(unit)):.6g} to {float((zero + limit) * Fraction(unit)):.6g}; expected another scale or offset"
        )
    ends = [min(max(end, Fraction(least)), Fraction(most)) for end in ends]
    for shift in range(CODE_SHIFT_MAX, -1, -1):
        multiplier, bias = _half_up(ratio * (1 << shift)), _half_up(start * (1 << shift))
        if abs(multiplier) <= CODE_MULTIPLIER_MAX and abs(bias) <= CODE_BIAS_MAX:
            break
    else:
        raise DataError(
            f"{where}: one code is worth {scale!r} and code 0 {offset!r}, far beyond the units of the input, {unit!r}; expected smaller ones"
        )
    one = 1 << shift
    error = max(abs(code * (Fraction(multiplier, one) - ratio) + Fraction(bias, one) - start) for code in ends)
    if error > MOST_ERROR:
        raise DataError(
            f"{where}: code 0 is worth {offset!r}, so far from 0 that codes cannot be placed within half a unit of the input, "
            f"{unit!r}; expected an offset nearer to 0"
        )
    return CodeRule(multiplier, bias, shift)


def _half_up(value: Fraction) -> int:
    """Return the nearest whole number, halves towards plus infinity."""
    return (2 * value + 1) // 2 if value.denominator > 1 else int(value)


def codes_within(found: CodeFormat) -> tuple[int, int, int]:
    """Return how many codes there are, and the least and the largest of those that the clamp leaves as they are in every feature."""
    least, most = RANGES[found.kind]
    low, high = least, most
    for rule in found.rules:
        ends = [_code_of(rule, q) for q in (-found.limit, found.limit)]
        low, high = max(low, min(ends)), min(high, max(ends))
    return most - least + 1, low, high


def _code_of(rule: CodeRule, q: int) -> int:
    """Return the code whose integer is about ``q``."""
    return round(Fraction((q << rule.shift) - rule.bias, rule.multiplier))
