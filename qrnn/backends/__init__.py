"""A backend is a module or package of this folder that defines ``ENGINE``, a subclass of `qrnn.backends.base.Engine`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from qrnn.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from qrnn.backends.base import Engine
    from qrnn.model.quant_model import QuantModel

DEFAULT_BACKEND = "cpu"


@cache
def backend_names() -> tuple[str, ...]:
    """Return the names that `create_engine` takes, in alphabetical order."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"))


@cache
def available_backends() -> tuple[str, ...]:
    """Return those of `backend_names` that can run here.

    The backend cuda, which is experimental (docs/cuda.md), needs its package, a driver and a device.
    """
    return tuple(name for name in backend_names() if _problem(name) is None)


def _problem(name: str) -> str | None:
    try:
        _ = importlib.import_module(f"qrnn.backends.{name}").ENGINE
    except BackendError as error:
        return str(error)
    return None


def create_engine(
    name: str,
    model: QuantModel,
    threads: int | None = None,
    isa: str | None = None,
    tuning: object | None = None,
    cache: Path | None = None,
) -> Engine:
    """Return the engine of backend ``name`` with the model's weights laid out for it.

    ``isa`` forces an instruction set of the cpu backend; ``tuning`` is of the class that the backend's engine names; ``cache`` names the
    folder of compiled code of a backend that keeps it in one. Raises BackendError for an unknown name, and for what the backend does not
    take.
    """
    if name not in backend_names():
        raise BackendError(f"backend {name!r} is unknown; expected one of {', '.join(backend_names())}")
    engine: type[Engine] = importlib.import_module(f"qrnn.backends.{name}").ENGINE
    if cache is None:
        return engine(model, threads, isa, tuning)
    if not engine.takes_cache:
        raise BackendError(f"cache={str(cache)!r}: backend {name!r} keeps no compiled code in a folder; leave it out")
    return engine(model, threads, isa, tuning, cache)  # type: ignore[call-arg]  # of those that take it
