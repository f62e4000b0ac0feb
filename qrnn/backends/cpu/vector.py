"""The contract's scalar functions, evaluated for many lanes at once: arithmetic is written once, and lifted here.

`lift` runs the Python code of a contract function on `Vec` values, whose operators emit LLVM vector instructions. Every `Vec` carries
bounds of its values: an operation is done in lanes of the fewest bits where its result is proved to fit, so that lifted code is exact for the
reason that the scalar code is, and no wider than it must be. Lanes have 32 or 64 bits, and in vectors of `INT16_LANES` lanes also 16
(`qrnn.backends.cpu.parts`).
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from qrnn import arithmetic
from qrnn.arithmetic import fixedpoint, gates
from qrnn.backends.cpu import parts as p
from qrnn.backends.cpu.parts import INT16_LANES, Parts, splat, vector_type

INT16, INT32 = (-(1 << 15), (1 << 15) - 1), (-(1 << 31), (1 << 31) - 1)
UINT16 = (0, (1 << 16) - 1)
Q15 = 15


class Mask:
    """One bit per lane; in parts like a `Vec`."""

    def __init__(self, builder: Any, parts: Parts) -> None:
        self.builder, self.parts = builder, parts

    def like(self, bits: int) -> Parts:
        """Return the mask for lanes of ``bits``."""
        now = bits_in(p.lanes_of(self.parts), len(self.parts))
        if now == bits:
            return self.parts
        lanes = tuple(self.builder.sext(m, vector_type(m.type.count, now)) for m in self.parts)
        other = p.convert(self.builder, lanes, bits, -1, 0)
        return tuple(self.builder.icmp_signed("!=", m, ir.Constant(m.type, None)) for m in other)

    def __bool__(self) -> bool:
        raise TypeError("a contract function branches on a value; use fixedpoint.choose")


class Vec:
    """Integers, one per lane, each within [low, high], in lanes of 16, 32 or 64 bits.

    16-bit lanes are signed where the bounds lie within int16, else they lie within uint16.
    """

    def __init__(self, builder: Any, value: Any, low: int, high: int) -> None:
        if not -(1 << 63) <= low <= high < 1 << 63:
            raise AssertionError(f"values in [{low}, {high}] do not fit 64 bits")
        self.builder, self.low, self.high = builder, low, high
        self.parts: Parts = value if isinstance(value, tuple) else (value,)
        self.shifted: tuple[int, int] | None = None
        """What is proved of this value shifted left, where that is less than its bounds say (`requantize`'s accumulator)."""
        self.successor_of: Vec | None = None
        self.difference: tuple[Vec, Vec] | None = None
        """(table[k], table[k+1] - table[k]) of a looked-up table[k+1]."""
        self.low_int16: Any = None
        """The low 16 bits of every lane, where these were to be had without the others. What is not used of the two is never computed."""
        self.negative_int16: Any = None
        """-x as int16, in every lane, where that was to be had before x itself."""
        self.wide: Parts | None = None
        """The same lanes in 64 bits, where these were to be had."""
        self.factors: tuple[Any, Any] | None = None
        """Two vectors of int16 whose product this is."""
        self.terms: tuple[Vec, Vec] | None = None
        """Two vectors of int32 whose sum this is, where it takes more."""
        self.sums: tuple[int, int] | None = None
        """What is proved of any sum with this value, where that is less than its bounds say."""
        self.least: Vec | None = None
        """A value that this one is proved to be nowhere below."""

    @classmethod
    def scalar(cls, builder: Any, scalar: Any, lanes: int, low: int, high: int) -> Vec:
        """Return a run-time i32 in every lane."""
        int16 = splat(builder, builder.trunc(scalar, ir.IntType(16)), lanes) if lanes == INT16_LANES else None
        if _bits(low, high, lanes) == 16:
            return cls(builder, int16, low, high)
        count = p.count_of(lanes, 32)
        found = cls(builder, (splat(builder, scalar, lanes // count),) * count, low, high)
        found.low_int16 = int16
        return found

    @property
    def lanes(self) -> int:
        """Return the number of lanes."""
        return p.lanes_of(self.parts)

    @property
    def bits(self) -> int:
        """Return the bits of a lane."""
        return p.bits_of(self.parts)

    def like(self, bits: int) -> Parts:
        """Return the lanes in ``bits``: extended, or their low bits."""
        if bits == 16 and self.low_int16 is not None:
            return (self.low_int16,)
        if bits == 64 and self.wide is not None:
            return self.wide
        return p.convert(self.builder, self.parts, bits, self.low, self.high)

    def _int16(self) -> Any:
        """Return the low 16 bits of every lane, or None where they would have to be taken out of wider ones."""
        return self.parts[0] if self.bits == 16 else self.low_int16

    def _other(self, other: Any) -> Vec:
        if isinstance(other, Vec):
            return other
        n, lanes = int(other), self.lanes
        bits = _bits(n, n, lanes)
        count = p.count_of(lanes, bits)
        return Vec(self.builder, (p.constant(vector_type(lanes // count, bits), n),) * count, n, n)

    def _each(self, operation: str, other: Vec, bits: int) -> Parts:
        """Return the result of an LLVM operation on lanes of ``bits``."""
        emit = getattr(self.builder, operation)
        return tuple(emit(a, b) for a, b in zip(self.like(bits), other.like(bits), strict=True))

    def _low_bits(self, operation: str, other: Vec, low: int, high: int) -> Vec:
        """Return the result of an operation whose low bits depend on the low bits of its arguments alone."""
        bits = _bits(low, high, self.lanes)
        if bits == 16 and (self._int16() is None or other._int16() is None):
            bits = 32  # These are the lanes that the arguments have.
        found = Vec(self.builder, self._each(operation, other, bits), low, high)
        return found if bits == 16 else found._with_int16(operation, self, other)

    def _with_int16(self, operation: str, a: Vec, b: Vec) -> Vec:
        """Return this result of an operation of a and b, with its low 16 bits in 16-bit lanes where both have them."""
        u, v = a._int16(), b._int16()
        if u is not None and v is not None:
            self.low_int16 = getattr(self.builder, operation)(u, v)
        return self

    def __add__(self, other: Any) -> Vec:
        o = self._other(other)
        result = self._sum_of_products(o)
        if result is None:
            result = self._low_bits("add", o, *(self.sums or o.sums or (self.low + o.low, self.high + o.high)))
        if isinstance(other, int) and other == 1:
            result.successor_of = self
        if result.bits == 64 and self.bits == o.bits == 32:
            result.terms = (self, o)
        return result

    __radd__ = __add__

    def _sum_of_products(self, other: Vec) -> Vec | None:
        low, high = self.low + other.low, self.high + other.high
        if self.factors is None or other.factors is None or _bits(low, high) != 32:
            return None
        parts = p.multiplied_and_added_int16(self.builder, *self.factors, *other.factors)
        return Vec(self.builder, parts, low, high)

    def __sub__(self, other: Any) -> Vec:
        o = self._other(other)
        if self.difference is not None and self.difference[0] is o:
            return self.difference[1]
        return self._low_bits("sub", o, self.low - o.high, self.high - o.low)

    def __rsub__(self, other: Any) -> Vec:
        return self._other(other) - self

    def __neg__(self) -> Vec:
        return self._other(0) - self

    def __mul__(self, other: Any) -> Vec:
        o = self._other(other)
        corners = [a * b for a in (self.low, self.high) for b in (o.low, o.high)]
        low, high = min(corners), max(corners)
        factors = _factors(self, o) if _bits(low, high, self.lanes) == 32 else None
        if factors is None:
            return self._low_bits("mul", o, low, high)
        found = Vec(self.builder, p.multiplied_int16(self.builder, *factors), low, high)
        found.factors = factors
        return found._with_int16("mul", self, o)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        raise TypeError("a contract function branches on a value; use fixedpoint.choose")

    def __eq__(self, other: object) -> bool:
        raise TypeError("a contract function compares for equality; lift an inequality")

    __hash__ = None  # type: ignore[assignment]  # There is no equality either.

    def __lshift__(self, other: Any) -> Vec:
        o = self._shift(other)
        corners = [a << b for a in (self.low, self.high) for b in (o.low, o.high)]
        low, high = self.shifted or (min(corners), max(corners))
        found = Vec(self.builder, self._each("shl", o, _shift_bits(o, low, high, self.lanes)), low, high)
        if found.bits > 16 and o.high < 16:
            found._with_int16("shl", self, o)
        return found.narrowed()

    def _shift(self, other: Any) -> Vec:
        """Return a number of bits to shift by, as a vector."""
        o = self._other(other)
        if not 0 <= o.low <= o.high <= 63:
            raise AssertionError(f"shifts by {o.low}…{o.high} bits are not lifted")
        return o

    def __rlshift__(self, other: Any) -> Vec:
        return self._other(other) << self

    def __rshift__(self, other: Any) -> Vec:
        o = self._shift(other)
        corners = [a >> b for a in (self.low, self.high) for b in (o.low, o.high)]
        low, high = min(corners), max(corners)
        bits = max(_shift_bits(o, self.low, self.high, self.lanes), self.bits)
        if bits == 64 and _bits(low, high) == 32 and o.high <= 32 and (o.low == 32 or o.high < 32):
            return Vec(self.builder, self._shifted_to_32(o), low, high).narrowed()
        shifted = self._each("lshr" if self.low >= 0 else "ashr", o, bits)
        return Vec(self.builder, shifted, low, high).narrowed()

    def _shifted_to_32(self, by: Vec) -> Parts:
        """Take the 32 bits from bit ``by`` on of 64-bit lanes: even lanes are shifted down to the low half, odd ones up to the high half."""
        b, wide = self.builder, self.like(64)
        pairs = list(zip(wide[::2], wide[1::2], strict=True))
        if by.low == 32:
            return tuple(p.high_halves(b, even, odd) for even, odd in pairs)
        down, up = by.like(64), (32 - by).like(64)
        return tuple(
            p.interleaved(b, b.lshr(even, down[2 * k]), b.shl(odd, up[2 * k + 1]))
            for k, (even, odd) in enumerate(pairs)
        )

    def __rrshift__(self, other: Any) -> Vec:
        return self._other(other) >> self

    def __and__(self, other: Any) -> Vec:
        o = self._other(other)
        if o.low < 0:
            raise AssertionError("only masks of low bits are lifted")
        return self._low_bits("and_", o, 0, o.high)

    def narrowed(self) -> Vec:
        """Return the same values in the least lanes that hold them."""
        found = Vec(self.builder, self.like(_bits(self.low, self.high, self.lanes)), self.low, self.high)
        found.low_int16 = self.low_int16 if found.bits > 16 else None
        return found

    def proved(self, low: int, high: int) -> Vec:
        """Return the same values, of which it is known that they lie within [low, high]."""
        found = Vec(self.builder, self.parts, low, high)
        found.low_int16, found.wide = self.low_int16, self.wide
        return found.narrowed()

    def _compare(self, sign: str, other: Vec) -> Mask:
        low, high = min(self.low, other.low), max(self.high, other.high)
        bits = _bits(low, high, self.lanes)
        compare = self.builder.icmp_unsigned if bits == 16 and high > INT16[1] else self.builder.icmp_signed
        return Mask(
            self.builder, tuple(compare(sign, a, b) for a, b in zip(self.like(bits), other.like(bits), strict=True))
        )

    # What the bounds decide is decided here, so that no instruction is spent on it.

    def __lt__(self, other: Any) -> Any:
        o = self._other(other)
        return self.high < o.low or (self.low < o.high and self._compare("<", o))

    def __gt__(self, other: Any) -> Any:
        return self._other(other) < self

    def __ge__(self, other: Any) -> Any:
        return self._other(other) <= self

    def __le__(self, other: Any) -> Any:
        o = self._other(other)
        return self.high <= o.low or (self.low <= o.high and self._compare("<=", o))


def _within(v: Vec, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= v.low and v.high <= bounds[1]


def _bits(low: int, high: int, lanes: int = 0) -> int:
    """Return the bits of the least lanes that hold values in [low, high], in a vector of so many."""
    if lanes == INT16_LANES and any(least <= low and high <= most for least, most in (INT16, UINT16)):
        return 16
    return 32 if INT32[0] <= low and high <= INT32[1] else 64


def bits_in(lanes: int, registers: int) -> int:
    """Return the bits of a lane of a vector in so many registers."""
    return registers * (16 if lanes == INT16_LANES else 32)


def _shift_bits(by: Vec, low: int, high: int, lanes: int) -> int:
    """Return the bits of lanes in which values within [low, high] can be shifted.

    LLVM leaves a shift by the lane's width or more undefined.
    """
    least = 64 if by.high > 31 else 32 if by.high > 15 else 16
    return max(least, _bits(low, high, lanes)) if lanes == INT16_LANES else max(least, _bits(low, high), 32)


def _factors(a: Vec, b: Vec) -> tuple[Any, Any] | None:
    """Return a and b as int16, or else -a and -b, which have the same product.

    A gate that can be 1 = 32768 is an int16 when it is negative.
    """
    u, v = a._int16(), b._int16()
    if u is None or v is None:
        return None
    if _within(a, INT16) and _within(b, INT16):
        return u, v
    if all(-INT16[1] <= x.low and x.high <= -INT16[0] for x in (a, b)):
        return _negative(a, u), _negative(b, v)
    return None


def _negative(x: Vec, int16: Any) -> Any:
    """Return -x, where ``int16`` are the low 16 bits of the lanes of x."""
    return x.builder.sub(ir.Constant(int16.type, None), int16) if x.negative_int16 is None else x.negative_int16


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """Choose lane by lane, as `fixedpoint.choose`."""
    if not isinstance(condition, Mask):
        return fixedpoint.choose(condition, yes, no)
    if not isinstance(yes, Vec) and not isinstance(no, Vec):
        raise TypeError("a contract function chooses between two numbers by lane; make one of them a value")
    one = yes if isinstance(yes, Vec) else no
    a, b = one._other(yes), one._other(no)
    low, high = min(a.low, b.low), max(a.high, b.high)
    bits = _bits(low, high, one.lanes)
    lanes = zip(condition.like(bits), a.like(bits), b.like(bits), strict=True)
    found = Vec(one.builder, tuple(one.builder.select(m, u, v) for m, u, v in lanes), low, high)
    u, v = a._int16(), b._int16()
    if bits > 16 and u is not None and v is not None:
        found.low_int16 = one.builder.select(condition.like(16)[0], u, v)
    return found


def saturate(x: Any, low: Any, high: Any) -> Any:
    """Saturate as `fixedpoint.saturate` does, after which the bounds are known to be those of the clamp."""
    if not isinstance(x, Vec):
        return _SATURATE(x, low, high)
    if isinstance(low, int) and isinstance(high, int):
        if x.terms is not None and (low, high) == INT32:
            pairs = zip(x.terms[0].parts, x.terms[1].parts, strict=True)
            return Vec(x.builder, tuple(p.added_saturated(x.builder, a, b) for a, b in pairs), low, high)
        if x.lanes == INT16_LANES and x.bits == 32 and INT16[0] <= low and high <= INT16[1]:
            int16 = p.saturated_int16(x.builder, x.parts)  # This changes nothing, since the clamp lies within int16.
            x = Vec(x.builder, int16, *(min(INT16[1], max(INT16[0], end)) for end in (x.low, x.high)))
    least, most = x._other(low), x._other(high)
    in_order = least.high <= most.low or most.least is least
    found = _clamped(x, least, most) if in_order else _SATURATE(x, low, high)
    low_end, high_end = max(found.low, least.low), min(found.high, most.high)
    return found.proved(low_end, max(low_end, high_end))


def _clamped(x: Vec, least: Vec, most: Vec) -> Vec:
    """Return x clamped between ends of which the lower is nowhere above the upper.

    It takes a maximum and a minimum, where the bounds do not decide.
    """
    for name, end, decided in (("max", least, x.low >= least.high), ("min", most, x.high <= most.low)):
        if decided:
            continue
        low, high = min(x.low, end.low), max(x.high, end.high)
        bits = _bits(low, high, x.lanes)
        sign = "u" if bits == 16 and high > INT16[1] else "s"
        pairs = zip(x.like(bits), end.like(bits), strict=True)
        ends = (
            (max(x.low, end.low), max(x.high, end.high))
            if name == "max"
            else (min(x.low, end.low), min(x.high, end.high))
        )
        x = Vec(x.builder, tuple(p.extreme(x.builder, sign + name, u, v) for u, v in pairs), *ends)
    return x


def magnitude(x: Any) -> Any:
    """Return `fixedpoint.magnitude`, as one instruction. For -32768 in 16-bit lanes it is 32768, a uint16."""
    if not isinstance(x, Vec):
        return fixedpoint.magnitude(x)
    ends = (abs(x.low), abs(x.high))
    bits = max(x.bits, 16 if _within(x, INT16) else _bits(-max(ends), max(ends)))
    parts = tuple(
        p.call(x.builder, f"abs.v{v.type.count}i{bits}", v.type, v, ir.Constant(ir.IntType(1), 0)) for v in x.like(bits)
    )
    return Vec(x.builder, parts, 0 if x.low < 0 < x.high else min(ends), max(ends)).narrowed()


def shift_right_round(x: Any, shift: Any) -> Any:
    """Return `fixedpoint.shift_right_round`, or `shift_right_round_narrow` where x plus the half would leave 32 bits.

    In 16-bit lanes it takes vpmulhrsw.
    """
    if not isinstance(x, Vec):
        return _SHIFT_RIGHT_ROUND(x, shift)
    s = x._other(shift)
    if (found := _rounded_int16(x, s)) is not None:
        return found
    if s.low > 1 and s.high < x.bits and _bits(x.low, x.high + ((1 << s.high) >> 1)) > x.bits == 32:
        return ((x >> (s - 1)) + 1) >> 1  # This is floor((floor(x / 2^(s-1)) + 1) / 2), whose sum fits.
    if x.lanes == INT16_LANES and s.high < x.bits and _bits(x.low, x.high + ((1 << s.high) >> 1), INT16_LANES) > x.bits:
        ends = [_SHIFT_RIGHT_ROUND(end, by) for end in (x.low, x.high) for by in (s.low, s.high)]
        half = ((s._other(1) << s) >> 1).like(x.bits)
        lanes = zip(x.parts, s.like(x.bits), half, strict=True)
        rounded = tuple(p.shifted_and_rounded(x.builder, *lane) for lane in lanes)
        return Vec(x.builder, rounded, min(ends), max(ends)).narrowed()
    if _bits(x.low, x.high) == 64 or _bits(x.low, x.high + ((1 << s.high) >> 1)) == 32 or s.low < 1 or s.high > 31:
        return _SHIFT_RIGHT_ROUND(x, shift)
    return _rebound(fixedpoint.shift_right_round_narrow)(x, s)


def _rounded_int16(x: Vec, s: Vec) -> Vec | None:
    """Return `shift_right_round` by vpmulhrsw, or None where that instruction does not fit.

    It is (a · b + 2^14) >> 15 for int16 a, b. A product that is shifted by 15 is taken as it is. An int16 that is shifted by s in 0 … 15
    becomes the product with 2^(15 - s), since (x · 2^(15-s) + 2^14) >> 15 = floor(x / 2^s + 1/2).
    """
    if x.factors is None and (x.bits == 16 and s.high <= Q15):
        if s.low == s.high == 0:
            return x
        factors = _factors(x, s._other(1) << (15 - s))
    else:
        factors = x.factors if s.low == s.high == Q15 else None
    ends = [_SHIFT_RIGHT_ROUND(end, by) for end in (x.low, x.high) for by in (s.low, s.high)]
    if factors is None or _bits(min(ends), max(ends), INT16_LANES) != 16 or max(ends) > INT16[1]:
        return None
    return Vec(x.builder, p.multiplied_q15_int16(x.builder, *factors), min(ends), max(ends))


def piecewise_linear(x: Any, table: Any, segment_bits: Any) -> Any:
    """Return `gates.piecewise_linear`, within the table's ends: (D · fraction + 2^14) >> 15 is between 0 and D, as fraction < 2^15.

    In 16-bit lanes the table is that of a gate function whose values these are (`evaluate_odd` has its own).
    """
    if isinstance(x, Vec) and table.lookup.has_int16_lanes:
        return negative_of(Vec(x.builder, table.negative(x, segment_bits), *INT16), table.outputs)
    found = _PIECEWISE_LINEAR(x, table, segment_bits)
    return found.proved(*table.bounds) if isinstance(found, Vec) else found


def evaluate_odd(x: Any, offset: Any, segment_bits: Any, cut: Any, table: Any) -> Any:
    """Return `gates.evaluate_odd`; in 16-bit lanes by a table that brings v = -(offset + p) of a magnitude (`Table.negative`).

    What an offset ≥ 0 makes of it is -y = v where x ≥ 0, and -2 · offset - v elsewhere; a negative one makes y of it. All is modulo 2^16: y
    lies within ``table.outputs``, of uint16 or int16. -y is an int16 whichever they are, and what y is multiplied by wants that one
    (`_factors`).
    """
    if not isinstance(x, Vec) or not table.lookup.has_int16_lanes:
        return _EVALUATE_ODD(x, offset, segment_bits, cut, table)
    b, int16, offset = x.builder, x.like(16)[0], x._other(offset)
    zero = ir.Constant(int16.type, None)
    minus = table.negative(saturate(magnitude(x), 0, 32767 - cut), segment_bits)
    twice = b.shl(offset.like(16)[0], p.constant(int16.type, 1))
    minus = b.select(b.icmp_signed("<", int16, zero), b.sub(b.sub(zero, twice), minus), minus)
    turned = offset < 0
    if isinstance(turned, Mask):
        minus = b.select(turned.like(16)[0], b.sub(zero, minus), minus)
    elif turned:
        raise AssertionError("no table is turned round everywhere")
    return negative_of(Vec(b, minus, *INT16), table.outputs)


def negative_of(minus: Vec, bounds: tuple[int, int]) -> Vec:
    """Return -minus, within ``bounds``, of 16-bit lanes. It is known by both."""
    b, (int16,) = minus.builder, minus.parts
    found = Vec(b, b.sub(ir.Constant(int16.type, None), int16), *bounds)
    found.negative_int16 = int16
    return found


def lift(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a contract function that also takes `Vec` arguments (and a lookup table with ``[k]``).

    Its own code is run on them.
    """
    return _SPECIAL.get(function) or _rebound(function)


def _rebound(function: Any) -> Callable[..., Any]:
    if function not in _lifted:
        space = dict(function.__globals__)
        _lifted[function] = types.FunctionType(function.__code__, space, function.__name__)
        for name in function.__code__.co_names:
            if space.get(name) in _CONTRACT:
                space[name] = lift(space[name])
    return _lifted[function]


_CONTRACT = frozenset(arithmetic.CONTRACT)
_lifted: dict[Any, Callable[..., Any]] = {}
_SPECIAL: dict[Any, Callable[..., Any]] = {
    fixedpoint.choose: choose,
    fixedpoint.saturate: saturate,
    fixedpoint.magnitude: magnitude,
    fixedpoint.shift_right_round: shift_right_round,
    gates.piecewise_linear: piecewise_linear,
    gates.evaluate_odd: evaluate_odd,
}
_SATURATE = _rebound(fixedpoint.saturate)
_SHIFT_RIGHT_ROUND = _rebound(fixedpoint.shift_right_round)
_PIECEWISE_LINEAR = _rebound(gates.piecewise_linear)
_EVALUATE_ODD = _rebound(gates.evaluate_odd)
