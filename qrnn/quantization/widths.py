"""The text of ``--widths``: the width of single tensors, operands and matrices (`qrnn.Scheme.widths`).

    widths = key=width , key=width …  | none        width = 4 | 8 | 8-per-feature | 16 | 16-per-feature

    TENSOR     how matrices read a source, which is a graph input or an embedding
    LAYER.x    how the layer's matrix reads its input, where that is a hidden tensor: 8, 8-per-feature, 16
    LAYER.h    how the layer's matrices read its own state: 8, 16
    LAYER.W    bits of the weights that multiply the input of a recurrent layer, or of a convolution's weights: 8, 4
    LAYER.R    bits of the weights that multiply a recurrent layer's state: 8, 4

`qrnn.quantization.choices` says which keys a model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qrnn.errors import QuantizationError

VALUES = ("4", "8", "8-per-feature", "16", "16-per-feature")
"""All widths that something can have."""

Widths = tuple[tuple[str, str], ...]
"""Keys and widths, sorted by the keys."""


def parse_widths(given: Any) -> Widths:
    """Return widths in their one form, sorted by keys, from text (``lstm.h=16,lstm.R=4``), a mapping or pairs.

    QuantizationError names what has no key or no value, comes twice, or is no width that anything can have. Names that hold commas are
    separated by ``;``.
    """
    found: dict[str, str] = {}
    for key, value in _pairs(given):
        if not isinstance(key, str) or not key:
            raise QuantizationError(f"widths: key {key!r}, expected a tensor, or LAYER.x, .h, .W or .R")
        text = str(value) if type(value) in (int, str) else repr(value)
        if text not in VALUES:
            raise QuantizationError(f"widths: {key}={text}, expected one of {', '.join(VALUES)}")
        if key in found:
            raise QuantizationError(f"widths: {key!r} is given twice; give it once")
        found[key] = text
    return tuple(sorted(found.items()))


def _pairs(given: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(given, Mapping):
        return given.items()
    if isinstance(given, str):
        if given.strip() == "none":
            return ()
        items = [item.strip() for item in given.split(";" if ";" in given else ",")]
        parts = [item.rpartition("=") for item in items if item]
        for _, equals, value in parts:
            if not equals:
                raise QuantizationError(f"widths: {value!r}, expected KEY=WIDTH, such as lstm.h=16")
        return [(key.strip(), value.strip()) for key, _, value in parts]
    try:
        return [(key, value) for key, value in given]
    except (TypeError, ValueError):
        raise QuantizationError(f"widths={given!r}, expected keys with widths, such as {{'lstm.h': 16}}") from None


def check_operand(target: str, key: str, width: str, widest: int) -> None:
    """Raise QuantizationError for an operand whose ``width`` is beyond the ``widest`` that a target allows."""
    if bits_of(width) > widest:
        raise QuantizationError(
            f"target {target}: {key}={width}, but the target has widest_operand = {widest}; choose {key}={widest}, or another target"
        )


def bits_of(width: str) -> int:
    """Return the bits of a width, such as 8 for ``8-per-feature``."""
    return int(width.removesuffix("-per-feature"))


def widths_text(widths: Widths) -> str:
    """Return widths as `parse_widths` reads them."""
    separator = ";" if any("," in key for key, _ in widths) else ","
    text = separator.join(f"{key}={value}" for key, value in widths)
    return f"{text};" if separator == ";" and len(widths) == 1 else text
