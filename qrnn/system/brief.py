"""Objects describe themselves in a few lines: an array by its type and shape, a long collection by its size."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

LINES = 10
"""The most lines of the representation of an object."""

WIDTH = 120
"""The most columns of a line."""

_LONG = 4
"""The number of elements from which on a collection is described by its size."""


class Brief:
    """The base of dataclasses with arrays, whose ``repr`` gives their fields briefly, as `brief` does.

    A dataclass makes a ``repr`` of its own, with all elements of all arrays, unless its class has one: each subclass is given that of `Brief`.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        """Give the subclass the ``repr``, unless it defines one itself."""
        super().__init_subclass__(**settings)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Brief.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return "\n".join(first_lines(textwrap.wrap(brief(self), WIDTH, subsequent_indent="  ")))


class Described:
    """The base of objects that people look at: ``describe_lines`` says in a few lines what the object is.

    ``repr`` joins at most `LINES` of them, and notebooks show the same text.
    """

    def describe_lines(self) -> Iterable[str]:
        """Return the lines, of which the first names the object."""
        raise NotImplementedError(f"{type(self).__name__} does not describe itself")

    def __init_subclass__(cls, **settings: Any) -> None:
        """Keep a dataclass from making a ``repr`` of its own."""
        super().__init_subclass__(**settings)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Described.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return "\n".join(first_lines(self.describe_lines()))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def first_lines(lines: Iterable[str]) -> list[str]:
    """Return at most `LINES` lines of at most `WIDTH` columns; where there are more, the last one says how many were left out."""
    found = [elided(line) for line in lines]
    if len(found) <= LINES:
        return found
    return [*found[: LINES - 1], f"  … and {len(found) - LINES + 1} more lines"]


def elided(text: str, width: int = WIDTH) -> str:
    """Return ``text``, cut to ``width`` characters where it is longer."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def brief(value: Any) -> str:
    """Return a value in a few words: arrays by type and shape, records by their fields, collections of several elements by their size."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return array_text(value)
    if is_dataclass(value) and not isinstance(value, type):
        shown = (f for f in fields(value) if f.repr)
        return f"{type(value).__name__}({', '.join(f'{f.name}={_inner(getattr(value, f.name))}' for f in shown)})"
    return _inner(value)


def array_text(array: Any) -> str:
    """Return the type and the shape of an array, as in ``float32[16, 100, 40]``."""
    return f"{array.dtype}{list(map(int, array.shape))}"


def _inner(value: Any) -> str:
    """Return a field's value: records that are inside of others by their names alone, unless they are short."""
    if getattr(value, "shape", None) is not None and getattr(value, "dtype", None) is not None:
        return array_text(value)
    if is_dataclass(value) and not isinstance(value, type):
        text = brief(value)
        return text if len(text) <= WIDTH // 3 else f"{type(value).__name__}(…)"
    if isinstance(value, (tuple, list, Mapping)):
        if len(value) >= _LONG or isinstance(value, Mapping):
            return f"{type(value).__name__} of {len(value)}"
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"{opening}{', '.join(map(_inner, value))}{comma}{closing}"
    return elided(repr(value), WIDTH // 2)
