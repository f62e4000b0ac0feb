"""The end of a fuzzing case, and names for kinds of refusals and faults."""

from __future__ import annotations

import json
import re
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

ACCEPTED, REFUSED, FAULT = "accepted", "refused", "fault"

Verdict = Literal["accepted", "refused", "fault"]

ROOT = Path(__file__).resolve().parents[2]

LONGEST_KIND = 160
"""Characters of the name of a kind."""


@dataclass
class Outcome:
    """The end of one case.

    ``kind`` names the refusal (exception type and message without its names and numbers), the fault, or what was accepted. ``facts`` are
    yes-or-no properties that are counted for the report. ``seconds`` is CPU time of the code under test, ``kilobytes`` the growth of the
    process's peak memory during the case, ``size`` the bytes of the input.
    """

    case: int
    verdict: Verdict
    kind: str
    detail: str = ""
    facts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    kilobytes: int = 0
    size: int = 0

    def line(self) -> bytes:
        """Return the outcome as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes | str) -> Outcome:
        """Read what `line` wrote."""
        return cls(**json.loads(line))


class FaultError(AssertionError):
    """A broken promise that is no exception by itself: a wrong value, an opened file, backends that differ."""


def message_kind(text: str) -> str:
    """Return a message without names, numbers and lists, so that messages of one template are equal."""
    text = text.splitlines()[0] if text else ""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "…", text)
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)|\{[^}]*\}", "…", text)
    text = re.sub(r"/\S+", "…", text)
    text = re.sub(r"-?\d[\d.e+,-]*", "#", text)
    text = re.sub(r"(?:…[ ,:]*)+", "… ", text)
    return text[:LONGEST_KIND].strip()


def error_kind(error: BaseException) -> str:
    """Return the type and the kind of message of an exception."""
    return f"{type(error).__name__}: {message_kind(str(error))}"


def fault_kind(error: BaseException) -> str:
    """Return the kind of an exception that must not come out, with the place in the project that raised it or called what raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(ROOT / "qrnn")]
    place = f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].name}" if own else "?"
    return f"{error_kind(error)} @ {place}"


def asked_for_too_much(error: BaseException | None) -> bool:
    """Return whether an exception, or one that it was made from, says that memory ran out."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or "bad_alloc" in str(error) or "Unable to allocate" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
