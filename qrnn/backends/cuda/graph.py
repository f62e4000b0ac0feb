"""A CUDA graph holds kernels that are launched once while the driver records the launches, and from then on all by one call.

Not proved: this was written without a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from numba import cuda

from qrnn.errors import BackendError


class CapturedGraph:
    """The launches of one call of a function, which `launch` repeats with the same arguments.

    While ``work(stream)`` runs, nothing is computed. It has to launch everything on ``stream``, and must not allocate, copy, wait for the
    device or compile: run it once before. The arrays that it reads and writes have to live as long as the graph.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        """Capture ``work``; raise BackendError where the driver refuses to capture, and whatever ``work`` raises."""
        driver = _driver()
        cuda.current_context()
        # Work on the legacy default stream waits for streams of the other kind, and so must not be under way while one of them is captured.
        stream = _checked("cuStreamCreate", driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        try:
            graph = _captured(driver, stream, work)
            try:
                self._executable = _checked("cuGraphInstantiate", driver.cuGraphInstantiate(graph, 0))
            finally:
                driver.cuGraphDestroy(graph)
        finally:
            driver.cuStreamDestroy(stream)
        self._launch = driver.cuGraphLaunch
        weakref.finalize(self, driver.cuGraphExecDestroy, self._executable)

    def launch(self, stream: int = 0) -> None:
        """Repeat the work on a CUDA stream, given by its number; 0 is the legacy default stream."""
        _checked("cuGraphLaunch", self._launch(self._executable, stream))


def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def _captured(driver: Any, stream: Any, work: Callable[[Any], Any]) -> Any:
    """Return a graph of what ``work`` launches on ``stream``."""
    # Relaxed: arrays that nobody needs any more may be freed meanwhile, by this thread and by others.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    _checked("cuStreamBeginCapture", driver.cuStreamBeginCapture(stream, mode))
    try:
        with cuda.defer_cleanup():
            work(cuda.external_stream(int(stream)))
    except BaseException:
        driver.cuStreamEndCapture(stream)  # or the thread would go on capturing
        raise
    return _checked("cuStreamEndCapture", driver.cuStreamEndCapture(stream))


def _checked(name: str, answer: tuple[Any, ...]) -> Any:
    """Return what a function of the driver returns after its status; BackendError where the status says that it failed."""
    status, *values = answer
    if int(status) != 0:
        raise BackendError(f"the CUDA driver refuses a graph: {name} returns {getattr(status, 'name', status)}")
    return values[0] if values else None
