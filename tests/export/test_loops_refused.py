"""Loops that are not translated to C are refused by name."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends.loop_kinds import QuantDifference, QuantPooled

from export.loop_models import (
    H,
    I,
    difference,
    fmt,
    model_of,
    output,
    pooled,
)
from qrnn.errors import UnsupportedError
from qrnn.export.source import export_source
from qrnn.model.layer_facts import Loop, RowLoop, StepLoop


def test_outputs_of_two_rates_are_refused() -> None:
    own = [difference(), pooled("first", "d", "p", 2, 0)]
    model = model_of(own, {"d": fmt(I), "p": fmt(H)}, [output("fast", "d", I), output("slow", "p", H)])
    with pytest.raises(
        UnsupportedError, match=r"outputs fast and slow go over time at different rates.*export a model for each"
    ):
        export_source(model, "net", "plain")


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ("x[n, t, 0]", "how many rows it may return is not known"),
        ("0", "it writes row 0 and returns 0 at most"),
        ("t", "t as a number"),
    ],
)
def test_steps_that_are_not_translated_are_named(returned: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["def make(contract):", "    def step(n, t, k, x, out, sums, phase):"]
    lines += [
        "        if t >= 0:",
        "            out[n, k, 0] = x[n, t, 0]",
        f"        return {returned}",
        "    return step",
    ]
    monkeypatch.setattr(QuantPooled, "step_loop", lambda self: StepLoop(compiled("\n".join(lines)), ()))
    model = model_of([pooled("first", "x", "p", 1, 0)], {"p": fmt(H)}, [output("y", "p", H)])
    with pytest.raises(UnsupportedError, match="layer first, of kind QuantPooled: its step is not translated") as found:
        export_source(model, "net", "plain")
    assert named in str(found.value)


def compiled(text: str) -> Callable[[Any], Any]:
    """The function ``make`` of a text, whose source `inspect` finds."""
    name = f"<loop {hash(text)}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    space: dict[str, Any] = {}
    exec(compile(text, name, "exec"), space)
    found: Callable[[Any], Any] = space["make"]
    return found


def loops_of(statements: str) -> Callable[[Any], Loop]:
    """A loop over rows with these statements for each element."""
    lines = ["def make(contract):", "    saturate16, align16 = contract.saturate16, contract.align16"]
    lines += ["    def rows(first, last, weight, shift, x, out):", "        for m in range(first, last):"]
    lines += ["            for j in range(x.shape[1]):", *(f"                {s}" for s in statements.split("\n"))]
    return compiled("\n".join([*lines, "    return rows", ""]))


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        ("out[m, j] = x[m, j] / 2", "x[m, j] / 2"),
        ("while True: pass", "while True"),
        ("out[m, j] = x[j, m]", "its index is m in every loop"),
        ("out[m, j] = x[m]", "with all of its indices"),
        ("out[m, j] = x[m, j] ** 2", "x[m, j] ** 2"),
        ("out[m, j] = m", "the row that is computed"),
        ("out[m, j] = x.shape[0]", "which C does not know"),
        ("out[m, j] = x.mean()", "x.mean()"),
        ("x[m, j] = 0", "x is written"),
        ("out[m, j] = weight[9]", "index 9 of 3 elements"),
        ("out[m, j] = align16(x[m, j], 1)", "align16 takes 3 arguments"),
        ("out[m, j] = unknown(x[m, j])", "the name unknown"),
        ("out[m, j] = 100000", "100000 is written to an int16_t"),
        ("out[m, j] = 1.5", "1.5"),
        ("a, b = 1, 2", "a, b = "),
        ("return", "the statement 'return'"),
        ("if x[m, j] > 0: v = 1\nout[m, j] = v", "v may be read before it is assigned"),
        ("v += x[m, j]\nout[m, j] = v", "v may be read before it is assigned"),
        ("for k in [1, 2]: out[m, j] = k", "for k in [1, 2]"),
        ("out[m, j] = saturate16(x)", "x as a number"),
        ("out[m, j] = [3, 4][0]", "[3, 4] as an array"),
        ("shift = 3", "the parameter shift is assigned"),
        ("out[m, j] = x[m, j] + (1 << 63)", "does not fit 64 bits"),
        ("out[m, j] = 1 << 70", "a shift by 70 bits"),
    ],
)
def test_what_is_not_translated_is_named(statements: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of([difference()], {"d": fmt(I)}, [output("y", "d", I)])
    loop = RowLoop(loops_of(statements), (np.arange(3, dtype=np.int16), 2), ("x",))
    monkeypatch.setattr(QuantDifference, "row_loops", lambda self: (loop,))
    with pytest.raises(
        UnsupportedError, match="layer rows, of kind QuantDifference: its loop over rows is not translated"
    ) as found:
        export_source(model, "net", "plain")
    assert named in str(found.value)
