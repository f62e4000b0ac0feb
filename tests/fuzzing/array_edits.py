"""Turn plain arrays into arrays of every dtype, byte order, layout, shape and wrapping; and mappings of them."""

from __future__ import annotations

import array
import collections
import types
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

Edit = Callable[[Random, Any], Any]

REALS = ("f2", "f4", "f8", "g", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
OTHERS = ("?", "F", "D", "O", "U8", "S8", "M8[s]", "m8[ns]", "V8", "i4,f4")
VALUES = (
    float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 3.4028234e38, 3.4028236e38, 1e-320, -0.0, 1e30, -1e30, 65504.0, 0.0,
    -1.0, 7.0, 1e6, 2.0**31, 2.0**63,
)  # fmt: skip


class Sub(np.ndarray):
    """A subclass of arrays, as libraries have them."""


class Convertible:
    """An object that is no array, but converts to one."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._value if dtype is None else self._value.astype(dtype)


def fortran(_: Random, a: Any) -> Any:
    """Return the same values in Fortran order."""
    return np.asfortranarray(a)


def strided(rng: Random, a: Any) -> Any:
    """Return every other element of a larger array."""
    if not a.ndim:
        return a
    axis = rng.randrange(a.ndim)
    wide = np.repeat(a, 2, axis)
    return wide[(slice(None),) * axis + (slice(None, None, 2),)]


def backwards(rng: Random, a: Any) -> Any:
    """Return the same values with negative strides."""
    if not a.ndim:
        return a
    axis = rng.randrange(a.ndim)
    return np.flip(np.flip(a, axis).copy(), axis)


def transposed_memory(rng: Random, a: Any) -> Any:
    """Return the same values with the axes in another order in memory."""
    order = rng.sample(range(a.ndim), a.ndim)
    return a.transpose(order).copy().transpose(np.argsort(order))


def unaligned(_: Random, a: Any) -> Any:
    """Return the same values at an odd address."""
    if a.dtype.hasobject:
        return a
    held = np.zeros(a.nbytes + 1, np.uint8)
    view = held[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(_: Random, a: Any) -> Any:
    """Return an array that cannot be written to."""
    a = a.copy()
    a.flags.writeable = False
    return a


def swapped(_: Random, a: Any) -> Any:
    """Return the same values in the other byte order."""
    return a.astype(a.dtype.newbyteorder("S"))


def same_for_all(_: Random, a: Any) -> Any:
    """Return one sequence for all, by a stride of 0."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim else a


def subclass(_: Random, a: Any) -> Any:
    """Return the same values as a subclass."""
    return a.view(Sub)


LAYOUTS: tuple[Edit, ...] = (
    *(fortran, strided, backwards, transposed_memory, unaligned, read_only, swapped, swapped, same_for_all, subclass),
)
"""What changes nothing that a consumer may see: arrays of valid values stay valid."""


def real_type(rng: Random, a: Any) -> Any:
    """Return the values in another real type."""
    with np.errstate(all="ignore"):
        return a.astype(rng.choice(REALS))


def other_type(rng: Random, a: Any) -> Any:
    """Return a type that holds no real numbers."""
    kind = rng.choice(OTHERS)
    with np.errstate(all="ignore"):
        whole = a.astype(np.int64) if kind[0] in "MmV" else a
        return np.zeros(a.shape, kind) if kind[0] in "Vi" else whole.astype(kind)


def value(rng: Random, a: Any) -> Any:
    """Change one value to an unusual one."""
    a = np.array(a)
    if a.size and a.dtype.kind in "fiu":
        new = rng.choice(VALUES) if a.dtype.kind == "f" else rng.choice((-1, 7, 8, 2**31, 2**40, -(2**63), 2**63 - 1))
        with np.errstate(all="ignore"):
            a.reshape(-1)[rng.randrange(a.size)] = np.array(new).astype(a.dtype)
    return a


def shape(rng: Random, a: Any) -> Any:
    """Return another shape, or none."""
    choices: list[Callable[[], Any]] = [
        lambda: a[None],
        lambda: a[..., None],
        lambda: a.T,
        lambda: a.reshape(-1),
        lambda: a[:0],
        lambda: a[:, :0] if a.ndim > 1 else a[:0],
        lambda: a[..., :-1],
        lambda: a[:-1],
        lambda: np.concatenate([a, a]) if a.ndim else a,
        lambda: np.concatenate([a, a], -1) if a.ndim else a,
        lambda: a.reshape(a.shape + (1,) * (31 - a.ndim)),
        lambda: np.float64(1.0),
        lambda: a[0] if a.ndim and len(a) else a,
        lambda: a.reshape(*a.shape[:2], -1) if a.ndim > 2 else a,
    ]
    return rng.choice(choices)()


def wrapped(rng: Random, a: Any) -> Any:
    """Return something else that holds the same values."""
    choices: list[Callable[[], Any]] = [
        lambda: a.tolist(),
        lambda: tuple(a.tolist()) if a.ndim else a.item(),
        lambda: list(a) if a.ndim else [a],
        lambda: Convertible(a),
        lambda: np.ma.masked_array(a),
        lambda: memoryview(np.ascontiguousarray(a)),
        lambda: array.array("d", np.asarray(a, np.float64).reshape(-1).tolist()) if a.dtype.kind in "fiu" else a,
        lambda: [*a.tolist()[:-1], None] if a.ndim else None,
        lambda: [*a.tolist()[:-1], [1.0]] if a.ndim else [[]],
        lambda: rng.choice((None, "text", b"bytes", 1, 1.5, {}, set(), object(), iter([1]), lambda: 0, [], [[]], ...)),
    ]
    return rng.choice(choices)()


def masked(_: Random, a: Any) -> Any:
    """Return an array some of whose values are masked."""
    mask = np.zeros(a.shape, bool)
    mask.reshape(-1)[:1] = True
    return np.ma.masked_array(a, mask)


BREAKS: tuple[tuple[int, Edit], ...] = (
    (4, real_type),
    (4, other_type),
    (5, value),
    (5, shape),
    (4, wrapped),
    (1, masked),
)
"""(weight, edit): what a consumer has to look at, to take or to refuse."""


def mapping(rng: Random, given: dict[Any, Any]) -> Any:
    """Return a mapping with too many or too few keys, with keys that are no text, or one that is no dict."""
    first = next(iter(given), "x")
    given = dict(given)
    how = rng.randrange(10)
    if how == 0:
        given.pop(first, None)
    elif how <= 2:
        given[rng.choice(("foo", "labels", "lengths", "", "é", 0, None, 1.5, b"x", ("x",), True))] = np.zeros(2)
    elif how == 3:
        given[rng.choice((0, None, first.encode() if isinstance(first, str) else b""))] = given.pop(first, 0)
    elif how == 4:
        return types.MappingProxyType(given)
    elif how == 5:
        return collections.UserDict(given)
    elif how == 6:
        return collections.OrderedDict(reversed(list(given.items())))
    elif how == 7:
        return collections.defaultdict(lambda: np.zeros(3), given)
    elif how == 8:
        return rng.choice((None, [], list(given.values()), "x", 3, given.get(first), list(given.items())))
    else:
        return {}
    return given
