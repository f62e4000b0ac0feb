"""Every picture, as it is drawn: no source of mathematics for a label, nothing cut off, nothing on top of another, whatever names are."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import bench_picture
import bench_report
import matplotlib as mpl
from accuracy.compared import some_report
from matplotlib.backends.backend_agg import RendererAgg

from qrnn.accuracy import gate_errors, pictures
from qrnn.accuracy.comparison import Comparison
from qrnn.accuracy.probe import ErrorSum
from qrnn.lab import plot as lab_plot
from qrnn.model.activation import Activation
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.gate_tables import gate_function

NAMES = (
    *("plain", "$x_1^2$", "$\\frac{$", "_hidden", "a\\b", "100 % #1 & <b>", "", " ", "{}", "a\nb\tc", "\x00\x1b\u202e"),
    *(
        "名前の層",
        "عربي",
        "😀",
        "W" * 300,
        "层" * 100,
        "encoder/block/" * 30 + "lstm_1",
        "encoder/block/" * 30 + "lstm_2",
    ),
)


class Drawn(NamedTuple):
    """A text as it reached the picture, with its place in pixels."""

    text: str
    box: Any


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """All texts drawn since; mathematics fails at once."""
    found: list[Drawn] = []
    draw_text = RendererAgg.draw_text

    def record(
        self: RendererAgg, gc: Any, x: Any, y: Any, s: str, prop: Any, angle: Any, ismath: Any, mtext: Any
    ) -> None:
        assert not ismath, s
        found.append(Drawn(s, mtext.get_window_extent(self)))
        draw_text(self, gc, x, y, s, prop, angle, ismath, mtext)

    monkeypatch.setattr(RendererAgg, "draw_text", record)
    return found


def check(picture: bytes, drawn: list[Drawn], own: tuple[str, ...] = ()) -> None:
    """``own``: names that the picture may show, in which a dollar or backslash is right."""
    height, width, _ = mpl.image.imread(io.BytesIO(picture), format="png").shape
    assert drawn
    for text, box in drawn:
        if not any(mark in pictures.literal(name) for name in own for mark in "$\\"):
            assert "$" not in text, text
            assert "\\" not in text, text
        assert "mathdefault" not in text, text
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1.0, f"{text!r} is cut off"
    for k, (text, box) in enumerate(drawn):
        for other, place in drawn[k + 1 :]:
            across = min(box.x1, place.x1) - max(box.x0, place.x0)
            down = min(box.y1, place.y1) - max(box.y0, place.y0)
            assert min(across, down) <= 1.5, f"{text!r} and {other!r} are on top of each other"


def error(seed: int, steps: int) -> ErrorSum:
    rng = np.random.default_rng(seed)
    found = ErrorSum(steps)
    want = rng.normal(size=(2, max(steps, 1), 3))
    got = want + rng.normal(size=want.shape) * 10.0 ** rng.uniform(-5, -1)
    found.add(want, got, np.ones((2, steps), bool) if steps else None)
    return found


def comparison(model: str, layers: list[str], outputs: list[str], steps: int = 50) -> Comparison:
    parts = {f"{name}.{part}": error(k, steps) for k, name in enumerate(layers) for part in "ifgoch"}
    return replace(some_report(), model=model, layers=parts, outputs={name: error(99, steps) for name in outputs})


@pytest.mark.parametrize(
    ("layers", "steps"),
    [
        *((0, 2), (4, 50)),
        *(
            pytest.param(*p, marks=pytest.mark.matrix)
            for p in ((0, 1), (1, 1), (1, 10_000), (5, 2), (40, 1), (40, 300))
        ),
    ],
)
def test_compare(layers: int, steps: int, drawn: list[Drawn]) -> None:
    result = comparison("net", [f"/encoder/LSTM_{k}[0]" for k in range(layers)], ["logits"], steps)
    check(result.plot().png, drawn)
    shown = [text for text, _ in drawn]
    for name in (*result.layers, *result.outputs):
        assert shown.count(name) == 1 + (name in result.over_time()), "a bar, and a line where there are steps"


@pytest.mark.wide
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-7])
@pytest.mark.parametrize("decades", [0.0, 0.3, 1.0, 2.0, 12.0, 40.0])
def test_numbers_on_a_logarithmic_axis(scale: float, decades: float, drawn: list[Drawn]) -> None:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([1, 2], [scale, scale * 10.0**decades])
        axes.set_yscale("log")
        pictures.logarithmic(axes.yaxis)

    check(pictures.png(paint, 5, 4), drawn)
    numbers = [float(text.replace("\N{MINUS SIGN}", "-")) for text, box in drawn if box.x1 < 110]
    assert numbers, "the axis has labels, and each is a number"


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("name", NAMES)
def test_compare_of_any_name(name: str, drawn: list[Drawn]) -> None:
    check(comparison(name, [name], [name]).plot().png, drawn, (name,))
    if 0 < len(name) < 30 and name.isprintable() and name.isascii():
        assert sum(name in text for text, _ in drawn) >= 11, "the title, seven bars and three lines, letter by letter"


@pytest.mark.matrix
def test_compare_of_all_names(drawn: list[Drawn]) -> None:
    check(comparison("$", list(NAMES), ["y"]).plot().png, drawn, NAMES)


def test_exact_and_empty_parts_are_named(drawn: list[Drawn]) -> None:
    exact, silent = ErrorSum(), ErrorSum()
    exact.add(np.ones((1, 1)), np.ones((1, 1)), None)
    silent.add(np.zeros((1, 1)), np.ones((1, 1)), None)
    check(replace(some_report(), layers={"a.h": exact}, outputs={"y": silent}).plot().png, drawn)
    assert {"a.h", " exact", "y", " no signal"} <= {text for text, _ in drawn}


@pytest.mark.parametrize("count", [2, *(pytest.param(n, marks=pytest.mark.matrix) for n in (1, 11))])
def test_gates(count: int, drawn: list[Drawn]) -> None:
    choice = parse_gates("pwl:16").general
    functions = [Activation("sigmoid"), Activation("tanh"), Activation("hard_sigmoid", 0.2, 0.5)]
    found = []
    for k in range(count):
        one = functions[k % 3]
        made = gate_function(one, choice, in_frac=None, clip=None)
        found.append(gate_errors.measure(f"{NAMES[k % len(NAMES)]}", one, made))
    check(gate_errors.draw(found), drawn, NAMES)


def records(count: int, name: Callable[[int], str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "scheme": {"gates": name(k)},
            "figures": {
                "sqnr_db": float(rng.uniform(0, 60)),
                "accuracy": 98.0 + k / 1000,
                "model_bytes": 10**6 + 17 * k,
                "flash_bytes": 20_000_000 + k,
                "ram_bytes": 300,
                "instructions": float(10.0 ** rng.uniform(3, 8)),
                "latency_us": float(rng.uniform(0.001, 0.002)),
            },
        }
        for k in range(count)
    ]


@pytest.mark.matrix
@pytest.mark.parametrize("count", [1, 8, 40])
def test_sweep(count: int, drawn: list[Drawn]) -> None:
    made = records(count, "pwl:{}".format)
    costs = ("flash", "ram", "instructions", "latency")
    assert list(lab_plot.draw_all("net", made, None)) == [f"{a}_{b}.png" for a in ("sqnr", "accuracy") for b in costs]
    for (quality, cost), colour_by in zip(product(("sqnr", "accuracy"), costs), cycle(("gates", None)), strict=False):
        drawn.clear()
        check(lab_plot.draw("digits_gru", made, quality, cost, colour_by), drawn)


def test_sweep_of_any_name(drawn: list[Drawn]) -> None:
    made = records(len(NAMES), NAMES.__getitem__)
    for title in NAMES[1:18:5]:
        check(lab_plot.draw(title, made, "sqnr", "flash", "gates"), drawn, NAMES)
        drawn.clear()


def test_exact_configurations_are_counted(drawn: list[Drawn]) -> None:
    made = records(2, "pwl:{}".format)
    made[0]["figures"] |= {"sqnr_db": None, "exact": True}
    check(lab_plot.draw("net", made, "sqnr", "flash", "gates"), drawn)
    assert "net, and 1 that are exact" in {text for text, _ in drawn}


@pytest.mark.parametrize(
    "ratios",
    [
        [1.0],
        [0.01, 1.0],
        [3.1, 2.0, None],
        [1.0, 300.0],
        pytest.param([0.5, 0.9, 1.2, 8.0] * 10, marks=pytest.mark.matrix),
    ],
)
def test_bench(ratios: list[float | None], drawn: list[Drawn]) -> None:
    bars = [bench_picture.Bar(f"LSTM {k}", r, "ONNX Runtime int8, bound" if r else None) for k, r in enumerate(ratios)]
    check(bench_picture.ratios({"whole sequences, batch 1": bars, "streaming": bars}, "qrnn"), drawn)
    assert sum(text.strip().replace(".", "").isdigit() for text, _ in drawn) >= 2, "numbers on the axis"


def test_the_bench_tools_draw_it() -> None:
    """tests/test_bench_peers.py draws whole results; nothing else in tools/ draws."""
    assert bench_report.ratios is bench_picture.ratios
    tools = Path(__file__).parents[1] / "tools"
    code = [*tools.glob("*.py"), *Path(pictures.__file__).parent.rglob("*.py")]
    assert {p.name for p in code if "savefig" in p.read_text() or "pyplot" in p.read_text()} == {"pictures.py"}


def test_the_users_settings_do_not_count(drawn: list[Drawn]) -> None:
    with mpl.rc_context({"text.usetex": True, "font.family": "no such font", "axes.formatter.use_mathtext": True}):
        check(comparison("net", ["a"], ["y"]).plot().png, drawn)
        assert mpl.rcParams["text.usetex"] is True


def test_another_font_draws_what_ours_has_not(drawn: list[Drawn]) -> None:
    """U+2A2F is one that STIX has, a font that comes with Matplotlib too; an unassigned character is spelled out."""
    from matplotlib import font_manager

    ours = font_manager.get_font(font_manager.findfont(pictures.FONT)).get_charmap()
    stix = font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap()
    character = next(chr(c) for c in sorted(stix) if c > 0x2000 and c not in ours and chr(c).isprintable())
    assert pictures.literal(f"a{character}\u0378") == f"a{character}\\u0378"
    check(comparison(character, [character], ["y"]).plot().png, drawn)
    assert any(character in text for text, _ in drawn)


def test_names_that_differ_still_differ() -> None:
    def paint(figure: Any) -> None:
        long = [f"{'a' * 200}{k}{'b' * 200}" for k in range(12)]
        shown = pictures.fitted(figure, ["x", *long, "x", long[3]], 7, 1.5)
        assert len(set(shown)) == 13
        assert shown[0] == shown[13] == "x"
        assert shown[4] == shown[14]
        assert all(len(text) < 60 and "…" in text for text in shown[1:13])

    pictures.png(paint, 3, 3)
