"""The thresholds of the CPU backend, for those who measure or test it: ``qrnn.Session(model, tuning=Tuning(thread_teams=False))``.

``data/tuning.json`` holds the default of every field, with its unit, its range and what it means. No field changes a bit of a result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from qrnn.errors import BackendError

DATA = Path(__file__).parent / "data" / "tuning.json"
"""The file of the defaults."""

SCHEMA = 1
"""The version of the file's layout."""


@dataclass(frozen=True)
class Threshold:
    """What the data file says of one field of `Tuning`.

    ``value`` is the default. Booleans have no range; None is allowed where it is the default.
    """

    value: bool | int | float | None
    unit: str
    description: str
    least: float = 0
    most: float = 0

    def problem(self, value: object) -> str | None:
        """Return what was expected of ``value``, or None where it is allowed."""
        if isinstance(self.value, bool):
            return None if isinstance(value, bool) else "True or False"
        if value is None and self.value is None:
            return None
        numbers = (int, float) if isinstance(self.value, float) else (int,)
        fits = isinstance(value, numbers) and not isinstance(value, bool) and self.least <= value <= self.most
        if fits:
            return None
        kind = "a number" if isinstance(self.value, float) else "a whole number"
        none = ", or None" if self.value is None else ""
        return f"{kind} from {self.least:,} to {self.most:,} ({self.unit}){none}"


def read_thresholds(path: Path) -> Mapping[str, Threshold]:
    """Read and check a file of defaults; BackendError names what does not fit."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackendError(f"{path}: cannot be read as JSON ({error}); install qrnn again") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or not isinstance(content.get("fields"), dict):
        raise BackendError(f"{path}: expected schema {SCHEMA} and an object 'fields'; install qrnn again")
    return {name: _threshold(f"{path}: {name}", entry) for name, entry in content["fields"].items()}


def _threshold(where: str, entry: Any) -> Threshold:
    try:
        found = Threshold(**entry)
    except TypeError:
        raise BackendError(
            f"{where}: expected an object with the keys value, unit, description, least and most"
        ) from None
    if not all(isinstance(text, str) and text for text in (found.unit, found.description)):
        raise BackendError(f"{where}: expected texts for unit and description")
    for end in (found.least, found.most):
        if isinstance(end, bool) or not isinstance(end, (int, float)):
            raise BackendError(f"{where}: least or most is {end!r}, expected a number")
    if expected := found.problem(found.value):
        raise BackendError(f"{where}: the default is {found.value!r}, expected {expected}")
    return found


@cache
def thresholds() -> Mapping[str, Threshold]:
    """Return the `Threshold` of every field of `Tuning`, by name; the file is read once."""
    found, names = read_thresholds(DATA), {f.name for f in fields(Tuning)}
    if names != found.keys():
        raise BackendError(f"{DATA}: expected exactly the fields of Tuning, differs in {sorted(names ^ found.keys())}")
    return found


def _given(name: str) -> Any:
    return thresholds()[name].value


def _default(name: str) -> Any:
    return field(default_factory=partial(_given, name))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Thresholds and choices of the CPU backend.

    `thresholds` gives the meaning, the unit and the range of each; a multiply-add is one product of a weight that is added to a sum.
    BackendError where a value is not in its range.
    """

    thread_teams: bool = _default("thread_teams")
    cores: int | None = _default("cores")
    largest_team: int = _default("largest_team")
    team_run_macs: int = _default("team_run_macs")
    team_call_macs: int = _default("team_call_macs")
    team_step_macs: int = _default("team_step_macs")
    fused_team_step_macs: int = _default("fused_team_step_macs")
    shared_step_macs: int = _default("shared_step_macs")
    close_step_us: int = _default("close_step_us")
    close_steps: int = _default("close_steps")
    rest_steps: int = _default("rest_steps")
    flag_read_macs: int = _default("flag_read_macs")
    barrier_spins: int = _default("barrier_spins")
    yield_spins: int = _default("yield_spins")
    idle_spins: int = _default("idle_spins")
    expected_spins: int = _default("expected_spins")
    wake_spins: int = _default("wake_spins")
    wake_macs: int = _default("wake_macs")
    again_us: int = _default("again_us")
    macs_per_wake_spin: int = _default("macs_per_wake_spin")
    task_macs: int = _default("task_macs")
    fused_task_macs: int = _default("fused_task_macs")
    share_macs: int = _default("share_macs")
    traced_macs: int = _default("traced_macs")
    stream_task_macs: int = _default("stream_task_macs")
    boundary_task_values: int = _default("boundary_task_values")
    dense_macs: int = _default("dense_macs")
    sequence_values: int = _default("sequence_values")
    conv_sums_dots: int = _default("conv_sums_dots")
    conv_vector_dots: int = _default("conv_vector_dots")
    conv_copy_dots: int = _default("conv_copy_dots")
    conv_weight_bytes: int = _default("conv_weight_bytes")
    conv_tile_share: float = _default("conv_tile_share")
    few_steps: int = _default("few_steps")
    byte_cache_share: float = _default("byte_cache_share")
    word_cache_share: float = _default("word_cache_share")
    beside_bytes: int = _default("beside_bytes")
    ahead_bytes: int = _default("ahead_bytes")
    byte_list_share: float = _default("byte_list_share")
    word_list_share: float = _default("word_list_share")
    cache_bytes: int | None = _default("cache_bytes")
    unknown_cache_bytes: int = _default("unknown_cache_bytes")
    least_cache_bytes: int = _default("least_cache_bytes")

    def __post_init__(self) -> None:
        for name, threshold in thresholds().items():
            value = getattr(self, name)
            if expected := threshold.problem(value):
                raise BackendError(f"Tuning({name}={value!r}): expected {expected}. {threshold.description}")
