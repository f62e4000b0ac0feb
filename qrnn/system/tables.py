"""Tables for people, in one quiet style: columns with spaces between, numbers to the right, and what is to be read kept at 80 columns.

Where a terminal is too narrow, texts are broken between words and long names lose their beginning, since names of layers differ at their end.
What is to be copied is never shortened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.measure import Measurement
    from rich.table import Table

SHORTEST_NAME = 14
"""The characters that a column leaves of its names at least."""

GAP = 2
"""The spaces between two columns."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and what its cells are.

    ``text`` is broken between words, ``number`` stands at the right end, a ``name`` loses its beginning where it is too long, and what is
    to be copied (``exact``) stays whole.
    """

    title: str
    kind: Literal["text", "number", "name", "exact"] = "text"


def text(title: str) -> Column:
    """Return a column of words."""
    return Column(title)


def number(title: str) -> Column:
    """Return a column of figures."""
    return Column(title, "number")


def name(title: str) -> Column:
    """Return a column of names of layers, tensors or files."""
    return Column(title, "name")


def exact(title: str) -> Column:
    """Return a column of what is to be copied."""
    return Column(title, "exact")


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str | None = None, gap: int = GAP) -> Table:
    """Return a table that Rich prints. Cells are plain text: nothing in them is markup."""
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=None,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        title=title and f"\n{title}",
        title_justify="left",
        title_style="bold",
    )
    for column in columns:
        made.add_column(
            column.title,
            justify="right" if column.kind == "number" else "left",
            no_wrap=column.kind in ("number", "exact"),
            overflow="fold",
            header_style="italic",
        )
    for row in rows:
        cells: list[RenderableType] = [
            Name(cell) if column.kind == "name" else Text(cell) for column, cell in zip(columns, row, strict=True)
        ]
        made.add_row(*cells)
    return made


@dataclass(frozen=True)
class Name:
    """A name that is shortened at its beginning to the room that there is."""

    whole: str

    def shortened(self, width: int) -> str:
        """Return the name in at most ``width`` characters."""
        return self.whole if len(self.whole) <= width else f"…{self.whole[len(self.whole) - width + 1 :]}"

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        longest = len(self.whole)
        return Measurement(min(longest, SHORTEST_NAME), longest)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self.shortened(options.max_width), no_wrap=True)
