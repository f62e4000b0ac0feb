"""Sequential and functional models: their layers in the order in which they compute, models inside models too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.keras_import.config import LayerConfig, Paths, layer_config
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.registry import Call, written
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Shape, Value
from qrnn.keras_import.weights import Weights
from qrnn.onnx_import.budget import NODE_WORK, BudgetError

MODELS = ("Sequential", "Functional", "Model")

MOST_NESTED = 16
"""The deepest nesting of models in models, and of lists in the arguments of a call."""


@dataclass(frozen=True)
class Ref:
    """One of the values that a call of a layer gives."""

    layer: str
    node: int
    index: int


@dataclass(frozen=True)
class Node:
    """One call of a layer, with `Ref` in the place of values."""

    layer: LayerConfig
    number: int
    positional: tuple[Any, ...]
    named: Mapping[str, Any]


class Written:
    """The layers of one model, written into a graph. Those that are refused are collected, so that one message names all of them."""

    def __init__(self, graph: Graph, where: str, depth: int) -> None:
        self.graph, self.where, self.depth = graph, where, depth
        self.values: dict[tuple[str, int], Sequence[Value] | None] = {}
        self.problems: list[str] = []

    def call(
        self, layer: LayerConfig, number: int, weights: Weights, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        """Write one call, and keep its values; None in their place where it is refused, or reads what was refused."""
        self.graph.budget.spend("reading the layers of the model", NODE_WORK)
        flat = _flat(inputs)
        if any(isinstance(v, _Lost) for v in [*flat, *_flat(list(named.values()))]):
            self.values[layer.name, number] = None
            return
        values = [v for v in flat if isinstance(v, Value)]
        outer, self.graph.layer = self.graph.layer, layer.name
        try:
            if layer.kind in MODELS and not layer.operation:
                found = write_model(self.graph, layer, weights, values, self.depth + 1)
            else:
                named = {key: value for key, value in named.items() if value is not None}
                call = Call(layer, Settings(layer.where, layer.config), weights, values, named, list(inputs))
                found = written(self.graph, call)
            self.values[layer.name, number] = found
        except BudgetError:
            raise
        except UnsupportedError as error:
            self.problems += [p for p in error.problems if p not in self.problems]
            self.values[layer.name, number] = None
        finally:
            self.graph.layer = outer

    def at(self, ref: Ref) -> Value | _Lost:
        """Return the value of a reference."""
        found = self.values[ref.layer, ref.node]
        if found is None:
            return LOST
        if not 0 <= ref.index < len(found):
            raise ModelFileError(
                f"{self.where}: value {ref.index} of layer '{ref.layer}' does not exist; save the model again"
            )
        return found[ref.index]

    def results(self, wanted: Sequence[Ref]) -> list[Value]:
        """Return the outputs of the model; UnsupportedError where one depends on what was refused."""
        found = [self.at(ref) for ref in wanted]
        if self.problems:
            raise UnsupportedError("; ".join(self.problems), tuple(self.problems))
        return [v for v in found if isinstance(v, Value)]


class _Lost:
    """What stands for a value whose layer was refused."""


LOST = _Lost()


def _flat(values: Any) -> list[Any]:
    """Return values without the lists around them."""
    if isinstance(values, (list, tuple)):
        return [v for part in values for v in _flat(part)]
    return [values]


def write_model(
    graph: Graph, config: LayerConfig, weights: Weights, inputs: Sequence[Value] | None, depth: int = 0
) -> Sequence[Value]:
    """Write all layers of a model and return its outputs. Without ``inputs``, its own become those of the graph."""
    if depth > MOST_NESTED:
        raise UnsupportedError(f"{config.where}: models are nested more than {MOST_NESTED} deep; write it with fewer")
    body = config.config
    if config.kind == "Sequential" or "input_layers" not in body:
        return _sequential(graph, config, weights, inputs, depth)
    return _functional(graph, config, weights, inputs, depth)


def _sequential(
    graph: Graph, config: LayerConfig, weights: Weights, inputs: Sequence[Value] | None, depth: int
) -> Sequence[Value]:
    entries = config.config.get("layers")
    if not isinstance(entries, list) or not entries:
        raise ModelFileError(f"model '{config.name}' has no layers; save the model again")
    layers = [layer_config(entry, f"layer {k} of model '{config.name}'") for k, entry in enumerate(entries)]
    model, paths = Written(graph, f"model '{config.name}'", depth), Paths()
    if inputs is not None and len(inputs) != 1:
        raise ModelFileError(
            f"model '{config.name}' is called with {len(inputs)} values, expected one; save the model again"
        )
    at: Any = None if inputs is None else inputs[0]
    for number, own in enumerate(layers):
        part = weights.inside(paths, own)
        if own.kind == "InputLayer" and number == 0:
            at = _input(graph, own) if at is None else at
            continue
        if at is None:
            shape = _declared(own.config) or _shape(config.config.get("build_input_shape")) or _first_shape(own)
            if shape is None:
                raise UnsupportedError(
                    f"model '{config.name}' does not say the shape of its input; save it with keras.Input as its first layer"
                )
            at = graph.input(f"{own.name}_input", shape, str(own.config.get("input_dtype") or "float32"))
        model.call(own, number, part, [at], {})
        at = model.at(Ref(own.name, number, 0))
        found = model.values[own.name, number]
        if found is not None and len(found) != 1:
            model.problems.append(
                f"{own.where}: it gives {len(found)} values in a Sequential model; leave return_state out"
            )
            at = LOST
    model.values["", 0] = None if at is LOST else [at]
    return model.results([Ref("", 0, 0)])


def _first_shape(own: LayerConfig) -> Shape | None:
    """Return the shape of the input of a model that begins with another model."""
    inner = own.config.get("layers") if own.kind in MODELS else None
    if (
        isinstance(inner, list)
        and inner
        and isinstance(inner[0], Mapping)
        and isinstance(inner[0].get("config"), Mapping)
    ):
        return _declared(inner[0]["config"])
    return None


def _declared(config: Mapping[str, Any]) -> Shape | None:
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    return _shape(shape)


def _shape(shape: Any) -> Shape | None:
    if not isinstance(shape, (list, tuple)) or not 1 < len(shape) <= 8:
        return None
    sizes = [None if size is None else size for size in shape]
    if any(size is not None and (type(size) is not int or not 1 <= size < 1 << 31) for size in sizes):
        return None
    return (None, *sizes[1:])


def _input(graph: Graph, own: LayerConfig) -> Value:
    """Return a graph input of the shape that an InputLayer declares."""
    settings = Settings(own.where, own.config)
    shape = _declared(own.config)
    if shape is None:
        raise UnsupportedError(
            f"{own.where}: its shape {own.config.get('batch_shape')!r:.60} is not supported; expected [None, T, features]"
        )
    if settings.take("optional"):
        settings.refuse("an optional input is not supported; make it a required one")
    settings.finish()
    return graph.input(own.name, shape, _dtype(own))


def _dtype(own: LayerConfig) -> str:
    dtype = own.config.get("dtype", "float32")
    if isinstance(dtype, str) and dtype.startswith(("int", "uint")):
        return "int64"
    if dtype not in ("float32", "float16", "bfloat16", "float64", None) and not isinstance(dtype, Mapping):
        raise UnsupportedError(f"{own.where}: inputs of type {dtype!r:.40} are not supported; expected numbers")
    return "float32"


def _functional(
    graph: Graph, config: LayerConfig, weights: Weights, inputs: Sequence[Value] | None, depth: int
) -> Sequence[Value]:
    body, where = config.config, f"model '{config.name}'"
    entries = body.get("layers")
    if not isinstance(entries, list):
        raise ModelFileError(f"{where} has no layers; save the model again")
    model, paths = Written(graph, where, depth), Paths()
    starts, ends = (_references(body.get(key), where) for key in ("input_layers", "output_layers"))
    if inputs is not None and len(inputs) != len(starts):
        raise ModelFileError(
            f"{where} is called with {len(inputs)} values, expected {len(starts)}; save the model again"
        )
    own_weights: dict[str, Weights] = {}
    waiting: list[Node] = []
    for number, entry in enumerate(entries):
        own = layer_config(entry, f"layer {number} of {where}")
        if own.name in own_weights:
            raise ModelFileError(f"{where} has two layers '{own.name}'; save the model again")
        own_weights[own.name] = weights.inside(paths, own)
        place = next((k for k, (_, ref) in enumerate(starts) if ref.layer == own.name), None)
        if place is not None:
            model.values[own.name, 0] = [_input(graph, own) if inputs is None else inputs[place]]
        elif own.kind == "InputLayer":
            raise ModelFileError(f"{own.where} is none of the inputs of {where}; save the model again")
        else:
            waiting += _nodes(own, where)
    while waiting:
        left: list[Node] = []
        for node in waiting:
            graph.budget.spend("ordering the layers of the model", NODE_WORK // 10)
            needed = [v for v in _flat([list(node.positional), list(node.named.values())]) if isinstance(v, Ref)]
            if any((ref.layer, ref.node) not in model.values for ref in needed):
                left.append(node)
                continue
            filled = [_filled(model, v) for v in node.positional]
            model.call(
                node.layer,
                node.number,
                own_weights[node.layer.name],
                filled,
                {k: _filled(model, v) for k, v in node.named.items()},
            )
        if len(left) == len(waiting):
            if not model.problems:
                raise ModelFileError(
                    f"{where}: layer '{left[0].layer.name}' reads what nothing gives; save the model again"
                )
            break
        waiting = left
    for _, ref in ends:
        if (ref.layer, ref.node) not in model.values:
            raise ModelFileError(f"{where}: its output '{ref.layer}' is not a layer of it; save the model again")
    results = model.results([ref for _, ref in ends])
    if inputs is None:
        graph.output_names = [name or _output_name(ref) for name, ref in ends]
    return results


def _output_name(ref: Ref) -> str:
    return ref.layer if not ref.node and not ref.index else f"{ref.layer}_{ref.node + ref.index}"


def _filled(model: Written, value: Any) -> Any:
    """Return an argument with values in the place of references."""
    if isinstance(value, (list, tuple)):
        return [_filled(model, v) for v in value]
    return model.at(value) if isinstance(value, Ref) else value


def _references(value: Any, where: str, name: str = "", depth: int = 0) -> list[tuple[str, Ref]]:
    """Return the inputs or outputs that a config lists, with the keys of a dict as their names."""
    if depth > MOST_NESTED:
        raise ModelFileError(f"{where}: its inputs or outputs are nested too deep; save the model again")
    if (ref := _reference(value)) is not None:
        return [(name, ref)]
    if isinstance(value, Mapping):
        return [found for key, part in value.items() for found in _references(part, where, str(key), depth + 1)]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in _references(part, where, name, depth + 1)]
    raise ModelFileError(
        f"{where}: {value!r:.60} is no layer with the number of a call and of a value; save the model again"
    )


def _reference(value: Any) -> Ref | None:
    if not isinstance(value, (list, tuple)) or len(value) not in (3, 4) or not isinstance(value[0], str):
        return None
    whole = type(value[1]) is int and type(value[2]) is int
    return Ref(value[0], value[1], value[2]) if whole and value[0] != "_CONSTANT_VALUE" else None


def _nodes(own: LayerConfig, where: str) -> list[Node]:
    """Return the calls of a layer, as Keras 3 or Keras 2 writes them."""
    if not isinstance(own.inbound, list):
        raise ModelFileError(f"{where}: layer '{own.name}' has no inbound_nodes; save the model again")
    return [_node(own, number, entry) for number, entry in enumerate(own.inbound)]


def _node(own: LayerConfig, number: int, entry: Any) -> Node:
    if isinstance(entry, Mapping):  # Keras 3
        args, kwargs = entry.get("args"), entry.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, Mapping):
            raise ModelFileError(f"{own.where}: call {number} has no arguments; save the model again")
        return Node(
            own, number, tuple(_argument(own, a) for a in args), {str(k): _argument(own, a) for k, a in kwargs.items()}
        )
    positional: list[Any] = []
    named: dict[str, Any] = {}
    entries = [entry] if _reference(entry) is not None else entry
    if not isinstance(entries, list):
        raise ModelFileError(
            f"{own.where}: call {number} is {type(entry).__name__}, expected a list of values; save the model again"
        )
    for part in entries:
        ref = _reference(part)
        if ref is None:
            raise ModelFileError(
                f"{own.where}: call {number} reads {part!r:.60}, expected a layer's value; save the model again"
            )
        positional.append(ref)
        if len(part) == 4 and isinstance(part[3], Mapping):
            named.update({str(key): _keras_2_argument(value) for key, value in part[3].items()})
    return Node(own, number, tuple(positional), named)


def _keras_2_argument(value: Any) -> Any:
    if (ref := _reference(value)) is not None:
        return ref
    if isinstance(value, list):
        return [_reference(v) or v for v in value]
    return value


def _argument(own: LayerConfig, value: Any, depth: int = 0) -> Any:
    """Return an argument of Keras 3 with `Ref` in the place of values."""
    if depth > MOST_NESTED:
        raise ModelFileError(f"{own.where}: its arguments are nested too deep; save the model again")
    if isinstance(value, list):
        return [_argument(own, v, depth + 1) for v in value]
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            ref = _reference(config.get("keras_history"))
            if ref is None:
                raise ModelFileError(f"{own.where}: it reads a value without a history; save the model again")
            return ref
        if value.get("class_name") == "__tuple__" and isinstance(config, Mapping):
            return _argument(own, config.get("value"), depth + 1)
    return value
