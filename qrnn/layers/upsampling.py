"""Layers that give more steps, or more bands, than they read."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import count, place, real_array, shaped_or_zeros
from qrnn.layers.tensors import Tensor, readable, sequence, simple_layer
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.unstack import Unstack
from qrnn.model.transposed import Transposed, phase_bias, phase_weights, phases
from qrnn.model.window import LARGEST_WINDOW


def conv_transpose(
    t: Tensor,
    weight: Any,
    bias: Any = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] | None = None,
    more: int = 0,
    band: Transposed | None = None,
    bands: int = 1,
    groups: int = 1,
    name: str | None = None,
) -> Tensor:
    """Apply a transposed convolution over time: step j adds weight[:, :, k]ᵀ · t_j to y_(j·stride + k·dilation - before), with bias for all.

    It is computed as a convolution with an output channel for each phase, whose elements are put between each other; over time with a stride
    above 1, each step of t gives ``stride`` steps of y.

    Parameters
    ----------
    t: a sequence; a step of it holds ``bands`` × C features, with the C channels of a band one after the other.
    weight: [C, O / groups, K], as in PyTorch's ConvTranspose1d, or [C, O / groups, K, B] over bands too, as in its ConvTranspose2d.
    bias: [O], zero when None.
    padding: the steps (before, after) that are cut off y at its two ends; None for a causal layer, (0, K' - stride), of stride · T steps, where
        K' = (K - 1) · dilation + 1 is at least ``stride``.
    more: steps that are added to y behind, as PyTorch's output_padding.
    band: how the B taps lie over the bands of y; None for B taps with nothing cut off.

    The output is y [N, T', P · O], where T' and P are `qrnn.model.transposed.Transposed.count`.
    """
    where = place("conv_transpose", name)
    t = sequence(where, t)
    w = real_array(where, "weight", weight)
    w = w[..., None] if w.ndim == 3 else w
    bands, groups = count(where, "bands", bands), count(where, "groups", groups)
    if w.ndim != 4 or 0 in w.shape or w.shape[0] * bands != t.features or len(w) % groups:
        raise DataError(
            f"{where}: weight has shape {list(w.shape)}, expected [C, O / groups, K, B] with C = {t.features // bands} channels, a multiple "
            f"of {groups} groups"
        )
    channels = groups * w.shape[1]
    b = shaped_or_zeros(where, "bias", bias, (channels,), "[O]")
    steps = count(where, "stride", stride), count(where, "dilation", dilation)
    span = (w.shape[2] - 1) * steps[1] + 1
    before, after = padding if padding is not None else (0, max(0, span - steps[0]))
    time, over = Transposed(w.shape[2], *steps, before, after, more), band or Transposed(w.shape[3])
    if over.taps != w.shape[3]:
        raise DataError(f"{where}: band has {over.taps} taps, expected the {w.shape[3]} of weight {list(w.shape)}")
    if (places := over.count(bands)) < 1:
        raise DataError(f"{where}: nothing is left of the {bands} bands; cut off fewer")
    axes = time, over
    made, offset = phase_weights(w, axes, groups), phase_bias(b, axes, groups)
    inner = over.window.count(bands)
    order = np.arange(inner * len(made)).reshape(inner, groups, time.stride, over.stride, w.shape[1])
    order = order.transpose(2, 0, 3, 1, 4).reshape(time.stride, -1)[:, : places * channels]
    plain = phases(axes) == 1
    summed = simple_layer(
        "conv_transpose",
        name if plain else None,
        (t,),
        (inner * len(made), True),
        lambda own, names: Conv(own, names[0], own, made, offset, time.window, over.window, bands, groups),
    )
    if plain:
        return summed
    if time.stride > 1:
        return _unstacked(name, summed, order, time.cut)
    return simple_layer(
        "interleave", name, (summed,), (order.size, True), lambda own, names: Concat(own, own, ((names[0], order[0]),))
    )


def unstack(t: Tensor, steps: int, *, name: str | None = None) -> Tensor:
    """Give ``steps`` steps for each: [N, T, steps · F] → [N, steps · T, F], where the features of a step come one after the other."""
    where = place("unstack", name)
    t = sequence(where, t)
    times = _times(where, "steps", steps)
    if t.features % times:
        raise DataError(f"{where}: steps={times} does not divide the {t.features} features of its input")
    return _unstacked(name, t, np.arange(t.features).reshape(times, -1))


def upsample(t: Tensor, steps: int = 1, *, bands: int = 1, times: int = 1, name: str | None = None) -> Tensor:
    """Repeat each step ``steps`` times, and each of its ``bands`` ``times`` times: the nearest neighbour of a whole scale.

    A step holds ``bands`` × C features, with the channels of a band one after the other: [N, T, bands · C] → [N, steps · T, times · bands · C].
    """
    where = place("upsample", name)
    t = readable(where, t)
    scales = _times(where, "steps", steps), _times(where, "times", times)
    if t.features % _times(where, "bands", bands):
        raise DataError(f"{where}: bands={bands} does not divide the {t.features} features of its input")
    order = np.repeat(np.arange(t.features).reshape(bands, -1), scales[1], axis=0).reshape(-1)
    if scales[0] > 1:
        return _unstacked(name, sequence(where, t), np.tile(order, (scales[0], 1)))
    return simple_layer(
        "upsample", name, (t,), (order.size, t.has_time), lambda own, names: Concat(own, own, ((names[0], order),))
    )


def _times(where: str, what: str, value: Any) -> int:
    """Return a whole number of 1 to `LARGEST_WINDOW`."""
    found = count(where, what, value)
    if found > LARGEST_WINDOW:
        raise DataError(f"{where}: {what}={found}, expected at most {LARGEST_WINDOW}")
    return found


def _unstacked(name: str | None, t: Tensor, indices: Any, cut: int = 0) -> Tensor:
    shape = (indices.shape[1], True)
    return simple_layer("unstack", name, (t,), shape, lambda own, names: Unstack(own, names[0], own, indices, cut))
