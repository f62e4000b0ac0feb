"""A kind of layer for which this backend has kernels has a module here, found by being here.

A module has the name that the kind has in `qrnn.model.kinds`, and defines one `DeviceLayer` whose ``kind`` is the integer layer.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from qrnn.backends.cuda.device_layer import DeviceLayer
from qrnn.model.layer import QuantLayer


@cache
def device_kinds() -> dict[type[QuantLayer], type[DeviceLayer]]:
    """Return the class for a layer on the device by the class of the integer layer."""
    found: dict[type[QuantLayer], type[DeviceLayer]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        for made in vars(module).values():
            if isinstance(made, type) and issubclass(made, DeviceLayer) and made.__module__ == module.__name__:
                found[made.kind] = made
    return found
