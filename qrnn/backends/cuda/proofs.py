"""The kernels that a GPU has confirmed are in data/proved.json, which `python tools/gpu_check --adopt FOLDER` writes.

A kernel is proved for a compute capability when a device of that capability gave the bits of the reference in every run of it, and the code
that makes the kernel is still what it was then. Everything else runs by kernels of plain loops (`general`), which use no special
instruction.
"""

from __future__ import annotations

import hashlib
import io
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from qrnn.backends.cuda.kernel_variants import BARRIERS, CELL_NAMES, Kind, ProductKind, StepKind
from qrnn.backends.cuda.records import (
    DATA,
    SCHEMA,
    capability_of,
    check_date,
    check_schema,
    checked,
    read_json,
    require,
)
from qrnn.errors import BackendError

PROVED = DATA / "proved.json"

LEAST_CASES = 2
"""The number of runs of different shapes that a kernel has to have passed."""

CELL_CODES = {name: code for code, name in CELL_NAMES.items()}

KERNEL_CODE = (
    *(
        f"backends/cuda/{name}.py"
        for name in (
            "cells", "contract", "fragments", "input_product", "inputs", "intrinsics", "kernel_variants", "kinds/recurrent", "launch",
            "lengths", "products", "steps", "weights"
        )
    ),
    "arithmetic",
    "model/cell_codes.py",
    "model/cell_formats.py",
)  # fmt: skip
"""The files and folders of this package from which step kernels, the products W·x, and their launches are made."""


@dataclass(frozen=True)
class Proofs:
    """The kernels that may run without being asked for. ``lapsed`` are those that were proved before their code was changed."""

    kinds: frozenset[Kind] = frozenset()
    lapsed: frozenset[Kind] = frozenset()

    def __contains__(self, kind: object) -> bool:
        return kind in self.kinds


@dataclass(frozen=True)
class DeviceProofs:
    """What one run of `tools/gpu_check` confirmed; ``cases`` counts the runs of each kernel that were exact."""

    device: str
    capability: tuple[int, int]
    driver: str
    date: str
    revision: str
    code: str
    """The `code_digest` of the kernels that ran."""
    cases: Mapping[Kind, int]

    def to_dict(self) -> dict[str, Any]:
        """Return an entry of the data file."""
        return {
            "device": self.device,
            "capability": list(self.capability),
            "driver": self.driver,
            "date": self.date,
            "revision": self.revision,
            "code": self.code,
            "kernels": [{"kernel": kind_record(kind), "cases": count} for kind, count in self.cases.items()],
        }


def kind_record(kind: Kind) -> dict[str, Any]:
    """Return a kind as JSON, without its capability, which the record around it has."""
    if isinstance(kind, ProductKind):
        return {"kind": "product", "operand_bytes": kind.operand_bytes, "dense": kind.dense}
    return {
        "kind": "step",
        "cell": CELL_NAMES[kind.cell],
        "gates": kind.gates,
        "operand_bytes": kind.operand_bytes,
        "tiles": kind.tiles,
        "barrier": kind.barrier,
        "resident": kind.resident,
        "dp4a_sequences": kind.dp4a_sequences,
    }


def kind_of(where: str, record: Any, capability: tuple[int, int]) -> Kind:
    """Return the kind that `kind_record` wrote; BackendError names what does not fit."""
    if isinstance(record, dict) and record.get("kind") == "product":
        found = checked(where, record, {"kind": str, "operand_bytes": int, "dense": bool})
        require(found["operand_bytes"] in (1, 2), where, "operand_bytes", found["operand_bytes"], "1 or 2")
        return ProductKind(found["operand_bytes"], found["dense"], capability)
    types: dict[str, type | tuple[type, ...]] = {
        "kind": str, "cell": str, "gates": int, "operand_bytes": int, "tiles": int, "barrier": str, "resident": bool,
        "dp4a_sequences": int,
    }  # fmt: skip
    found = checked(where, record, types)
    for key, allowed in (
        ("kind", ("step",)), ("cell", tuple(CELL_CODES)), ("gates", (1, 3, 4)), ("operand_bytes", (1, 2)), ("tiles", (1, 2, 4)),
        ("barrier", BARRIERS), ("dp4a_sequences", (0, 1, 2)),
    ):  # fmt: skip
        require(found[key] in allowed, where, key, found[key], "one of " + ", ".join(map(str, allowed)))
    values = {key: value for key, value in found.items() if key not in ("kind", "cell")}
    return StepKind(cell=CELL_CODES[found["cell"]], capability=capability, **values)


def read_proofs(path: Path = PROVED) -> list[DeviceProofs]:
    """Read and check the data file; BackendError names what does not fit."""
    where = str(path)
    document = checked(where, read_json(path), {"schema": int, "devices": list})
    check_schema(where, document["schema"])
    return [device_proofs(f"{where}: devices[{k}]", entry) for k, entry in enumerate(document["devices"])]


def device_proofs(where: str, entry: Any) -> DeviceProofs:
    """Return the entry that `DeviceProofs.to_dict` wrote; BackendError names what does not fit."""
    types: dict[str, type | tuple[type, ...]] = {
        "device": str, "capability": list, "driver": str, "date": str, "revision": str, "code": str, "kernels": list
    }  # fmt: skip
    found = checked(where, entry, types)
    check_date(where, found["date"])
    capability = capability_of(where, found["capability"])
    cases: dict[Kind, int] = {}
    for number, item in enumerate(found["kernels"]):
        place = f"{where}: kernels[{number}]"
        one = checked(place, item, {"kernel": dict, "cases": int})
        kind = kind_of(f"{place}: kernel", one["kernel"], capability)
        require(one["cases"] >= LEAST_CASES, place, "cases", one["cases"], f"at least {LEAST_CASES}")
        if kind in cases:
            raise BackendError(f"{place}: {kind.name} stands there twice")
        cases[kind] = one["cases"]
    return DeviceProofs(
        found["device"], capability, found["driver"], found["date"], found["revision"], found["code"], cases
    )


def proofs_of(devices: Iterable[DeviceProofs]) -> Proofs:
    """Return the kinds that are proved for the present code, and those that are so no more."""
    held, lapsed = set[Kind](), set[Kind]()
    for one in devices:
        (held if one.code == code_digest() else lapsed).update(one.cases)
    return Proofs(frozenset(held), frozenset(lapsed - held))


@cache
def committed_proofs() -> Proofs:
    """Return `proofs_of` of the file that comes with the package."""
    return proofs_of(read_proofs())


@cache
def code_digest() -> str:
    """Return a digest of the code of `KERNEL_CODE`: comments, docstrings and spaces do not count."""
    root = Path(__file__).parents[2]
    paths = [
        path for name in KERNEL_CODE for path in ([root / name] if name.endswith(".py") else (root / name).glob("*.py"))
    ]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\n" + bare_code(path.read_text("utf-8")).encode())
    return digest.hexdigest()[:16]


_BREAKS = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)


def bare_code(source: str) -> str:
    """Return Python's tokens without comments, without strings that are statements of their own, and without any spaces.

    Spaces within strings go too: Python 3.11 and 3.12 take f-strings apart differently, and so have the same text.
    """
    kept: list[str] = []
    line: list[tokenize.TokenInfo] = []
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            continue
        if token.type in _BREAKS:
            depth += {tokenize.INDENT: 1, tokenize.DEDENT: -1}.get(token.type, 0)
            if token.type == tokenize.NEWLINE:
                if any(t.type != tokenize.STRING for t in line):
                    kept.append(f"{depth}:" + "".join("".join(t.string for t in line).split()))
                line = []
            continue
        line.append(token)
    return "\n".join(kept)


_WATCHERS: list[Callable[[Kind], None]] = []


@contextmanager
def watched_kernels(see: Callable[[Kind], None]) -> Iterator[None]:
    """Call ``see`` with the kind of each step kernel and product that any thread is about to launch within this context."""
    _WATCHERS.append(see)
    try:
        yield
    finally:
        _WATCHERS.remove(see)


def note_launch(kind: Kind) -> None:
    """Tell those who watch that a kernel is launched; every launch of a kernel calls it."""
    for see in _WATCHERS:
        see(kind)


@dataclass
class Evidence:
    """The number of exact and of wrong runs of each kernel that ran on a device. A part of tools/gpu_check collects it."""

    exact: dict[Kind, int] = field(default_factory=dict)
    wrong: dict[Kind, int] = field(default_factory=dict)

    def add(self, kind: Kind, exact: bool) -> None:
        """Count one run of a kernel whose results were all compared."""
        counts = self.exact if exact else self.wrong
        counts[kind] = counts.get(kind, 0) + 1

    def records(self) -> list[dict[str, Any]]:
        """Return what a part writes under ``kernels``."""
        every = dict.fromkeys([*self.exact, *self.wrong])
        return [
            {
                "kernel": kind_record(kind),
                "capability": list(kind.capability),
                "exact": self.exact.get(kind, 0),
                "wrong": self.wrong.get(kind, 0),
            }
            for kind in every
        ]

    def add_records(self, where: str, records: Any) -> None:
        """Add what `records` gave; BackendError names what does not fit."""
        if not isinstance(records, list):
            raise BackendError(f"{where}: expected a list")
        for number, item in enumerate(records):
            place = f"{where}[{number}]"
            one = checked(place, item, {"kernel": dict, "capability": list, "exact": int, "wrong": int})
            kind = kind_of(f"{place}: kernel", one["kernel"], capability_of(place, one["capability"]))
            for key, counts in (("exact", self.exact), ("wrong", self.wrong)):
                require(one[key] >= 0, place, key, one[key], "at least 0")
                if one[key]:
                    counts[kind] = counts.get(kind, 0) + one[key]


def promoted(devices: list[DeviceProofs], evidence: Evidence, run: DeviceProofs) -> list[DeviceProofs]:
    """Return the entries of the data file after a run, which ``run`` describes by its device, driver, date, revision and code, without cases.

    Kernels that were exact in at least `LEAST_CASES` runs and wrong in none are added. A kernel that was wrong in any run is taken out of
    every entry of its compute capability. An entry of the same device, driver and code is replaced by one that has the kernels of both.
    """
    wrong = set(evidence.wrong)
    cases = {
        k: n
        for k, n in evidence.exact.items()
        if n >= LEAST_CASES and k not in wrong and k.capability == run.capability
    }
    kept = []
    for one in devices:
        left = {kind: count for kind, count in one.cases.items() if kind not in wrong}
        if (one.device, one.capability, one.driver, one.code) == (run.device, run.capability, run.driver, run.code):
            cases = left | cases
        elif left:
            kept.append(_with_cases(one, left))
    return [*kept, _with_cases(run, cases)] if cases else kept


def _with_cases(one: DeviceProofs, cases: Mapping[Kind, int]) -> DeviceProofs:
    return DeviceProofs(one.device, one.capability, one.driver, one.date, one.revision, one.code, dict(cases))


def document_of(devices: Iterable[DeviceProofs]) -> dict[str, Any]:
    """Return the content of the data file."""
    return {"schema": SCHEMA, "devices": [one.to_dict() for one in devices]}
