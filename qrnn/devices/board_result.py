"""The line of JSON that NAME_bench prints on a board (`qrnn.export.bench`): read with care, and compared with the folder it should be from."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from qrnn.errors import DeviceError
from qrnn.export.folder import ExportedFolder
from qrnn.system.files import read_regular, reason

_VERSION = "qrnn_bench"
BEGIN = f'{{"{_VERSION}":'
"""How the line begins, wherever it stands in a line of a log."""

VERSION = 1
MOST_LINE_BYTES = 1 << 16
"""The most bytes of a line; one of NAME_bench has less than a thousand, and more where names are long."""

MOST_FILE_BYTES = 1 << 20
"""The most bytes of a file that has the line."""

MOST_TEXT = 2000
"""The most characters of a text in the line."""

MOST_NUMBER = 1 << 32
"""Numbers of the line are less."""

_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]*")
"""Text without characters that a terminal obeys."""


@dataclass(frozen=True)
class BoardDifference:
    """The first value that differs on a board: in which output, state or tensor, of which layer, and where."""

    what: str
    layer: str | None
    sequence: int
    step: int
    unit: int
    got: int
    expected: int

    def __str__(self) -> str:
        of = "" if self.layer is None else f" of layer {self.layer}"
        where = f"sequence {self.sequence}, {self.what}{of}, step {self.step}, unit {self.unit}"
        return f"{where}: {self.got}, expected {self.expected}"


@dataclass(frozen=True)
class BoardResult:
    """What a board says of a model: what it is, whether its self-test is right, and how long calls take.

    ``difference`` is the self-test's first value that differs, and ``first_layer`` the first one of a layer, where the C was traced. A call is
    of ``steps`` steps, and takes ``min``, ``median``, ``mean`` and ``max`` of ``unit``, of ``calls`` calls. What is not known is None.
    """

    name: str
    qrnn: str
    contract: str
    model_sha256: str
    target: str
    compiler: str
    selftest: str
    difference: BoardDifference | None
    first_layer: BoardDifference | None = None
    counter: str | None = None
    unit: str | None = None
    calls: int | None = None
    steps: int | None = None
    min: int | None = None
    median: int | None = None
    mean: int | None = None
    max: int | None = None
    stack_bytes: int | None = None
    clock_hz: int | None = None

    @property
    def right(self) -> bool:
        """Return whether every bit of the self-test is right."""
        return self.selftest == "right"

    @property
    def cycles_per_step(self) -> dict[str, float] | None:
        """Return the fewest, median, mean and most cycles of a step; None where cycles were not counted."""
        if self.unit != "cycles" or self.min is None or not self.steps:
            return None
        return self._per_step(1.0)

    @property
    def seconds_per_step(self) -> dict[str, float] | None:
        """Return the same in seconds, by the clock that the board says, or where the board reads a clock; None where neither is."""
        if self.min is None or not self.steps:
            return None
        if self.unit == "ns":
            return self._per_step(1e-9)
        return self._per_step(1 / self.clock_hz) if self.unit == "cycles" and self.clock_hz else None

    def _per_step(self, factor: float) -> dict[str, float]:
        times = {"min": self.min, "median": self.median, "mean": self.mean, "max": self.max}
        return {key: factor * (value or 0) / (self.steps or 1) for key, value in times.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        cycles = self.cycles_per_step
        kind = {} if cycles is None else {"cycles_kind": "measured"}
        return {**asdict(self), "cycles_per_step": cycles, **kind, "seconds_per_step": self.seconds_per_step}


def read_result(text: str, where: str) -> BoardResult:
    """Return what a line says; ``where`` is where it came from. DeviceError says what of it is not as NAME_bench prints it."""
    begin = text.find(BEGIN)
    if begin < 0:
        raise DeviceError(
            f"{where}: no line that begins with {BEGIN}; expected what NAME_bench prints (qrnn export --bench)"
        )
    if len(text) - begin > MOST_LINE_BYTES:
        raise DeviceError(f"{where}: the line has more than {MOST_LINE_BYTES} bytes; expected what NAME_bench prints")
    try:
        found, _ = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError):
        raise DeviceError(f"{where}: the line is cut off or damaged, and no JSON; measure again") from None
    return _result(found, where)


def read_result_file(path: Path) -> BoardResult:
    """Return what the last line of a file says that is one of NAME_bench.

    A file may be a whole log, or the JSON alone as another program has laid it out.
    """
    try:
        text = read_regular(path, MOST_FILE_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise DeviceError(f"{path}: {reason(error)}") from None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and _VERSION in found:
            return _result(found, str(path))
    lines = [line for line in text.splitlines() if BEGIN in line]
    return read_result(lines[-1] if lines else "", str(path))


def check_fits(result: BoardResult, folder: ExportedFolder, where: str) -> None:
    """Raise DeviceError where a line is of another model, contract or target than a folder, which it names with both values."""
    expected = {
        "name": folder.name,
        "model_sha256": folder.model_sha256,
        "contract": folder.model.contract,
        "target": folder.target.name,
    }
    for key, value in expected.items():
        if (found := getattr(result, key)) != value:
            raise DeviceError(
                f"{where}: {key} {found!r}, expected {value!r} of {folder.path}; build the board's program from that "
                "folder, or name the right one"
            )


def _result(found: dict[str, Any], where: str) -> BoardResult:
    """Return what the object of a line says."""
    if (version := found.pop(_VERSION)) != VERSION:
        raise DeviceError(f"{where}: version {_short(version)} of the line, expected {VERSION}; export again")
    result = BoardResult(**_checked(found, where))
    if result.right != (result.difference is None):
        raise DeviceError(
            f"{where}: selftest {result.selftest!r} and difference do not go together; the line is damaged"
        )
    return result


def _checked(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of a line, all of which have the types that they should."""
    known = {f.name: f for f in fields(BoardResult)}
    if unknown := next((key for key in found if key not in known), None):
        raise DeviceError(
            f"{where}: key {_short(unknown)} is unknown; the board's program is of another version of qrnn"
        )
    if missing := next((key for key, f in known.items() if key not in found and f.default is MISSING), None):
        raise DeviceError(f"{where}: key {missing!r} is missing; the line is damaged, or of another version of qrnn")
    values: dict[str, Any] = {}
    for key, f in known.items():
        value, place = found.get(key), f"{where}: {key}"
        if value is None and f.type != "str":
            values[key] = None
        elif f.type == "BoardDifference | None":
            values[key] = _difference(value, place)
        else:
            values[key] = _text(value, place) if str(f.type).startswith("str") else _number(value, place, 0)
    if values["selftest"] not in ("right", "wrong"):
        raise DeviceError(f"{where}: selftest {_short(values['selftest'])}, expected 'right' or 'wrong'")
    return values


def _difference(value: object, where: str) -> BoardDifference:
    names = [f.name for f in fields(BoardDifference)]
    if not isinstance(value, dict) or sorted(value) != sorted(names):
        raise DeviceError(f"{where}: {_short(value)}, expected an object of {', '.join(names)}")

    def number(key: str, least: int = 0) -> int:
        return _number(value[key], f"{where}.{key}", least)

    layer = None if value["layer"] is None else _text(value["layer"], f"{where}.layer")
    places = number("sequence"), number("step"), number("unit")
    both = number("got", -MOST_NUMBER), number("expected", -MOST_NUMBER)
    return BoardDifference(_text(value["what"], f"{where}.what"), layer, *places, *both)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT or not _TEXT.fullmatch(value):
        raise DeviceError(f"{where}: {_short(value)}, expected a text of at most {MOST_TEXT} characters")
    return value


def _number(value: object, where: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < MOST_NUMBER:
        raise DeviceError(f"{where}: {_short(value)}, expected a whole number of 32 bits")
    return value


def _short(value: object) -> str:
    """Return a value as it is told: in ASCII, cut."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
