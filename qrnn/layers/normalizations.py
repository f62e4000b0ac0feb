"""Normalizations of groups of features: of a step, of a whole sequence, or of the steps so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.layers.checks import count, place, shaped, shaped_or_zeros
from qrnn.layers.tensors import Tensor, readable, sequence, simple_layer
from qrnn.model.kinds.group_norm import GroupNorm
from qrnn.model.kinds.moment import Moment
from qrnn.model.kinds.running_norm import RunningNorm
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.model.window import LARGEST_WINDOW


def group_norm(
    t: Tensor,
    groups: int,
    gain: Any = None,
    bias: Any = None,
    *,
    inner: int = 1,
    epsilon: float = 1e-5,
    centred: bool = True,
    name: str | None = None,
) -> Tensor:
    """Y = gain · (t - mean) / sqrt(variance + epsilon) + bias, with a mean and a variance for each group of a step (Wu and He 2018).

    Parameters
    ----------
    groups: the number of groups, of equally many features.
    inner: the features between two neighbours of a group: a step is [outer, features of a group, inner], row-major.
    gain, bias: [F], one and zero when None.
    centred: whether the mean is taken away; without it, the variance is the mean of the squares.
    """
    where = place("group_norm", name)
    t = readable(where, t)
    own = _parameters(where, t, groups, inner, gain, bias, epsilon)
    shape = (t.features, t.has_time)
    return simple_layer(
        "group_norm", name, (t,), shape, lambda out, names: GroupNorm(out, names[0], out, *own, inner, centred)
    )


def instance_norm(
    t: Tensor,
    gain: Any = None,
    bias: Any = None,
    *,
    groups: int | None = None,
    inner: int = 1,
    epsilon: float = 1e-5,
    centred: bool = True,
    name: str | None = None,
) -> Tensor:
    """Y = gain · (t - mean) / sqrt(variance + epsilon) + bias, with a mean and a variance over all steps of a sequence (Ulyanov et al. 2016).

    Each feature is normalized by itself, or with ``groups`` each group of them, as of `group_norm`; 1 is global layer normalization. A model
    with such a layer runs over whole sequences alone; `running_norm` streams. Parameters else as for `group_norm`.
    """
    where = place("instance_norm", name)
    t = sequence(where, t)
    own = _parameters(where, t, t.features if groups is None else groups, inner, gain, bias, epsilon)
    shape = (t.features, True)
    return simple_layer(
        "instance_norm", name, (t,), shape, lambda out, names: SequenceNorm(out, names[0], out, *own, inner, centred)
    )


def running_norm(
    t: Tensor,
    gain: Any = None,
    bias: Any = None,
    *,
    steps: int = 0,
    groups: int | None = None,
    inner: int = 1,
    epsilon: float = 1e-5,
    centred: bool = True,
    name: str | None = None,
) -> Tensor:
    """Y = gain · (t - mean) / sqrt(variance + epsilon) + bias, over the last ``steps`` steps, or all so far with 0 (Luo and Mesgarani 2019).

    Parameters else as for `instance_norm`.
    """
    where = place("running_norm", name)
    t = sequence(where, t)
    own = _parameters(where, t, t.features if groups is None else groups, inner, gain, bias, epsilon)
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 0 <= steps <= LARGEST_WINDOW:
        raise DataError(f"{where}: steps is {steps!r}, expected a whole number of 0 to {LARGEST_WINDOW}")
    kept, shape = int(steps), (t.features, True)
    return simple_layer(
        "running_norm",
        name,
        (t,),
        shape,
        lambda out, names: RunningNorm(out, names[0], out, *own, inner, centred, steps=kept),
    )


def moment(
    t: Tensor,
    groups: int,
    *,
    inner: int = 1,
    root: bool = True,
    centred: bool = True,
    factor: float = 1.0,
    epsilon: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """Return one feature for each group of a step: factor · sqrt(variance + epsilon), or without ``root`` factor · (variance + epsilon).

    Groups are those of `group_norm`. Without ``centred`` the variance is the mean of the squares; a factor of the root of the features of a
    group then gives their L2 norm.
    """
    where = place("moment", name)
    t = readable(where, t)
    _, _, e, size = _parameters(where, t, groups, inner, None, None, epsilon)
    f = float(shaped(where, "factor", factor, (), "one number"))
    if f <= 0.0:
        raise DataError(f"{where}: factor is {f}, expected more than 0")
    number, shape = t.features // size, (t.features // size, t.has_time)
    return simple_layer(
        "moment",
        name,
        (t,),
        shape,
        lambda out, names: Moment(out, names[0], out, number, size, inner, centred, root, f, e),
    )


def _parameters(
    where: str, t: Tensor, groups: int, inner: int, gain: Any, bias: Any, epsilon: float
) -> tuple[Any, Any, float, int]:
    """Return gain [F], bias [F], epsilon, and the number of features of a group."""
    number, step = count(where, "groups", groups), count(where, "inner", inner)
    if t.features % number or number % step:
        raise DataError(
            f"{where}: groups is {groups} and inner {inner}, expected groups that divide the {t.features} features, and inner those groups"
        )
    g = shaped(where, "gain", np.ones(t.features) if gain is None else gain, (t.features,), "[F]")
    b = shaped_or_zeros(where, "bias", bias, (t.features,), "[F]")
    e = float(shaped(where, "epsilon", epsilon, (), "one number"))
    if e < 0.0:
        raise DataError(f"{where}: epsilon is {e}, expected at least 0")
    return g, b, e, t.features // number
