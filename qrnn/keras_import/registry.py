"""The layers of Keras that can be written as nodes, by class name; each module of `qrnn.keras_import.layers` adds its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from qrnn.errors import UnsupportedError
from qrnn.keras_import.config import LayerConfig
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Value
from qrnn.keras_import.weights import Weights


@dataclass(frozen=True)
class Call:
    """One call of a layer: its config, its weights, and the values and other arguments that it is called with."""

    layer: LayerConfig
    settings: Settings
    weights: Weights
    inputs: Sequence[Value]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    extra: Sequence[Any] = ()
    """What stands beside values among the arguments of an operation, in order: numbers, and the place of each value as a `Value`."""

    @property
    def x(self) -> Value:
        """Return the one value that the layer reads."""
        if len(self.inputs) != 1:
            self.settings.refuse(f"it is called with {len(self.inputs)} values, expected one")
        return self.inputs[0]

    @property
    def first(self) -> Value:
        """Return the first value that the layer reads, a sequence [N, T, features]."""
        if not self.inputs or self.inputs[0].rank != 3:
            self.settings.refuse(
                f"it is called with {', '.join(x.text() for x in self.inputs) or 'nothing'}, expected [N, T, features]"
            )
        return self.inputs[0]

    def argument(self, name: str, default: Any = None) -> Any:
        """Return an argument of the call that is no value."""
        return self.arguments.get(name, default)

    def only(self, *known: str) -> None:
        """Refuse arguments of the call that are not ``known`` and not empty."""
        for name, value in self.arguments.items():
            if name not in (*known, "mask", "training") and value is not None:
                self.settings.refuse(f"it is called with {name}={value!r:.60}, which is not supported; call it without")
        if isinstance(self.arguments.get("mask"), Value):
            self.settings.refuse(
                "it is called with a mask of its own; only masks of Masking and Embedding are supported"
            )
        if self.arguments.get("training"):
            self.settings.refuse("it is called with training=True; save the model for inference")


Handler = Callable[[Graph, Call], Sequence[Value]]

LAYERS: dict[str, Handler] = {}
OPERATIONS: dict[str, Handler] = {}
BY_STEP: set[str] = set()
"""The layers that, inside of TimeDistributed, are the same for all steps at once, since they read the last axis or single elements."""
KEEPS_MASK: set[str] = set()
"""The layers that give the mask of what they read on, as Keras's ``supports_masking`` has it."""


def layer(*kinds: str, keeps_mask: bool = False, by_step: bool = False) -> Callable[[Handler], Handler]:
    """Register what writes a layer of these classes."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            LAYERS[kind] = handler
        if keeps_mask:
            KEEPS_MASK.update(kinds)
        if by_step:
            BY_STEP.update(kinds)
        return handler

    return register


def operation(*kinds: str) -> Callable[[Handler], Handler]:
    """Register what writes an operation of ``keras.ops`` of these classes; none of them gives a mask on."""

    def register(handler: Handler) -> Handler:
        OPERATIONS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


REMEDIES = {
    "Lambda": "qrnn runs no code of a file; write it with Keras's layers",
    "CuDNNLSTM": "save the model with LSTM, whose weights Keras converts",
    "CuDNNGRU": "save the model with GRU and reset_after=True, whose weights Keras converts",
    "TFOpLambda": "write the operation with Keras's layers, such as Add, Multiply, Reshape",
    "SlicingOpLambda": "write the slice with Cropping1D, or leave return_sequences out for the last step",
    "TensorFlowOpLayer": "write the operation with Keras's layers, such as Add, Multiply, Reshape",
    "TFSMLayer": "save the Keras model itself, not a SavedModel inside of one",
    "AdditiveAttention": "take Attention or MultiHeadAttention, whose scores are products",
    "EinsumDense": "take Dense, or TimeDistributed(Dense)",
}


def written(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a layer and return its values; UnsupportedError for a class that is not known, and for settings that are not."""
    known = OPERATIONS if call.layer.operation else LAYERS
    kind = call.layer.kind
    if kind not in known:
        remedy = REMEDIES.get(kind, "leave it out, or write it with layers that docs/keras.md lists")
        what = "operation" if call.layer.operation else "layer"
        raise UnsupportedError(f"{call.layer.where}: this {what} of Keras is not supported; {remedy}")
    results = known[kind](graph, call)
    call.settings.finish()
    if call.layer.operation or kind not in KEEPS_MASK:
        for x in call.inputs:
            if x.mask is not None:
                refuse_lost_mask(call, x)
    return results


def refuse_lost_mask(call: Call, x: Value) -> NoReturn:
    """Refuse a layer that gives no mask on: Keras takes padded steps for real ones behind it."""
    layer = "" if x.mask is None else f"that '{x.mask.layer}' makes"
    call.settings.refuse(
        f"it loses the mask {layer}, so that Keras takes padded steps for real ones in it and behind it; put it before the mask, or leave the "
        "mask out and give qrnn the lengths"
    )
