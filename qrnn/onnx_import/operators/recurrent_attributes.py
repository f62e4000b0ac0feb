"""The attributes of LSTM, GRU and RNN: all of them are taken here, and those without a meaning are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qrnn.model.activation import ACTIVATION_PARAMETERS, Activation, ActivationKind
from qrnn.model.kinds.recurrent.definition import CellKind, Forget
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node


@dataclass(frozen=True)
class Cell:
    """What distinguishes one ONNX cell: its gate blocks in the file, and the default activation of each role."""

    kind: CellKind
    file_gates: tuple[str, ...]
    defaults: Mapping[str, str]
    """The default name of each role's function, in the order of the attribute ``activations``."""


CELLS = {
    "LSTM": Cell("lstm", ("i", "o", "f", "g"), {"gate": "Sigmoid", "candidate": "Tanh", "output": "Tanh"}),
    "GRU": Cell("gru", ("z", "r", "n"), {"gate": "Sigmoid", "candidate": "Tanh"}),
    "RNN": Cell("rnn", ("h",), {"candidate": "Tanh"}),
}

FILE_PEEPHOLES = ("i", "o", "f")
"""Blocks of P."""

ACTIVATIONS: Mapping[str, ActivationKind] = {
    "Affine": "affine",
    "Elu": "elu",
    "HardSigmoid": "hard_sigmoid",
    "LeakyRelu": "leaky_relu",
    "Relu": "relu",
    "ScaledTanh": "scaled_tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "ThresholdedRelu": "thresholded_relu",
}

PARAMETER_DEFAULTS: Mapping[ActivationKind, Mapping[str, float]] = {
    "elu": {"alpha": 1.0},
    "hard_sigmoid": {"alpha": 0.2, "beta": 0.5},
    "leaky_relu": {"alpha": 0.01},
    "thresholded_relu": {"alpha": 1.0},
}
"""The parameters of the ONNX operators of these names, by the specification; Affine and ScaledTanh are no longer ONNX operators."""

X, WEIGHT, RECURRENT, BIAS, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)
"""Positions of the inputs."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of one node except hidden_size.

    ``reverse`` and ``activations`` (by role) have one entry per direction.
    """

    reverse: tuple[bool, ...]
    activations: tuple[Mapping[str, Activation], ...]
    clip: float | None
    forget: Forget
    linear_before_reset: bool
    batch_first: bool


def attributes_of(node: Node, build: Builder) -> Attributes:
    """Take every attribute of a node; notes say where runtimes may differ."""
    reverse = _directions(node)
    forget: Forget = "coupled" if node.op == "LSTM" and int(node.take("input_forget", 0)) else "gate"
    if forget == "coupled":
        build.notes.append(f"{node.where}: input_forget=1 makes f = 1 - i; the rows of f in W, R, B and P are not used")
    return Attributes(
        reverse=reverse,
        activations=_activations(node, build, len(reverse)),
        clip=_clip(node, build),
        forget=forget,
        linear_before_reset=node.op == "GRU" and bool(node.take("linear_before_reset", 0)),
        batch_first=_batch_first(node),
    )


def _batch_first(node: Node) -> bool:
    """Return whether the batch comes first.

    ``layout`` 0 has time first in X and Y and directions first in the states, 1 the batch in all of them.
    """
    layout = int(node.take("layout", 0))
    if layout not in (0, 1):
        raise node.damaged(f"layout={layout}, expected 0 (time first) or 1 (batch first); export it again")
    return layout == 1


def _directions(node: Node) -> tuple[bool, ...]:
    """Return which directions run in reverse."""
    direction = node.take("direction", "forward")
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in known:
        raise node.damaged(f"direction={direction!r}, expected one of {', '.join(known)}")
    return known[direction]


def _clip(node: Node, build: Builder) -> float | None:
    clip = node.take("clip")
    if clip is None:
        return None
    if not clip > 0:
        raise node.damaged(f"clip={clip}, expected a positive number; re-export without clip where none is meant")
    if node.op == "LSTM":
        build.notes.append(
            f"{node.where}: clip={clip:g} bounds the arguments of the gates and the candidate, not the cell that the output "
            "activation takes, as in ONNX Runtime"
        )
    return float(clip) if np.isfinite(clip) else None


def _activations(node: Node, build: Builder, directions: int) -> tuple[Mapping[str, Activation], ...]:
    """Return the activation of each role, for each direction.

    alpha and beta are lists consumed in order by the functions that take them.
    """
    roles = CELLS[node.op].defaults
    names = [str(n) for n in node.take("activations") or [*roles.values()] * directions]
    if node.op == "RNN" and directions == 1 and len(names) == 2:
        names = names[:1]  # the attribute's own default is two names, also for one direction
    if len(names) != directions * len(roles):
        raise node.damaged(f"activations={names} has {len(names)} names, expected {directions * len(roles)}")
    given = {name: [float(v) for v in node.take(f"activation_{name}", [])] for name in ("alpha", "beta")}
    left = {name: list(values) for name, values in given.items()}
    functions = [
        _activation(node, build, f"activations={names}: {name} for the {role}", name, left)
        for name, role in zip(names, [*roles] * directions, strict=True)
    ]
    if left["alpha"] or left["beta"]:
        # one entry per activation, zero where it takes none, is a common mistake that would shift the values
        raise node.refuse(
            f"activation_alpha={given['alpha']}, activation_beta={given['beta']} hold more values than activations={names} take; "
            "re-export with values only for the functions that take them"
        )
    per_direction = np.split(np.array(functions, dtype=object), directions)
    return tuple(dict(zip(roles, part, strict=True)) for part in per_direction)


def _activation(node: Node, build: Builder, where: str, name: str, left: dict[str, list[float]]) -> Activation:
    """Return the function ``name``, with its parameters taken from the front of the lists ``left``; ``where`` names it in messages."""
    known = {n.lower(): kind for n, kind in ACTIVATIONS.items()}
    if name.lower() not in known:
        raise node.refuse(f"{where} is not supported, only {', '.join(ACTIVATIONS)}; run this layer outside the model")
    kind = known[name.lower()]
    values: dict[str, float] = {}
    for parameter in ACTIVATION_PARAMETERS[kind]:
        default = PARAMETER_DEFAULTS.get(kind, {}).get(parameter)
        if left[parameter]:
            values[parameter] = left[parameter].pop(0)
        elif default is None:
            raise node.refuse(f"{where} has no default {parameter}; re-export with its value in activation_{parameter}")
        else:
            values[parameter] = default
            _note_default(node, build, kind, f"{where} takes its default {parameter}={default:g}")
        if not np.isfinite(values[parameter]):
            raise node.damaged(f"{where} has activation_{parameter}={values[parameter]}; it must be finite")
    return Activation(kind, **values)


def _note_default(node: Node, build: Builder, kind: ActivationKind, says: str) -> None:
    """Note a default that not every runtime uses."""
    if kind == "thresholded_relu":
        build.notes.append(f"{node.where}: {says}; ONNX Runtime takes 0")
    elif node.op == "RNN":
        build.notes.append(f"{node.where}: {says}; older versions of ONNX Runtime take 0 in RNN")
