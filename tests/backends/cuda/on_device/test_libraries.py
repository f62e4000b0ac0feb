"""Arrays of PyTorch and CuPy: read where they lie, outputs and states theirs to read without a copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import cuda

from backends.cuda.on_device.common import CELLS, drawn, quantized
from qrnn import Session, State
from qrnn.backends.cuda.arrays import on_device


class OnlyDlpack:
    """A tensor that shows nothing but DLPack, as other libraries' do."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack__(self, **more: Any) -> Any:
        return self._tensor.__dlpack__(**more)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def torch_on_gpu() -> Any:
    library = pytest.importorskip("torch")
    if not library.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return library


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_arrays_are_read_where_they_lie(name: str) -> None:
    model = quantized(replace(CELLS["lstm"], hidden_size=33))
    host = drawn(model, 3, 5)["x"]
    if name == "torch":
        library = torch_on_gpu()
        x = library.from_numpy(host).cuda()
        start = x.data_ptr()
    else:
        library = pytest.importorskip("cupy")
        x = library.asarray(host)
        start = x.data.ptr
    assert on_device("x", x).device_ctypes_pointer.value == start
    assert on_device("x", OnlyDlpack(x)).device_ctypes_pointer.value == start
    want = Session(model, "reference").run({"x": host}).outputs["y"]
    for tensor in (x, OnlyDlpack(x)):
        y = Session(model, "cuda").run({"x": tensor}).outputs["y"]
        back = library.as_tensor(y, device="cuda") if name == "torch" else library.asarray(y)
        np.testing.assert_array_equal(cuda.as_cuda_array(back).copy_to_host(), want)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int32"])
def test_types_of_torch(kind: str) -> None:
    torch = torch_on_gpu()
    model = quantized(replace(CELLS["gru_after"], hidden_size=9))
    host = np.round(3 * drawn(model, 3, 5)["x"])
    want = Session(model, "reference").run({"x": host}).outputs["y"]
    x = torch.from_numpy(host).cuda().to(getattr(torch, kind))
    np.testing.assert_array_equal(Session(model, "cuda").run({"x": x}).outputs["y"].copy_to_host(), want)


def test_a_loop_of_steps_stays_on_the_device() -> None:
    """Also when the tensor is computed on the device just before, and the state is PyTorch's."""
    torch = torch_on_gpu()
    model = quantized(replace(CELLS["lstm"], hidden_size=33, directions=(False,)))
    host = drawn(model, 3, 50)["x"]
    want = Session(model, "reference").run({"x": host}).outputs["y"]
    session, x, state = Session(model, "cuda"), torch.from_numpy(host).cuda(), None
    for t in range(host.shape[1]):
        frame = x[:, t] * 1.0  # a tensor that PyTorch's kernel may still be writing
        result = session.step({"x": frame}, state)
        y = torch.as_tensor(result.outputs["y"], device="cuda")
        np.testing.assert_array_equal(y.cpu().numpy(), want[:, t])
        state = State(
            {
                name: (torch.as_tensor(h, device="cuda").clone(), torch.as_tensor(c, device="cuda").clone())
                for name, (h, c) in result.state.layers.items()
            }
        )
