"""What all pictures share: one style, names shown letter by letter, labels that fit, and plain numbers on logarithmic axes.

Matplotlib reads text between two dollar signs as mathematics, and writes its own labels of logarithmic axes that way. Names of models and
layers come from users, so mathematics is off in every picture, and `logarithmic` gives such axes labels that need none.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from qrnn.errors import DataError

FONT = "DejaVu Sans"
"""The font that comes with Matplotlib, so that pictures are the same on every machine."""
DPI = 120
MOST_PIXELS = 60_000
"""The most pixels of a side; a longer picture has fewer dots per inch, since older Matplotlib refuses 65,536."""


def require_matplotlib() -> None:
    """Raise DataError with the remedy where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DataError("pictures need matplotlib; install it with: pip install 'qrnn[plot]'") from None


def png(paint: Callable[[Any], None], width: float, height: float, names: Iterable[str] = ()) -> bytes:
    """Return the PNG of a Matplotlib figure of ``width`` by ``height`` inches that ``paint`` fills.

    ``names`` holds every text of the user's that the picture shows; ``paint`` passes them through `literal` or `fitted`. The user's own
    settings of Matplotlib have no effect. Raises DataError where matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fonts = [FONT, *sorted({f for name in names for c in name if (f := _font_with(c)) not in (None, FONT)})]
    with style.context(["default", {"text.parse_math": False, "font.family": fonts}]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        buffer = io.BytesIO()
        dpi = min(DPI, MOST_PIXELS / max(width, height))
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def literal(name: str) -> str:
    """Return ``name`` with an escape, as Python's, for each character that cannot be drawn.

    These are line breaks, control characters, and characters that no installed font has.
    """
    return "".join(c if _font_with(c) is not None else c.encode("unicode_escape").decode("ascii") for c in name)


def fitted(figure: Any, names: Sequence[str], points: float, inches: float) -> list[str]:
    """Return `literal` names, each shortened in its middle to ``inches`` at a font size of ``points``; names that differ still differ."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()

    def fits(text: str) -> bool:
        if len(text) * 1.1 * points / 72 <= inches:  # no character is wider than its height
            return True
        return bool(Text(0, 0, text, fontsize=points, figure=figure).get_window_extent(renderer).width <= limit)

    def cut(name: str, end: str = "") -> str:
        if fits(literal(name) + end):
            return literal(name) + end
        low, high = 0, len(name)  # characters kept: low fit, high do not
        while high - low > 1:
            kept = (low + high) // 2
            low, high = (kept, high) if fits(_middle_out(name, kept) + end) else (low, kept)
        return _middle_out(name, low) + end

    limit = inches * figure.dpi
    shown: dict[str, str] = {}
    taken: dict[str, int] = {}
    for name in names:
        if name not in shown:
            shown[name] = cut(name)
            while shown[name] in taken:
                taken[shown[name]] += 1
                shown[name] = cut(name, f" ({taken[shown[name]]})")
            taken[shown[name]] = 1
    return [shown[name] for name in names]


def logarithmic(axis: Any) -> None:
    """Set labels such as 0.001, 0.02, 5 and 3e−07 on a logarithmic x or y axis; between powers of ten only where there are few of these."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        """Matplotlib's choice of the ticks that get a label, without its mathematics."""

        def __call__(self, value: float, position: int | None = None) -> str:
            return f"{value:g}".replace("-", "\N{MINUS SIGN}") if super().__call__(value, position) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(labelOnlyBase=False))


def legend(axes: Any, handles: Sequence[Any], labels: Sequence[str], **more: Any) -> None:
    """Draw a legend with every label: Matplotlib leaves out those that begin with an underscore."""
    axes.legend(handles, [f" {label}" if label.startswith("_") else label for label in labels], **more)


def _middle_out(name: str, kept: int) -> str:
    return literal(f"{name[: (kept + 1) // 2]}…{name[len(name) - kept // 2 :]}")


@lru_cache(maxsize=4096)
def _font_with(character: str) -> str | None:
    """Return the family of an installed font that can draw a character, `FONT` where it can; None where none can, and for controls."""
    if unicodedata.category(character)[0] == "C" or unicodedata.category(character) in ("Zl", "Zp"):
        return None
    from matplotlib import font_manager

    if _draws(font_manager.findfont(FONT), character):
        return FONT
    upright = (
        e for e in font_manager.fontManager.ttflist if (e.style, e.weight, e.stretch) == ("normal", 400, "normal")
    )
    others = sorted({(entry.name, entry.fname) for entry in upright if not entry.name.startswith("Last Resort")})
    return next((name for name, path in others if _draws(path, character)), None)


def _draws(path: str, character: str) -> bool:
    """Return whether a font file has the character as an outline: fonts of coloured pictures cannot be drawn."""
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(path)
        if ord(character) not in font.get_charmap():
            return False
        font.set_size(10, 72)
        font.load_char(ord(character))
    except (RuntimeError, OSError):
        return False
    return True
