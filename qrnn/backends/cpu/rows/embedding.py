"""Embeddings: the rows of a table."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST
from qrnn.backends.cpu.rows.copying import copy_row


@jit
def embedding(place: Any, table: Any, tokens: Any, out: Any) -> None:
    """Write out[m] = table[tokens[m]]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], table[tokens[m]])
