"""The folder of results: one JSON file, the page made from it, and the log. All are whole files at every moment."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance import CODE, revision

from gpu_check.frame import ROOT, CheckError, Part, Result, as_json, write_whole

FORMAT = "qrnn gpu_check 1"
SAID_LINES = 30
"""Lines of a failed part's output that the page shows; the JSON file and the log have more."""

NOT_RUN = "not run"


@dataclass
class Record:
    """How a part went: ``said`` is the end of its output."""

    title: str
    limit: float
    state: str = NOT_RUN
    seconds: float = 0.0
    said: str = ""
    result: Result = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON file holds of the part."""
        return dict(vars(self))


@dataclass
class Report:
    """Everything that is known so far."""

    head: dict[str, Any]
    parts: dict[str, Record]
    pages: dict[str, Part]

    def write(self, folder: Path) -> None:
        """Replace both files."""
        document = self.to_dict()
        write_whole(folder / "gpu_check.json", as_json(document))
        write_whole(folder / "gpu_check.md", page(document, self.pages).encode())

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON file holds."""
        return {"format": FORMAT, **self.head, "parts": {name: part.to_dict() for name, part in self.parts.items()}}


def page(document: dict[str, Any], parts: dict[str, Part]) -> str:
    """Return Markdown of a whole JSON document; a part whose own page cannot be made says why in its place."""
    records: dict[str, Any] = document["parts"]
    text = [
        "# The CUDA backend on a GPU",
        "",
        f"Made by `{document['command']}` on {document['date']} at {_at(document['revision'])} "
        f"with {document['device']}.",
        "",
    ]
    if document["dry_run"]:
        text += [
            "**A dry run in Numba's CUDA simulator: it shows that the command works. No figure here is of a GPU.**",
            "",
        ]
    text += ["| part | outcome | seconds | limit |", "|---|---|---|---|"]
    for record in records.values():
        text.append(f"| {record['title']} | {record['state']} | {record['seconds']:.0f} | {record['limit']:.0f} |")
    for name, record in records.items():
        if record["state"] != NOT_RUN:
            text += ["", f"## {record['title']}", "", *_section(name, record, parts)]
    return "\n".join(text).rstrip() + "\n"


def _at(name: str) -> str:
    return name if name.startswith("an ") else f"revision {name}"


def _section(name: str, record: dict[str, Any], parts: dict[str, Part]) -> list[str]:
    text = []
    if record["result"] and name in parts:
        try:
            text.append(str(parts[name].module.page(record["result"])).strip())
        except Exception as error:  # noqa: BLE001  (whatever it is, the other sections must appear)
            text.append(f"The page of this part cannot be made: {type(error).__name__}: {error}.")
    elif record["state"] == "ok":
        text.append("The part wrote no result.")
    if record["state"] not in ("ok", "running"):
        lines = record["said"].strip().splitlines()[-SAID_LINES:]
        text += ["", f"The part {_did(record['state'])}. Its last lines:", "", "```", *map(_unfenced, lines), "```"]
    return text


def _did(state: str) -> str:
    return f"was {state}" if state.startswith("killed") else state


def _unfenced(line: str) -> str:
    return line.replace("```", "'''")


def code_digest(root: Path = ROOT) -> str:
    """Return the SHA-256 of the code's files, by which the same code is known where there is no Git."""
    total = hashlib.sha256()
    for folder in CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                total.update(f"{path.relative_to(root).as_posix()}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def read_results(path: Path) -> dict[str, Any]:
    """Read a JSON file that `Report.write` wrote; CheckError, OSError or ValueError if it is not one."""
    document: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckError(f"it is no file of results of this command, whose format is {FORMAT!r}")
    if document["dry_run"]:
        raise CheckError("it is of a dry run, whose figures are of no GPU; give a file of a run on a GPU")
    return document


def with_revision(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its revision; CheckError if it has none and this checkout has other code."""
    if re.match(r"[0-9a-f]{7}", document["revision"]):
        return document
    here = revision()
    if document["code"] == code_digest() and re.match(r"[0-9a-f]{7}", here):
        return document | {"revision": here}
    raise CheckError(
        "the file was measured from code that differs from this checkout's, and it names no revision; "
        "check out the revision that it was measured from"
    )
