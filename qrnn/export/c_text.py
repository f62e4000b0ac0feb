"""The text of C definitions is put together here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH = 118

SPDX = "SPDX-License-Identifier: Apache-2.0"
"""The licence of the exported code, as tools read it."""

LICENCE = (
    f"/* {SPDX} */",
    "/* The licence is that of the code. The numbers in it come from a trained model, whose owner keeps all rights to them. */",
)
"""The first lines of a file that is made from a model."""

BEGIN_C = ("#ifdef __cplusplus", 'extern "C" {', "#endif", "")
END_C = ("#ifdef __cplusplus", "}", "#endif", "")
"""BEGIN_C and END_C stand around a public header's declarations, so that C++ links to them."""


CONSTANT = "static const QRNN_FLASH"
"""How a constant of the model begins; QRNN_FLASH of targets/runtime/qrnn_types.h is empty where pointers reach flash as they reach RAM."""

WEIGHTS, CONSTANTS = "QRNN_WEIGHTS", "QRNN_CONSTANTS"
"""Macros of targets/runtime/qrnn_types.h that say where arrays lie: weights and tables of embeddings, and all other numbers of a model."""


def array(
    kind: str, name: str, values: npt.NDArray[Any], comment: str = "", place: str = "", begin: str = CONSTANT
) -> str:
    """Return ``static const QRNN_FLASH kind name[] place = {…};`` with as many values on a line as fit; ``begin`` is what precedes kind."""
    flat = values.reshape(-1)
    texts = [_literal(kind, v) for v in flat.tolist()]
    lines = list(_wrapped(texts))
    remark = f" /* {comment} */" if comment else ""
    head = f"{begin} {kind} {name}[{len(texts)}]{f' {place}' if place else ''}"
    return "\n".join([f"{head} = {{{remark}", *lines, "};"])


def caller_array(kind: str, name: str, values: npt.NDArray[Any], comment: str = "") -> str:
    """Return a constant array that is read as RAM is, as the arrays of a model's callers are."""
    return array(kind, name, values, comment, begin="static const")


def _literal(kind: str, value: int) -> str:
    if kind == "uint32_t":
        return f"0x{value:08X}U"
    if kind == "int32_t" and value == -(1 << 31):
        return "INT32_MIN"  # -2147483648 is an operator and a number that does not fit an int
    if kind == "int64_t":
        return f"INT64_C({value})" if value != -(1 << 63) else "INT64_MIN"
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
    """Return bytes as little-endian words; their number is a multiple of four."""
    return np.frombuffer(content, "<u4")


def fields(values: Sequence[tuple[str, object]]) -> str:
    """Return the lines of an initializer, each with the member's name as a comment.

    The members stand in the order in which the struct declares them: C++ has names in initializers only since C++20.
    """
    return "\n".join(f"    {value}, /* {name} */" for name, value in values)


def comment(text: str) -> str:
    """Return text that may hold anything as a C comment of one line."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    return f"/* {plain.replace('*/', '* /').replace('/*', '/ *').replace('??/', '?? /')} */"  # ??/ is a trigraph


def copy(to: str, source: str, count: int, kind: str) -> str:
    """Return the statement that copies ``count`` elements of type ``kind``."""
    return f"QRNN_COPY({to}, {source}, {count}U * sizeof({kind}));"


def copy_constant(to: str, source: str, count: int, kind: str) -> str:
    """Return the statement that copies ``count`` elements of type ``kind`` from a constant."""
    return f"QRNN_COPY_CONSTANT({to}, {source}, {count}U * sizeof({kind}));"


def loop(lines: Sequence[str], steps: str = "length", back: bool = False) -> list[str]:
    """Return statements for every step t below ``steps``, from the last to the first with ``back``."""
    head = f"uint32_t t = {steps}; t-- > 0U;" if back else f"uint32_t t = 0U; t < {steps}; t++"
    return [f"for ({head}) {{", *(f"    {line}" for line in lines), "}"]


def reads(text: str, name: str) -> bool:
    """Return whether the text has the identifier ``name`` of C."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
