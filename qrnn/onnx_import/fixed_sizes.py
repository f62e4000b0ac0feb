"""Which sizes of a Reshape's target are batch and time: by their names, or as numbers that the file declares or that an exporter baked in.

Exporters write the size that an axis had in the example into a Reshape, even where the inputs declare that axis free. Such a number is
recognized where all other sizes are known, so that the number of elements leaves no other meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from qrnn.model.time import Axis
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.merging import is_size
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import AXIS_NAMES, BATCH, TIME, Dim, Features, Symbol, product

ALIGN_WORK = 20_000
"""Nominal nanoseconds to try one of the places that batch and time may take in a target shape."""


def align(dims: Sequence[Dim], target: Sequence[Dim], baked: dict[Symbol, set[int]]) -> list[Dim] | None:
    """Return ``target`` with every -1 resolved and every symbol of ``dims`` at its axis, or None when an axis would be merged or split.

    A symbol keeps its order, and the features between two symbols keep their number, so that the row-major order of one sequence's features
    is that of the reshaped ids. A literal size may stand for a symbol whose size is baked into the graph.
    """
    symbols = [(k, d) for k, d in enumerate(dims) if isinstance(d, Symbol)]
    found: list[tuple[int, list[Dim]]] = []
    for places in combinations(range(len(target)), len(symbols)):
        if any(isinstance(d, Symbol) and k not in places for k, d in enumerate(target)):
            continue
        resolved: list[Dim] = list(target)
        fits = True
        for place, (_, symbol) in zip(places, symbols, strict=True):
            wanted = target[place]
            literal = not isinstance(wanted, Symbol)
            fits = fits and ((literal and wanted == -1) or is_size(wanted, symbol, baked))
            resolved[place] = symbol
        if not fits:
            continue
        source_bounds = [-1, *(k for k, _ in symbols), len(dims)]
        bounds = [-1, *places, len(target)]
        for k in range(len(bounds) - 1):
            size = product(dims[source_bounds[k] + 1 : source_bounds[k + 1]])
            block = range(bounds[k] + 1, bounds[k + 1])
            rest = product(resolved[j] for j in block if resolved[j] != -1)
            for j in block:
                if resolved[j] == -1 and rest and size % rest == 0:
                    resolved[j] = size // rest
                    rest = size
            fits = fits and rest == size
        if fits:
            # with sizes of 1 baked in several places fit; the one that moves nothing is meant
            found.append((sum(abs(p - k) for p, (k, _) in zip(places, symbols, strict=True)), resolved))
    return min(found, key=lambda f: f[0])[1] if found else None


def aligned_by_fixed_size(node: Node, build: Builder, value: Features, target: Sequence[Dim]) -> list[Dim] | None:
    """Return what `align` does where ``target`` has a number in the place of a batch or time axis that the inputs declare free.

    That number is the size of the axis in every run of the graph, because all other sizes of ``target`` are known: a -1 counts only where it
    stands for features, or where the file declares its size, as a number or by the name of the batch or the steps of an input. The number
    is noted, and is from then on a declared size.
    """
    declared = build.declared.get(node.output_names[0], ())
    sizes, rule = build.sizes(value), build.length_rule(value)
    known = list(target)
    for place, size in enumerate(declared if len(declared) == len(known) else ()):
        if isinstance(known[place], int) and known[place] == -1:
            named = next((symbol for symbol, names in build.named.items() if size in names), -1)
            known[place] = size if isinstance(size, int) and size > 0 else named
    node.budget.spend(node.where, 2 * ALIGN_WORK * len(known) ** 3)
    for symbol in (TIME, BATCH):
        if symbol not in value.axes or sizes[symbol] or (symbol is TIME and not isinstance(rule, Axis)):
            continue
        for number in {int(d) for d in known if not isinstance(d, Symbol) and d > 0}:
            resolved = align(value.shape, known, {**sizes, symbol: {number}})
            if resolved is None or any(isinstance(d, Symbol) and known[k] == -1 for k, d in enumerate(resolved)):
                continue
            if symbol is TIME and isinstance(rule, Axis):
                build.declare_steps(rule, number)
            else:
                build.baked[symbol].add(number)
            build.notes.append(
                f"{node.where} reshapes to {list(target)}, which fixes the {AXIS_NAMES[symbol]} axis to {number}, although the inputs declare "
                "any size; any size runs here"
            )
            return resolved
    return None
