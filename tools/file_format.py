"""Write the tables of types in docs/file_format.md from the dataclasses that a `.qrnn` file mirrors.

python tools/file_format.py --write     # after a change of these dataclasses
python tools/file_format.py --check     # exit status 1 where the page is not what the code says
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from qrnn.model.kinds import quantized_kinds
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import write_atomically

PAGE = Path(__file__).parents[1] / "docs" / "file_format.md"
BEGIN, END = "<!-- types: made by `python tools/file_format.py --write` -->\n", "<!-- end of types -->\n"
SKIPPED = (("QuantModel", "proof"),)
"""Kept in the metadata instead."""


def reachable(annotation: Any = QuantModel) -> dict[str, Any]:
    """Return all dataclasses that a value of this type may hold, by name, in the order in which they are met."""
    found: dict[str, Any] = {}
    _collect(annotation, found)
    return found


def _collect(annotation: Any, found: dict[str, Any]) -> None:
    if annotation is QuantLayer:
        for kind in quantized_kinds().values():
            _collect(kind, found)
    for argument in get_args(annotation):
        _collect(argument, found)
    if isinstance(annotation, type) and is_dataclass(annotation) and annotation.__name__ not in found:
        found[annotation.__name__] = annotation
        for hint in get_type_hints(annotation).values():
            _collect(hint, found)


def written(annotation: Any) -> str:
    """Return how a type stands in the file's JSON, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(origin, "__value__"):  # an alias, as NumPy's NDArray is from Python 3.12 on
        return written(origin.__value__[arguments])
    if origin in (Union, UnionType):
        names = [written(a) for a in arguments if a is not NoneType]
        return " or ".join([*names, *(["null"] if NoneType in arguments else [])])
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if origin is np.ndarray:
        return f"{np.dtype(get_args(arguments[1])[0])} tensor"
    if origin is tuple:
        inner = [written(a) for a in arguments if a is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"list ({', '.join(inner)})"
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {written(arguments[1])}"
    if annotation is Any:
        return "JSON"
    if annotation is QuantLayer:
        return " or ".join(quantized_kinds())
    plain: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return plain.get(annotation) or str(annotation.__name__)


def tables() -> str:
    """Return Markdown with each type, its first line of documentation and its fields."""
    lines: list[str] = []
    for name, cls in reachable().items():
        hints = get_type_hints(cls)
        lines += [f"#### `{name}`", "", (cls.__doc__ or "").strip().splitlines()[0], "", "| field | is |", "|---|---|"]
        for field in fields(cls):
            if (name, field.name) not in SKIPPED:
                absent = field.default is not MISSING or field.default_factory is not MISSING
                lines.append(f"| `{field.name}` | {written(hints[field.name])}{'; may be absent' if absent else ''} |")
        lines.append("")
    return "\n".join(lines)


def renewed(page: str) -> str:
    """Return the page with its tables made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true")
    what.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if arguments.write:
        write_atomically(PAGE, renewed(page).encode())
    elif renewed(page) != page:
        raise SystemExit(f"{PAGE}: the types are not those of the code; run python tools/file_format.py --write")


if __name__ == "__main__":
    main()
