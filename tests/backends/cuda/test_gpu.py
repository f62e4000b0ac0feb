"""On a GPU: every kernel gives the bits of backend cpu, which the other tests hold to the reference. Skipped without one.

python -m pytest -m cuda
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from models import Shape, make_model

from backends.generators import assert_equal, integers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import QuantizationError, UnsupportedError
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif("cuda" not in available_backends(), reason="no NVIDIA GPU that backend cuda can use"),
]

MODELS = Path(__file__).parents[4] / "shared" / "models"
PATHS = sorted(MODELS.rglob("*.onnx"))
STEPS = 12

CELLS = {
    "lstm": Shape("lstm", 5),
    "gru_after": Shape("gru", 5),
    "gru_before": Shape("gru", 5, linear_before_reset=False),
    "rnn": Shape("rnn", 5),
    "peepholes": Shape("lstm", 5, forget="coupled", peephole=0.5),
    "projection": Shape("lstm", 5, projection=6, projected="softmax"),
}


def drawn(model: FloatModel | QuantModel, size: int, steps: int) -> dict[str, Any]:
    """Inputs of any size for a model, without its states."""
    rng, data = np.random.default_rng(size), {}
    for graph_input in model.inputs:
        lead = (size, steps) if graph_input.has_time else (size,)
        if graph_input.kind == "tokens":
            data[graph_input.name] = rng.integers(0, graph_input.vocabulary, lead)
        elif graph_input.kind == "features":
            data[graph_input.name] = rng.normal(size=(*lead, *graph_input.shape)).astype(np.float32)
    return data


def assert_same(model: QuantModel, size: int, steps: int, backend: str = "cpu", ours: str = "cuda") -> None:
    """Every tensor and state, of a ragged batch of which a sequence has no steps where there are several."""
    lengths = np.random.default_rng(size + 1).integers(0, steps + 1, size)
    lengths[-1] = steps
    batch = make_batch(model.inputs, drawn(model, size, steps), lengths if size > 1 else None)
    want, got = (integers(Session(model, name), batch)[0] for name in (backend, ours))
    assert_equal(want, got)


@cache
def shared_model(path: Path) -> QuantModel:
    model = load_onnx(path)
    return quantize(model, drawn(model, 2, 1 if model.one_step else STEPS), Scheme(input="8"))


@cache
def small_model(cell: str, hidden: int, activations: int) -> QuantModel:
    shape = replace(CELLS[cell], hidden_size=hidden, directions=(False, True), weight=1.0 / hidden**0.5)
    model = make_model(shape, np.random.default_rng(hidden))
    return quantize(model, drawn(model, 2, 6), Scheme(activations, input="8"))


@pytest.mark.skipif(not PATHS, reason="the shared models are not here")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_shared_models(path: Path) -> None:
    try:
        model = shared_model(path)
    except UnsupportedError as error:
        pytest.skip(str(error)[:80])
    steps = 1 if model.one_step else STEPS
    assert_same(model, 1, min(steps, 3), backend="reference")
    for size in (1, 32, 1024):
        assert_same(model, size, steps)


@pytest.mark.parametrize("activations", [8, 16])
@pytest.mark.parametrize("hidden", [1, 7, 8, 33, 127, 200, 257, 640])
@pytest.mark.parametrize("cell", CELLS)
def test_awkward_sizes(cell: str, hidden: int, activations: int) -> None:
    try:
        model = small_model(cell, hidden, activations)
    except QuantizationError:
        pytest.skip("has no 16-bit format")
    for size in (1, 2, 3, 9, 33, 300):
        assert_same(model, size, 5)


@pytest.mark.parametrize("hidden", [40, 300])
@pytest.mark.parametrize("cell", ["lstm", "gru_after", "gru_before", "rnn"])
def test_every_kind_of_plan(cell: str, hidden: int) -> None:
    """Also those that are never the best: barriers, products, tiles, R in shared memory or not, few blocks and many."""
    from qrnn.backends.cuda import plan, walk

    for activations in (8, 16):
        model = small_model(cell, hidden, activations)
        session = Session(model, "cuda")
        layout = next(iter(session.engine.on_device.directions.values())).layout  # type: ignore[attr-defined]
        for size in (2, 40):
            kinds: dict[Any, list[Any]] = {}
            for one in plan.plans(layout, size, session.engine.device):  # type: ignore[attr-defined]
                kinds.setdefault(one.kind, []).append(one)
            for several in kinds.values():
                for chosen in {several[0], several[-1]}:
                    with mock.patch.object(walk, "choose_plan", lambda *_, chosen=chosen: chosen):
                        assert_same(model, size, 4)


def test_steps_and_long_sequences() -> None:
    model = quantize(make_model(Shape("gru", 3, 64), np.random.default_rng(0)), {"x": np.ones((1, 3, 3))}, Scheme())
    x = drawn(model, 4, 2000)["x"]
    ours, cpu = Session(model, "cuda"), Session(model, "cpu")
    want = cpu.run({"x": x})
    np.testing.assert_array_equal(ours.run({"x": x}).outputs["y"], want.outputs["y"])
    state = None
    for t in range(20):
        result = ours.step({"x": x[:, t]}, state)
        np.testing.assert_array_equal(result.outputs["y"], want.outputs["y"][:, t])
        state = result.state


class OnlyDlpack:
    """A tensor that shows nothing but DLPack, as other libraries' do."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack__(self, **more: Any) -> Any:
        return self._tensor.__dlpack__(**more)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_arrays_of_other_libraries(name: str) -> None:
    """Read where they lie; outputs and states are theirs to read without a copy; a loop of steps stays on the device."""
    library = pytest.importorskip(name)
    from numba import cuda

    from qrnn.backends.cuda.arrays import on_device

    model = small_model("lstm", 33, 8)
    host = drawn(model, 3, 5)["x"]
    if name == "torch":
        if not library.cuda.is_available():
            pytest.skip("this PyTorch has no CUDA")
        x, address = library.from_numpy(host).cuda(), "data_ptr"
        given = library.as_tensor
        start = getattr(x, address)()
    else:
        x = library.asarray(host)
        given, start = library.asarray, x.data.ptr
    assert on_device("x", x).device_ctypes_pointer.value == start
    assert on_device("x", OnlyDlpack(x)).device_ctypes_pointer.value == start
    want = Session(model, "cpu").run({"x": host}).outputs["y"]
    for tensor in (x, OnlyDlpack(x)):
        y = Session(model, "cuda").run({"x": tensor}).outputs["y"]
        back = given(y, device="cuda") if name == "torch" else given(y)
        np.testing.assert_array_equal(cuda.as_cuda_array(back).copy_to_host(), want)


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_compute_sanitizer(tool: str) -> None:
    """NVIDIA's checker of accesses, races in shared memory and barriers, over a few small runs of every kind of plan."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        pytest.skip("compute-sanitizer is not installed")
    tests = [f"{__file__}::test_every_kind_of_plan[{cell}-40]" for cell in ("lstm", "gru_before")]
    command = [
        program,
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, *tests], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
