"""The columns of PyTorch in the benchmark: cuDNN behind nn.LSTM and nn.GRU in four precisions, called, and captured as a CUDA graph.

The device is a parameter: on ``cpu`` the same modules run without graphs and events, so that what is computed can be tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench_runtimes import BF16_DB, F32_DB

from gpu_check.benchmark_data import Data
from gpu_check.benchmark_rows import RAGGED, STEP
from gpu_check.benchmark_timing import Runner, host_clock, torch_clock
from qrnn.model.parts import FloatArray

F16_DB, TF32_DB = 45.0, 40.0
PRECISIONS = {"fp32": F32_DB, "tf32": TF32_DB, "fp16": F16_DB, "bf16": BF16_DB}
"""Least SQNR of the outputs."""

KINDS = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
GRAPH_WARM_CALLS = 3


def columns(data: Data, device: str = "cuda") -> dict[str, Callable[[Data], Runner]]:
    """Return the columns of cuDNN that a row has.

    Sequences and lone steps are called, and are captured as a graph. Ragged batches are packed and called.
    """
    found: dict[str, Callable[[Data], Runner]] = {}
    for precision in PRECISIONS:
        if data.spec.kind == RAGGED:
            found[f"cuDNN {precision}, packed"] = _maker(precision, device, captured=False)
            continue
        if device == "cuda":
            found[f"cuDNN {precision}, graph"] = _maker(precision, device, captured=True)
        found[f"cuDNN {precision}"] = _maker(precision, device, captured=False)
    return found


def _maker(precision: str, device: str, captured: bool) -> Callable[[Data], Runner]:
    return lambda data: runner(data, precision, device, captured)


def runner(data: Data, precision: str, device: str, captured: bool) -> Runner:
    """Return the runner of a column of a row."""
    import torch

    kind = getattr(torch, KINDS[precision])
    prepare(precision)
    module = module_of(data, kind, device)
    clock = torch_clock if device == "cuda" else host_clock
    make = {STEP: _steps, RAGGED: _packed}.get(data.spec.kind, _sequences)
    with torch.inference_mode():
        made: Runner = make(data, module, kind, device, captured)
    return replace(made, least_db=PRECISIONS[precision], clock=clock, prepare=lambda: prepare(precision))


def prepare(precision: str) -> None:
    """Set the switch of tf32, which all modules have in common."""
    import torch

    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def module_of(data: Data, kind: Any, device: str) -> Any:
    """Return nn.LSTM or nn.GRU with the layer's weights."""
    import torch

    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[data.spec.cell](data.spec.hidden, data.spec.hidden).eval()
    for parameter, value in zip(module.parameters(), data.layer.arrays, strict=True):
        parameter.data.copy_(torch.from_numpy(value))
    module = module.to(device, kind)
    module.flatten_parameters()
    return module


def on(device: str, x: Any, kind: Any) -> Any:
    """Return [N, T, H] as PyTorch's [T, N, H] on the device, as cuDNN reads it fastest."""
    import torch

    return torch.from_numpy(x).to(device).swapaxes(0, 1).contiguous().to(kind)


def host(y: Any, data: Data) -> FloatArray:
    """Return the verified sequences of [T, N, H], as [V, T, H] on the host."""
    import torch

    found: FloatArray = y[:, torch.from_numpy(data.verified).to(y.device)].double().cpu().numpy().swapaxes(0, 1)
    return found


def inferring(run: Callable[[], Any]) -> Callable[[], Any]:
    """Return the function without gradients, wherever it is called."""
    import torch

    def call() -> Any:
        with torch.inference_mode():
            return run()

    return call


def capture(run: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    """Capture the work of a call as a CUDA graph.

    Return what replays it, and what the call returned, which each replay writes anew.
    """
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(GRAPH_WARM_CALLS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph.replay, result


def _sequences(data: Data, module: Any, kind: Any, device: str, captured: bool) -> Runner:
    x = on(device, data.x, kind)

    def run() -> Any:
        return module(x)[0]

    if captured:
        replay, y = capture(run)

        def output() -> FloatArray:
            replay()
            return host(y, data)

        return Runner(replay, output, 0.0, host_clock)
    call = inferring(run)
    return Runner(call, lambda: host(call(), data), 0.0, host_clock)


def _packed(data: Data, module: Any, kind: Any, device: str, _captured: bool) -> Runner:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    lengths = data.spec.lengths
    assert lengths is not None
    packed = pack_padded_sequence(on(device, data.x, kind), torch.from_numpy(lengths), enforce_sorted=False)

    def run() -> Any:
        return module(packed)[0]

    call = inferring(run)
    return Runner(call, lambda: host(pad_packed_sequence(call(), total_length=data.steps)[0], data), 0.0, host_clock)


def _steps(data: Data, module: Any, kind: Any, device: str, captured: bool) -> Runner:
    import torch

    frames = on(device, data.x, kind)
    frame = frames[:1].clone()
    shape = (1, data.spec.batch, data.spec.hidden)
    states = [torch.zeros(shape, device=device, dtype=kind) for _ in range(2 if data.spec.cell == "lstm" else 1)]

    def run() -> Any:
        y, after = module(frame, tuple(states) if len(states) == 2 else states[0])
        for old, new in zip(states, after if len(states) == 2 else (after,), strict=True):
            old.copy_(new)
        return y

    call, y = capture(run) if captured else (inferring(run), None)

    def output() -> FloatArray:
        with torch.inference_mode():
            for state in states:
                state.zero_()
            kept = []
            for t in range(data.steps):
                frame.copy_(frames[t : t + 1])
                returned = call()
                kept.append((returned if y is None else y).clone())
            return host(torch.cat(kept), data)

    return Runner(call, output, 0.0, host_clock)


def versions() -> dict[str, str]:
    """Return the versions of PyTorch and of what it runs on."""
    import torch

    cudnn = torch.backends.cudnn.version()
    return {
        "torch": torch.__version__,
        "CUDA of torch": str(torch.version.cuda),
        "cuDNN": "none" if cudnn is None else str(cudnn),
    }
