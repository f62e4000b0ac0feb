"""Layers by their own definitions, compiled: a `RowLoop` over rows, and a `StepLoop` over the time steps of sequences.

The functions of the contract that a definition asks for are those that every kernel calls, so LLVM puts them into the loops.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from numba import int32

from qrnn.arithmetic import CONTRACT
from qrnn.backends.cpu.defined import Definition
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def dot(weight: Any, r: int, x: Any, n: int) -> Any:
    """Return weight[r] · x[n], int32. It is proved to fit, so that sums modulo 2^32 on the way to it do no harm."""
    total = int32(0)
    for k in range(weight.shape[1]):
        total = int32(total + int32(weight[r, k]) * int32(x[n, k]))
    return total


COMPILED = SimpleNamespace(**{function.__name__: function for function in CONTRACT}, dot=dot)
"""The functions of the contract by name, as compiled code calls them."""


@cache
def rows(definition: Definition) -> Any:
    """Return the compiled loop (place, *parameters, *inputs, out) of a `RowLoop`."""
    loop = jit(definition.make()(COMPILED))

    def run(place: Any, *values: Any) -> None:
        loop(place[FIRST], place[LAST], *values)

    return jit(run)


@cache
def stream_step(definition: Definition, inputs: int, states: int) -> Any:
    """Return the compiled step of streams by a `StepLoop` with so many ``inputs`` and ``states``, which writes at most one row in a step.

    Its arguments are (before, after, parameters, *inputs, out, *own_inputs, own_out, *states, *scratch). The streams of the flow ``before``
    read rows of the inputs. Those that write a row write rows of out, one after the other, and are the flow ``after``. A step has one number
    for the rows of all arrays, which is that of the states, so ``own_inputs`` and ``own_out`` [rows, 1, F] hold those rows in the order of
    the states.
    """
    step = jit(definition.make()(COMPILED))
    own_from, own_to = inputs + 1, 2 * inputs + 1
    first, last = own_to + 1, own_to + 1 + states

    def run(before: Any, after: Any, parameters: Any, *arrays: Any) -> None:
        given_rows, out = arrays[:inputs], arrays[inputs]
        own_rows, own_out = arrays[own_from:own_to], arrays[own_to]
        own = arrays[first:last] + parameters + arrays[last:]
        place, rows, origins = before
        after_place, after_rows, after_origins = after
        given = place[FIRST]
        for i in range(place[FIRST], place[LAST]):
            n = rows[i]
            for x, own_x in zip(given_rows, own_rows):  # noqa: B905  # Numba's zip is not strict.
                for k in range(x.shape[1]):
                    own_x[n, 0, k] = x[i, k]
            if step(n, 0, 0, *own_rows, own_out, *own) > 0:
                after_rows[given], after_origins[given] = n, origins[i]
                for k in range(out.shape[1]):
                    out[given, k] = own_out[n, 0, k]
                given += 1
        after_place[FIRST], after_place[LAST] = place[FIRST], given

    return jit(run)


@cache
def steps(definition: Definition, inputs: int, states: int, before: Definition | None = None) -> Any:
    """Return the compiled steps of sequences by a `StepLoop` with so many ``inputs`` and ``states``.

    Its arguments are (place, reverse, past, parameters, lengths, out_lengths, *inputs, out, *states, *scratch). Sequence n, of place[FIRST] …
    place[LAST] - 1, takes lengths[n] steps, from the last to the first where ``reverse`` says so, and then ``past`` steps past its end.
    out_lengths[n] becomes the number of rows of out[n] that were written. They are written in order, and in reverse each step's one row has
    the step's number. The steps of ``before`` are taken first, over the whole sequence.
    """
    step = jit(definition.make()(COMPILED))
    last = inputs + 1 + states
    if before is not None:
        return _in_two_passes(step, jit(before.make()(COMPILED)), last)

    def run(
        place: Any,
        reverse: bool,
        past: int,
        parameters: Any,
        lengths: Any,
        out_lengths: Any,
        *arrays: Any,
    ) -> None:
        own = arrays[:last] + parameters + arrays[last:]
        for n in range(place[FIRST], place[LAST]):
            written, length = 0, lengths[n]
            for i in range(length):
                if reverse:
                    t = length - 1 - i
                    written += step(n, t, t, *own)
                else:
                    written += step(n, i, written, *own)
            for _ in range(past):
                written += step(n, -1, written, *own)
            out_lengths[n] = written

    return jit(run)


def _in_two_passes(step: Any, first: Any, last: int) -> Any:
    """Return the compiled steps of `steps` where those of ``first`` are taken before those of ``step``.

    ``last`` is the number of arrays but scratch.
    """

    def run(
        place: Any,
        reverse: bool,
        past: int,
        parameters: Any,
        lengths: Any,
        out_lengths: Any,
        *arrays: Any,
    ) -> None:
        own = arrays[:last] + parameters + arrays[last:]
        for n in range(place[FIRST], place[LAST]):
            for i in range(lengths[n]):
                first(n, i, 0, *own)
            written = 0
            for i in range(lengths[n]):
                written += step(n, i, written, *own)
            out_lengths[n] = written

    return jit(run)
