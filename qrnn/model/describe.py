"""A quantized model in words and numbers, for ``qrnn inspect``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from qrnn.arithmetic import CONTRACT_VERSION
from qrnn.model.float_model import FloatArray
from qrnn.model.parts import GateFunction, Int8Array, Int64Array, Matrix, QuantMatrix4, TensorFormat
from qrnn.model.quant_layers import QuantAdd, QuantConcat, QuantDense, QuantEmbedding, QuantPointwise, QuantSoftmax
from qrnn.model.quant_model import QuantModel
from qrnn.model.quant_recurrent import QuantRecurrent


def describe(model: QuantModel) -> dict[str, Any]:
    """Everything a reader may ask of a model, as plain values."""
    matrices = list(_matrices(model))
    functions = {(f.params.tobytes(), f.table.tobytes()): f for f in _gate_functions(model)}
    return {
        "name": model.name,
        "contract": CONTRACT_VERSION,
        "one_step": model.one_step,
        "memory": memory_text(model),
        "provenance": asdict(model.provenance),
        "inputs": [asdict(i) for i in model.inputs],
        "outputs": [{"name": o.name, "shape": list(o.shape), "has_time": o.has_time} for o in model.outputs],
        "tensors": [_tensor(name, fmt, model.rows) for name, fmt in model.tensors.items()],
        "matrices": [{key: value for key, value in m.items() if key != "rows"} for m in matrices],
        "gates": sorted({f.name for f in functions.values()}),
        "roundings": list(_roundings(model)),
        "proof": dict(model.proof),
        "bytes": {
            "weights": sum(m["bytes"] for m in matrices)
            + sum(layer.table.nbytes for layer in model.layers if isinstance(layer, QuantEmbedding)),
            "rows": sum(m["rows"] * (4 + 4 + 1 + 1) for m in matrices)
            + sum(
                3 * d.peephole.weight.size for layer in model.recurrent_layers for d in layer.directions if d.peephole
            ),
            "tables": sum(2 * f.table.size for f in functions.values()),
            "state": sum(
                len(layer.directions) * (2 * layer.output_size + (4 * layer.hidden_size if layer.cell == "lstm" else 0))
                for layer in model.recurrent_layers
                if layer.memory
            ),
        },
    }


def memory_text(model: QuantModel) -> str:
    """What is kept from step to step."""
    forgetful = [layer.name for layer in model.recurrent_layers if not layer.memory]
    if not forgetful:
        return "every recurrent layer remembers from step to step"
    if model.rows:
        return "none: every row is computed by itself"
    return f"all but {', '.join(forgetful)}, whose every step begins with the same state"


def _tensor(name: str, fmt: TensorFormat, rows: bool) -> dict[str, Any]:
    scale = fmt.scales
    exponent = np.log2(scale)
    if len(scale) == 1 and exponent[0] == round(exponent[0]):
        frac = -int(exponent[0])
        form, text = f"int{fmt.bits} Q{fmt.bits - 1 - frac}.{frac}", f"2^{-frac}"
    elif len(scale) == 1:
        form, text = f"int{fmt.bits}", f"{scale[0]:.4g}"
    else:
        form, text = f"int{fmt.bits} per feature", f"{scale.min():.3g}…{scale.max():.3g}"
    return {
        "name": name,
        "shape": f"[N, T, {fmt.features}]" if fmt.has_time and not rows else f"[N, {fmt.features}]",
        "format": form,
        "bits": fmt.bits,
        "scale": text,
        "scales": scale.tolist(),
        "range": f"±{fmt.limit * max(fmt.scale):.5g}",
    }


def row_scale(matrix: Matrix, pre_shift: Int8Array, out_frac: Int64Array) -> FloatArray:
    """[R]: real value of one accumulator unit, recovered from the multiplier; weights are worth it over their operand's unit."""
    factor = matrix.multiplier * 2.0 ** (matrix.left_shift.astype(np.float64) - 32)
    scale: FloatArray = factor * 2.0 ** (pre_shift.astype(np.float64) - out_frac)
    return scale


def _matrices(model: QuantModel) -> Any:
    for layer in model.layers:
        if isinstance(layer, QuantDense):
            fracs = np.full(len(layer.pre_shift), layer.out_frac, np.int64)
            yield _matrix(model, f"{layer.name}.weight", layer.matrix, row_scale(layer.matrix, layer.pre_shift, fracs))
        elif isinstance(layer, QuantRecurrent):
            for number, d in enumerate(layer.directions):
                gates = d.gates[: len(layer.gates)]
                fracs = np.repeat([f.in_frac for f in gates], layer.hidden_size).astype(np.int64)
                for name, matrix in (("weight_ih", d.ih), ("weight_hh", d.hh)):
                    yield _matrix(
                        model, f"{layer.name}[{number}].{name}", matrix, row_scale(matrix, d.pre_shift, fracs)
                    )
                if (p := d.projection) is not None:
                    out = np.full(layer.output_size, p.in_frac, np.int64)
                    name = f"{layer.name}[{number}].projection"
                    yield _matrix(model, name, p.matrix, row_scale(p.matrix, p.pre_shift, out))


def _matrix(model: QuantModel, name: str, matrix: Matrix, scale: FloatArray) -> dict[str, Any]:
    rows, columns = matrix.weight.shape
    return {
        "name": name,
        "shape": f"[{rows}, {columns}]",
        "rows": rows,
        "bits": 4 if isinstance(matrix, QuantMatrix4) else 8,
        "bytes": matrix.weight_bytes,
        "row_scale": f"{scale.min():.2g}…{scale.max():.2g}",
        "operand_limit": matrix.operand_limit,
        "bound": model.proof[name],
        "bound_bits": float(np.log2(max(model.proof[name], 1))),
    }


def _gate_functions(model: QuantModel) -> list[GateFunction]:
    directions = [d for layer in model.recurrent_layers for d in layer.directions]
    found = [f for d in directions for f in d.gates]
    found += [
        d.projection.function for d in directions if d.projection is not None and d.projection.function is not None
    ]
    return found + [layer.function for layer in model.layers if isinstance(layer, QuantPointwise)]


def _roundings(model: QuantModel) -> Any:
    """Where the contract rounds and saturates in this model (docs/arithmetic.md, section 8)."""
    for i in model.inputs:
        if i.kind == "features":
            yield {"where": i.name, "rounded": "float to integer", "saturated": f"±{model.tensors[i.name].limit}"}
    for layer in model.layers:
        match layer:
            case QuantRecurrent():
                yield {
                    "where": f"{layer.name}: operands",
                    "rounded": f"x by {layer.x_operand.shift} bits, h by {layer.h_operand.shift} bits",
                    "saturated": f"x ±{layer.x_operand.limit}, h ±{layer.h_operand.limit}",
                }
                gates = ", ".join(
                    f"{g} Q{15 - f.in_frac}.{f.in_frac}"
                    for g, f in zip(layer.roles, layer.directions[0].gates, strict=True)
                )
                peephole = any(d.peephole is not None for d in layer.directions)
                yield {
                    "where": f"{layer.name}: gates",
                    "rounded": "W·x, R·h and the peephole's part, once each" if peephole else "W·x and R·h, once each",
                    "saturated": f"int16: {gates}",
                }
                if layer.cell == "lstm":
                    yield {
                        "where": f"{layer.name}: c",
                        "rounded": f"f·c and i·g to {layer.c_frac} bits",
                        "saturated": "int32",
                    }
                bounded = layer.h_frac == 15 and all(d.projection is None for d in layer.directions)
                yield {
                    "where": f"{layer.name}: h",
                    "rounded": f"once, to {layer.h_frac} bits",
                    "saturated": "never (proved)" if bounded else "±32767",
                }
                for number, d in enumerate(layer.directions):
                    if d.projection is not None:
                        where = f"{layer.name}[{number}]: projection"
                        rounded = f"sum, once, to {d.projection.in_frac} bits"
                        yield {
                            "where": where,
                            "rounded": rounded,
                            "saturated": f"int16; operand ±{d.projection.operand.limit}",
                        }
            case QuantDense():
                rounded = f"sum, once, to {layer.out_frac} bits"
                yield {"where": layer.name, "rounded": rounded, "saturated": f"int16; operand ±{layer.operand.limit}"}
            case QuantPointwise():
                yield {"where": layer.name, "rounded": f"to {layer.out_frac} bits", "saturated": "argument, int16"}
            case QuantSoftmax():
                yield {
                    "where": layer.name,
                    "rounded": "each probability, once, to 14 bits",
                    "saturated": "exp argument at 16",
                }
            case QuantAdd():
                yield {"where": layer.name, "rounded": f"the sum, once, to {layer.out_frac} bits", "saturated": "int16"}
            case QuantConcat():
                yield {"where": layer.name, "rounded": f"parts to {layer.out_frac} bits", "saturated": "int16"}
            case _:
                pass
