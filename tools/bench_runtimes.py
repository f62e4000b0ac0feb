"""The runtimes that tools/bench_peers.py compares: qrnn, ONNX Runtime and OpenVINO here, PyTorch in bench_torch.

Each makes a `Runner` of a piece of work: the fastest way its API offers to run it, with inputs in the layout and type that suit it best,
converted beforehand. qrnn is timed through `Session.run`, `Stream.step` and `Stream.advance` as a user calls them, conversions included.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from bench_workloads import Work, onnx_model, state_names

import qrnn
from qrnn.model.parts import FloatArray

F32_DB, BF16_DB, INT8_DB = 60.0, 35.0, 20.0
"""Least SQNR of an output against the float64 oracle: for 32-bit floats, bfloat16, and 8-bit integers."""


class LeftOutError(Exception):
    """A runtime takes no part in a row; the text says why."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Runner:
    """One runtime's way to run a piece of work: ``run`` computes all steps; ``output`` does it once from zero states and returns y [N, T, H].

    ``prepare`` is called before ``run`` when other runtimes ran in between. A streaming ``run`` makes one call per step, with the carried
    state.
    """

    run: Callable[[], Any]
    output: Callable[[], FloatArray]
    prepare: Callable[[], Any] = _nothing


@dataclass(frozen=True)
class Runtime:
    """A column of the table: ``make(work, threads)`` raises LeftOutError where it does not apply.

    ``whole`` is true for runtimes that run whole sequences too, not only streams.
    """

    name: str
    package: str
    least_db: float
    make: Callable[[Work, int], Runner]
    whole: bool = True

    @property
    def installed(self) -> bool:
        """Whether the runtime's package is installed."""
        return find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """The version of the runtime's package."""
        return version(self.package)


# --- qrnn ---------------------------------------------------------------------------------------------------------------------------


def make_qrnn(work: Work, threads: int) -> Runner:
    """Make a runner of `Session.run` on float32 arrays, or of `Stream.step` on each step's."""
    session = qrnn.Session(work.network.quantized, threads=threads)
    if not work.case.streaming:
        given = {"x": work.x}
        return Runner(lambda: session.run(given), lambda: session.run(given).outputs["y"])
    frames = [{"x": work.x[:, t].copy()} for t in range(work.case.steps)]
    stream = session.stream()

    def run() -> None:
        for frame in frames:
            stream.step(frame)

    def output() -> FloatArray:
        stream.reset()
        return np.stack([stream.step(frame)["y"] for frame in frames], axis=1)

    return Runner(run, output)


def make_qrnn_bound(work: Work, threads: int) -> Runner:
    """Make a runner of `Stream.advance`: each step's input is written, and its output read, in place."""
    stream = qrnn.Session(work.network.quantized, threads=threads).stream()
    frames = [work.x[:, t].copy() for t in range(work.case.steps)]
    x, y = stream.inputs["x"], stream.outputs["y"]

    def run() -> None:
        for frame in frames:
            x[...] = frame
            stream.advance()

    def output() -> FloatArray:
        stream.reset()
        kept = []
        for frame in frames:
            x[...] = frame
            stream.advance()
            kept.append(y.copy())
        return np.stack(kept, axis=1)

    return Runner(run, output)


# --- ONNX Runtime -------------------------------------------------------------------------------------------------------------------


def _quantized(model: Any, cell: str) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # that shapes were not inferred first: here they are all given
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quantized.onnx"
            quantize_dynamic(model, path, weight_type=QuantType.QInt8)
            content = path.read_bytes()
    finally:
        logging.disable(logging.NOTSET)
    if b"DynamicQuantize" not in content:
        raise LeftOutError(f"quantize_dynamic leaves {cell.upper()} in 32-bit floats")
    return content


def _ort_session(work: Work, threads: int, int8: bool) -> Any:
    """Return a session with the defaults except for the threads, which spin between calls for tens of milliseconds."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    model = onnx_model(work)
    content = _quantized(model, work.case.cell) if int8 else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _time_first(work: Work) -> Any:
    return np.ascontiguousarray(work.x.swapaxes(0, 1))


def _batch_first(y: Any) -> FloatArray:
    """Return [T, 1, N, H] as [N, T, H] float64."""
    return np.asarray(y, np.float64)[:, 0].swapaxes(0, 1)


def _ort(work: Work, threads: int, int8: bool) -> Runner:
    session = _ort_session(work, threads, int8)
    case = work.case
    x, pairs = _time_first(work), state_names(case)
    zeros = {name: np.zeros((1, case.batch, case.hidden), np.float32) for name, _ in pairs}
    if not case.streaming:
        feeds = {"x": x, **zeros}
        return Runner(lambda: session.run(["Y"], feeds), lambda: _batch_first(session.run(["Y"], feeds)[0]))
    frames = [x[t : t + 1].copy() for t in range(case.steps)]
    wanted = ["Y", *(name for _, name in pairs)]
    inputs = [name for name, _ in pairs]

    def steps(keep: list[Any] | None = None) -> None:
        feeds = dict(zeros)
        for frame in frames:
            feeds["x"] = frame
            y, *states = session.run(wanted, feeds)
            feeds = dict(zip(inputs, states, strict=True))
            if keep is not None:
                keep.append(y)

    def output() -> FloatArray:
        kept: list[Any] = []
        steps(kept)
        return _batch_first(np.concatenate(kept))

    return Runner(steps, output)


def _ort_bound(work: Work, threads: int, int8: bool) -> Runner:
    """Make a runner that streams through two I/O bindings in turn, each with the other's states: nothing is allocated or copied."""
    from onnxruntime import OrtValue

    session = _ort_session(work, threads, int8)
    case = work.case
    frames = [frame[None].copy() for frame in _time_first(work)]
    zero = np.zeros((1, case.batch, case.hidden), np.float32)
    # An OrtValue on the CPU is the array that it is made from: each has its own.
    x, y = OrtValue.ortvalue_from_numpy(zero.copy()), OrtValue.ortvalue_from_numpy(zero[None].copy())
    states = [[OrtValue.ortvalue_from_numpy(zero.copy()) for _ in state_names(case)] for _ in range(2)]
    bindings = []
    for turn in range(2):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("Y", y)
        for number, (before, after) in enumerate(state_names(case)):
            binding.bind_ortvalue_input(before, states[turn][number])
            binding.bind_ortvalue_output(after, states[1 - turn][number])
        bindings.append(binding)

    def run() -> None:
        for t, frame in enumerate(frames):
            x.update_inplace(frame)
            session.run_with_iobinding(bindings[t & 1])
            y.numpy()

    def output() -> FloatArray:
        for state in states[0]:
            state.update_inplace(zero)
        kept = []
        for t, frame in enumerate(frames):
            x.update_inplace(frame)
            session.run_with_iobinding(bindings[t & 1])
            kept.append(y.numpy().copy())
        return _batch_first(np.concatenate(kept))

    return Runner(run, output)


# --- OpenVINO -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenVino:
    """An inference request of OpenVINO whose arrays are written in place; precision is ``f32`` or ``bf16``."""

    precision: str

    def __call__(self, work: Work, threads: int) -> Runner:
        """Make a runner of the work; LeftOutError where OpenVINO does not take part."""
        import openvino

        core = openvino.Core()
        if self.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise LeftOutError("this processor has no bfloat16 instructions")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = core.read_model(onnx_model(work).SerializeToString(), b"")
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        case = work.case
        frames = _time_first(work)
        # The request's own memory, written and read in place; tensors that share an array's would not keep it alive.
        x, *states = (request.get_tensor(name).data for name in ("x", *(name for name, _ in state_names(case))))
        x[:] = frames[: len(x)]
        for state in states:
            state[:] = 0.0
        request.infer()
        y, *after = (request.get_output_tensor(number).data for number in range(1 + len(states)))
        if not case.streaming:

            def whole() -> FloatArray:
                request.infer()
                return _batch_first(y)

            return Runner(request.infer, whole)

        def run(keep: list[Any] | None = None) -> None:
            for frame in frames:
                x[0] = frame
                request.infer()
                for state, new in zip(states, after, strict=True):
                    state[:] = new
                if keep is not None:
                    keep.append(y.copy())

        def output() -> FloatArray:
            for state in states:
                state[:] = 0.0
            kept: list[Any] = []
            run(kept)
            return _batch_first(np.concatenate(kept))

        return Runner(run, output)


def runtimes() -> tuple[Runtime, ...]:
    """Return all runtimes, qrnn first."""
    from bench_torch import pytorch

    ort, vino = "onnxruntime", "openvino"
    return (
        Runtime("qrnn", "qrnn", INT8_DB, make_qrnn),
        Runtime("qrnn, bound", "qrnn", INT8_DB, make_qrnn_bound, False),
        Runtime("ONNX Runtime f32", ort, F32_DB, lambda work, threads: _ort(work, threads, False)),
        Runtime("ONNX Runtime int8", ort, INT8_DB, lambda work, threads: _ort(work, threads, True)),
        Runtime("ONNX Runtime f32, bound", ort, F32_DB, lambda work, threads: _ort_bound(work, threads, False), False),
        Runtime("ONNX Runtime int8, bound", ort, INT8_DB, lambda work, threads: _ort_bound(work, threads, True), False),
        Runtime("PyTorch f32", "torch", F32_DB, pytorch("f32")),
        Runtime("PyTorch bf16", "torch", BF16_DB, pytorch("bf16")),
        Runtime("PyTorch int8", "torch", INT8_DB, pytorch("int8")),
        Runtime("OpenVINO f32", vino, F32_DB, OpenVino("f32")),
        Runtime("OpenVINO bf16", vino, BF16_DB, OpenVino("bf16")),
    )
