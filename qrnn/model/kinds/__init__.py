"""The kinds of layers, a module each, found by folder: each module defines one `Layer` and one `QuantLayer`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from qrnn.model.layer import QuantLayer


@cache
def quantized_kinds() -> dict[str, type[QuantLayer]]:
    """Class name, as it stands in model files → the integer layer of each kind."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found: dict[str, type[QuantLayer]] = {}
    waiting = QuantLayer.__subclasses__()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(f"{__name__}."):
            found[kind.__name__] = kind
    return dict(sorted(found.items()))


@cache
def kind_name(kind: type[QuantLayer]) -> str:
    """The name of a kind of layer: of its module here, and of the method that a backend has for it."""
    return kind.__module__.removeprefix(f"{__name__}.").split(".")[0]
