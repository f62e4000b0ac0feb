"""What a Keras layer reads and gives while its model is written as an ONNX graph: a value's name, its shape, and the mask of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Shape = tuple[int | None, ...]
"""Sizes of a value, batch first; None where a size is open, as the batch is."""


@dataclass(frozen=True)
class Mask:
    """Which steps of a value take part: those of a graph input that are not all ``value``.

    ``layer`` is the Keras layer that made the mask. ``repeats`` says that the values at masked steps behind a sequence are those of its last
    real step, as a recurrent layer of Keras gives them.
    """

    source: str
    value: float
    layer: str
    repeats: bool = False


@dataclass(frozen=True)
class Value:
    """One value of the graph. ``sources`` are the graph inputs over time that it depends on, step by step."""

    name: str
    shape: Shape
    mask: Mask | None = None
    sources: frozenset[str] = frozenset()

    @property
    def rank(self) -> int:
        """Return the number of axes, that of the batch among them."""
        return len(self.shape)

    @property
    def features(self) -> int | None:
        """Return the size of the last axis."""
        return self.shape[-1]

    def text(self) -> str:
        """Return the shape in words, with N for the batch and T or ? for an open size."""
        return shape_text(self.shape)

    def with_mask(self, mask: Mask | None) -> Value:
        """Return the value with another mask."""
        return replace(self, mask=mask)


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape in words."""
    return "[" + ", ".join(["N", *("?" if size is None else str(size) for size in shape[1:])]) + "]"


def times(sizes: Sequence[int | None]) -> int | None:
    """Return the product of sizes, None where one of them is open."""
    product = 1
    for size in sizes:
        if size is None:
            return None
        product *= size
    return product
