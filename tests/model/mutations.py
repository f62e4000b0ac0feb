"""Every small edit of a model's structure, in order: what a damaged, mixed-up or hostile .qrnn file may say with its digest made right."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from model.qrnn_files import QrnnFile
from qrnn.model.kinds.recurrent.definition import GATES, Forget
from qrnn.model.reduced import Reduction

Path = tuple[Any, ...]

ENUMS: dict[str, tuple[str, ...]] = {
    "cell": tuple(GATES),
    "forget": get_args(Forget),
    "function": get_args(Reduction),
    "kind": ("features", "tokens", "lengths", "state"),
    "type": (
        *("QuantDense", "QuantPointwise", "QuantSoftmax", "QuantEmbedding", "QuantLastStep", "QuantConcat", "QuantAdd"),
        *("QuantRecurrent", "QuantMatrix", "QuantMatrix4", "Operand", "GateFunction"),
    ),
}
"""Field → what it may say."""

NAMES = ("input", "output", "h_n", "c_n", "left", "right", "tensor", "source", "name")
"""Fields that hold names of tensors, inputs and layers."""

NEW_NAMES = ("another", "", "\ud800", "layer0.y", "x")
"""What such a field is set to, beside the names that the file has."""


@dataclass(frozen=True)
class Edit:
    """One edit: the value at ``path`` becomes ``value``, or goes away where ``value`` is GONE."""

    label: str
    path: Path
    value: Any
    tensors: tuple[tuple[str, Any], ...] = ()
    """Tensors that come with it."""
    also: tuple[tuple[Path, Any], ...] = ()
    """Other values that change with it: both sides of a swap."""

    def apply(self, file: QrnnFile) -> QrnnFile:
        """An edited copy."""
        edited = copy.copy(file)
        edited.metadata, edited.tensors = dict(file.metadata), dict(file.tensors)
        edited.structure = copy.deepcopy(file.structure)
        edited.tensors.update(self.tensors)
        for path, value in ((self.path, self.value), *self.also):
            owner = at(edited.structure, path[:-1])
            if value is GONE:
                del owner[path[-1]]
            else:
                owner[path[-1]] = copy.deepcopy(value)
        return edited


GONE = object()


def at(value: Any, path: Path) -> Any:
    """The value at a path."""
    for key in path:
        value = value[key]
    return value


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value inside the structure, but those of the provenance."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if key != "provenance":
            yield (*path, key)
            if isinstance(item, dict | list):
                yield from places(item, (*path, key))


def edits(file: QrnnFile, other: QrnnFile) -> Iterator[Edit]:
    """Every edit of a file; subtrees come from it and from ``other``."""
    structure = file.structure
    every = list(places(structure))
    names = sorted({at(structure, p) for p in every if p[-1] in NAMES and isinstance(at(structure, p), str)})
    for path in every:
        value, label = at(structure, path), ".".join(map(str, path))
        yield Edit(f"{label} = null", path, None)
        if isinstance(path[-1], str):
            yield Edit(f"{label} gone", path, GONE)
        yield from _edits_of(label, path, value, names)
    yield from _swaps(structure, every)
    yield from _transplants(file, other, every)
    yield from _tensors(file, every)


def _edits_of(label: str, path: Path, value: Any, names: list[str]) -> Iterator[Edit]:
    if isinstance(value, bool):
        yield Edit(f"{label} = {not value}", path, not value)
    elif isinstance(value, int):
        for new in sorted({value + 1, value - 1, -value, 2 * value, 0, 1, 15, 16, 127, 32767, 2**40} - {value}):
            yield Edit(f"{label} = {new}", path, new)
    elif isinstance(value, float):
        for new in (value / 2, value * 2, value * 1.25, 1.0, 0.0, -value):
            yield Edit(f"{label} = {new}", path, new)
    elif isinstance(value, str):
        known = ENUMS.get(path[-1], names if path[-1] in NAMES else ())
        for name in sorted({*known, *NEW_NAMES} - {value}):
            yield Edit(f"{label} = {name!r}", path, name)
    elif isinstance(value, list):
        for k, entry in enumerate(value[:4]):
            yield Edit(f"{label} without {k}", path, value[:k] + value[k + 1 :])
            yield Edit(f"{label} with {k} twice", path, [*value[: k + 1], entry, *value[k + 1 :]])
            if k + 1 < len(value):
                yield Edit(f"{label} with {k} moved", path, [*value[:k], value[k + 1], entry, *value[k + 2 :]])
        yield Edit(f"{label} with one more", path, [*value, value[0] if value else 1])
        yield Edit(f"{label} backwards", path, value[::-1])
        yield Edit(f"{label} empty", path, [])


def _swaps(structure: Any, every: list[Path]) -> Iterator[Edit]:
    """The same field of two parts of one kind, swapped: between layers, directions, inputs, outputs, tensors."""
    by_field: dict[tuple[Any, ...], list[Path]] = {}
    for path in every:
        kinds = tuple(key for key in path if isinstance(key, str) and path[0] != "tensors") or path[:1] + path[2:]
        by_field.setdefault(kinds, []).append(path)
    for paths in by_field.values():
        for a, b in itertools.pairwise(paths):
            one, two = at(structure, a), at(structure, b)
            inside = a == b[: len(a)] or b == a[: len(b)]
            if one != two and not inside:
                label = f"{'.'.join(map(str, a))} and {'.'.join(map(str, b))} swapped"
                yield Edit(label, a, two, also=((b, one),))


def _transplants(file: QrnnFile, other: QrnnFile, every: list[Path]) -> Iterator[Edit]:
    """A part in the place of another of its type: of this file, and of another one with its tensors."""
    of_type: dict[str, list[tuple[str, Any, tuple[tuple[str, Any], ...]]]] = {}
    for source, given in (("", file), ("other ", other)):
        for path in places(given.structure):
            part = at(given.structure, path)
            if isinstance(part, dict) and "type" in part:
                tensors: list[tuple[str, Any]] = []
                if source:
                    part = _renamed(part, given, tensors)
                label = source + ".".join(map(str, path))
                of_type.setdefault(str(part["type"]), []).append((label, part, tuple(tensors)))
    for path in every:
        part = at(file.structure, path)
        if isinstance(part, dict) and "type" in part:
            for label, donor, tensors_of in of_type[part["type"]][:12]:
                if donor != part:
                    yield Edit(f"{'.'.join(map(str, path))} from {label}", path, donor, tensors_of)


def _renamed(part: Any, given: QrnnFile, tensors: list[tuple[str, Any]]) -> Any:
    """A part whose tensors are called otherwise; they are put into ``tensors``."""
    if isinstance(part, dict):
        if set(part) == {"tensor"}:
            tensors.append((f"other.{part['tensor']}", given.tensors[part["tensor"]]))
            return {"tensor": f"other.{part['tensor']}"}
        return {key: _renamed(item, given, tensors) for key, item in part.items()}
    return [_renamed(item, given, tensors) for item in part] if isinstance(part, list) else part


def _tensors(file: QrnnFile, every: list[Path]) -> Iterator[Edit]:
    """Another tensor of the same type and size, and the same tensor turned round, one shorter, at its type's ends."""
    for path in every:
        part = at(file.structure, path)
        if not (isinstance(part, dict) and set(part) == {"tensor"}):
            continue
        own, label = file.tensors[part["tensor"]], ".".join(map(str, path))
        like = [k for k, v in sorted(file.tensors.items()) if v.dtype == own.dtype and v.shape == own.shape]
        for name in like[:4]:
            if name != part["tensor"]:
                yield Edit(f"{label} from {name}", path, {"tensor": name})
        limits = np.iinfo(own.dtype)
        variants = {
            "backwards": own[::-1],
            "one shorter": own[:-1],
            "lowest": np.full_like(own, limits.min),
            "highest": np.full_like(own, limits.max),
            "zero": np.zeros_like(own),
            "one": np.ones_like(own),
            "plus one": own + np.ones((), own.dtype),
            "turned": own.T,
        }
        for what, array in variants.items():
            if not np.array_equal(array, own):
                yield Edit(f"{label} {what}", path, {"tensor": "edited"}, (("edited", np.ascontiguousarray(array)),))
