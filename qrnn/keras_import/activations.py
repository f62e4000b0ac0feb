"""Keras's activations, as nodes of a graph and as functions of recurrent layers.

Keras 2 and Keras 3 differ in one: ``hard_sigmoid`` is clip(0.2 x + 0.5) in Keras 2 and clip(x / 6 + 0.5) in Keras 3, so that the version
that wrote the file decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.settings import Settings, short
from qrnn.keras_import.tensors import Value

Recurrent = tuple[str, float | None, float | None]
"""An activation of ONNX's recurrent operators with its alpha and beta, None where it has none."""

OTHER_NAMES = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "logsoftmax": "log_softmax",
    "re_lu": "relu",
    "leakyrelu": "leaky_relu",
}

MODULES = ("keras.activations", "keras.src.activations.activations")
"""Where Keras has its activations."""

LAYERS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "Softmax": "softmax", "SELU": "selu"}
"""Layers that may stand in the place of an activation's name."""


def hard_sigmoid_slope(version: str, where: str) -> float:
    """Return the slope of hard_sigmoid in the Keras that wrote the file."""
    if version[:2] in ("1.", "2."):
        return 0.2
    if version[:2] == "3.":
        return 1 / 6
    raise UnsupportedError(
        f"{where}: hard_sigmoid differs between Keras 2 and 3, and the version of Keras in the file is {version or 'nothing'!r}; save it again"
    )


def activation_of(settings: Settings, key: str, default: str = "linear") -> tuple[str, Mapping[str, Any]]:
    """Return the name of the activation that a setting names, and the settings of one that is a layer."""
    value = settings.take(key, default)
    if value is None:
        return "linear", {}
    if isinstance(value, str):
        return _known(value, settings), {}
    if isinstance(value, Mapping):
        kind, config = value.get("class_name"), value.get("config")
        plain = kind == "function" and value.get("registered_name") in (None, "function")
        if plain and isinstance(config, str) and value.get("module") in (None, "builtins", *MODULES):
            return _known(config, settings), {}
        if kind in LAYERS and isinstance(config, Mapping):
            return LAYERS[kind], config
        if kind == "Activation" and isinstance(config, Mapping):
            return activation_of(Settings(settings.where, config), "activation")
    raise settings.refusal(
        f"{key}={short(value)} is no activation of Keras; qrnn runs no code of a file, train the model with one of {_names()}"
    )


def _names() -> str:
    return ", ".join(sorted(FUNCTIONS))


def _known(name: str, settings: Settings) -> str:
    name = OTHER_NAMES.get(name, name)
    if name not in FUNCTIONS:
        settings.refuse(f"the activation {short(name)} is not supported; expected one of {_names()}")
    return name


def activate(graph: Graph, x: Value, settings: Settings, key: str = "activation") -> Value:
    """Return what a layer's activation makes of a value."""
    name, config = activation_of(settings, key)
    return apply_activation(graph, x, name, Settings(settings.where, config))


def apply_activation(graph: Graph, x: Value, name: str, settings: Settings) -> Value:
    """Return what an activation, with the settings of a layer of its name, makes of a value."""
    return FUNCTIONS[name](graph, x, settings)


def recurrent_activation(settings: Settings, key: str, default: str, version: str) -> Recurrent:
    """Return an activation of a recurrent layer as ONNX's recurrent operators have it."""
    name, config = activation_of(settings, key, default)
    own = Settings(settings.where, config)
    if name == "hard_sigmoid":
        return "HardSigmoid", hard_sigmoid_slope(version, settings.where), 0.5
    if name == "linear":
        return "Affine", 1.0, 0.0
    if name == "elu":
        return "Elu", own.number("alpha", 1.0), None
    if name == "leaky_relu":
        return "LeakyRelu", _slope(own, 0.2 if version.startswith("3") else 0.3), None
    if name == "relu" and not any(own.take(k) for k in ("max_value", "negative_slope", "threshold")):
        return "Relu", None, None
    if name in ("tanh", "sigmoid", "softsign", "softplus"):
        return name.capitalize(), None, None
    raise settings.refusal(
        f"{key}={name} of a recurrent layer is not supported; train it with tanh, sigmoid, hard_sigmoid, relu, elu, leaky_relu, softsign, "
        "softplus or linear"
    )


def _slope(settings: Settings, default: float) -> float:
    """Return the slope of a leaky ReLU, which Keras 2 calls alpha."""
    alpha = settings.take("alpha")
    slope = settings.number("negative_slope", default if alpha is None else alpha)
    if slope < 0:
        raise ModelFileError(f"{settings.where}: negative_slope={slope}, expected at least 0; save the model again")
    return slope


def _plain(op: str, **attributes: Any) -> Callable[[Graph, Value, Settings], Value]:
    return lambda graph, x, _settings: graph.apply(op, x, **attributes)


def _clip(graph: Graph, x: Value, low: float, high: float) -> Value:
    return graph.apply("Clip", x, graph.number(low), graph.number(high))


def _times(graph: Graph, x: Value, by: Value) -> Value:
    return graph.apply("Mul", x, by.name)


def _affine(graph: Graph, x: Value, scale: float, offset: float) -> Value:
    scaled = x if scale == 1 else graph.apply("Mul", x, graph.number(scale))
    return scaled if offset == 0 else graph.apply("Add", scaled, graph.number(offset))


def _relu(graph: Graph, x: Value, settings: Settings) -> Value:
    """Return max(x, 0), or what the settings of Keras's ReLU make of it: a largest value, a slope below, a threshold."""
    most = settings.take("max_value")
    most = None if most is None else settings.__class__(settings.where, {"max_value": most}).number("max_value", 0.0)
    slope, threshold = _slope(settings, 0.0), settings.number("threshold", 0.0)
    if most is not None and most < 0:
        settings.damaged(f"max_value={most}, expected at least 0")
    if threshold != 0:
        settings.refuse(
            f"threshold={threshold:g} is not supported, since the function jumps there; train the model with threshold=0"
        )
    if most is None:
        return graph.apply("Relu", x) if slope == 0 else graph.apply("LeakyRelu", x, alpha=slope)
    top = _clip(graph, x, 0.0, most)
    if slope == 0:
        return top
    below = graph.apply("Relu", graph.apply("Neg", x))
    return graph.apply("Sub", top, graph.apply("Mul", below, graph.number(slope)).name)


def _leaky(graph: Graph, x: Value, settings: Settings) -> Value:
    default = 0.2 if graph.keras_version.startswith("3") else 0.3
    if settings.where.endswith("(LeakyReLU)"):  # the layer has 0.3 in both
        default = 0.3
    return graph.apply("LeakyRelu", x, alpha=_slope(settings, default))


def _hard_sigmoid(graph: Graph, x: Value, settings: Settings) -> Value:
    return graph.apply("HardSigmoid", x, alpha=hard_sigmoid_slope(graph.keras_version, settings.where), beta=0.5)


def _softmax(op: str) -> Callable[[Graph, Value, Settings], Value]:
    def write(graph: Graph, x: Value, settings: Settings) -> Value:
        axes = settings.axes("axis", x.rank)
        if len(axes) != 1:
            settings.refuse(f"a softmax over the axes {axes} together is not supported; take one axis")
        if axes == [1] and x.rank > 2:
            graph.mixes_steps(x)
        return graph.apply(op, x, axis=axes[0])

    return write


def _gelu(graph: Graph, x: Value, settings: Settings) -> Value:
    if settings.flag("approximate", False):
        cube = graph.apply("Mul", graph.apply("Mul", x, x.name), x.name)
        inner = graph.apply("Add", x, graph.apply("Mul", cube, graph.number(0.044715)).name)
        bend = graph.apply("Tanh", graph.apply("Mul", inner, graph.number(math.sqrt(2 / math.pi))))
    else:
        bend = graph.apply("Erf", graph.apply("Div", x, graph.number(math.sqrt(2))))
    return graph.apply("Mul", _times(graph, x, graph.apply("Add", bend, graph.number(1.0))), graph.number(0.5))


def _celu(graph: Graph, x: Value, settings: Settings) -> Value:
    """Return alpha · elu(x / alpha)."""
    alpha = settings.number("alpha", 1.0)
    if alpha <= 0:
        settings.damaged(f"alpha={alpha}, expected above 0")
    return _affine(graph, graph.apply("Elu", _affine(graph, x, 1 / alpha, 0.0), alpha=1.0), alpha, 0.0)


def _log_sigmoid(graph: Graph, x: Value, _settings: Settings) -> Value:
    return graph.apply("Neg", graph.apply("Softplus", graph.apply("Neg", x)))


FUNCTIONS: dict[str, Callable[[Graph, Value, Settings], Value]] = {
    "linear": lambda graph, x, _: x,
    "relu": _relu,
    "relu6": lambda graph, x, _: _clip(graph, x, 0.0, 6.0),
    "leaky_relu": _leaky,
    "elu": lambda graph, x, s: graph.apply("Elu", x, alpha=s.number("alpha", 1.0)),
    "celu": _celu,
    "selu": lambda graph, x, _: _affine(
        graph, graph.apply("Elu", x, alpha=1.6732632423543772), 1.0507009873554805, 0.0
    ),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
    "exponential": _plain("Exp"),
    "hard_sigmoid": _hard_sigmoid,
    "hard_tanh": lambda graph, x, _: _clip(graph, x, -1.0, 1.0),
    "silu": lambda graph, x, _: _times(graph, x, graph.apply("Sigmoid", x)),
    "hard_silu": lambda graph, x, s: _times(graph, x, _hard_sigmoid(graph, x, s)),
    "mish": lambda graph, x, _: _times(graph, x, graph.apply("Tanh", graph.apply("Softplus", x))),
    "tanh_shrink": lambda graph, x, _: graph.apply("Sub", x, graph.apply("Tanh", x).name),
    "log_sigmoid": _log_sigmoid,
    "gelu": _gelu,
    "softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
}
"""What writes the nodes of each activation."""
