"""Run dynamic int8 of ONNX Runtime and of PyTorch on the same models and data, for tools/measure_accuracy.py."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_outcome import Outcome, Truth

from qrnn.accuracy.onnxruntime_run import RuntimeRefusedError, run_onnxruntime
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import Direction
from qrnn.model.parts import FloatArray

GATE_ORDER = {"lstm": (0, 1, 2, 3), "gru": (0, 1, 2), "rnn": (0,)}
"""PyTorch's gate blocks by canonical position: i f g o, r z n."""


class AbsentError(Exception):
    """A peer is not installed, or does not run a model; the text says which."""


def onnxruntime_int8(truth: Truth) -> Outcome:
    """Run `quantize_dynamic`: LSTM, MatMul and Gemm in int8 with activations quantized at each call; GRU and RNN stay in floats."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise AbsentError("not installed") from None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Path(folder) / "int8.onnx"
        try:
            quantize_dynamic(truth.path, made, weight_type=QuantType.QInt8, per_channel=True)
            return truth.of(run_onnxruntime(truth.model, made, truth.batch)[truth.output])
        except RuntimeRefusedError:
            raise AbsentError("refused") from None
        except Exception as error:  # its tool's errors have no common base
            raise AbsentError(f"fails: {type(error).__name__}") from error


def pytorch_int8(truth: Truth) -> Outcome:
    """Run `torch.ao.quantization.quantize_dynamic` on nn.LSTM, nn.GRU and nn.Linear, rebuilt from the ONNX weights."""
    try:
        import torch
    except ImportError:
        raise AbsentError("not installed") from None
    chain = _chain(truth)
    modules = torch.nn.ModuleList([_module(layer) for layer in chain])
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # that this way of quantizing will move to another package
        kinds = {torch.nn.LSTM, torch.nn.GRU, torch.nn.Linear}
        made = torch.ao.quantization.quantize_dynamic(modules.eval(), kinds, dtype=torch.qint8)
        return truth.of(_run(truth, chain, made))


def _chain(truth: Truth) -> list[Recurrent | Dense | LastStep]:
    """Return the layers, where they are one chain that PyTorch has modules for."""
    tensor, found = truth.model.inputs[0].name, []
    for layer in truth.model.layers:
        if not isinstance(layer, Recurrent | Dense | LastStep) or layer.input != tensor:
            raise AbsentError("not rebuilt: more than recurrent and dense layers in a chain")
        if isinstance(layer, Recurrent):
            smooth = {a.kind for d in layer.directions for a in d.activations.values()} <= {"sigmoid", "tanh"}
            if layer.cell == "rnn" or not smooth or (layer.cell == "gru" and not layer.linear_before_reset):
                raise AbsentError("no such cell in its dynamic int8")
        found.append(layer)
        tensor = layer.output
    return found


def _module(layer: Recurrent | Dense | LastStep) -> Any:
    import torch

    if isinstance(layer, LastStep):
        return torch.nn.Identity()
    if isinstance(layer, Dense):
        linear = torch.nn.Linear(*layer.weight.shape[::-1])
        _fill(linear, {"weight": layer.weight, "bias": layer.bias})
        return linear
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[layer.cell]
    module = kind(layer.input_size, layer.hidden_size, batch_first=True, bidirectional=len(layer.directions) == 2)
    for number, d in enumerate(layer.directions):
        suffix = "l0_reverse" if number else "l0"
        _fill(module, {f"{name}_{suffix}": getattr(d, name) for name in _ARRAYS})
    return module


_ARRAYS = tuple(name for name in Direction.__dataclass_fields__ if name.startswith(("weight_", "bias_")))


def _fill(module: Any, arrays: dict[str, FloatArray]) -> None:
    import torch

    with torch.no_grad():
        for name, value in arrays.items():
            getattr(module, name).copy_(torch.from_numpy(value.astype(np.float32)))


def _run(truth: Truth, chain: list[Recurrent | Dense | LastStep], modules: Any) -> FloatArray:
    """Run sequences of one length at a time, so that no padding is read."""
    import torch

    batch, got = truth.batch, np.zeros_like(truth.want)
    name = truth.model.inputs[0].name
    if name not in batch.features:
        raise AbsentError("not rebuilt: tokens")
    for length in np.unique(batch.lengths):
        rows = np.flatnonzero(batch.lengths == length)
        value = torch.from_numpy(batch.features[name][rows, :length].astype(np.float32))
        for layer, module in zip(chain, modules, strict=True):
            value = module(value)
            if isinstance(layer, Recurrent):
                value = value[0]
            elif isinstance(layer, LastStep):
                value = value[:, -1]
        array = value.numpy().astype(np.float64)
        if got.ndim == 3:
            got[rows, :length] = array
        else:
            got[rows] = array.reshape(len(rows), *got.shape[1:])
    return got
