"""The runtimes that tools/bench_models.py compares, and the work that each of them gets: a model file with inputs and the oracle's answer.

A graph's tensors are turned to the axes that the file has. What a runtime cannot do with a file is a reason to leave it out.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench_rows import OURS
from bench_runtimes import F32_DB, INT8_DB, LeftOutError, Runner, Runtime
from bench_workloads import inputs

import qrnn
from qrnn.errors import UnsupportedError
from qrnn.model.axes import from_graph, to_graph
from qrnn.model.float_model import FloatModel, GraphInput
from qrnn.model.quant_model import QuantModel
from qrnn.model.states import check_same_source
from qrnn.onnx_import.load import load_onnx

CALIBRATION_SEQUENCES = 8


@dataclass(frozen=True)
class ModelWork:
    """A model of a file with its inputs by name, as qrnn takes them, and the answer expected: the first output by the float64 oracle."""

    name: str
    path: Path
    model: FloatModel
    quantized: Any
    given: Mapping[str, Any]
    calibration: Mapping[str, Any]
    want: Any
    batch: int
    steps: int


def make_work(path: Path, batch: int, steps: int, data: Path | None = None, converted: Path | None = None) -> ModelWork:
    """Convert a file, and make its inputs; UnsupportedError where the model or a kind of its inputs is not supported.

    ``data`` is a folder: a file of the model's name that ends in .npz has arrays [N, T, …] by input name, for calibration and for runs. Without
    one, inputs are random. A file with a fixed number of steps gets as many. The converted model is kept in the folder ``converted``, or read
    from there. qrnn is checked against the reference, bit for bit, before it is used.
    """
    model = load_onnx(path)
    steps = _fixed_steps(path, model) or steps
    file = None if data is None else data / f"{path.stem}.npz"
    wanted = [i for i in model.inputs if i.kind != "state"]
    if file is not None and file.is_file():
        with np.load(file) as arrays:
            calibration = {i.name: arrays[i.name] for i in wanted}
        steps = min(steps, *(calibration[i.name].shape[1] for i in wanted if i.has_time))
        given = {i.name: _first(i, calibration[i.name], batch, steps) for i in wanted}
    else:
        given, calibration = (
            {i.name: _array(i, size, steps, seed) for i in wanted}
            for size, seed in ((batch, 2), (CALIBRATION_SEQUENCES, 1))
        )
    quantized = _converted(model, calibration, None if converted is None else converted / f"{path.stem}.qrnn")
    _check_bits(quantized, {name: x[:1, : min(steps, 8)] for name, x in calibration.items()})
    want = qrnn.run_oracle(model, given).outputs[model.outputs[0].name]
    return ModelWork(path.stem, path, model, quantized, given, calibration, want, batch, steps)


def _converted(model: FloatModel, calibration: Mapping[str, Any], kept: Path | None) -> Any:
    """Return the model that a file keeps, or the default conversion, which is then kept there."""
    if kept is not None and kept.is_file():
        quantized = qrnn.load(kept)
        if isinstance(quantized, QuantModel):
            check_same_source(model, quantized)
        return quantized
    quantized = qrnn.quantize(model, calibration)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        qrnn.save(quantized, kept)
    return quantized


def _first(graph_input: GraphInput, x: Any, batch: int, steps: int) -> Any:
    """Return ``batch`` sequences, of their first steps; those of x begin anew where it has fewer."""
    found = x[np.arange(batch) % len(x)]
    return np.ascontiguousarray(found[:, :steps] if graph_input.has_time else found)


def _array(graph_input: GraphInput, size: int, steps: int, seed: int) -> Any:
    if graph_input.kind == "tokens":
        lead = (size, steps) if graph_input.has_time else (size,)
        return np.random.default_rng(seed).integers(0, graph_input.vocabulary, lead)
    if graph_input.kind != "features":
        raise UnsupportedError(f"input {graph_input.name!r} of kind {graph_input.kind} is not made by this tool")
    x = inputs(graph_input.features, size, steps if graph_input.has_time else 1, seed)
    return x.reshape(*x.shape[: 1 + graph_input.has_time], *graph_input.shape)


def _fixed_steps(path: Path, model: FloatModel) -> int | None:
    """Return the steps that a file fixes for an input over time; None where they are free."""
    shapes = {i.name: i.type.tensor_type.shape.dim for i in onnx.load(path, load_external_data=False).graph.input}
    for i in model.inputs:
        if i.has_time and i.time_axis is not None and i.name in shapes and shapes[i.name][i.time_axis].dim_value:
            return int(shapes[i.name][i.time_axis].dim_value)
    return None


def _check_bits(quantized: Any, given: Mapping[str, Any]) -> None:
    """Raise AssertionError where backend cpu does not give the reference's bits."""
    want, got = (qrnn.Session(quantized, backend).run(given).outputs for backend in ("reference", "cpu"))
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values, err_msg=f"{quantized.name}: output {name}")


def _feeds(work: ModelWork, given: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return inputs by the graph's names and axes; states are zeros."""
    feeds = {}
    for i in work.model.inputs:
        values = np.zeros((size, *i.shape), np.float32) if i.kind == "state" else given[i.name]
        feeds[i.name] = np.ascontiguousarray(to_graph(i, values))
    return feeds


# --- qrnn -----------------------------------------------------------------------------------------------------------------------------


def make_qrnn(work: ModelWork, threads: int) -> Runner:
    """Make a runner of `Session.run` on float32 arrays."""
    session, name = qrnn.Session(work.quantized, threads=threads), work.model.outputs[0].name
    given = dict(work.given)
    return Runner(lambda: session.run(given), lambda: session.run(given).outputs[name])


# --- ONNX Runtime ---------------------------------------------------------------------------------------------------------------------


def quantized_statically(work: ModelWork) -> bytes:
    """Return the file as `onnxruntime.quantization.quantize_static` quantizes it, in QDQ form, from the calibration data.

    LeftOutError where that fails, or quantizes nothing.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives the calibration sequences, one at a time."""

        def __init__(self) -> None:
            self._feeds = self._every()

        def _every(self) -> Iterator[dict[str, Any]]:
            for n in range(min(len(x) for x in work.calibration.values())):
                yield _feeds(work, {name: x[n : n + 1] for name, x in work.calibration.items()}, 1)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    logging.disable(logging.WARNING)  # that the model was not preprocessed
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quantized.onnx"
            quantize_static(
                work.path, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8
            )
            content = path.read_bytes()
    except Exception as error:  # noqa: BLE001  # of any kind, by what the file has
        raise LeftOutError(f"quantize_static: {type(error).__name__}: {str(error).splitlines()[0]}") from None
    finally:
        logging.disable(logging.NOTSET)
    if b"QuantizeLinear" not in content:
        raise LeftOutError("quantize_static leaves the model in 32-bit floats")
    return content


def make_ort(work: ModelWork, threads: int, int8: bool) -> Runner:
    """Make a runner of ONNX Runtime, with its defaults but for the threads."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    content = quantized_statically(work) if int8 else work.path.read_bytes()
    output, feeds = work.model.outputs[0], _feeds(work, work.given, work.batch)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        session.run(None, feeds)
    except Exception as error:  # noqa: BLE001  # ONNX Runtime has many kinds, with no other base
        raise LeftOutError(f"it refuses the model or its inputs: {str(error).splitlines()[0]}") from None
    return Runner(lambda: session.run(None, feeds), lambda: from_graph(output, session.run([output.name], feeds)[0]))


# --- OpenVINO -------------------------------------------------------------------------------------------------------------------------


def make_openvino(work: ModelWork, threads: int) -> Runner:
    """Make a runner of an inference request of OpenVINO in 32-bit floats, with its inputs in place."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    output, feeds = work.model.outputs[0], _feeds(work, work.given, work.batch)
    try:
        core = openvino.Core()
        model = core.read_model(work.path)
        model.reshape({name: list(x.shape) for name, x in feeds.items()})
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        for name, x in feeds.items():
            request.get_tensor(name).data[...] = x
        request.infer()
    except Exception as error:  # noqa: BLE001  # of any kind, by what the file has
        raise LeftOutError(f"it refuses the model or its inputs: {str(error).splitlines()[0]}") from None

    def answer() -> Any:
        request.infer()
        return from_graph(output, request.get_tensor(output.name).data.copy())

    return Runner(request.infer, answer)


def runtimes() -> tuple[Runtime, ...]:
    """Return all runtimes, qrnn first."""
    ort, vino = "onnxruntime", "openvino"
    makers: tuple[tuple[str, str, float, Any], ...] = (
        (OURS, OURS, INT8_DB, make_qrnn),
        ("ONNX Runtime f32", ort, F32_DB, partial(make_ort, int8=False)),
        ("ONNX Runtime int8", ort, INT8_DB, partial(make_ort, int8=True)),
        ("OpenVINO f32", vino, F32_DB, make_openvino),
    )
    return tuple(Runtime(*one) for one in makers)
