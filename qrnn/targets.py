"""Known hardware, as data: one TOML a target, with the scheme that suits it. A new target is a new file in ``targets/``."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from qrnn.errors import QuantizationError, TargetError


@dataclass(frozen=True)
class Target:
    """One device: ``word_bits`` of its registers, ``instructions`` that count, ``scheme`` defaults for `qrnn.Scheme`.

    ``flash_bytes`` and ``ram_bytes`` are those of a typical board, None where memory is no limit.
    """

    name: str
    description: str
    word_bits: int
    instructions: tuple[str, ...]
    scheme: dict[str, Any]
    flash_bytes: int | None = None
    ram_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)


def targets_folder() -> Path:
    """The folder of the TOML files: inside the installed package, or beside it in a source checkout."""
    installed = Path(str(files("qrnn"))) / "targets"
    return installed if installed.is_dir() else Path(str(files("qrnn"))).parent / "targets"


def target_names() -> tuple[str, ...]:
    """Names that `load_target` takes."""
    return tuple(sorted(path.stem for path in targets_folder().glob("*.toml")))


def load_target(name: str) -> Target:
    """Read and check one target; TargetError names the file, the key and what was expected."""
    if name not in target_names():
        raise TargetError(
            f"target {name!r} is unknown; expected one of {', '.join(target_names())} (see: qrnn targets)"
        )
    return read_target(targets_folder() / f"{name}.toml")


def read_target(path: Path) -> Target:
    """Read and check a TOML file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise TargetError(f"{path}: {error}") from None
    core = _take(path, table, "core", dict)
    scheme = _take(path, table, "scheme", dict)
    memory = _take(path, table, "memory", dict, {})
    instructions = _take(path, core, "instructions", list)
    if not all(isinstance(item, str) for item in instructions):
        raise TargetError(f"{path}: instructions = {instructions!r}, expected a list of str")
    target = Target(
        name=_take(path, table, "name", str),
        description=_take(path, table, "description", str),
        word_bits=_take(path, core, "word_bits", int),
        instructions=tuple(instructions),
        scheme=_complete_scheme(path, scheme),
        flash_bytes=_take(path, memory, "flash_bytes", int, None),
        ram_bytes=_take(path, memory, "ram_bytes", int, None),
    )
    for where, rest in (("", table), ("core.", core), ("memory.", memory)):
        if rest:
            raise TargetError(f"{path}: key {where + next(iter(rest))!r} is unknown; remove it")
    if target.name != path.stem:
        raise TargetError(f"{path}: name is {target.name!r}, expected the file's own name {path.stem!r}")
    return target


def _complete_scheme(path: Path, scheme: dict[str, Any]) -> dict[str, Any]:
    """The checked scheme with its defaults filled in."""
    from qrnn.quantization import Scheme  # costly to import, and only needed to check

    try:
        return Scheme(**scheme).as_dict()
    except (TypeError, QuantizationError) as error:
        raise TargetError(f"{path}: [scheme] {error}") from None


_MISSING = object()


def _take(path: Path, table: dict[str, Any], key: str, kind: type, default: Any = _MISSING) -> Any:
    if key not in table:
        if default is _MISSING:
            raise TargetError(f"{path}: key {key!r} is missing; expected {kind.__name__}")
        return default
    value = table.pop(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TargetError(f"{path}: {key} = {value!r}, expected {kind.__name__}")
    return value
