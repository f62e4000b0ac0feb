"""The data files of this backend are JSON whose keys and types are checked before anything reads a value."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from qrnn.errors import BackendError
from qrnn.system.files import read_regular

SCHEMA = 1
MOST_BYTES = 1 << 20
DATA = Path(__file__).parent / "data"


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the content of a JSON file of at most ``most`` bytes; BackendError, in one line, where there is none."""
    try:
        return json.loads(read_regular(path, most).decode())
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{path}: not JSON ({str(error).splitlines()[0]})") from None


def checked(where: str, value: Any, types: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Return ``value``, an object with exactly these keys, whose values have these types; BackendError names what does not fit.

    A key whose type is ``float`` takes an integer too, and no infinity or NaN; one whose type is ``int`` takes no truth value.
    """
    if not isinstance(value, dict):
        raise BackendError(f"{where}: {_shown(value)}, expected an object with {', '.join(types)}")
    if value.keys() != types.keys():
        wrong = [f"{key!r} is missing" for key in types if key not in value]
        wrong += [f"{key!r} is unknown" for key in value if key not in types]
        raise BackendError(f"{where}: {'; '.join(wrong)}")
    for key, kind in types.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        found = value[key]
        fits = isinstance(found, kinds) or (float in kinds and isinstance(found, int))
        if isinstance(found, bool) and bool not in kinds:
            fits = False
        if not fits or (isinstance(found, float) and not math.isfinite(found)):
            names = " or ".join({"NoneType": "null"}.get(k.__name__, k.__name__) for k in kinds)
            raise BackendError(f"{where}: {key} is {_shown(found)}, expected {names}")
    return value


def require(condition: bool, where: str, key: str, found: Any, expected: str) -> None:
    """Raise BackendError unless ``condition`` holds."""
    if not condition:
        raise BackendError(f"{where}: {key} is {_shown(found)}, expected {expected}")


def check_schema(where: str, found: Any) -> None:
    """Raise BackendError for a file of another schema."""
    require(found == SCHEMA, where, "schema", found, f"{SCHEMA}; the file is of another version of qrnn")


def check_date(where: str, found: str) -> None:
    """Raise BackendError for what is not a date such as 2026-01-31."""
    require(re.fullmatch(r"\d{4}-\d{2}-\d{2}", found) is not None, where, "date", found, "a date such as 2026-01-31")


def capability_of(where: str, found: Any) -> tuple[int, int]:
    """Return [9, 0] as (9, 0); BackendError for what is no compute capability."""
    numbers = isinstance(found, list) and len(found) == 2 and all(type(v) is int and 0 <= v < 1000 for v in found)
    require(numbers, where, "capability", found, "two whole numbers such as [9, 0]")
    return found[0], found[1]


def as_json(value: Any) -> bytes:
    """Return the text of a data file."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
