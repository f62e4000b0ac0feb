"""Checks of formats: every tensor has the scale, width and range that the layer which writes it says, and its readers read it so.

The integers of a layer depend on the formats that it was made for. A file whose layers and tensors disagree would run, and its values would
be wrong by powers of two.

A tensor is *fixed-point* when it is int16 with one scale 2^-frac. Graph inputs and embeddings may instead be *scaled*: 8 or 16 bits with any
scales, folded into the matrices that read them, so that nothing but a matrix product can read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.errors import ModelFileError
from qrnn.model.parts import CELL_MAX, Operand, TensorFormat
from qrnn.model.quant_graph import QuantGraph
from qrnn.model.quant_layers import (
    QuantAdd,
    QuantConcat,
    QuantDense,
    QuantEmbedding,
    QuantLastStep,
    QuantLayer,
    QuantPointwise,
    QuantSoftmax,
)
from qrnn.model.quant_recurrent import QuantRecurrent

INT16_MAX = 32767


def fail(where: str, problem: str) -> None:
    """Raise ModelFileError for a structure that no conversion makes."""
    raise ModelFileError(f"{where}: {problem}; the model file is damaged or was not written by qrnn")


def fraction_bits_of(fmt: TensorFormat) -> int | None:
    """The fraction bits of a fixed-point tensor, negative ones too; None for a format that is not fixed-point."""
    if fmt.bits != 16 or len(fmt.scale) != 1:
        return None
    mantissa, exponent = math.frexp(fmt.scale[0])
    return 1 - exponent if mantissa == 0.5 else None


def check_formats(model: QuantGraph) -> None:
    """ModelFileError where a tensor's format is not the one that its writer gives it, or that a reader was made for."""
    tensors = model.tensors
    scaled: set[str] = set()
    for graph_input in model.inputs:
        name = graph_input.name
        if graph_input.kind == "tokens":
            wanted = TensorFormat(1, graph_input.has_time, 32, (1.0,), graph_input.vocabulary - 1)
            _expect(f"input {name}", name, tensors[name], wanted)
        elif graph_input.kind == "features" and _source_is_scaled(f"input {name}", tensors[name]):
            scaled.add(name)
    for layer in model.layers:
        where = f"layer {layer.name}"
        _check_readings(where, layer, tensors, scaled)
        if isinstance(layer, QuantEmbedding):
            fmt = tensors[layer.output]
            if _source_is_scaled(where, fmt):
                scaled.add(layer.output)
            if int(np.abs(layer.table.astype(np.int64)).max()) > fmt.limit:
                fail(where, f"its table leaves ±{fmt.limit}, the range of {layer.output!r}")
            continue
        for name, (frac, limit) in _written_formats(layer, tensors).items():
            fmt = tensors[name]
            bits = 32 if limit == CELL_MAX else 16
            _expect(where, name, fmt, TensorFormat(fmt.features, fmt.has_time, bits, (2.0**-frac,), limit))
    for output in model.outputs:
        for name, _, _ in output.parts:
            if name in scaled:
                fail(f"output {output.name}", f"reads {name!r}, whose scale only matrix products know")


def _expect(where: str, name: str, fmt: TensorFormat, wanted: TensorFormat) -> None:
    if fmt != wanted:
        fail(where, f"{name!r} is {_text(fmt)}, expected {_text(wanted)}")


def _text(fmt: TensorFormat) -> str:
    scale = f"{fmt.scale[0]:g}" if len(fmt.scale) == 1 else f"{len(fmt.scale)} values"
    return f"int{fmt.bits} within ±{fmt.limit} of scale {scale}"


def _source_is_scaled(where: str, fmt: TensorFormat) -> bool:
    """Whether the format of a graph input or an embedding is scaled and not fixed-point; one that is neither is refused."""
    frac = fraction_bits_of(fmt)
    if frac is not None and 0 <= frac <= 15 and fmt.limit == INT16_MAX:
        return False
    narrow = fmt.bits == 8 and fmt.limit == 127
    wide = fmt.bits == 16 and 127 <= fmt.limit <= INT16_MAX and fmt.limit & (fmt.limit + 1) == 0
    if not (narrow or (wide and len(fmt.scale) == 1)):
        fail(where, f"format {_text(fmt)}, expected int8 within ±127, or int16 within ±(2^k - 1) of one scale")
    return True


def _check_readings(where: str, layer: QuantLayer, tensors: Mapping[str, TensorFormat], scaled: set[str]) -> None:
    """The layer reads its inputs with the fraction bits that they have, or by a matrix product as they are."""
    match layer:
        case QuantRecurrent() | QuantDense():
            operand = layer.x_operand if isinstance(layer, QuantRecurrent) else layer.operand
            as_it_is = Operand(0, tensors[layer.input].limit)
            if layer.input in scaled and operand != as_it_is:
                fail(where, f"reads {layer.input!r} through {operand}, expected {as_it_is}")
        case QuantPointwise() | QuantSoftmax():
            _check_frac(where, layer.input, layer.in_frac, tensors, scaled)
        case QuantConcat():
            for part in layer.parts:
                _check_frac(where, part.tensor, part.in_frac, tensors, scaled)
        case QuantAdd():
            _check_frac(where, layer.left, layer.left_frac, tensors, scaled)
            _check_frac(where, layer.right, layer.right_frac, tensors, scaled)
        case QuantLastStep():
            if layer.input in scaled:
                fail(where, f"reads {layer.input!r}, whose scale only matrix products know")


def _check_frac(where: str, name: str, frac: int, tensors: Mapping[str, TensorFormat], scaled: set[str]) -> None:
    found = None if name in scaled else fraction_bits_of(tensors[name])
    if found != frac:
        fail(where, f"reads {name!r} with {frac} fraction bits, but it is {_text(tensors[name])}")


def _written_formats(layer: QuantLayer, tensors: Mapping[str, TensorFormat]) -> dict[str, tuple[int, int]]:
    """Tensor → (fraction bits, limit) as the layer writes it."""
    match layer:
        case QuantRecurrent():
            found = {layer.output: (layer.h_frac, INT16_MAX), layer.h_n: (layer.h_frac, INT16_MAX)}
            return found if layer.c_n is None else found | {layer.c_n: (layer.c_frac, CELL_MAX)}
        case QuantDense() | QuantConcat() | QuantAdd():
            return {layer.output: (layer.out_frac, INT16_MAX)}
        case QuantPointwise():
            return {layer.output: (layer.out_frac, layer.limit)}
        case QuantSoftmax():
            return {layer.output: (PROBABILITY_FRAC, 1 << PROBABILITY_FRAC)}
        case QuantLastStep():
            fmt = tensors[layer.input]
            frac = fraction_bits_of(fmt)
            assert frac is not None, "a tensor that is read is fixed-point or scaled"
            return {layer.output: (frac, fmt.limit)}
        case QuantEmbedding():
            return {}
