"""Write the pages of the documentation site that follow from the code: commands, the Python interface, and what runs where.

    python tools/site_pages.py [--check]

docs/reference/commands.md has the help of every command, docs/reference/api.md a directive of mkdocstrings for every public name, and
docs/reference/support.md tables of cells, layers, backends and targets. ``--check`` compares the files and writes nothing.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cell_catalogue import catalogue
from provenance import ROOT
from typer.main import get_command

import qrnn
from qrnn import layers
from qrnn.backends.cpu.isa import ISAS
from qrnn.cli.commands import app
from qrnn.model.kinds import quantized_kinds
from qrnn.system.atomic import write_atomically
from qrnn.targets import load_target, target_names

FOLDER = ROOT / "docs" / "reference"
MADE = "This page follows from the code: `python tools/site_pages.py` writes it."
WIDTH = 100


def commands() -> str:
    """Return the page of commands: the help of each."""
    parts = ["# Commands", "", MADE, ""]
    for name, command in named_commands(get_command(app)):
        with command.make_context(
            name, [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
        ) as context:
            context.info_name = f"qrnn {name}"
            shown = command.get_help(context)
        parts += [f"## qrnn {name}", "", "```text", *(line.rstrip() for line in shown.splitlines()), "```", ""]
    return "\n".join(parts)


def named_commands(group: Any) -> list[tuple[str, Any]]:
    """Return the commands of a group, and behind a group in it the commands of that, by the words that call them."""
    found = []
    for name, command in group.commands.items():
        found.append((name, command))
        if hasattr(command, "commands"):
            found += [(f"{name} {inner}", own) for inner, own in named_commands(command)]
    return found


SECTIONS: Mapping[str, tuple[str, ...]] = {
    "From a trained model": ("load_onnx", "load_keras", "from_torch", "cut_onnx", "cut_data", "FloatModel"),
    "To integers": (
        "quantize",
        "Scheme",
        "prune",
        "QuantModel",
        "save",
        "load",
        "convert_with_float_parts",
        "HybridModel",
    ),
    "Run": ("Session", "RunResult", "State", "Stream", "StreamPool", "Sampling", "Generated"),
    "Measure": ("compare", "Comparison", "explain", "Explanation", "diff", "Difference", "run_oracle"),
    "Search": ("sweep", "SweepResult", "tune", "TuneResult", "Budgets"),
    "Onto devices": ("export_model", "load_target", "Target", "CodeFormat", "code_format"),
}
"""The public names by what they are for; those that stand in no section come last."""


def api() -> str:
    """Return the page of the Python interface, with a directive of mkdocstrings for each public name."""
    public = [name for name in qrnn.__all__ if not name.startswith("_")]
    errors = [name for name in public if inspect.isclass(found := getattr(qrnn, name)) and issubclass(found, Exception)]
    sectioned = {name for names in SECTIONS.values() for name in names}
    sections = {
        **{title: tuple(name for name in names if name in public) for title, names in SECTIONS.items()},
        "More": tuple(name for name in public if name not in sectioned and name not in errors),
        "Errors": tuple(errors),
    }
    parts = ["# Python", "", MADE, ""]
    for title, names in sections.items():
        if names:
            parts += [f"## {title}", ""]
            for name in names:
                parts += [f"::: {home(name)}", ""]
    parts += ["## Layers", "", "`qrnn.layers` builds models from arrays.", ""]
    for name in layers.__all__:
        found = getattr(layers, name)
        if inspect.isfunction(found):
            parts += [f"::: {found.__module__}.{found.__name__}", ""]
    return "\n".join(parts)


def home(name: str) -> str:
    """Return the full name of the place where a public object is defined."""
    found = getattr(qrnn, name)
    return f"{found.__module__}.{found.__qualname__}"


def support() -> str:
    """Return the page of what runs where."""
    parts = [
        "# What runs where",
        "",
        MADE,
        "",
        "A cell or layer of a converted model runs on every backend, and as exported C on every target, with the same bits; this page lists",
        "them. What an importer takes of ONNX, attribute by attribute, is on the page [conformance](../conformance.md).",
        "",
        "## Recurrent cells",
        "",
        "Each in both directions, stacked, streamed, with lengths and states, on backends reference, cpu and cuda, and in C for every target.",
        "",
        *(f"- `{name}`" for name in catalogue()),
        "",
        "## Layers",
        "",
        "| layer | what it computes |",
        "|---|---|",
        *(f"| `{kind.__name__}` | {first_line(kind)} |" for kind in sorted(kinds(), key=lambda kind: kind.__name__)),
        "",
        "Attention over another sequence in C takes models with one time axis more; layers with steps of their own do not stream on a GPU.",
        "",
        "## Backends",
        "",
        "| backend | where | state |",
        "|---|---|---|",
        "| `reference` | plain Python | the definition, slow |",
        f"| `cpu` | Numba: {', '.join(isa.name for isa in ISAS)}, plain loops elsewhere | complete |",
        "| `cuda` | NVIDIA GPUs | experimental: tested in a simulator and as PTX ([cuda](../cuda.md)) |",
        "",
        "## Targets of exported C",
        "",
        "| target | what it is | kernels | run in tests by |",
        "|---|---|---|---|",
    ]
    for name in target_names():
        target = load_target(name)
        emulated = target.emulation.core if target.emulation is not None else "not emulated"
        run = "this processor or an emulator" if target.host is not None else emulated
        parts.append(f"| `{name}` | {target.description} | {target.core.kernels} | {run} |")
    return "\n".join([*parts, ""])


def kinds() -> list[type]:
    """Return the classes of integer layers that are not recurrent."""
    found = quantized_kinds()
    classes = list(found.values()) if isinstance(found, Mapping) else list(found)
    return [kind for kind in classes if not hasattr(kind, "directions")]


def first_line(kind: type) -> str:
    """Return the first sentence of a class's docstring."""
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


PAGES: Mapping[str, Callable[[], str]] = {"commands.md": commands, "api.md": api, "support.md": support}


def main() -> None:
    """Write or compare the pages; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare the files, write nothing")
    check = parser.parse_args().check
    old = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if not check:
            write_atomically(path, text.encode())
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))
    if old:
        print(f"not as the code says: {', '.join(old)}; run python tools/site_pages.py", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
