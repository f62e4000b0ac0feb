"""Whole networks of the literature in one call: Elman's, Jordan's and the IRNN."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import function, matrix, place, shaped, shaped_or_zeros
from qrnn.layers.feedforward import activation, dense, last_step, softmax
from qrnn.layers.recurrent import projection, rnn
from qrnn.layers.tensors import Network, Recurrent, Tensor
from qrnn.model.activation import Activation


def elman(
    x: Tensor,
    W: Any,
    U: Any,
    b: Any,
    V: Any,
    c: Any,
    *,
    hidden: Activation | str = "tanh",
    output: Activation | str = "linear",
    h_0: Any = None,
    name: str | None = None,
) -> Network:
    """Build Elman's network, with f = ``hidden`` and g = ``output``:

        h_t = f(W x_t + U h_{t-1} + b)        y_t = g(V h_t + c)

    W [H, I], U [H, H], b [H], V [O, H], c [O] (b and c zero when None); h_0 [H] as for `lstm`. ``output``: ``linear``, ``softmax`` or an
    activation. Source: Elman 1990, Finding structure in time.
    """
    _check(place("elman", name), W, U, b, V, c, "H")
    inner = rnn(x, W, U, b, activation=hidden, h_0=h_0, name=name)
    y = dense(inner.output, V, c, name=_part(name, "dense"))
    if output == "softmax":
        y = softmax(y, name=_part(name, "output"))
    elif output != "linear":
        y = activation(y, output, name=_part(name, "output"))
    return Network(y, last_step(y, name=_part(name, "last")), inner)


def jordan(
    x: Tensor,
    W: Any,
    U: Any,
    b: Any,
    V: Any,
    c: Any,
    *,
    hidden: Activation | str = "sigmoid",
    output: Activation | str = "linear",
    y_0: Any = None,
    name: str | None = None,
) -> Network:
    """Build Jordan's network, in which the output is fed back, with f = ``hidden`` and g = ``output``:

        h_t = f(W x_t + U y_{t-1} + b)        y_t = g(V h_t + c)

    W [H, I], U [H, O], b [H], V [O, H], c [O] (b and c zero when None); y_0 [O] as h_0 for `lstm`. ``output``: ``linear``, ``softmax`` or
    an activation. Source: Jordan 1990 (1986), Attractor dynamics and parallelism in a connectionist sequential machine.
    """
    where = place("jordan", name)
    _check(where, W, U, b, V, c, "O")
    g = None if output == "linear" else output if output == "softmax" else function(where, "output", output)
    inner = rnn(x, W, U, b, activation=hidden, projection=projection(V, c, function=g), h_0=y_0, name=name)
    return Network(inner.output, inner.h_n, inner)


def identity_rnn(
    x: Tensor, W: Any, b: Any = None, *, scale: float = 1.0, h_0: Any = None, name: str | None = None
) -> Recurrent:
    """Build an IRNN: an RNN of rectified linear units whose recurrent matrix starts as a multiple of the identity:

        h_t = max(0, W x_t + scale·h_{t-1} + b)

    W [H, I], b [H] (zero when None). After training the matrix is no longer scale·I: give the trained one to `rnn` with
    ``activation="relu"``. Source: Le, Jaitly, Hinton 2015, https://arxiv.org/abs/1504.00941 (scale 1, and 0.01 for short memories).
    """
    where = place("identity_rnn", name)
    if isinstance(scale, bool) or not isinstance(scale, (int, float, np.floating)) or not np.isfinite(scale):
        raise DataError(f"{where}: scale={scale!r}, expected a finite number")
    w = matrix(where, "W", W, "[H, I]")
    return rnn(x, w, scale * np.eye(len(w)), b, activation="relu", h_0=h_0, name=name)


def _part(name: str | None, part: str) -> str | None:
    """Return the name of one layer of the network, or None where the network has no name."""
    return None if name is None else f"{name}.{part}"


def _check(where: str, W: Any, U: Any, b: Any, V: Any, c: Any, fed_back: Literal["H", "O"]) -> None:
    """Check the weights of Elman's or Jordan's network under the names that they have there."""
    hidden = len(matrix(where, "W", W, "[H, I]"))
    v = matrix(where, "V", V, f"[O, H] with H = {hidden}")
    shaped(where, "V", v, (len(v), hidden), "[O, H]")
    shaped(where, "U", U, (hidden, hidden if fed_back == "H" else len(v)), f"[H, {fed_back}]")
    shaped_or_zeros(where, "b", b, (hidden,), "[H]")
    shaped_or_zeros(where, "c", c, (len(v),), "[O]")
