"""The device to run on is found here, or one line that says what is missing and how to get it.

Nothing of CUDA is imported before it is asked for.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from qrnn.errors import BackendError

LEAST_CAPABILITY = (7, 5)
"""The least compute capability: from Turing on the tensor cores multiply int8."""

INSTALL = "pip install 'qrnn[cuda13]' (or 'qrnn[cuda12]' for a driver of CUDA 12)"


@dataclass(frozen=True)
class Device:
    """The properties of a device that the choice of kernels depends on; ``shared_per_block`` is the bytes that a block may ask for."""

    name: str
    capability: tuple[int, int]
    processors: int
    shared_per_block: int
    shared_per_processor: int
    cooperative: bool


LINKED_SHARED = 1024
"""Bytes of shared memory that a cooperative kernel has of its own, once linked for Hopper; they are left free on every device."""

SIMULATED_DEVICE = Device("CUDA simulator", (9, 0), 4, 64 << 10, 64 << 10, cooperative=False)
"""The simulator as a device. Its blocks run one after another: they cannot meet."""


def _problem(missing: str, remedy: str) -> BackendError:
    return BackendError(f"backend 'cuda': {missing}; {remedy}, or use backend 'cpu', which gives the same bits")


def require_package() -> None:
    """Raise BackendError where numba-cuda is not installed."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise _problem("the package numba-cuda is not installed", INSTALL)


def find_device() -> Device:
    """Return the current device; BackendError where package, driver, device or libraries are missing, or the device is too old."""
    require_package()
    from numba.core import config

    if config.ENABLE_CUDASIM:
        return SIMULATED_DEVICE
    if (missing := missing_library()) is not None:
        raise _problem(f"CUDA's library {missing} is not found", INSTALL)
    from numba import cuda
    from numba.cuda.cudadrv.error import CudaDriverError, CudaSupportError

    try:
        current = cuda.get_current_device()
    except (CudaSupportError, CudaDriverError, IndexError) as error:
        raise explained(str(error)) from None
    found = describe(current)
    if found.capability < LEAST_CAPABILITY:
        have, need = (".".join(map(str, c)) for c in (found.capability, LEAST_CAPABILITY))
        raise _problem(f"{found.name} has compute capability {have}, at least {need} is needed", "use a newer device")
    return found


def explained(message: str) -> BackendError:
    """Return an error that says what a message of numba-cuda's driver means to a user."""
    reason = " ".join(message.split())
    if "library cannot be found" in reason:
        return _problem("no NVIDIA driver is found on this machine", "install the driver of your GPU")
    if "NO_DEVICE" in reason or "(100)" in reason or not reason:
        return _problem(
            "no CUDA device is found", "see that nvidia-smi lists one and that CUDA_VISIBLE_DEVICES names it"
        )
    return _problem(f"the NVIDIA driver does not start ({reason})", "see that nvidia-smi works")


def describe(current: Any) -> Device:
    """Return the properties of a device of numba.cuda."""
    name = current.name
    return Device(
        name.decode() if isinstance(name, bytes) else str(name),
        tuple(current.compute_capability),
        int(current.MULTIPROCESSOR_COUNT),
        int(current.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) - LINKED_SHARED,
        int(current.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        bool(current.COOPERATIVE_LAUNCH),
    )


def missing_library() -> str | None:
    """Return the first library of the CUDA toolkit that is needed and not found, such as ``nvvm``; None when all are there.

    Without ``cudart``, the import of numba.cuda fails with an error of its own.
    """
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    for name in ("cudart", "nvvm", "nvrtc"):
        try:
            load_nvidia_dynamic_lib(name)
        except DynamicLibNotFoundError:
            return name
    return None
