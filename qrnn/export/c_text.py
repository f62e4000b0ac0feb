"""Text of C definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH = 118


def array(kind: str, name: str, values: npt.NDArray[Any], comment: str = "") -> str:
    """``static const kind name[] = {…};`` with as many values on a line as fit."""
    flat = values.reshape(-1)
    texts = [_literal(kind, v) for v in flat.tolist()]
    lines = list(_wrapped(texts))
    remark = f" /* {comment} */" if comment else ""
    return "\n".join([f"static const {kind} {name}[{len(texts)}] = {{{remark}", *lines, "};"])


def _literal(kind: str, value: int) -> str:
    if kind == "uint32_t":
        return f"0x{value:08X}U"
    if kind == "int32_t" and value == -(1 << 31):
        return "INT32_MIN"  # -2147483648 is an operator and a number that does not fit an int
    return f"{value}U" if kind.startswith("u") else str(value)


def _wrapped(texts: Iterable[str]) -> Iterable[str]:
    line = "   "
    for text in texts:
        if len(line) + len(text) + 2 > WIDTH:
            yield line
            line = "   "
        line += f" {text},"
    yield line


def words(content: bytes) -> npt.NDArray[np.uint32]:
    """Bytes as little-endian words; their number is a multiple of four."""
    return np.frombuffer(content, "<u4")


def fields(values: Sequence[tuple[str, object]]) -> str:
    """``.name = value`` lines of an initializer."""
    return "\n".join(f"    .{name} = {value}," for name, value in values)


def comment(text: str) -> str:
    """Text that may hold anything as a C comment of one line."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    return f"/* {plain.replace('*/', '* /').replace('/*', '/ *').replace('??/', '?? /')} */"  # ??/ is a trigraph
