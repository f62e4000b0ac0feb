"""Write the licences of the libraries that qrnn installs, as their packages declare them: docs/licences.md, from this environment.

    python tools/licences.py [--output docs/licences.md]

An environment with the extras of interest is needed: what is not installed is named as such.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from provenance import ROOT

from qrnn.system.atomic import write_atomically

EXTRAS = ("onnx", "cli", "plot", "ort", "torch", "dask", "data", "cuda", "serial", "dev")
"""The extras that are listed, beside the core."""

DATA = """## Data and code that come with the package

| What | Licence |
|---|---|
| qrnn, its targets and the C that it writes | Apache-2.0 ([LICENSE](../LICENSE)); exported C may be used in any product under it |
| the bundled example, handwritten digits | CC BY 4.0, with its source and changes in [qrnn/examples/README.md](../qrnn/examples/README.md) |
"""


def requirements(extra: str | None) -> list[str]:
    """Return the names of the libraries that the core needs, or that an extra adds."""
    found = []
    for line in metadata.requires("qrnn") or []:
        name = re.match(r"[A-Za-z0-9_.-]+", line)
        wanted = re.search(r"""extra == ['"]([^'"]+)['"]""", line)
        if name is not None and name[0] != "qrnn" and (wanted[1] if wanted else None) == extra:
            found.append(name[0])
    return list(dict.fromkeys(found))


def licence(library: str) -> tuple[str, str]:
    """Return a library's version here and its licence, as its package declares them."""
    try:
        found = metadata.metadata(library)
    except metadata.PackageNotFoundError:
        return "not installed here", "-"
    for key in ("License-Expression", "License"):
        if key in found and (said := str(found[key]).strip()):
            return found["Version"], said.splitlines()[0]
    named = [line.rpartition("::")[2].strip() for line in found.get_all("Classifier") or [] if "License ::" in line]
    return found["Version"], ", ".join(n for n in named if n != "OSI Approved") or "not declared"


def page() -> str:
    """Return the whole page."""
    lines = [
        "# Licences",
        "",
        "The libraries that qrnn installs, with the licences that their packages declare. Made by `python tools/licences.py`.",
        "",
        "| Installed by | Library | Version here | Licence |",
        "|---|---|---|---|",
    ]
    for extra in (None, *EXTRAS):
        by = "the core" if extra is None else f"extra `{extra}`"
        lines += [f"| {by} | {name} | {' | '.join(licence(name))} |" for name in requirements(extra)]
    return "\n".join([*lines, "", DATA])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "licences.md")
    write_atomically(parser.parse_args(arguments).output, page().encode())


if __name__ == "__main__":
    main()
