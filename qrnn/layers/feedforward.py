"""Layers that are not recurrent: of one step, or one vector, by itself, and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.errors import DataError, UnsupportedError
from qrnn.layers.checks import count, function, matrix, place, places_of, real_array, shaped, shaped_or_zeros
from qrnn.layers.tensors import Tensor, Tokens, readable, sequence, simple_layer
from qrnn.model.activation import Activation
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.delay import Delay
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.embedding import Embedding
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.kinds.multiply import Multiply
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.layer import Layer
from qrnn.model.window import LARGEST_WINDOW, Window


def dense(t: Tensor, weight: Any, bias: Any = None, *, name: str | None = None) -> Tensor:
    """Apply a dense layer, y = weight · t + bias, over the last axis.

    weight is [O, F] and bias is [O], zero when None.
    """
    where = place("dense", name)
    t = readable(where, t)
    w = matrix(where, "weight", weight, f"[O, F] = [O, {t.features}]")
    if w.shape[1] != t.features:
        raise DataError(f"{where}: weight has shape {list(w.shape)}, expected [O, F] = [{w.shape[0]}, {t.features}]")
    b = shaped_or_zeros(where, "bias", bias, (w.shape[0],), "[O]")
    return simple_layer(
        "dense", name, (t,), (w.shape[0], t.has_time), lambda own, names: Dense(own, names[0], own, w, b)
    )


def conv(
    t: Tensor,
    weight: Any,
    bias: Any = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] | None = None,
    band: Window | None = None,
    bands: int = 1,
    groups: int = 1,
    line: Window | None = None,
    lines: int = 1,
    name: str | None = None,
) -> Tensor:
    """Apply a convolution over time: y_j = bias + Σ_k weight[:, :, k] · t_{j·stride - before + k·dilation}, zero outside of the sequence.

    Parameters
    ----------
    t: a sequence; a step of it holds ``lines`` × ``bands`` × C features, with the C channels of a band one after the other.
    weight: [O, C / groups, K], as in PyTorch's Conv1d, [O, C / groups, K, B] for a convolution over bands too, as in its Conv2d, or
        [O, C / groups, K, L, B] for one over lines and bands, as in its Conv3d.
    bias: [O], zero when None.
    padding: the steps of zeros (before, after) the sequence; None for a causal convolution, ((K - 1) · dilation, 0), of ⌈T / stride⌉ steps.
    band: how the B taps move over the bands; None for a window of B taps without padding.
    line: how the L taps move over the lines; None for a window of L taps without padding.

    The output is y [N, T', P · O], where T' is `Window.count`, and P the product of those of lines and bands.
    """
    where = place("conv", name)
    t = sequence(where, t)
    w = real_array(where, "weight", weight)
    w = w[..., None] if w.ndim == 3 else w
    w = w[:, :, :, None] if w.ndim == 4 else w
    bands, groups, lines = count(where, "bands", bands), count(where, "groups", groups), count(where, "lines", lines)
    channels = t.features // (lines * bands)
    if w.ndim != 5 or 0 in w.shape or w.shape[1] * groups * lines * bands != t.features or len(w) % groups:
        raise DataError(
            f"{where}: weight has shape {list(np.shape(weight))}, expected [O, C / groups, K, B] or [O, C / groups, K, L, B] with "
            f"C = {channels} channels and {groups} groups"
        )
    b = shaped_or_zeros(where, "bias", bias, (w.shape[0],), "[O]")
    steps = count(where, "stride", stride), count(where, "dilation", dilation)
    before, after = padding if padding is not None else ((w.shape[2] - 1) * steps[1], 0)
    over, across = band or Window(w.shape[4]), line or Window(w.shape[3])
    for what, window, taps in (("band", over, w.shape[4]), ("line", across, w.shape[3])):
        if window.taps != taps:
            raise DataError(
                f"{where}: {what} has {window.taps} taps, expected the {taps} of weight {list(np.shape(weight))}"
            )
    time = Window(w.shape[2], *steps, before, after)
    places = places_of(where, over, bands, across, lines)
    w = w.reshape(*w.shape[:3], -1)
    return simple_layer(
        "conv",
        name,
        (t,),
        (places * len(w), True),
        lambda own, names: Conv(own, names[0], own, w, b, time, over, bands, groups, across, lines),
    )


def activation(t: Tensor, kind: Activation | str, *, name: str | None = None) -> Tensor:
    """Apply y = kind(t) to each element; `qrnn.model.activation.Activation` describes the functions."""
    where = place("activation", name)
    t = readable(where, t)
    chosen = function(where, "kind", kind)
    return simple_layer(
        chosen.kind, name, (t,), (t.features, t.has_time), lambda own, names: Pointwise(own, names[0], own, chosen)
    )


def softmax(t: Tensor, *, name: str | None = None) -> Tensor:
    """Apply y_k = e^(t_k) / Σ_j e^(t_j) over all features of each step."""
    t = readable(place("softmax", name), t)
    return simple_layer("softmax", name, (t,), (t.features, t.has_time), lambda own, names: Softmax(own, names[0], own))


def layer_norm(
    t: Tensor, gain: Any = None, bias: Any = None, *, epsilon: float = 1e-5, name: str | None = None
) -> Tensor:
    """Y = gain · (t - mean) / sqrt(variance + epsilon) + bias over all features of each step (Ba, Kiros, Hinton 2016).

    gain [F], one when None; bias [F], zero when None.
    """
    return _normalized("layer_norm", t, gain, bias, epsilon, True, name)


def rms_norm(t: Tensor, gain: Any = None, *, epsilon: float = 1e-5, name: str | None = None) -> Tensor:
    """Y = gain · t / sqrt(mean of t² + epsilon) over all features of each step (Zhang, Sennrich 2019); gain [F], one when None."""
    return _normalized("rms_norm", t, gain, None, epsilon, False, name)


def _normalized(kind: str, t: Tensor, gain: Any, bias: Any, epsilon: float, centred: bool, name: str | None) -> Tensor:
    where = place(kind, name)
    t = readable(where, t)
    g = shaped(where, "gain", np.ones(t.features) if gain is None else gain, (t.features,), "[F]")
    b = shaped_or_zeros(where, "bias", bias, (t.features,), "[F]")
    e = float(shaped(where, "epsilon", epsilon, (), "one number"))
    if e < 0.0:
        raise DataError(f"{where}: epsilon is {e}, expected at least 0")
    shape = (t.features, t.has_time)
    return simple_layer(kind, name, (t,), shape, lambda own, names: LayerNorm(own, names[0], own, g, b, e, centred))


def embedding(t: Tokens, table: Any, *, name: str | None = None) -> Tensor:
    """Look up rows of a table: y = table[token]; table is [V, F], with V the vocabulary of the token input."""
    where = place("embedding", name)
    if not isinstance(t, Tokens):
        raise DataError(f"{where}: its input is {type(t).__name__}, expected what tokens() returns")
    rows = matrix(where, "table", table, "[V, F]")
    if rows.shape[0] != t.vocabulary:
        raise DataError(
            f"{where}: table has shape {list(rows.shape)}, expected [V, F] = [{t.vocabulary}, {rows.shape[1]}]"
        )
    return simple_layer(
        "embedding", name, (t,), (rows.shape[1], t.has_time), lambda own, names: Embedding(own, names[0], own, rows)
    )


def last_step(t: Tensor, *, name: str | None = None) -> Tensor:
    """Select each sequence's own last valid step: [N, T, F] → [N, F]; a sequence without steps gives zeros."""
    t = sequence(place("last_step", name), t)
    return simple_layer("last_step", name, (t,), (t.features, False), lambda own, names: LastStep(own, names[0], own))


def delay(t: Tensor, delays: int | Sequence[int], *, name: str | None = None) -> Tensor:
    """Put past steps side by side: y_j = [t_(j - d) for d in ``delays``], with zeros before the first step.

    ``delays`` is one number of steps of at least 0, or several, such as (2, 1, 0) for each step behind the two before it.
    """
    where = place("delay", name)
    t = sequence(where, t)
    chosen = list(delays) if isinstance(delays, Sequence) else [delays]
    for d in chosen:
        if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or not 0 <= d <= LARGEST_WINDOW:
            raise DataError(f"{where}: delays holds {d!r}, expected whole numbers of 0 to {LARGEST_WINDOW}")
    if not chosen:
        raise DataError(f"{where}: delays is empty, expected one or more numbers of steps")
    indices, late = np.tile(np.arange(t.features), len(chosen)), np.repeat(np.array(chosen, dtype=np.int64), t.features)
    shape = (t.features * len(chosen), True)
    return simple_layer("delay", name, (t,), shape, lambda own, names: Delay(own, names[0], own, indices, late))


def add(a: Tensor, b: Tensor, *, name: str | None = None) -> Tensor:
    """Add two tensors of equal shape element by element, as in a residual connection."""
    return _of_two("add", Add, a, b, name)


def multiply(a: Tensor, b: Tensor, *, name: str | None = None) -> Tensor:
    """Multiply two tensors of equal shape element by element, as a mask does."""
    return _of_two("multiply", Multiply, a, b, name)


def _of_two(word: str, kind: type[Add | Multiply], a: Tensor, b: Tensor, name: str | None) -> Tensor:
    where = place(word, name)
    a, b = readable(where, a, "a"), readable(where, b, "b")
    if (a.features, a.has_time) != (b.features, b.has_time):
        raise DataError(f"{where}: a is {_shape(a)}, b is {_shape(b)}, expected equal shapes")
    shape = (a.features, a.has_time)
    return simple_layer(word, name, (a, b), shape, lambda own, names: kind(own, names[0], names[1], own))


def concat(*tensors: Tensor, name: str | None = None) -> Tensor:
    """Put the features of several tensors side by side, in order; either all have a time axis or none has."""
    where = place("concat", name)
    if len(tensors) < 2:
        raise DataError(f"{where}: {len(tensors)} tensors, expected two or more")
    parts = tuple(readable(where, t, f"tensor {k}") for k, t in enumerate(tensors))
    if len({t.has_time for t in parts}) > 1:
        raise UnsupportedError(
            f"{where}: joins tensors with and without a time axis ({', '.join(map(_shape, parts))}); take last_step of the sequences"
        )

    def make(own: str, names: tuple[str, ...]) -> Layer:
        return Concat(own, own, tuple((n, np.arange(t.features)) for n, t in zip(names, parts, strict=True)))

    return simple_layer("concat", name, parts, (sum(t.features for t in parts), parts[0].has_time), make)


def _shape(t: Tensor) -> str:
    return f"[N, {'T, ' if t.has_time else ''}{t.features}]"
