"""Recurrent layers in which each unit reads its own past alone: no matrix multiplies h.

``I`` is the input's features, ``H`` the hidden size; rows are blocks of H, as in `qrnn.layers.recurrent`.
"""

from __future__ import annotations

from typing import Any

from qrnn.layers.checks import place
from qrnn.layers.recurrent import Arrays, check_exchangeable, recurrent_layer
from qrnn.layers.tensors import Recurrent, Tensor
from qrnn.model.activation import Activation

LINEAR = Activation("affine", 1.0, 0.0)
"""f(x) = x."""


def min_gru(
    x: Tensor,
    weight_ih: Any,
    bias_ih: Any = None,
    *,
    update_keeps: bool = False,
    gate: Activation | str = "sigmoid",
    candidate: Activation | str = LINEAR,
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build a minimal gated recurrent unit, with σ = ``gate``, γ = ``candidate``:

        z = σ(W_z x + b_z)                 n = γ(W_n x + b_n), γ the identity when it is not given
        h' = (1 - z) h + z n               without update_keeps (Feng et al. 2024); σ must have values in [0, 1]
        h' = z h + (1 - z) n               with

    weight_ih W [2·H, I], bias_ih b [2·H] (zero when None), rows in the order z, n. Other arguments as for `lstm`.

    Source: Feng et al. 2024, "Were RNNs All We Needed?", https://arxiv.org/abs/2410.01201.
    """
    check_exchangeable(place("min_gru", name), update_keeps, gate)
    settings = {"update_keeps": update_keeps, "clip": clip}
    roles = {"gate": gate, "candidate": candidate}
    arrays = Arrays(weight_ih, None, bias_ih, None)
    return recurrent_layer("min_gru", name, x, arrays, roles, settings, reverse, (h_0, None))


def indrnn(
    x: Tensor,
    weight_ih: Any,
    diagonal: Any,
    bias_ih: Any = None,
    *,
    activation: Activation | str = "relu",
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build an independently recurrent network, with f = ``activation``:

        h' = f(W x + u ⊙ h + b)

    weight_ih W [H, I], diagonal u [H], bias_ih b [H] (zero when None). Other arguments as for `lstm`.

    Source: Li et al. 2018, "Independently Recurrent Neural Network (IndRNN)", https://arxiv.org/abs/1803.04831.
    """
    arrays, settings = Arrays(weight_ih, diagonal, bias_ih, None), {"clip": clip}
    return recurrent_layer("indrnn", name, x, arrays, {"candidate": activation}, settings, reverse, (h_0, None))
