"""The cells, a module each, found by folder: each module defines ``CELL``, a `qrnn.model.kinds.recurrent.cell.Cell`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from qrnn.model.kinds.recurrent.cell import Cell


def _found() -> dict[str, Cell]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    cells: list[Cell] = [importlib.import_module(f"{__name__}.{name}").CELL for name in names]
    return {cell.name: cell for cell in cells}


CELLS: Mapping[str, Cell] = _found()
"""Every cell by name."""
