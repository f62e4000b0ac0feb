"""Recurrent layers with layer normalization inside.

``I`` is the input's features, ``H`` the hidden size; rows are blocks of H, as in `qrnn.layers.recurrent`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import place, shaped, shaped_or_zeros
from qrnn.layers.recurrent import Arrays, check_exchangeable, recurrent_layer
from qrnn.layers.tensors import Recurrent, Tensor
from qrnn.model.activation import Activation
from qrnn.model.kinds.recurrent.cells import CELLS
from qrnn.model.kinds.recurrent.direction import Norm, Norms


@dataclass(frozen=True)
class Normalization:
    """Gain and bias of a layer normalization, as a caller gave them; see `normalization`."""

    gain: Any
    bias: Any
    epsilon: float
    together: tuple[int, ...] | None


def normalization(
    gain: Any, bias: Any = None, *, epsilon: float = 1e-5, together: tuple[int, ...] | None = None
) -> Normalization:
    """Describe a layer normalization LN(v) = gain ⊙ (v - mean) / sqrt(variance + epsilon) + bias inside a cell.

    gain and bias (zero when None) are [G·H] for the rows of G gates, and [H] for a cell's state. epsilon ≥ 0. ``together``: how many
    neighbouring gates have a mean and a variance in common, such as (4,) for all of an LSTM, (1, 1, 1, 1) for each gate by itself. None is
    what the layer's source does.
    """
    if together is not None:
        found = together if isinstance(together, tuple) else (together,)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in found):
            raise DataError(f"normalization: together={together!r}, expected numbers of gates, such as (2, 1)")
        together = found
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float, np.integer, np.floating)):
        raise DataError(f"normalization: epsilon={epsilon!r}, expected a number of at least 0")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise DataError(f"normalization: epsilon={epsilon}, expected a finite number of at least 0")
    return Normalization(gain, bias, float(epsilon), together)


def layer_norm_lstm(
    x: Tensor,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    norm_x: Any = None,
    norm_h: Any = None,
    norm_sum: Any = None,
    norm_c: Any = None,
    gate: Activation | str = "sigmoid",
    candidate: Activation | str = "tanh",
    output: Activation | str = "tanh",
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    c_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build a long short-term memory with layer normalization, with σ = ``gate``, γ = ``candidate``, η = ``output``:

        a = LN_x(W x) + b + LN_h(U h) + b'      with norm_x and norm_h (Ba, Kiros, Hinton 2016)
        a = LN_sum(W x + b + U h + b')          with norm_sum
        i = σ(a_i)    f = σ(a_f)    g = γ(a_g)    o = σ(a_o)
        c' = f c + i g                     h' = o η(LN_c(c')), or o η(c') without norm_c

    weight_ih W [4·H, I], weight_hh U [4·H, H], bias_ih b and bias_hh b' [4·H] (zero when None), rows in the order i, f, g, o. Each norm is
    a gain, or what `normalization` returns: of [4·H] for norm_x, norm_h and norm_sum, of [H] for norm_c. norm_x and norm_h have one mean and
    variance of all 4·H rows, as in the paper; norm_sum has one for each gate, as in TensorFlow 1's LayerNormBasicLSTMCell; ``together`` says
    otherwise. Other arguments as for `lstm`. Peepholes, projections and other forget gates are not available with normalization.

    Source: Ba, Kiros, Hinton 2016, "Layer Normalization", https://arxiv.org/abs/1607.06450.
    """

    def norms(where: str, H: int) -> Norms:
        given = norm_x, norm_h, norm_sum
        found = _row_norms(where, "layer_norm_lstm", H, (bias_ih, bias_hh), given, (4,), (1, 1, 1, 1))
        cell = None if norm_c is None else _norm(where, "norm_c", norm_c, H, (1,), "[H]")
        return Norms(found.sums, found.recurrent, cell)

    biases = (bias_ih, bias_hh) if norm_sum is not None else (None, None)
    return recurrent_layer(
        "layer_norm_lstm", name, x, Arrays(weight_ih, weight_hh, *biases),
        {"gate": gate, "candidate": candidate, "output": output}, {"clip": clip}, reverse, (h_0, c_0), norms=norms,
    )  # fmt: skip


def layer_norm_gru(
    x: Tensor,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    norm_x: Any = None,
    norm_h: Any = None,
    norm_sum: Any = None,
    linear_before_reset: bool = True,
    update_keeps: bool = True,
    gate: Activation | str = "sigmoid",
    candidate: Activation | str = "tanh",
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build gated recurrent units with layer normalization, with σ = ``gate``, γ = ``candidate``, and with norm_x and norm_h:

        r = σ(LN_x(W x)_r + b_r + LN_h(U h)_r + b'_r)               z the same
        n = γ(LN_x(W x)_n + b_n + r (LN_h(U h)_n + b'_n))           with linear_before_reset (Ba, Kiros, Hinton 2016)
        n = γ(LN_x(W x)_n + b_n + LN_h(U (r h))_n + b'_n)           without

    With norm_sum, LN_sum is of each whole argument of σ and γ in the equations of `gru`, biases and r included. h' is that of `gru`.

    weight_ih W [3·H, I], weight_hh U [3·H, H], bias_ih b and bias_hh b' [3·H] (zero when None), rows in the order r, z, n. Each norm is a
    gain [3·H], or what `normalization` returns. norm_x and norm_h have one mean and variance of r and z together, and one of n, as in the
    paper; norm_sum has one for each gate. ``together`` says otherwise: (3,), all of them, takes norm_x, norm_h and linear_before_reset,
    since r has to be known before any other sum of n. Other arguments as for `gru`.

    Source: Ba, Kiros, Hinton 2016, "Layer Normalization", https://arxiv.org/abs/1607.06450.
    """
    check_exchangeable(place("layer_norm_gru", name), update_keeps, gate)

    def norms(where: str, H: int) -> Norms:
        given = norm_x, norm_h, norm_sum
        return _row_norms(where, "layer_norm_gru", H, (bias_ih, bias_hh), given, (2, 1), (1, 1, 1))

    settings = {"linear_before_reset": linear_before_reset, "update_keeps": update_keeps, "clip": clip}
    biases = (bias_ih, bias_hh) if norm_sum is not None else (None, None)
    return recurrent_layer(
        "layer_norm_gru", name, x, Arrays(weight_ih, weight_hh, *biases), {"gate": gate, "candidate": candidate},
        settings, reverse, (h_0, None), norms=norms,
    )  # fmt: skip


def _row_norms(
    where: str,
    cell: str,
    H: int,
    biases: tuple[Any, Any],
    given: tuple[Any, Any, Any],
    apart: tuple[int, ...],
    joint: tuple[int, ...],
) -> Norms:
    """Return the norms of rows: of x and h, whose own biases then have ``biases`` in them, or of their sum, whose layer has these."""
    of_x, of_h, of_sum = given
    G = len(CELLS[cell].rows)
    if of_sum is not None and of_x is None and of_h is None:
        return Norms(_norm(where, "norm_sum", of_sum, H, joint, f"[{G}·H]"))
    if of_sum is not None or of_x is None or of_h is None:
        have = [n for n, v in zip(("norm_x", "norm_h", "norm_sum"), given, strict=True) if v is not None]
        raise DataError(f"{where}: it has {', '.join(have) or 'no norm'}, expected norm_x and norm_h, or norm_sum")
    found: list[Norm] = []
    for what, norm, bias in (("x", of_x, "bias_ih"), ("h", of_h, "bias_hh")):
        n = _norm(where, f"norm_{what}", norm, H, apart, f"[{G}·H]")
        beside = shaped_or_zeros(where, bias, biases[len(found)], (G * H,), f"[{G}·H]")
        found.append(replace(n, bias=n.bias + beside))
    return Norms(*found)


def _norm(where: str, what: str, given: Any, H: int, groups: tuple[int, ...], meaning: str) -> Norm:
    """Return one norm over blocks of H."""
    n = given if isinstance(given, Normalization) else normalization(given)
    G, together = sum(groups), n.together or groups
    if sum(together) != G:
        raise DataError(f"{where}: {what} has together={together}, expected numbers of gates whose sum is {G}")
    gain = shaped(where, f"{what}'s gain", n.gain, (G * H,), meaning)
    bias = shaped_or_zeros(where, f"{what}'s bias", n.bias, (G * H,), meaning)
    return Norm(gain, bias, n.epsilon, tuple(number * H for number in together))
