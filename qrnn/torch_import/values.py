"""The arguments and results of a module as flat lists of named tensors, whatever they are nested in."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qrnn.errors import DataError, UnsupportedError
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.node import first_line

PLAIN = (int, float, bool, str, type(None))
"""The types of arguments that are no tensors; they stay as they are, and are no inputs of the model."""


@dataclass(frozen=True)
class Called:
    """A module with the arguments of an example: the tensors among them by graph input name, and how to call it with others.

    ``fixed`` are the names of tensors that are constants, and no inputs of the model.
    """

    module: Any
    name: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    fixed: dict[str, Any]
    positional: tuple[Any, ...]
    named: dict[str, Any]

    def run(self, tensors: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the tensors that the module gives for other tensors in the place of the example's."""
        every = {**self.fixed, **tensors}
        results = self.module(*_filled(self.positional, every), **_filled(self.named, every))
        return tuple(value for _, value in _named_results(self.module, results))


@dataclass(frozen=True)
class Slot:
    """The place of a tensor among the arguments of a module."""

    name: str


def call_of(module: Any, example: Any, name: str, values: Mapping[str, FixedValue] | None) -> Called:
    """Return how a module is called, as an example says it; DataError for an example that does not fit.

    A dict, alone or as the last one of several arguments, has arguments by name, as `torch.onnx.export` has it.
    """
    import torch

    arguments = example if isinstance(example, tuple) else (example,)
    named: dict[str, Any] = {}
    if arguments and isinstance(arguments[-1], dict):
        arguments, named = arguments[:-1], arguments[-1]
        if any(not isinstance(key, str) for key in named):
            raise DataError(
                "example: a dict of arguments has keys that are no names; expected the parameters of the module's forward"
            )
    inputs: dict[str, Any] = {}
    names = _parameter_names(module, len(arguments))
    positional = tuple(_slots(value, names[k], inputs, module) for k, value in enumerate(arguments))
    by_name = {key: _slots(value, key, inputs, module) for key, value in named.items()}
    if not inputs:
        raise DataError(
            f"example: no tensor among its {len(arguments) + len(named)} arguments; expected what the module is called with"
        )
    called = Called(module, name, inputs, (), {}, positional, by_name)
    fixed = _fixed(inputs, values or {}, torch)
    called = dataclasses.replace(called, inputs={k: v for k, v in inputs.items() if k not in fixed}, fixed=fixed)
    try:
        results = module(*_filled(positional, {**inputs, **fixed}), **_filled(by_name, {**inputs, **fixed}))
    except Exception as error:  # whatever a module's forward may raise
        raise DataError(f"module '{name}' cannot be called with the example: {first_line(error)}") from error
    return dataclasses.replace(called, outputs=tuple(key for key, _ in _named_results(module, results)))


def _fixed(inputs: Mapping[str, Any], values: Mapping[str, FixedValue], torch: Any) -> dict[str, Any]:
    """Return the tensors of inputs that a user fixes."""
    found = {}
    for key, value in values.items():
        if key in inputs:
            given = inputs[key]
            made = torch.as_tensor(value, dtype=given.dtype, device=given.device)
            if made.numel() not in (1, given.numel()):
                raise DataError(
                    f"values: {key!r} has {made.numel()} numbers, expected {given.numel()} as in the example, or one"
                )
            found[key] = made.reshape(given.shape) if made.numel() == given.numel() else made.expand(given.shape)
    return found


def _parameter_names(module: Any, count: int) -> list[str]:
    import torch

    if isinstance(module, torch.nn.RNNBase):
        return ["input", "h_0"]
    if isinstance(module, torch.nn.RNNCellBase):
        return ["input", "h_0"]
    names = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return names + [f"input_{k}" for k in range(len(names), count)]


def _slots(value: Any, name: str, inputs: dict[str, Any], module: Any) -> Any:
    """Return an argument with `Slot` in the place of its tensors, which are added to ``inputs`` by name."""
    import torch

    if isinstance(value, torch.Tensor):
        if name in inputs:
            raise DataError(f"example: two tensors are called {name!r}; give arguments of other names")
        inputs[name] = value
        return Slot(name)
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Mapping):
        return {key: _slots(part, f"{name}_{key}", inputs, module) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        own = [f"{name}_{k}" for k in range(len(value))]
        if isinstance(module, (torch.nn.LSTM, torch.nn.LSTMCell)) and len(value) == 2:
            own = ["h_0", "c_0"]
        parts = [_slots(part, part_name, inputs, module) for part, part_name in zip(value, own, strict=True)]
        return _rebuilt(value, parts)
    raise DataError(
        f"example: {name} is {type(value).__name__}, expected a tensor, a number, or a tuple, list or dict of them"
    )


def _rebuilt(value: Any, parts: list[Any]) -> Any:
    """Return a list or tuple of the same type with other parts; a named tuple takes its parts one by one."""
    if isinstance(value, list):
        return parts
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _filled(value: Any, tensors: Mapping[str, Any]) -> Any:
    """Return arguments with tensors in the place of `Slot`."""
    if isinstance(value, Slot):
        return tensors[value.name]
    if isinstance(value, Mapping):
        return {key: _filled(part, tensors) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return _rebuilt(value, [_filled(part, tensors) for part in value])
    return value


def _named_results(module: Any, results: Any) -> list[tuple[str, Any]]:
    """Return the results' tensors with their graph output names: the keys of dicts and dataclasses, numbers elsewhere."""
    import torch

    if isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
        flat = [value for _, value in _flat(results, "")]
        own = ("output", "h_n", "c_n") if isinstance(module, torch.nn.RNNBase) else ("h_1", "c_1")
        return list(zip(own, flat, strict=False))
    if _fields(results) is not None:
        found = [(path.removeprefix("_"), value) for path, value in _flat(results, "")]
    else:
        found = [(f"output_{k}", value) for k, (_, value) in enumerate(_flat(results, ""))]
        if len(found) == 1:
            found = [("output", found[0][1])]
    if len({key for key, _ in found}) < len(found) or not found:
        raise UnsupportedError(
            f"module '{type(module).__name__}' gives no tensors, or several of one name {[key for key, _ in found]}; name them apart"
        )
    return found


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the parts of a dict or a dataclass by name; None for anything else."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the tensors of results, each with its path of keys and numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, torch.nn.utils.rnn.PackedSequence):
        raise UnsupportedError("the module gives a packed sequence; give pad_packed_sequence(…) of it")
    elif (fields := _fields(value)) is not None:
        for key, part in fields.items():
            yield from _flat(part, f"{path}_{key}")
    elif isinstance(value, (tuple, list)):
        for k, part in enumerate(value):
            yield from _flat(part, f"{path}_{k}")
    elif value is not None and not isinstance(value, PLAIN):
        raise UnsupportedError(
            f"the module gives {type(value).__name__}; expected tensors, or tuples, dicts and dataclasses of them"
        )


def adapter(called: Called) -> Any:
    """Return a module that takes the tensors of the inputs in order and gives a tuple of tensors."""
    import torch

    class Adapter(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = called.module

        def forward(self, *tensors: Any) -> Any:
            return called.run(dict(zip(called.inputs, tensors, strict=True)))

    return Adapter()
