"""Values that mutated ONNX models hold: boundary numbers, names, attribute values, constants."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.defs import OpSchema

INTS = (-2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 255, 1000)
HUGE = (1 << 15, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), -(1 << 31))
FLOATS = (-1.0, 0.0, 0.5, 1.0, 2.0, 0.01, 1e-30, 1e6, 1e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "forward", "reverse", "bidirectional", "Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "Affine", "Elu", "Softsign",
    "ThresholdedRelu", "Softplus", "ScaledTanh", "constant", "reflect", "edge", "wrap", "linear", "nearest", "add", "none", "valid",
    "SAME_UPPER", "NOTSET", "tanh", "SIGMOID", "", "é", "Foo",
)  # fmt: skip
NAMES = ("", "x", "X", "y", "a b", "é", "a\nb", "%s{0}", "'", "a/b", "..", "x" * 300, "rnn1_W", "c1", "0")
TYPES = tuple(v for k, v in TensorProto.DataType.items() if k != "UNDEFINED")
ONE_D = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32)


def integer(rng: Random) -> int:
    """An integer, mostly small."""
    return rng.choice(HUGE) if rng.random() < 0.1 else rng.choice(INTS)


def real(rng: Random) -> float:
    """A real number, mostly small and finite."""
    return rng.choice(FLOATS) if rng.random() < 0.4 else rng.uniform(-2, 2)


def numbers(rng: Random, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array of moderate values."""
    made = np.random.default_rng(rng.getrandbits(32)).uniform(-1, 1, shape)
    return (made * (1 if np.issubdtype(dtype, np.floating) else 5)).astype(dtype)


def shape(rng: Random, rank: int | None = None) -> tuple[int, ...]:
    """A small shape."""
    rank = rng.choice((0, 1, 1, 2, 2, 3, 4)) if rank is None else rank
    return tuple(rng.choice((1, 1, 2, 3, 4, 5, 5)) for _ in range(rank))


def tensor(rng: Random, name: str = "") -> TensorProto:
    """A constant: floats, or integers that look like axes, shapes and indices."""
    if rng.random() < 0.5:
        return numpy_helper.from_array(numbers(rng, shape(rng)), name)
    if rng.random() < 0.85:
        values = [integer(rng) for _ in range(rng.choice((0, 1, 1, 2, 3, 4)))]
        array = np.array(values, np.int64)
        return numpy_helper.from_array(array.reshape(()) if len(values) == 1 and rng.random() < 0.3 else array, name)
    kinds = [np.float64, np.float16, np.int32, np.uint8, np.int8, np.bool_, np.uint64]
    return numpy_helper.from_array(numbers(rng, shape(rng), np.float64).astype(rng.choice(kinds)), name)


def attribute(rng: Random, name: str, kind: int) -> AttributeProto | None:
    """A value of an attribute type; None for the types that are left alone."""
    types = OpSchema.AttrType
    count = rng.choice((0, 1, 1, 2, 2, 3, 4))
    value: Any
    match kind:
        case types.INT:
            value = integer(rng)
        case types.FLOAT:
            value = real(rng)
        case types.STRING:
            value = rng.choice(TEXTS)
        case types.INTS:
            value = [integer(rng) for _ in range(count)]
        case types.FLOATS:
            value = [real(rng) for _ in range(count)]
        case types.STRINGS:
            value = [rng.choice(TEXTS) for _ in range(count)]
        case types.TENSOR:
            value = tensor(rng, "t")
        case types.TENSORS:
            value = [tensor(rng, "t") for _ in range(count)]
        case types.GRAPH:
            value = subgraph(rng)
        case _:
            return None
    if isinstance(value, list) and not value:
        made = AttributeProto(name=name)
        made.type = {types.INTS: made.INTS, types.FLOATS: made.FLOATS, types.STRINGS: made.STRINGS}.get(
            kind, made.TENSORS
        )
        return made
    return helper.make_attribute(name, value)


def subgraph(rng: Random) -> onnx.GraphProto:
    """A small graph of its own, as If, Loop and Scan have."""
    name = f"sub{rng.getrandbits(30)}"
    node = helper.make_node("Constant", [], [name], value=tensor(rng))
    return helper.make_graph(
        [node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", "c"])]
    )


def _values_of(tensor: TensorProto) -> Any:
    try:
        return numpy_helper.to_array(tensor)
    except Exception:  # noqa: BLE001  # a tensor that earlier edits have spoilt
        return None


def edit_tensor(rng: Random, t: TensorProto) -> None:
    """One change to a constant: values, dims, type, or how and where it is stored."""
    how = rng.randrange(12)
    array = _values_of(t) if how < 7 and not t.external_data else None
    if array is not None and array.dtype.kind in "fiub" and how < 7:
        array = array.copy()
        flat = array.reshape(-1)
        if how <= 2 and flat.size:
            value = integer(rng) if array.dtype.kind in "iu" else real(rng)
            with np.errstate(all="ignore"):
                flat[rng.randrange(flat.size)] = np.array(value).astype(array.dtype)
        elif how == 3 and array.ndim:
            axis = rng.randrange(array.ndim)
            array = np.delete(array, -1, axis) if rng.random() < 0.5 else np.concatenate([array, array], axis)
        elif how == 4:
            array = rng.choice([array.T, array[None], array.reshape(-1), np.flip(array), array[..., None]])
        elif how == 5:
            with np.errstate(all="ignore"):
                array = array.astype(rng.choice([np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_]))
        else:
            array = array * 0 if rng.random() < 0.5 else array * array.dtype.type(3)
        t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), t.name))
        return
    if how == 7 and t.dims:
        k = rng.randrange(len(t.dims))
        t.dims[k] = integer(rng)
    elif how == 8:
        t.data_type = rng.choice(TYPES) if rng.random() < 0.8 else rng.choice((0, 99, -1))
    elif how == 9 and t.raw_data:
        t.raw_data = rng.choice([t.raw_data[:-1], t.raw_data[:-4], t.raw_data * 2, b"", t.raw_data + b"\0" * 4])
    elif how == 10:
        external(rng, t)
    else:
        t.float_data.extend([real(rng)] * rng.choice((1, 3)))
        if rng.random() < 0.5:
            t.ClearField("raw_data")


def external(rng: Random, t: TensorProto) -> None:
    """Point a tensor at a file, with and without saying that it lies there."""
    places = ("weights.bin", "../secret.bin", "link.bin", "pipe.bin", "huge.bin", "absent.bin", "", ".", "/dev/zero")
    t.data_location = TensorProto.EXTERNAL if rng.random() < 0.6 else TensorProto.DEFAULT
    t.external_data.add(key="location", value=rng.choice(places))
    if rng.random() < 0.6:
        t.external_data.add(key="offset", value=str(rng.choice((0, 4, 4096, -4, 1 << 40, "x", 16000))))
    if rng.random() < 0.6:
        t.external_data.add(key="length", value=str(rng.choice((0, 4, 400, 16384, -1, 1 << 40, "x"))))
    if rng.random() < 0.5:
        t.ClearField("raw_data")
