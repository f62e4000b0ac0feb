"""The kinds of layers: each module or package of this folder defines one kind, by a `Layer` and a `QuantLayer`, and is found by being here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from qrnn.model.layer import QuantLayer


@cache
def quantized_kinds() -> dict[str, type[QuantLayer]]:
    """Return the integer layer of each kind of layer by its class name, which is the name that model files have for the kind.

    Abstract classes, from which the modules of a kind derive its integer layer, are no kinds: no model file may name one.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found: dict[str, type[QuantLayer]] = {}
    waiting = QuantLayer.__subclasses__()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(f"{__name__}.") and not inspect.isabstract(kind):
            found[kind.__name__] = kind
    return dict(sorted(found.items()))


@cache
def kind_name(kind: type[QuantLayer]) -> str | None:
    """Return the name of a kind of layer, which is that of its module or package here; None for a class that is no kind of this folder.

    Backends and the C export call the modules in which they have code of their own for a kind by the same name.
    """
    if quantized_kinds().get(kind.__name__) is not kind:
        return None
    return kind.__module__.removeprefix(f"{__name__}.").split(".")[0]
