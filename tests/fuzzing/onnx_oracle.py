"""Compare an imported model with ONNX Runtime on the same file: the float oracle must compute what the file says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from fuzzing.outcome import FaultError
from qrnn.equations.oracle import run_oracle
from qrnn.errors import DataError
from qrnn.model.axes import from_graph
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput

N, T = 2, 3

LARGEST_AXIS = 64
"""The largest size fixed by a file that is compared with ONNX Runtime."""

TOLERANCE = 1e-4
"""Relative to the largest value, but no less than 1."""

SWAYS = 100.0
"""A difference is rounding where it is below so many times what 1e-6 of the inputs changes in ONNX Runtime's own result."""

UNTOLD = ("ThresholdedRelu", "LeakyRelu", "HardSigmoid", "Elu", "Affine", "ScaledTanh")
"""Functions of recurrent nodes whose parameters, left out, ONNX Runtime takes otherwise than the specification."""

Arrays = dict[str, Any]


def compare(model: FloatModel, content: bytes, draw: int, watch: Any, folder: Path) -> str:
    """Return a fact for the report: that both were compared, or why not; FaultError where the results differ."""
    proto = onnx.ModelProto()
    proto.ParseFromString(content)
    if _leaves_parameters_out(proto):
        return "not compared: parameters left out"
    rng = np.random.default_rng(draw)
    try:
        feeds = _feeds(model, proto, rng)
    except _TooLargeError:
        return "not compared: large sizes"
    want = _runtime(content, feeds, watch, folder) if feeds else None
    if want is None:
        return "ONNX Runtime refuses it"
    try:
        got = run_oracle(model, {i.name: _ours(i, feeds[i.name], model.one_step) for i in model.inputs}).outputs
    except DataError:
        return "not compared: data out of range"
    swayed = None
    for output in model.outputs:
        expected = want.get(output.name)
        if expected is None:
            raise FaultError(f"an output that the file has not: {output.name!r}")
        if not np.isfinite(expected).all() or np.abs(expected).max(initial=0) > 1e6:
            return "not compared: infinite"
        mine = got[output.name]
        value = _ours(output, expected, model.one_step, len(mine))
        if value.shape != mine.shape:
            raise FaultError(
                f"wrong import: shape of an output\noutput {output.name}: {mine.shape}, ONNX Runtime {value.shape}"
            )
        mask = _valid(model, feeds, output, value)
        error = np.abs(np.where(mask, value - mine, 0)).max(initial=0)
        if error <= TOLERANCE * max(1.0, np.abs(expected).max(initial=0)):
            continue
        if swayed is None:
            swayed = _runtime(content, _moved(feeds), watch, folder) or {}
        change = np.abs(swayed.get(output.name, expected) - expected).max(initial=0)
        if error > SWAYS * change:
            raise FaultError(
                f"wrong import: values of an output\noutput {output.name}: {error:.3g} from ONNX Runtime's, notes {model.notes}"
            )
        return "not compared: ill-conditioned"
    return "equals ONNX Runtime"


class _TooLargeError(Exception):
    """The model has sizes that would take too long."""


def _leaves_parameters_out(proto: onnx.ModelProto) -> bool:
    for node in (n for nodes in (proto.graph.node, *(f.node for f in proto.functions)) for n in nodes):
        names = [a for a in node.attribute if a.name == "activations"]
        if names and any(s.decode("utf-8", "replace").lower() in {u.lower() for u in UNTOLD} for s in names[0].strings):
            return True
    return False


def _feeds(model: FloatModel, proto: onnx.ModelProto, rng: np.random.Generator) -> Arrays:
    """Return data for every input of the file, in its own axes and types."""
    known = {i.name: i for i in model.inputs}
    constant = {t.name for t in proto.graph.initializer}
    feeds: Arrays = {}
    steps = 1 if model.one_step else T
    for info in proto.graph.input:
        if info.name in constant:
            continue
        found = known.get(info.name)
        dims = []
        for k, dim in enumerate(info.type.tensor_type.shape.dim):
            size = int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None
            batch, time = found is not None and k == found.batch_axis, found is not None and k == found.time_axis
            dims.append(size if size is not None else steps if time else N if batch else 2)
        if max(dims, default=1) > LARGEST_AXIS or len(dims) > 6:
            raise _TooLargeError
        if info.type.tensor_type.elem_type not in list(helper.get_all_tensor_dtypes()):
            return {}  # ONNX Runtime refuses it
        feeds[info.name] = _values(found, info.type.tensor_type.elem_type, dims, rng)
    _agree(model, feeds)
    return feeds


def _agree(model: FloatModel, feeds: Arrays) -> None:
    """Cut every input to the smallest N and T among them, which a file that bakes some sizes in decides."""
    sizes: dict[bool, int] = {}
    for time in (False, True):
        axes = [(i, i.time_axis if time else i.batch_axis) for i in model.inputs]
        found = [feeds[i.name].shape[a] for i, a in axes if a is not None and i.name in feeds]
        sizes[time] = min(found, default=1)
        for i, axis in axes:
            if axis is not None and i.name in feeds:
                feeds[i.name] = np.take(feeds[i.name], range(sizes[time]), axis)
    for i in model.inputs:
        if i.kind == "lengths":
            full = sizes[True]
            feeds[i.name] = np.minimum(feeds[i.name], full).astype(feeds[i.name].dtype)
            feeds[i.name].reshape(-1)[:1] = full


def _values(found: GraphInput | None, kind: int, dims: list[int], rng: np.random.Generator) -> Any:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if found is not None and found.kind == "tokens":
        return rng.integers(0, min(found.vocabulary, 100), dims).astype(dtype)
    if found is not None and found.kind == "lengths":
        return rng.integers(1, T + 1, dims).astype(dtype)
    return (rng.normal(size=dims) * (1 if np.issubdtype(dtype, np.floating) else 3)).astype(dtype)


def _moved(feeds: Arrays) -> Arrays:
    return {k: (v * (1 + 1e-6) + 1e-7).astype(v.dtype) if v.dtype.kind == "f" else v for k, v in feeds.items()}


def _ours(place: GraphInput | GraphOutput, array: Any, one_step: bool, size: int = -1) -> Any:
    """Return an array of the file's own axes as [N, T, …] or [N, …]; ``size`` is N, for batch and time as one axis."""
    if place.batch_axis is not None and place.time_axis is None:
        moved = np.moveaxis(array, place.batch_axis, 0)
        return moved[:, None] if one_step and place.has_time else moved
    try:
        return from_graph(place, array, size)
    except ValueError as error:  # as many rows as no number of steps gives
        raise FaultError(f"wrong import: shape of an output\n{place.name}: {error}") from error


def _valid(model: FloatModel, feeds: Arrays, output: GraphOutput, value: Any) -> Any:
    """Return the part of an output that means something: no padding, and with padding no last steps that a layer takes its own way."""
    lengths = next((feeds[i.name] for i in model.inputs if i.kind == "lengths"), None)
    if lengths is None:
        return np.ones(value.shape, bool)
    if not output.has_time:
        return np.full(value.shape, False) if (lengths != lengths.max()).any() else np.ones(value.shape, bool)
    inside = np.arange(value.shape[1])[None] < lengths.reshape(-1)[:, None]
    return np.broadcast_to(inside.reshape(*inside.shape, *[1] * (value.ndim - 2)), value.shape)


@cache
def _options() -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    return options


def _runtime(content: bytes, feeds: Arrays, watch: Any, folder: Path) -> Arrays | None:
    """Return ONNX Runtime's outputs; None where it refuses the file or the data. Names of nodes, which it wants to be unique, are left out."""
    import onnxruntime as ort

    with watch.other_runtime():
        try:
            content = _nameless(content, folder)
            session = ort.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
            names = [o.name for o in session.get_outputs()]
            return dict(zip(names, session.run(None, feeds), strict=True))
        except Exception:  # noqa: BLE001  # ONNX Runtime raises types of its own for every kind of refusal
            return None


def _nameless(content: bytes, folder: Path) -> bytes:
    """Return the file without names of nodes, and with its external data inside, which ONNX Runtime does not find for a model in memory."""
    model = onnx.ModelProto()
    model.ParseFromString(content)
    for node in model.graph.node:
        node.name = ""
    if b"weights.bin" in content:
        onnx.external_data_helper.load_external_data_for_model(model, str(folder))
        for tensor in model.graph.initializer:
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    return bytes(model.SerializeToString())
