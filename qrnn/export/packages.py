"""A package is the layout that a build system expects around a model's C: one folder of ``targets/packages``, found by its name.

``package.toml`` says where the C goes, and has the texts that differ in the README; ``files`` holds templates of all other files under their
own paths, in which NAME stands for the model's name and ``$key`` for the values of `qrnn.export.readme.fields`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from string import Template
from typing import Any

from qrnn.errors import TargetError
from qrnn.system.files import read_regular, reason
from qrnn.targets import targets_folder

FOLDER = "folder"
"""The package that is written where none is asked for: one source to compile, and its headers, in one folder."""

MOST_BYTES = 1 << 18
"""The most bytes of a file of a package; qrnn's own have a few thousand."""

NAME = "NAME"
"""What stands for the model's name in the paths of templates."""


@dataclass(frozen=True)
class Layout:
    """The folders, within a package, of the model's source with the runtime's headers, of its public headers, and of all else.

    ``test`` has the self-test with its golden vectors, and a ``main`` where ``test_main`` says so; ``model`` the ``.qrnn`` file. An empty
    name is the package's own folder, and NAME stands for the model's name.
    """

    source: str
    header: str
    test: str
    model: str
    test_main: bool = False


@dataclass(frozen=True)
class Package:
    """A package as its folder says it.

    ``built`` says in words how tests build it; where it is empty, the package is laid out by the format's documentation, and not built.
    ``longest_name`` is the most characters of a model's name there. ``prints`` says whether its golden sequences print lines, and
    ``program`` is where the program of C goes that prints them, for a package that has none of its own. ``bench`` is a folder for the
    measurement on a board, with the self-test beside it, where a package's programs have folders of their own; ``bench`` of the package's
    folder in ``targets/packages`` has the templates for it.
    """

    name: str
    title: str
    built: str
    documentation: str
    layout: Layout
    rows: Mapping[str, str]
    building: str
    check: str
    longest_name: int = 63
    prints: bool = True
    program: str = ""
    bench: str = ""

    def files(self, values: Mapping[str, str], bench: bool = False) -> dict[str, str]:
        """Return the text of every template, by its path for the model's name in ``values``; with ``bench``, also of the measurement's."""
        found = {}
        for root in (_root() / self.name / "files", *([_root() / self.name / "bench"] if bench else [])):
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    place = path.relative_to(root).as_posix().replace(NAME, values["name"])
                    found[place] = substituted(path, values)
        if self.program:
            found[self.program.replace(NAME, values["name"])] = substituted(_root() / "program.c", values)
        return found

    @property
    def status(self) -> str:
        """Return in words whether tests build the package."""
        return (
            f"qrnn's tests build it: {self.built}"
            if self.built
            else "it is laid out by the format's documentation, not built"
        )


def substituted(path: Path, values: Mapping[str, str]) -> str:
    """Return a template's text with its values."""
    return Template(path.read_text(encoding="utf-8")).substitute(values)


def readme_template() -> Path:
    """Return the path of the README that all packages share."""
    return _root() / "README.md"


def package_names() -> tuple[str, ...]:
    """Return the names of all packages, the plain folder first."""
    names = sorted(path.parent.name for path in _root().glob("*/package.toml"))
    return (FOLDER, *(name for name in names if name != FOLDER))


def load_package(name: str) -> Package:
    """Return the package of that name; TargetError where there is none, or its file is not as it should be."""
    if name not in package_names():
        raise TargetError(f"package {name!r} is not known; expected one of {', '.join(package_names())}")
    path = _root() / name / "package.toml"
    try:
        found: dict[str, Any] = tomllib.loads(read_regular(path, MOST_BYTES).decode())
        layout = Layout(**found.pop("layout"))
        package = Package(name=name, layout=layout, **found)
    except OSError as error:
        raise TargetError(f"{path}: {reason(error)}") from None
    except (ValueError, TypeError, KeyError) as error:
        keys = ", ".join(f.name for f in fields(Package) if f.name != "name")
        raise TargetError(f"{path}: {error}; expected the keys {keys}") from None
    return package


def _root() -> Path:
    return targets_folder() / "packages"
