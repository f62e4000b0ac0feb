"""Reports are shown as tables of text, on the command line, by ``str`` and in notebooks; and as pictures."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qrnn.system.atomic import write_atomically
from qrnn.system.brief import Described
from qrnn.system.extras import missing_library

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = 80
"""The columns of a report's text, as many as a terminal has that nobody has widened."""


class Report(Described):
    """The base of reports: ``repr`` is a summary, and ``str`` is the text that the command line prints."""

    def render(self, out: Console) -> None:
        """Print the whole report."""
        raise NotImplementedError(f"a report of type {type(self).__name__} has no text")

    def __str__(self) -> str:
        try:
            from rich.console import Console
        except ModuleNotFoundError as error:
            return f"{self!r}\n{missing_library(error, 'the whole report')}"
        out = Console(file=io.StringIO(), width=COLUMNS, color_system=None, highlight=False, markup=False, emoji=False)
        with out.capture() as captured:
            self.render(out)
        return captured.get()


@dataclass(frozen=True)
class Picture:
    """A picture that notebooks show; ``png`` holds its bytes."""

    png: bytes = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as a PNG file, whole or not at all; DataError where the path cannot be written."""
        write_atomically(path, self.png)

    def _repr_png_(self) -> bytes:
        return self.png
