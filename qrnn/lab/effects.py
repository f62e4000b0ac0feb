"""The effect of each choice by itself: the change of every figure over pairs of configurations that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from qrnn.lab.evaluate import Record
from qrnn.lab.pareto import FIGURES


def effects(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the effect of every value of every axis, except its first value.

    Each entry has ``axis``, ``value``, ``against`` (the axis's first value), ``pairs``, and by figure ``median``, ``least`` and ``most``, the
    middle and both ends of the changes; they are None for a figure that no pair has. ``records`` are those with figures.
    """
    found: list[dict[str, Any]] = []
    by_scheme = {_key(r["scheme"]): r["figures"] for r in records}
    for axis in records[0]["scheme"] if records else ():
        values = list(dict.fromkeys(r["scheme"][axis] for r in records))
        for value in values[1:]:
            pairs = [
                (by_scheme[_key({**r["scheme"], axis: values[0]})], r["figures"])
                for r in records
                if r["scheme"][axis] == value and _key({**r["scheme"], axis: values[0]}) in by_scheme
            ]
            changes = {
                figure.key: [
                    b[figure.key] - a[figure.key]
                    for a, b in pairs
                    if a.get(figure.key) is not None and b.get(figure.key) is not None
                ]
                for figure in FIGURES.values()
            }
            found.append(
                {
                    "axis": axis,
                    "value": str(value),
                    "against": str(values[0]),
                    "pairs": len(pairs),
                    **{
                        name: {key: measure(found) if found else None for key, found in changes.items()}
                        for name, measure in (("median", median), ("least", min), ("most", max))
                    },
                }
            )
    return found


def _key(scheme: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in scheme.items())
