"""The mechanism under the .qrnn file turns dataclasses into JSON and back, with arrays set aside by key.

Decoding follows the type annotations and refuses everything that does not fit them, so what comes out has the declared types; the
dataclasses then check sizes and values themselves.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from qrnn.errors import ModelFileError
from qrnn.model.kinds import quantized_kinds
from qrnn.model.layer import QuantLayer

Tensors = dict[str, np.ndarray[Any, Any]]


def encode(value: Any, tensors: Tensors, key: str, skip: frozenset[str] = frozenset()) -> Any:
    """Return JSON for ``value``; its arrays go to ``tensors`` under keys that begin with ``key``.

    Left out are the fields named in ``skip``, and those that `qrnn.model.parts.LEFT_OUT` marks and that have their default.
    """
    if is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {"type": type(value).__name__}
        for field in fields(value):
            left_out = "left_out" in field.metadata and getattr(value, field.name) == field.default
            if field.name not in skip and not left_out:
                out[field.name] = encode(
                    getattr(value, field.name), tensors, f"{key}.{field.name}" if key else field.name
                )
        return out
    if isinstance(value, np.ndarray):
        same = (
            k
            for k, v in tensors.items()
            if v.dtype == value.dtype and v.shape == value.shape and np.array_equal(v, value)
        )
        stored = next(same, key)  # gate tables recur in every layer; they are written once
        tensors[stored] = np.ascontiguousarray(value)
        return {"tensor": stored}
    if isinstance(value, tuple | list):
        return [encode(item, tensors, f"{key}.{index}") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {name: encode(item, tensors, f"{key}.{name}") for name, item in value.items()}
    return value


def decode(value: Any, annotation: Any, tensors: Tensors, where: str) -> Any:
    """Return the value of type ``annotation`` that `encode` wrote; ModelFileError says where something does not fit."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(origin, "__value__"):  # from Python 3.12 on, NumPy's NDArray[...] is a type alias: look behind it
        return decode(value, origin.__value__[arguments], tensors, where)
    if annotation is Any:
        _expect_plain(value, where)
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(value, arguments, tensors, where)
    if origin is Literal:
        _expect(value in arguments, where, f"one of {arguments}", value)
        return value
    if origin is np.ndarray:
        key = value.get("tensor") if isinstance(value, dict) else None
        _expect(isinstance(key, str) and key in tensors, where, "a tensor", value)
        array = tensors[str(key)]
        dtype = get_args(arguments[1])[0]
        _expect(array.dtype == dtype, where, f"a tensor of {np.dtype(dtype)}", array.dtype)
        return array
    if origin is tuple:
        _expect(isinstance(value, list), where, "a list", value)
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        _expect(len(kinds) == len(value), where, f"{len(kinds)} entries", value)
        return tuple(
            decode(v, kind, tensors, f"{where}[{i}]") for i, (v, kind) in enumerate(zip(value, kinds, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), where, "an object", value)
        return {
            decode(name, str, tensors, where): decode(item, arguments[1], tensors, f"{where}.{name}")
            for name, item in value.items()
        }
    if annotation is QuantLayer:
        return _decode_named(value, quantized_kinds(), tensors, where)
    if is_dataclass(annotation):
        return _decode_dataclass(value, annotation, tensors, where)
    if annotation is float:
        number = isinstance(value, float) or (type(value) is int and abs(value) < 1 << 62)
        _expect(number, where, "a number", value)
        return float(value)
    _expect(type(value) is annotation, where, annotation.__name__, value)
    if annotation is str:
        _expect(value.encode("utf-8", "replace").decode() == value, where, "a text of Unicode", value)
    if annotation is int:
        _expect(abs(value) < 1 << 62, where, "a 62-bit integer", value)
    return value


def _decode_union(value: Any, choices: tuple[Any, ...], tensors: Tensors, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    named = {choice.__name__: choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)}
    if named and isinstance(value, dict) and "type" in value:
        return _decode_named(value, named, tensors, where)
    rest = [choice for choice in choices if choice is not type(None)]
    _expect(len(rest) == 1, where, "a value of a known type", value)
    return decode(value, rest[0], tensors, where)


def _decode_named(value: Any, named: Mapping[str, Any], tensors: Tensors, where: str) -> Any:
    """Decode an object of one of several dataclasses, by the name that it gives as its type."""
    _expect(isinstance(value, dict) and "type" in value, where, "a value of a known type", value)
    kind = value["type"]
    _expect(isinstance(kind, str) and kind in named, where, f"one of {sorted(named)}", kind)
    return decode(value, named[kind], tensors, where)


def _decode_dataclass(value: Any, cls: Any, tensors: Tensors, where: str) -> Any:
    _expect(isinstance(value, dict) and value.get("type") == cls.__name__, where, f"a {cls.__name__}", value)
    hints = get_type_hints(cls)
    wanted = {field.name for field in fields(cls)}
    given = set(value) - {"type"}
    _expect(given <= wanted, where, f"fields of {cls.__name__}", sorted(given - wanted))
    arguments = {name: decode(value[name], hints[name], tensors, f"{where}.{name}") for name in given}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ModelFileError(f"{where}: {str(error).split('__init__() ')[-1]}") from None


def _expect_plain(value: object, where: str) -> None:
    """Check that ``value`` is JSON without tensors: texts, finite numbers, truth values, nulls, lists and objects."""
    if isinstance(value, dict):
        for name, item in value.items():
            _expect_plain(name, where)
            _expect_plain(item, f"{where}.{name}")
    elif isinstance(value, list):
        for k, item in enumerate(value):
            _expect_plain(item, f"{where}[{k}]")
    elif isinstance(value, str):
        decode(value, str, {}, where)
    elif not isinstance(value, bool) and isinstance(value, (int, float)):
        decode(value, float, {}, where)
        _expect(abs(value) <= 1e300, where, "a finite number", value)


def _expect(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        text = str(got)
        raise ModelFileError(f"{where}: expected {expected}, got {text if len(text) < 60 else text[:57] + '...'}")
