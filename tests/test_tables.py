"""Tables at 80 columns: names lose their beginning, what is copied stays whole, words are broken between lines."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qrnn.system import tables

LETTERS = st.text("abc/_.[]0 ", min_size=1, max_size=60)


def lines(
    columns: list[tables.Column], rows: list[tuple[str, ...]], title: str | None = None, width: int = 80
) -> list[str]:
    out = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with out.capture() as captured:
        out.print(tables.table(columns, rows, title))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_numbers_stand_to_the_right() -> None:
    assert lines([tables.text("a"), tables.number("b")], [("x", "1"), ("long", "1,000")]) == [
        "a         b",
        "x         1",
        "long  1,000",
    ]


def test_a_title_has_an_empty_line_before_it() -> None:
    assert lines([tables.text("a")], [("x",)], "T")[:2] == ["", "T"]


def test_long_names_lose_their_beginning() -> None:
    name = "/model/encoder/" + "block/" * 12 + "lstm[0]"
    shown = lines([tables.name("layer"), tables.number("share")], [(name, "12.5 %")])
    assert max(map(len, shown)) <= 80
    assert shown[1].startswith("…")
    assert shown[1].split("  ")[0].endswith("block/lstm[0]")


def test_what_is_copied_stays_whole() -> None:
    command = "--widths /gru/GRU.h=16,/head/MatMul.x=16"
    columns = [tables.name("layer"), tables.exact("change"), tables.text("costs")]
    shown = lines(columns, [("/a/very/long/name/of/a/layer", command, "operands of two bytes for one")])
    assert command in shown[1]
    assert max(map(len, shown)) <= 80


def test_square_brackets_are_no_markup() -> None:
    assert "[bold]x[/bold]" in lines([tables.text("a"), tables.name("b")], [("[bold]x[/bold]", "[red]")])[1]


@given(LETTERS, st.integers(1, 60))
def test_a_shortened_name_keeps_its_end(name: str, width: int) -> None:
    shown = tables.Name(name).shortened(width)
    assert len(shown) == min(len(name), width)
    assert name.endswith(shown.removeprefix("…"))


def test_each_row_needs_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="shorter"):
        tables.table([tables.text("a"), tables.text("b")], [("x",)])
