"""Run a model by ONNX Runtime and by the oracle, on arrays of the graph's own layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.equations.oracle import Observer, run_oracle
from qrnn.errors import QrnnError
from qrnn.model.axes import from_graph
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput
from qrnn.onnx_import import import_model

Arrays = dict[str, np.ndarray[Any, Any]]


def data(*shape: int, seed: int = 5) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def runtime(model: onnx.ModelProto | bytes, feeds: Arrays) -> Arrays:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def batch_first(place: GraphInput | GraphOutput, array: np.ndarray[Any, Any], size: int = -1) -> np.ndarray[Any, Any]:
    """Return an array of the graph's own axes as [N, T, …] or [N, …]; ``size`` is N, for batch and time as one axis."""
    if place.batch_axis is None:
        return from_graph(place, array)
    if place.time_axis is None:
        return np.moveaxis(array, place.batch_axis, 0)
    return from_graph(place, array, size)


def oracle(model: FloatModel, feeds: Arrays, observer: Observer | None = None) -> Arrays:
    """Return the oracle's outputs, batch first, for arrays of the graph's own axes."""
    inputs = {i.name: batch_first(i, feeds[i.name]) for i in model.inputs}
    return run_oracle(model, inputs, observer=observer).outputs


def agree(proto: onnx.ModelProto, feeds: Arrays, expected: Arrays | None = None) -> FloatModel:
    """Assert that every output of the oracle is that of ONNX Runtime, or the ``expected`` one."""
    model = import_model(proto, "test")
    got = oracle(model, feeds)
    want = runtime(proto, feeds) if expected is None else expected
    assert set(got) == set(want)
    for output in model.outputs:
        value = batch_first(output, want[output.name], len(got[output.name]))
        assert got[output.name].shape == value.shape
        np.testing.assert_allclose(got[output.name], value, atol=1e-4, rtol=1e-4, err_msg=output.name)
    return model


def refused_with(error: type[QrnnError], proto: onnx.ModelProto, *parts: str) -> None:
    """Assert that the importer refuses the model with this error, whose text holds every part."""
    with pytest.raises(error) as caught:
        import_model(proto, "test")
    for part in parts:
        assert part in str(caught.value), str(caught.value)
