"""Tensors of the file as NumPy arrays, and folding of nodes that read constants only."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.onnx_import.values import Array, check_size

# Elementwise or shrinking, deterministic: what they give is never larger than their operands broadcast together.
FOLDABLE = frozenset(
    [
        "Abs",
        "And",
        "Ceil",
        "Clip",
        "Div",
        "Equal",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Round",
        "Sign",
        "Size",
        "Sqrt",
        "Sub",
        "Sum",
        "Where",
    ]
)


def to_numpy(tensor: onnx.TensorProto, what: str) -> Array:
    """A tensor as float64, int64 or bool. ``what`` names it in errors."""
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{what} cannot be read: {error}; the file is damaged, export it again") from error
    return canonical(array, what)


def canonical(array: Array, what: str) -> Array:
    """An array as float64, int64 or bool; NaN and infinity are refused."""
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind in "OUSc":
        raise UnsupportedError(f"{what} has element type {array.dtype}; only real numbers are supported")
    with np.errstate(all="ignore"):  # a signalling NaN is found below, with a name
        numbers = array.astype(np.float64)  # float16, bfloat16 and the small floats of ml_dtypes come here too
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        place = [int(k) for k in np.unravel_index(bad[0], numbers.shape)]
        raise ModelFileError(
            f"{what} holds {numbers.reshape(-1)[bad[0]]} at {place} ({bad.size} such values); "
            "check the trained weights and export again"
        )
    return numbers


def fold(proto: onnx.NodeProto, opset: int, inputs: list[Array | None]) -> list[Array]:
    """Run one `FOLDABLE` node on constants."""
    from onnx.reference import ReferenceEvaluator  # slow to import, and few models need it

    given = {name: value for name, value in zip(proto.input, inputs, strict=True) if name and value is not None}
    shape = (
        np.broadcast_shapes(*(value.shape for value in given.values()))
        if not proto.op_type.startswith("Reduce")
        else ()
    )
    check_size(int(np.prod(shape, dtype=np.float64)), f"the result of node '{proto.name}' ({proto.op_type})")
    graph = onnx.helper.make_graph(
        [proto],
        "fold",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in given],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in proto.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(None, given)
    return [canonical(np.asarray(r), f"the result of node '{proto.name}' ({proto.op_type})") for r in results]
