"""What a part of `python tools/gpu_check` is, and what it is given.

Each file ``part_NAME.py`` of this folder is a part. It has

- ``ORDER``, an integer: parts run in this order;
- ``SECONDS``, the part's limit: its process and all processes that it started are killed then. What earlier parts have left of their time is
  added: ``Options.seconds`` is the whole;
- ``TITLE``, the heading of its section;
- ``measure(options, write)``, which does the work and calls ``write`` with the whole result so far, a dictionary that JSON can hold, as often
  as there is something new;
- ``page(result)``, which returns the Markdown of the section, without its heading.

``measure`` runs in a process of its own; ``page`` runs in the process that all parts have in common, which must not fail. So nothing of CUDA is
imported when the module is imported or by ``page``. With ``Options.dry_run`` the environment has NUMBA_ENABLE_CUDASIM=1.

An exception that leaves ``measure`` marks the part as failed; what was written before is kept. Raise `CheckError` where the work was done and
found something wrong.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]

Result = dict[str, Any]
Write = Callable[[Result], None]


class CheckError(Exception):
    """A part did its work and found something wrong, which the message says in one line."""


@dataclass(frozen=True)
class Options:
    """What a part is given: ``seconds`` until it is killed, and what each earlier part wrote last, by the part's name."""

    dry_run: bool
    seconds: float
    results: dict[str, Result] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds that are left before the part is killed."""
        return self.seconds - (time.monotonic() - self.began)


@dataclass(frozen=True)
class Part:
    """A part's module, and its constants."""

    name: str
    title: str
    order: int
    seconds: float
    module: ModuleType


def part_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the parts that the folder holds."""
    return sorted(path.stem.removeprefix("part_") for path in folder.glob("part_*.py"))


def load_part(name: str) -> Part:
    """Import a part's module."""
    module = importlib.import_module(f"gpu_check.part_{name}")
    return Part(name, str(module.TITLE), int(module.ORDER), float(module.SECONDS), module)


def run_part(name: str, given: Path, written: Path) -> None:
    """Run a part in this process: options are read from the file ``given``, results are written to the file ``written``."""
    asked = json.loads(given.read_text(encoding="utf-8"))
    options = Options(bool(asked["dry_run"]), float(asked["seconds"]), asked["results"])

    def write(result: Result) -> None:
        write_whole(written, as_json(result))

    load_part(name).module.measure(options, write)


def options_file(options: Options) -> bytes:
    """Return the content of the file that `run_part` reads."""
    return as_json({key: value for key, value in asdict(options).items() if key != "began"})


def as_json(value: Any) -> bytes:
    """Return JSON text. NumPy's numbers become Python's; infinities and NaN, which JSON lacks, become null."""
    return (json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader, or a kill, never finds half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
