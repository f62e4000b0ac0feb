"""A quantized model is described in words and numbers here, for ``qrnn inspect``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from qrnn.model.byte_counts import byte_counts
from qrnn.model.lateness import stream_facts
from qrnn.model.layer_facts import LayerMatrix, Rounding
from qrnn.model.parts import QuantMatrix4, TensorFormat
from qrnn.model.quant_model import QuantModel


def describe(model: QuantModel) -> dict[str, Any]:
    """Return everything that a reader may ask of a model, as plain values for JSON."""
    gates = sorted({f.name for layer in model.layers for f in layer.functions()})
    return {
        "name": model.name,
        "contract": model.contract,
        "one_step": model.one_step,
        "memory": memory_text(model),
        "stream": stream_facts(model),
        "provenance": asdict(model.provenance),
        "inputs": [asdict(i) for i in model.inputs],
        "outputs": [{"name": o.name, "shape": list(o.shape), "has_time": o.has_time} for o in model.outputs],
        "tensors": [_tensor(name, fmt, model) for name, fmt in model.tensors.items()],
        "matrices": [_matrix(model, m) for m in model.matrices],
        "gates": gates,
        "roundings": _roundings(model),
        "proof": dict(model.proof),
        "bytes": byte_counts(model),
    }


def memory_text(model: QuantModel) -> str:
    """Return in words what the model keeps from step to step."""
    forgetful = [layer.name for layer in model.recurrent_layers if not layer.memory]
    if not forgetful:
        return "every recurrent layer remembers from step to step"
    if model.rows:
        return "none: every row is computed by itself"
    return f"all but {', '.join(forgetful)}, whose every step begins with the same state"


def _tensor(name: str, fmt: TensorFormat, model: QuantModel) -> dict[str, Any]:
    scale, timed, exponent = fmt.scales, fmt.has_time and not model.rows, fmt.exponent
    if exponent is not None:
        text = f"2^{exponent}"
    elif len(scale) == 1:
        text = f"{scale[0]:.4g}"
    else:
        text = f"{scale.min():.3g}…{scale.max():.3g}"
    return {
        "name": name,
        "shape": f"[N, {model.length_rules[name]}, {fmt.features}]" if timed else f"[N, {fmt.features}]",
        "format": fmt.form,
        "bits": fmt.bits,
        "scale": text,
        "scales": scale.tolist(),
        **({"offsets": list(fmt.offset)} if fmt.has_offset else {}),
        "range": _range(fmt),
    }


def _range(fmt: TensorFormat) -> str:
    """Return the real values that a tensor can hold: ±largest, or the least and the largest of all features where there is an offset."""
    if not fmt.has_offset:
        return f"±{fmt.limit * max(fmt.scale):.5g}"
    scales, offsets = fmt.scales_and_offsets
    return f"{((offsets - fmt.limit) * scales).min():.5g}…{((offsets + fmt.limit) * scales).max():.5g}"


def _matrix(model: QuantModel, found: LayerMatrix) -> dict[str, Any]:
    matrix, scale = found.matrix, found.row_scale
    rows, columns = matrix.weight.shape
    return {
        "name": found.name,
        "shape": f"[{rows}, {columns}]",
        "bits": 4 if isinstance(matrix, QuantMatrix4) else 8,
        "bytes": matrix.weight_bytes,
        "density": float(np.count_nonzero(matrix.weight) / matrix.weight.size),
        "row_scale": f"{scale.min():.2g}…{scale.max():.2g}",
        "operand_limit": matrix.operand_limit,
        "bound": model.proof[found.name],
        "bound_bits": float(np.log2(max(model.proof[found.name], 1))),
    }


def _roundings(model: QuantModel) -> list[dict[str, str]]:
    """Return where the contract rounds and saturates in this model (docs/arithmetic.md, section 8)."""
    inputs = [
        Rounding(i.name, "float to integer", f"±{model.tensors[i.name].limit}")
        for i in model.inputs
        if i.kind == "features"
    ]
    return [asdict(rounding) for rounding in (*inputs, *(r for layer in model.layers for r in layer.roundings()))]
