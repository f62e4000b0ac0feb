"""Read tensors of the file as NumPy arrays, and fold nodes that read constants only."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.onnx_import.budget import Budget, count
from qrnn.onnx_import.values import MOST_AXES, Array

FOLD_WORK = 64
"""Nominal nanoseconds for one element of an operator of `FOLDABLE`: the slowest is Pow."""

EVALUATOR_WORK = 200_000
"""Nominal nanoseconds to set up ONNX's evaluator for one node."""

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
        "Xor",
    ]
)


LOWEST = float(np.finfo(np.float64).min)
"""What stands for -inf in a mask."""


def stored_bytes(tensor: onnx.TensorProto, what: str) -> int:
    """Return how many bytes ``raw_data`` has for a tensor's type and shape; ``what`` names the tensor in errors."""
    if any(size < 0 for size in tensor.dims):
        raise ModelFileError(
            f"{what} has the shape {list(tensor.dims)[:MOST_AXES]}; the file is damaged, export it again"
        )
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{what} has the unknown element type {tensor.data_type}; the file is damaged, export it again"
        ) from error
    if dtype.kind in "OUSc":
        raise UnsupportedError(f"{what} has element type {dtype}; only real numbers are supported")
    # sub-byte types are a byte each in NumPy; their names say how many bits the file packs them in
    narrow = next((bits for bits in (2, 4, 6) if dtype.name in _PACKED[bits]), int(dtype.itemsize) * 8)
    return -(-math.prod(int(size) for size in tensor.dims) * narrow // 8)


_PACKED = {2: ("uint2", "int2"), 4: ("uint4", "int4", "float4_e2m1fn"), 6: ("float6_e2m3fn", "float6_e3m2fn")}
"""The types that the file packs, by their bits."""


def refuse_external(tensor: onnx.TensorProto, what: str) -> None:
    """Refuse a tensor whose data are in another file: onnx would look for that file from wherever the process runs."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelFileError(
            f"{what} has its data in an external file that is not loaded; load the model from its file with qrnn.load_onnx"
        )


def to_numpy(tensor: onnx.TensorProto, what: str, budget: Budget) -> Array:
    """Return a tensor as float64, int64 or bool; ``what`` names it in errors."""
    refuse_external(tensor, what)
    needed = stored_bytes(tensor, what)
    if len(tensor.dims) > MOST_AXES:
        raise ModelFileError(f"{what} has {len(tensor.dims)} axes, at most {MOST_AXES} are supported; export it again")
    given = len(tensor.raw_data)
    if tensor.HasField("raw_data") and given != needed:
        raise ModelFileError(
            f"{what} cannot be read: it has {given} bytes where its type and shape {list(tensor.dims)} need {needed}; the file is "
            "damaged, export it again"
        )
    elements = math.prod(tensor.dims)
    listed = max(
        len(tensor.float_data),
        len(tensor.double_data),
        len(tensor.int32_data),
        len(tensor.int64_data),
        len(tensor.uint64_data),
    )
    if not tensor.HasField("raw_data") and listed < elements // 4:  # four elements of two bits are one entry
        raise ModelFileError(
            f"{what} cannot be read: it has {listed} numbers where its shape {list(tensor.dims)} needs {elements}; the file is damaged, "
            "export it again"
        )
    budget.value(what, elements, scratch=elements + listed)
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{what} cannot be read: {error}; the file is damaged, export it again") from error
    return canonical(array, what)


def canonical(array: Array, what: str) -> Array:
    """Return an array as float64, int64 or bool; refuse NaN and infinity."""
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind in "OUSc":
        raise UnsupportedError(f"{what} has element type {array.dtype}; only real numbers are supported")
    with np.errstate(all="ignore"):  # a signalling NaN is found below, with a name
        # float16, bfloat16 and the small floats of ml_dtypes come here too
        numbers = array.astype(np.float64, copy=False)
    finite = np.isfinite(numbers)
    if not finite.all() and _is_mask(numbers, finite):
        numbers, finite = np.where(finite, numbers, LOWEST), np.ones_like(finite)
    if not finite.all():
        first = int(finite.reshape(-1).argmin())
        place = [int(k) for k in np.unravel_index(first, numbers.shape)]
        raise ModelFileError(
            f"{what} holds {numbers.reshape(-1)[first]} at {place} ({finite.size - np.count_nonzero(finite)} such values); "
            "check the trained weights and export again"
        )
    return numbers


def _is_mask(numbers: Array, finite: Array) -> bool:
    """Return whether numbers are those of a mask: all that are not finite are -inf, and the others are one number."""
    others = numbers[finite]
    return bool((numbers[~finite] == -np.inf).all() and (others == others[:1]).all())


def fold(proto: onnx.NodeProto, opset: int, inputs: list[Array | None], budget: Budget) -> list[Array]:
    """Run one `FOLDABLE` node on constants."""
    from onnx.reference import ReferenceEvaluator  # slow to import, and few models need it

    what = f"the result of node '{proto.name}' ({proto.op_type})"
    given = {name: value for name, value in zip(proto.input, inputs, strict=True) if name and value is not None}
    elements = _elements(proto, given)
    # operators of many operands write an intermediate result for each
    budget.spend(what, EVALUATOR_WORK + elements * FOLD_WORK * max(len(proto.input), 1))
    budget.value(what, elements, scratch=2 * elements, cost=0)
    graph = helper.make_graph(
        [proto],
        "fold",
        [helper.make_value_info(name, onnx.TypeProto()) for name in given],
        [helper.make_value_info(name, onnx.TypeProto()) for name in proto.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, such as of the mean of nothing, which is NaN
        results = ReferenceEvaluator(model).run(None, given)
    return [canonical(np.asarray(r), what) for r in results]


def _elements(proto: onnx.NodeProto, given: dict[str, Array]) -> int:
    """Return the most elements of a node's result and of its intermediate results."""
    shapes: list[Any] = [value.shape for value in given.values()]
    largest = max((count(shape) for shape in shapes), default=1)
    # the second operand only lists axes, or the others hold a number for each channel
    if proto.op_type.startswith("Reduce") or proto.op_type == "BatchNormalization":
        return largest
    # axes of size 0 are taken as 1: an intermediate result may be without them
    grown = [[max(int(size), 1) for size in shape] for shape in shapes]
    return max(largest, count(np.broadcast_shapes(*(tuple(shape) for shape in grown))))
