"""The kinds of layers that the CPU has loops of its own for.

Each is a module, found by folder, with the name that the kind's module has in `qrnn.model.kinds`. It defines ``RUN``, its `LayerRun`. A kind
without a module here is run by its own definition.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from qrnn.backends.cpu.defined import run_of_definition
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model import kinds
from qrnn.model.kinds import kind_name
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel


@cache
def _names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__))


@cache
def _own_run(kind: type[QuantLayer]) -> Any:
    """Return the class for a kind of layer; None where the CPU has none."""
    if not kind.__module__.startswith(f"{kinds.__name__}.") or kind_name(kind) not in _names():
        return None
    return importlib.import_module(f"{__name__}.{kind_name(kind)}").RUN


def run_of(layer: QuantLayer, model: QuantModel, tasks: Tasks) -> LayerRun:
    """Return what the CPU does for a layer of a model."""
    own = _own_run(type(layer))
    found: LayerRun = run_of_definition(layer, model, tasks) if own is None else own(layer, model, tasks)
    return found
