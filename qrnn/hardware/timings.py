"""Cycles of instructions by the reference manual of a core, as data: one file of ``targets/timings`` for each core."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from qrnn.errors import TargetError
from qrnn.hardware.description import Timing, read_section, targets_folder

KINDS = (
    *("other", "load", "load_behind", "store", "address", "double", "multiple", "register", "pop_pc"),
    *("branch", "call", "register_branch", "table_branch", "refill", "if_then"),
    *("multiply", "multiply_add", "multiply_long", "multiply_add_long", "divide", "special", "barrier"),
)
"""The kinds of instructions that have timings of their own; docs/add_a_target.md explains them."""

NEEDED = ("other", "load", "load_behind", "store", "multiple", "register", "pop_pc", "branch", "call", "refill")
"""The kinds of instructions that every core has."""

Span = tuple[int, int, int]
"""Cycles: the least, those to expect, and the most."""


@dataclass(frozen=True)
class Rules:
    """The cycles of each of `KINDS` that the core has, and the ``source`` that says so; docs/devices.md has the model."""

    source: str
    cycles: dict[str, Span] = field(default_factory=dict)


def rules_of(timing: Timing) -> Rules | None:
    """Return the rules that a target names, with its own multiplication; None where it names none."""
    if timing.rules is None:
        return None
    rules = read_rules(targets_folder() / "timings" / f"{timing.rules}.toml")
    if timing.multiply_cycles is None:
        return rules
    own = dict.fromkeys(("multiply",), (timing.multiply_cycles,) * 3)
    return Rules(f"{rules.source}; {timing.multiply_cycles} cycles a multiplication", {**rules.cycles, **own})


@cache
def read_rules(path: Path) -> Rules:
    """Read and check one file; TargetError names the file, the key and what was expected."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"{path}: {error}") from None
    rules: Rules = read_section(path, Rules, table, "")
    for kind in NEEDED:
        if kind not in rules.cycles:
            raise TargetError(f"{path}: key 'cycles.{kind}' is missing; expected three cycles")
    return Rules(rules.source, {kind: _span(path, kind, value) for kind, value in rules.cycles.items()})


def _span(path: Path, kind: str, value: Any) -> Span:
    """Return the three cycles of a kind of instruction."""
    if kind not in KINDS:
        raise TargetError(f"{path}: key 'cycles.{kind}' is unknown; expected one of {', '.join(KINDS)}")
    good = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and v >= 0 for v in value)
    if not good or value != sorted(value):
        raise TargetError(
            f"{path}: cycles.{kind} = {value!r}, expected three cycles: the least, the expected, the most"
        )
    return (value[0], value[1], value[2])
