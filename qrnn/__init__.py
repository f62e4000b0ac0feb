"""Integer-only recurrent networks, from a trained ONNX model to the same bits on every device.

    model = qrnn.load_onnx("model.onnx")
    quantized = qrnn.quantize(model, {"x": calibration})
    qrnn.save(quantized, "model.qrnn")
    session = qrnn.Session(qrnn.load("model.qrnn"))
    result = session.run({"x": x}, lengths=lengths)      # result.outputs, result.state
    report = qrnn.compare(model, quantized, {"x": x, "labels": labels})

Names are imported when first used, so that ``import qrnn`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qrnn.system.version import __version__ as __version__

if TYPE_CHECKING:
    from qrnn import layers as layers
    from qrnn import qat as qat
    from qrnn.accuracy.compare import compare
    from qrnn.accuracy.comparison import Comparison
    from qrnn.accuracy.diff import diff
    from qrnn.accuracy.difference import Difference
    from qrnn.accuracy.explain import explain
    from qrnn.accuracy.explanation import Explanation
    from qrnn.conversion import quantize
    from qrnn.conversion.prune import prune
    from qrnn.data_files.opening import DataFile, open_data
    from qrnn.equations.oracle import run_oracle
    from qrnn.errors import (
        BackendError,
        DataError,
        DeviceError,
        MissingLibraryError,
        ModelFileError,
        QrnnError,
        QuantizationError,
        TargetError,
        UnsupportedError,
    )
    from qrnn.export.folder import export_model
    from qrnn.finetuning.finetune import finetune
    from qrnn.finetuning.result import Finetuned
    from qrnn.finetuning.training import Training
    from qrnn.hybrid.convert import convert_with_float_parts
    from qrnn.hybrid.cut_data import cut_data
    from qrnn.hybrid.file import load, save
    from qrnn.hybrid.model import HybridModel
    from qrnn.keras_import import load_keras
    from qrnn.lab.budgets import Budgets
    from qrnn.lab.sweep import sweep
    from qrnn.lab.sweep_result import SweepResult
    from qrnn.lab.tune import tune
    from qrnn.lab.tune_result import TuneResult
    from qrnn.model.choosing import Sampling
    from qrnn.model.codes import CodeFormat, code_format
    from qrnn.model.float_model import FloatModel
    from qrnn.model.quant_model import QuantModel
    from qrnn.onnx_import import cut_onnx, load_onnx
    from qrnn.quantization.scheme import Scheme
    from qrnn.running.dask_arrays import run_dask
    from qrnn.running.generated import Generated
    from qrnn.running.pool import StreamPool
    from qrnn.running.session import Session
    from qrnn.running.state import RunResult, State
    from qrnn.running.streaming import Stream
    from qrnn.targets import Target, load_target
    from qrnn.torch_import import from_torch

_HOMES = {
    "qrnn.accuracy.compare": ("compare",),
    "qrnn.accuracy.comparison": ("Comparison",),
    "qrnn.accuracy.diff": ("diff",),
    "qrnn.accuracy.difference": ("Difference",),
    "qrnn.accuracy.explain": ("explain",),
    "qrnn.accuracy.explanation": ("Explanation",),
    "qrnn.conversion.prune": ("prune",),
    "qrnn.data_files.opening": ("DataFile", "open_data"),
    "qrnn.equations.oracle": ("run_oracle",),
    "qrnn.errors": (
        "BackendError",
        "DataError",
        "DeviceError",
        "MissingLibraryError",
        "ModelFileError",
        "QrnnError",
        "QuantizationError",
        "TargetError",
        "UnsupportedError",
    ),
    "qrnn.export.folder": ("export_model",),
    "qrnn.finetuning.finetune": ("finetune",),
    "qrnn.finetuning.result": ("Finetuned",),
    "qrnn.finetuning.training": ("Training",),
    "qrnn.lab.budgets": ("Budgets",),
    "qrnn.lab.sweep": ("sweep",),
    "qrnn.lab.sweep_result": ("SweepResult",),
    "qrnn.lab.tune": ("tune",),
    "qrnn.lab.tune_result": ("TuneResult",),
    "qrnn.hybrid.convert": ("convert_with_float_parts",),
    "qrnn.hybrid.cut_data": ("cut_data",),
    "qrnn.hybrid.file": ("load", "save"),
    "qrnn.hybrid.model": ("HybridModel",),
    "qrnn.model.codes": ("CodeFormat", "code_format"),
    "qrnn.model.choosing": ("Sampling",),
    "qrnn.model.float_model": ("FloatModel",),
    "qrnn.model.quant_model": ("QuantModel",),
    "qrnn.keras_import": ("load_keras",),
    "qrnn.onnx_import": ("cut_onnx", "load_onnx"),
    "qrnn.quantization.scheme": ("Scheme",),
    "qrnn.conversion": ("quantize",),
    "qrnn.running.dask_arrays": ("run_dask",),
    "qrnn.running.generated": ("Generated",),
    "qrnn.running.session": ("Session",),
    "qrnn.running.state": ("RunResult", "State"),
    "qrnn.running.pool": ("StreamPool",),
    "qrnn.running.streaming": ("Stream",),
    "qrnn.targets": ("Target", "load_target"),
    "qrnn.torch_import": ("from_torch",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BackendError",
    "Budgets",
    "CodeFormat",
    "Comparison",
    "DataError",
    "DataFile",
    "DeviceError",
    "Difference",
    "Explanation",
    "Finetuned",
    "FloatModel",
    "Generated",
    "HybridModel",
    "MissingLibraryError",
    "ModelFileError",
    "QrnnError",
    "QuantModel",
    "QuantizationError",
    "RunResult",
    "Sampling",
    "Scheme",
    "Session",
    "State",
    "Stream",
    "StreamPool",
    "SweepResult",
    "Target",
    "TargetError",
    "Training",
    "TuneResult",
    "UnsupportedError",
    "code_format",
    "compare",
    "convert_with_float_parts",
    "cut_data",
    "cut_onnx",
    "diff",
    "explain",
    "export_model",
    "finetune",
    "from_torch",
    "load",
    "load_keras",
    "load_onnx",
    "load_target",
    "open_data",
    "prune",
    "quantize",
    "run_dask",
    "run_oracle",
    "save",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        try:
            value = getattr(importlib.import_module(_HOME[name]), name)
        except ModuleNotFoundError as error:
            from qrnn.system.extras import missing_library

            raise missing_library(error, f"qrnn.{name}") from None
        globals()[name] = value
        return value
    if name in ("layers", "qat"):  # modules, whose functions are named layers.lstm and so on
        return importlib.import_module(f"qrnn.{name}")
    raise AttributeError(f"module 'qrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, which completion in a shell or a notebook offers."""
    return sorted({*__all__, "layers", "qat", *(name for name in globals() if name.startswith("__"))})
