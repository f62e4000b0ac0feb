"""The CUDA backend (docs/cuda.md) compiles the contract's functions for NVIDIA GPUs by numba-cuda.

Nothing of CUDA is imported before an engine is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qrnn.backends.cuda.engine import CudaEngine

    ENGINE = CudaEngine


def __getattr__(name: str) -> Any:
    if name == "ENGINE":
        from qrnn.backends.cuda.device import find_device

        find_device()  # one clear line before anything is imported that would fail
        from qrnn.backends.cuda.engine import CudaEngine

        return CudaEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
