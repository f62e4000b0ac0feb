"""Check the graph of a float part that comes out of a file, before ONNX Runtime sees it."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import checker

from qrnn.errors import ModelFileError
from qrnn.hybrid.model import RANDOM_OPERATORS, FloatPart
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.constants import refuse_external
from qrnn.onnx_import.node import DAMAGE, first_line
from qrnn.onnx_import.parts.flow import graphs_of
from qrnn.onnx_import.parts.shapes import inferred_types
from qrnn.onnx_import.structure import check_structure
from qrnn.onnx_import.wire import check_wire

LARGEST_TENSOR = 1 << 28
"""The most elements of a tensor of a float part, of those whose size its graph fixes."""

LARGEST_GRAPH = 1 << 30
"""The most bytes of a float part's graph."""


def check_float_part(part: FloatPart) -> None:
    """Raise ModelFileError or UnsupportedError unless the graph of a float part is one that a conversion may have written.

    Its parts are counted as those of an .onnx file are, before and after it is parsed. It has all of its weights in it, inputs and outputs as
    the part declares them, no functions, and no tensor of a fixed size of more than `LARGEST_TENSOR` elements. What it computes is not
    bounded: a float part is a program, as any ONNX file is.
    """
    what = f"float part {part.name!r}"
    content = part.content.tobytes()
    if part.content.ndim != 1 or len(content) > LARGEST_GRAPH:
        raise ModelFileError(f"{what}: a graph of {part.content.nbytes} bytes, expected at most {LARGEST_GRAPH}")
    budget = Budget(len(content))
    check_wire(content, onnx.ModelProto.DESCRIPTOR, budget, what)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, *DAMAGE) as error:
        raise ModelFileError(f"{what} is not an ONNX model ({first_line(error)}); convert the model again") from None
    for tensor in check_structure(model, what, budget).tensors:
        refuse_external(tensor, f"{what}: tensor '{tensor.name}'")
    if model.functions:
        raise ModelFileError(f"{what} holds functions, expected a graph without; convert the model again")
    try:
        checker.check_model(model)
    except (checker.ValidationError, *DAMAGE) as error:
        raise ModelFileError(f"{what} is not a valid ONNX model: {first_line(error)}; convert it again") from None
    constants = {t.name for t in model.graph.initializer}
    declared = {i.name for i in model.graph.input} - constants, {o.name for o in model.graph.output}
    expected = {i.name for i in part.inputs} | set(part.fixed), {o.name for o in part.outputs}
    for mine, theirs, word in zip(declared, expected, ("inputs", "outputs"), strict=True):
        if mine != theirs:
            raise ModelFileError(
                f"{what}: its graph has the {word} {sorted(mine)}, the part {sorted(theirs)}; convert the model again"
            )
    left = [model.graph]
    while left:
        for node in left.pop().node:
            if node.op_type in RANDOM_OPERATORS:
                raise ModelFileError(
                    f"{what}: node '{node.name}' ({node.op_type}) draws random numbers; convert the model again"
                )
            left.extend(graphs_of(node))
    for name, info in inferred_types(model, budget).items():
        size = 1
        for dim in info.type.tensor_type.shape.dim:
            size *= max(int(dim.dim_value), 1)
        if size > LARGEST_TENSOR:
            raise ModelFileError(f"{what}: tensor '{name}' has {size} elements, expected at most {LARGEST_TENSOR}")
    _check_places(part, what)


def _check_places(part: FloatPart, what: str) -> None:
    for place in (*part.inputs, *part.outputs):
        rank = len(place.shape) + (place.batch_axis is not None) + (place.time_axis is not None)
        axes = [a for a in (place.batch_axis, place.time_axis) if a is not None]
        fits = all(0 <= a < rank for a in axes) and len(set(axes)) == len(axes)
        if (
            not fits
            or any(size < 0 for size in place.shape)
            or place.parts
            or (place.time_axis is not None and not place.has_time)
        ):
            raise ModelFileError(
                f"{what}: tensor {place.name!r} has axes that do not fit together; convert the model again"
            )
