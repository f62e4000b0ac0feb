"""The attributes of LSTM, GRU and RNN: what each cell accepts, and what is refused by name. A new attribute is taken here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qrnn.model.float_model import Activation, ActivationKind, CellKind
from qrnn.onnx_import.node import Node


@dataclass(frozen=True)
class Cell:
    """What sets one ONNX cell apart: its gate blocks in the file, and each role's default and allowed activations."""

    kind: CellKind
    file_gates: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]]
    """Role → allowed names, lower case; the first is the default."""


CELLS = {
    "LSTM": Cell(
        "lstm",
        ("i", "o", "f", "g"),
        {"gate": ("sigmoid", "hardsigmoid"), "candidate": ("tanh",), "output": ("tanh",)},
    ),
    "GRU": Cell("gru", ("z", "r", "n"), {"gate": ("sigmoid", "hardsigmoid"), "candidate": ("tanh",)}),
    "RNN": Cell("rnn", ("h",), {"candidate": ("tanh", "relu")}),
}

ACTIVATIONS: Mapping[str, ActivationKind] = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "hardsigmoid": "hard_sigmoid",
}

X, WEIGHT, RECURRENT, BIAS, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)
"""Positions of the inputs."""


def activations_of(node: Node, cell: Cell, directions: int) -> list[dict[str, Activation]]:
    """Per direction, role → activation. alpha and beta are lists consumed in order by the activations that take them."""
    count = directions * len(cell.roles)
    defaults = [allowed[0] for allowed in cell.roles.values()] * directions
    names = [str(n) for n in node.take("activations") or defaults]
    alphas = [float(a) for a in node.take("activation_alpha", [])]
    betas = [float(b) for b in node.take("activation_beta", [])]
    if len(names) != count:
        raise node.damaged(f"activations={names} has {len(names)} names, expected {count}")
    given_alphas, given_betas = list(alphas), list(betas)
    result = []
    for d in range(directions):
        roles = {}
        for k, (role, allowed) in enumerate(cell.roles.items()):
            name = names[d * len(cell.roles) + k]
            if name.lower() not in allowed:
                raise node.refuse(
                    f"activations={names}: {name} for the {role} is not supported, only {' or '.join(allowed)}; "
                    "re-export (and retrain) with one of these"
                )
            kind = ACTIVATIONS[name.lower()]
            if kind == "hard_sigmoid":
                alpha = alphas.pop(0) if alphas else 0.2
                beta = betas.pop(0) if betas else 0.5
                if not np.isfinite([alpha, beta]).all():
                    raise node.damaged(f"activation_alpha {alpha} and activation_beta {beta} must be finite")
                roles[role] = Activation(kind, alpha, beta)
            else:
                roles[role] = Activation(kind)
        result.append(roles)
    if alphas or betas:
        raise node.refuse(
            f"activation_alpha={given_alphas}, activation_beta={given_betas} hold more values than activations={names} take; "
            "re-export without the surplus"
        )
    return result


def directions_of(node: Node) -> tuple[bool, ...]:
    """Which directions run in reverse."""
    direction = node.take("direction", "forward")
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in known:
        raise node.damaged(f"direction={direction!r}, expected one of {', '.join(known)}")
    return known[direction]


def refuse_attributes(node: Node) -> None:
    """Attributes that change the arithmetic and are not implemented."""
    clip = node.take("clip")
    if clip is not None:
        raise node.refuse(f"clip={clip} is not supported; re-export without clip")
    layout = int(node.take("layout", 0))
    if layout != 0:
        raise node.refuse(f"layout={layout} is not supported; re-export with layout=0 (time first)")
    if node.op == "LSTM":
        input_forget = int(node.take("input_forget", 0))
        if input_forget != 0:
            raise node.refuse(f"input_forget={input_forget} is not supported; re-export without coupled gates")
        if node.has_input(PEEPHOLES) and node.constant(PEEPHOLES, "P").any():
            raise node.refuse(
                f"peephole weights P ('{node.input_names[PEEPHOLES]}') are not supported; re-export without peepholes"
            )
