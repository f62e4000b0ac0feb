"""Capturing a CUDA graph, with a driver that notes its calls: what is called in which order, and that nothing is left open after a failure."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (pip install -e '.[dev]')")

from qrnn.backends.cuda import device

if (missing := device.missing_library()) is not None:
    pytest.skip(f"CUDA's library {missing} is not found (pip install -e '.[dev]')", allow_module_level=True)

from qrnn.backends.cuda import graph
from qrnn.backends.cuda.graph import CapturedGraph
from qrnn.errors import BackendError


class Driver:
    """Answers every call with success, but for the one that ``fails``."""

    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=2)
    RESULTS: ClassVar = {
        "cuStreamCreate": (7,),
        "cuStreamEndCapture": ("graph",),
        "cuGraphInstantiate": ("executable",),
    }

    def __init__(self, fails: str = "") -> None:
        self.fails, self.calls = fails, list[tuple[Any, ...]]()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            return (900,) if name == self.fails else (0, *self.RESULTS.get(name, ()))

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    fake = SimpleNamespace(
        current_context=lambda: None, defer_cleanup=nullcontext, external_stream=lambda n: f"stream {n}"
    )
    monkeypatch.setattr(graph, "cuda", fake)
    monkeypatch.setattr(graph, "_driver", lambda: made)
    return made


def test_what_is_called(driver: Driver) -> None:
    captured = CapturedGraph(lambda stream: driver.calls.append(("work", stream)))
    assert driver.calls == [
        ("cuStreamCreate", 1),
        ("cuStreamBeginCapture", 7, 2),
        ("work", "stream 7"),
        ("cuStreamEndCapture", 7),
        ("cuGraphInstantiate", "graph", 0),
        ("cuGraphDestroy", "graph"),
        ("cuStreamDestroy", 7),
    ]
    driver.calls.clear()
    captured.launch()
    captured.launch(5)
    assert driver.calls == [("cuGraphLaunch", "executable", 0), ("cuGraphLaunch", "executable", 5)]
    driver.calls.clear()
    del captured
    gc.collect()
    assert driver.calls == [("cuGraphExecDestroy", "executable")]


def test_work_that_raises_ends_the_capture(driver: Driver) -> None:
    def work(_stream: Any) -> None:
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        CapturedGraph(work)
    assert [name for name, *_ in driver.calls[-2:]] == ["cuStreamEndCapture", "cuStreamDestroy"]


@pytest.mark.parametrize(
    ("fails", "left"),
    [
        ("cuStreamCreate", []),
        ("cuStreamBeginCapture", ["cuStreamDestroy"]),
        ("cuStreamEndCapture", ["cuStreamDestroy"]),
        ("cuGraphInstantiate", ["cuGraphDestroy", "cuStreamDestroy"]),
    ],
)
def test_a_driver_that_refuses(driver: Driver, fails: str, left: list[str]) -> None:
    driver.fails = fails
    with pytest.raises(BackendError, match=f"the CUDA driver refuses a graph: {fails} returns 900"):
        CapturedGraph(lambda _stream: None)
    names = [name for name, *_ in driver.calls]
    assert names[names.index(fails) + 1 :] == left


def test_a_launch_that_is_refused(driver: Driver) -> None:
    captured = CapturedGraph(lambda _stream: None)
    driver.fails = "cuGraphLaunch"
    with pytest.raises(BackendError, match="cuGraphLaunch returns 900"):
        captured.launch()


def test_the_names_are_the_drivers() -> None:
    """The functions and constants exist in the package that numba-cuda depends on."""
    from cuda.bindings import driver as real

    names = ["cuStreamCreate", "cuStreamDestroy", "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"]
    assert all(
        callable(getattr(real, name)) for name in [*names, "cuGraphDestroy", "cuGraphLaunch", "cuGraphExecDestroy"]
    )
    assert real.CUstream_flags.CU_STREAM_NON_BLOCKING == 1
    assert real.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED == 2
