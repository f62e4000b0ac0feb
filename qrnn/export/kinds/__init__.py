"""A kind of layer that has C of its own has a module here, named as in `qrnn.model.kinds` and found by being here.

Each module defines one subclass of `LayerCode`, under the name ``LAYER_CODE`` too.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import cast

from qrnn.export.layer_code import AnyCode
from qrnn.model.kinds import kind_name
from qrnn.model.layer import QuantLayer


@cache
def own_code(kind: type[QuantLayer]) -> type[AnyCode] | None:
    """Return the class that makes the C of a kind of layer; None for a kind that has no module here."""
    name = kind_name(kind)
    if name not in {module.name for module in pkgutil.iter_modules(__path__)}:
        return None
    return cast(type[AnyCode], importlib.import_module(f"{__name__}.{name}").LAYER_CODE)
