"""Train with what the device computes: a PyTorch module whose forward is the deployed integer model (docs/training_equations.md).

    module = qrnn.qat.prepare("model.onnx", {"x": calibration}, qrnn.Scheme(weights=4))
    logits = module({"x": x}, lengths=lengths)           # what Session.run(module.deploy()) gives, bit for bit
    loss(logits, labels).backward()                      # straight-through gradients, through time
    qrnn.save(module.deploy(), "model.qrnn")

PyTorch is imported when `prepare` is called first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qrnn.quantization.scheme import Scheme
from qrnn.system.extras import missing_library

if TYPE_CHECKING:
    from qrnn.qat.module import QatModule

__all__ = ["prepare"]


def prepare(
    model: Any,
    calibration: Mapping[str, Any] | str,
    scheme: Scheme | None = None,
    target: str = "generic",
    learned_scales: bool = False,
    **options: Any,
) -> QatModule:
    """Return a `torch.nn.Module` that computes and trains the integer model of ``model``.

    Parameters
    ----------
    model: path of an ONNX file or Keras file, a FloatModel, or a torch.nn.Module, which `qrnn.from_torch` imports with ``example``.
    calibration: arrays by graph input, batch first, optionally with ``lengths``, as for `qrnn.quantize`. Formats are chosen by them.
    scheme: how the model is quantized; None stands for what `qrnn.quantize` takes then, with weights of eight bits. Weights have 8 or 4 bits.
    target: the target whose limits the conversion keeps.
    learned_scales: whether the largest weight of each row, from which the step of its integers follows, is a parameter of its own. It helps
        weights of four bits; with eight bits it changes little.
    options: for a torch.nn.Module ``example``, and what else `qrnn.from_torch` takes.

    Refinement methods that choose integers after a conversion (``rounding``, ``bias``) are left out: training chooses the weights. Those that
    change real weights before it (``channels``, ``equalize``, ``gates``) say what training begins with.

    Raises MissingLibraryError where PyTorch is not installed, UnsupportedError for a model with a layer that has no derivative, and what
    `qrnn.quantize` raises.
    """
    try:
        from qrnn.qat.module import prepared
    except ModuleNotFoundError as error:
        raise missing_library(error, "qrnn.qat") from None
    return prepared(model, calibration, scheme, target, learned_scales, **options)
