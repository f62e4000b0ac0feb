"""Run PyTorch for tools/bench_peers.py: nn.LSTM and nn.GRU in 32-bit floats, in bfloat16, and dynamically quantized."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from bench_runtimes import LeftOutError, Runner
from bench_workloads import Work

from qrnn.model.parts import FloatArray


def pytorch(precision: str) -> Callable[[Work, int], Runner]:
    """Return a maker of runners in ``f32``, ``bf16`` or ``int8``."""

    def make(work: Work, threads: int) -> Runner:
        import torch

        # One setting of the process: set again before each turn. Its threads (libgomp's) spin for milliseconds after a call unless
        # told not to, which would be slower in their own turn; KMP_BLOCKTIME is not theirs. Turns begin when they are still.
        torch.set_num_threads(threads)
        with torch.inference_mode():
            runner = _runner(work, _module(work, precision), torch.bfloat16 if precision == "bf16" else torch.float32)
        return replace(runner, prepare=lambda: torch.set_num_threads(threads))

    return make


def _module(work: Work, precision: str) -> Any:
    import torch

    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[work.case.cell]
    module = kind(work.case.hidden, work.case.hidden).eval()
    for parameter, value in zip(module.parameters(), work.network.arrays, strict=True):
        parameter.data.copy_(torch.from_numpy(value))
    if precision == "bf16":
        return module.to(torch.bfloat16)
    if precision == "int8":
        return _quantized(module, kind)
    return module


def _quantized(module: Any, kind: Any) -> Any:
    import torch

    holder = torch.nn.Sequential(module)  # quantize_dynamic replaces modules in another, and leaves a bare one as it is
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this way of quantizing will move to another package
            made = torch.ao.quantization.quantize_dynamic(holder, {kind}, dtype=torch.qint8)[0]
    except (AttributeError, RuntimeError) as error:
        raise LeftOutError(f"quantize_dynamic: {str(error).splitlines()[0]}") from None
    if isinstance(made, kind):
        raise LeftOutError("quantize_dynamic leaves it in 32-bit floats")
    return made


def _runner(work: Work, module: Any, kind: Any) -> Runner:
    import torch

    x = torch.from_numpy(np.ascontiguousarray(work.x.swapaxes(0, 1))).to(kind)
    if not work.case.streaming:

        def whole() -> Any:
            with torch.inference_mode():
                return module(x)[0]

        return Runner(whole, lambda: _batch_first(whole()))
    frames = [x[t : t + 1].clone() for t in range(work.case.steps)]

    def steps(keep: list[Any] | None = None) -> None:
        with torch.inference_mode():
            state = None
            for frame in frames:
                y, state = module(frame, state)
                if keep is not None:
                    keep.append(y)

    def output() -> FloatArray:
        kept: list[Any] = []
        steps(kept)
        return _batch_first(torch.cat(kept))

    return Runner(steps, output)


def _batch_first(y: Any) -> FloatArray:
    array: FloatArray = y.float().numpy().astype(np.float64).swapaxes(0, 1)
    return array
