"""What options of ``qrnn export`` say of codes and of names is read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from qrnn.errors import DataError
from qrnn.system.files import read_regular, reason

if TYPE_CHECKING:
    from qrnn.export.choices import Choices
    from qrnn.model.codes import CodeFormat, CodeKind
    from qrnn.model.quant_model import QuantModel

CODES = "INPUT=SCALE[,OFFSET][:…][@TYPE]"
NAMES = "PORT=A,B,…|@FILE"
ALIASES: dict[str, tuple[Fraction, CodeKind]] = {
    "q15": (Fraction(1, 1 << 15), "int16"),
    "q31": (Fraction(1, 1 << 31), "int32"),
}
"""Fractions that signal processing has names for."""
MOST_BYTES = 1 << 20
"""The most bytes of a file of names."""


def choices(model: QuantModel, codes: Sequence[str], names: Sequence[str], scratch: str) -> Choices:
    """Return what the options say; DataError names the option, what is wrong, and what is expected."""
    from qrnn.export.choices import Choices, checked_names

    if scratch not in ("stack", "argument"):
        raise DataError(f"--scratch {scratch!r}, expected stack or argument")
    formats: dict[str, CodeFormat] = {}
    for text in codes:
        name, rest = _named("--codes", text, CODES, formats)
        formats[name] = _codes(model, text, name, rest)
    listed: dict[str, tuple[str, ...]] = {}
    for text in names:
        name, rest = _named("--names", text, NAMES, listed)
        listed[name] = checked_names(model, name, _names(rest))
    return Choices(formats, listed, scratch == "argument")


def _named(option: str, text: str, form: str, known: Mapping[str, object]) -> tuple[str, str]:
    """Return the name before the sign of equality, and what stands behind it."""
    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise DataError(f"{option} {text!r}, expected {form}")
    if name in known:
        raise DataError(f"{option} {text!r}: {name!r} is there twice; expected it once")
    return name, rest


def _codes(model: QuantModel, option: str, name: str, text: str) -> CodeFormat:
    """Return the format of codes that an option describes, as ``3.3/4096,-1.65@uint16``."""
    from qrnn.model.codes import code_format

    numbers, _, kind = text.partition("@")
    scales, offsets = [], []
    for part in numbers.split(":"):
        words = part.split(",")
        if len(words) > 2:
            raise DataError(f"--codes {option!r}: {part!r}, expected SCALE or SCALE,OFFSET")
        if words[0] in ALIASES:
            scale, own = ALIASES[words[0]]
            kind = kind or own
        else:
            scale = _number(option, words[0])
        scales.append(float(scale))
        offsets.append(float(_number(option, words[1])) if len(words) > 1 else 0.0)
    return code_format(model, name, scales, offsets, kind or "int16")  # type: ignore[arg-type]


def _number(option: str, text: str) -> Fraction:
    """Return a number, or a quotient of two."""
    above, _, below = text.partition("/")
    try:
        return Fraction(float(above)) / Fraction(float(below or "1"))
    except (ValueError, OverflowError, ZeroDivisionError):
        raise DataError(f"--codes {option!r}: {text!r} is no number, expected one as 0.005 or 3.3/4096") from None


def _names(text: str) -> list[str]:
    """Return names that stand in the option, parted by commas, or in a file, one on each line."""
    if not text.startswith("@"):
        return [name.strip() for name in text.split(",")]
    path = Path(text[1:])
    try:
        return [line.strip() for line in read_regular(path, MOST_BYTES).decode().splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}; expected a file with a name on each line") from None
    except UnicodeDecodeError:
        raise DataError(f"cannot read {path}: it is not UTF-8; expected a file with a name on each line") from None
