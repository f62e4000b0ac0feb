"""Functions of the contract are applied to whole arrays of integers here; the code is the contract's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from qrnn.arithmetic import CONTRACT
from qrnn.arithmetic.fixedpoint import choose, saturate

Function = Callable[..., Any]


@cache
def of_arrays(function: Function) -> Function:
    """Return a function of `CONTRACT` that takes int64 arrays in the place of integers, and computes each element as the contract does.

    The function is one without branches or loops of its own: those of `qrnn.arithmetic.fixedpoint` and `qrnn.arithmetic.cells`.
    """
    return _with(function, {choose: np.where})


@cache
def unclamped(function: Function) -> Function:
    """Return what a function of `CONTRACT` saturates, of int64 arrays: `of_arrays`, with `saturate` as its first argument."""
    return _with(function, {choose: np.where, saturate: lambda x, low, high: x})


def _with(function: Function, others: Mapping[Function, Function]) -> Function:
    """Return a function that calls ``others`` in the place of their keys, itself and through the functions of the contract that it calls."""
    if function in others:
        return others[function]
    assert isinstance(function, FunctionType)
    own: dict[str, Any] = dict(function.__globals__)
    for name in function.__code__.co_names:
        if own.get(name) in CONTRACT:
            own[name] = _with(own[name], others)
    return FunctionType(function.__code__, own)
