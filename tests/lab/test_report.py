"""The report: one file that needs nothing else, whatever names are in it; and in a browser, what a reader does with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.chromium import BROWSER, Page, chromium
from qrnn.lab.outputs import write_outputs
from qrnn.lab.report import render, report_data
from qrnn.lab.sweep_result import SweepResult

PATHS = ("model.onnx", "calibration.npz", "test data.npz")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"


def embedded(page: bytes) -> Any:
    """Return the data in the page."""
    found = re.search(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def hostile(swept: SweepResult) -> SweepResult:
    """A sweep of a model whose names are markup."""
    records = json.loads(json.dumps(swept.records).replace("logits", json.dumps(HOSTILE)[1:-1]))
    return replace(swept, model=HOSTILE, records=records)


def test_the_page_holds_everything(swept: SweepResult) -> None:
    page = render(swept, *PATHS)
    data = embedded(page)
    assert data == json.loads(json.dumps(report_data(swept, *PATHS)))
    assert [p["label"] for p in data["points"]] == [r["label"] for r in swept.records]
    assert data["front"] == swept.front
    assert data["float"]["accuracy"] == pytest.approx(100.0, abs=5)
    assert {a["name"] for a in data["axes"]} == {"weights", "gates"}
    for point in data["points"]:
        assert "qrnn compare model.onnx point.qrnn --data 'test data.npz'" in point["command"]
        assert point["details"]["worst"]
        for gate in point["details"]["gates"]:
            curve = data["curves"][gate["curve"]]
            assert len(curve["x"]) == len(curve["true"]) == len(curve["integer"])
    assert b"http" not in page.replace(b"http-equiv", b"").replace(b"http://www.w3.org/2000/svg", b"")


def test_names_are_never_markup(swept: SweepResult) -> None:
    page = render(hostile(swept), *PATHS)
    assert b"alert(1)</script>" not in page
    assert b"<img" not in page
    assert page.count(b"</script>") == 2
    assert embedded(page)["points"][0]["figures"]["output"] == HOSTILE


@pytest.mark.matrix
def test_files_beside_it(swept: SweepResult) -> None:
    pytest.importorskip("matplotlib")
    names = {p.name for p in write_outputs(swept, *PATHS)}
    assert {
        "table.csv",
        "front.csv",
        "sweep.json",
        "report.html",
        "sqnr_instructions.png",
        "accuracy_flash.png",
    } <= names
    summary = json.loads((swept.folder / "sweep.json").read_text())
    assert summary["front"] == [r["key"] for r in swept.front_records]
    assert len(summary["points"]) == 4
    assert (swept.folder / "sqnr_flash.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if BROWSER is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with chromium() as found:
        yield found


@pytest.fixture
def opened(page: Page, swept: SweepResult, tmp_path: Path) -> Page:
    """The report in a window of 1200 x 900."""
    (tmp_path / "report.html").write_bytes(render(swept, *PATHS))
    page.events.clear()
    page.size(1200, 900)
    page.open(tmp_path / "report.html")
    return page


def quiet(page: Page) -> None:
    """Nothing on the console, and nothing asked for but the file itself."""
    assert page.complaints() == []
    assert [url for url in page.requests() if not url.startswith("file:") or not url.endswith("report.html")] == []


NAMES = (
    "/enc/LSTM_%d[0]",
    "$x_%d^2$ \\frac{",
    "名前の層%d",
    "encoder/block/" * 20 + "%d",
    "W" * 200 + "%d",
    "a b\tc_%d ",
)

LAYOUT = """JSON.stringify((() => {
  const wrong = [];
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const box of document.querySelectorAll(".scroll")) {
    const first = box.textContent.slice(0, 40);
    if (box.scrollWidth > box.clientWidth + 1) wrong.push(`a table is ${box.scrollWidth} wide in ${box.clientWidth}: ${first}`);
    if (box.scrollHeight > box.clientHeight + 1) wrong.push(`rows are hidden: ${first}`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const place = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([text, b], k) => {
      const inside = Math.min(b.left - place.left, place.right - b.right, b.top - place.top, place.bottom - b.bottom);
      if (inside < -1) wrong.push(`${text} is cut off`);
      for (const [other, c] of texts.slice(k + 1)) {
        const across = Math.min(b.right, c.right) - Math.max(b.left, c.left), down = Math.min(b.bottom, c.bottom) - Math.max(b.top, c.top);
        if (Math.min(across, down) > 2) wrong.push(`${text} and ${other} are on top of each other`);
      }
    });
  }
  return wrong;
})())"""
"""What is cut off or drawn on top of something else."""


def crowded(swept: SweepResult, name: str, layers: int) -> SweepResult:
    """Return the sweep of a model with many layers of a long name, which takes millions of bytes and instructions."""
    records = json.loads(json.dumps(swept.records))
    for r in records:
        for key in ("layers", "drift", "ranges", "weight_ranges"):
            r[key] = {f"{name % k}.{part.rsplit('.')[-1]}": v for k in range(layers) for part, v in r[key].items()}
        for key, where in (("saturation", "where"), ("roundings", "where"), ("tensors", "name")):
            r[key] = [{**row, where: f"{name % k}: {row[where]}"} for k in range(layers) for row in r[key]]
        for gate in r["gates"]:
            gate["where"] = [name % k for k in range(layers)]
        for key in ("flash_bytes", "ram_bytes", "model_bytes", "instructions"):
            if r["figures"].get(key):
                r["figures"][key] *= 1009
    return replace(swept, model=name % 0, records=records)


@pytest.mark.parametrize(("name", "layers"), [*((name, 1) for name in NAMES), (NAMES[0], 40), (NAMES[3], 40)])
def test_nothing_is_cut_off_or_covered(page: Page, swept: SweepResult, tmp_path: Path, name: str, layers: int) -> None:
    (tmp_path / "report.html").write_bytes(render(crowded(swept, name, layers), *PATHS))
    for width in (1200, 420):
        page.events.clear()
        page.size(width, 900)
        page.open(tmp_path / "report.html")
        for cost in ("size", "flash", "instructions", "latency"):
            page.js(
                f"(e => {{ e.value = '{cost}'; e.dispatchEvent(new Event('change')); }})(document.getElementById('x-axis'))"
            )
            assert json.loads(page.js(LAYOUT)) == [], (width, cost)
        assert "mathdefault" not in page.js("document.body.innerText")
        quiet(page)


def changed(swept: SweepResult, **figures: float) -> SweepResult:
    """Return the sweep with other figures, the same in all configurations."""
    records = json.loads(json.dumps(swept.records))
    for r in records:
        r["figures"] |= figures
    return replace(swept, records=records)


def test_points_on_each_other_are_counted(page: Page, swept: SweepResult, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(
        render(changed(swept, sqnr_db=30.0, instructions=1000.0, flash_bytes=5), *PATHS)
    )
    for width in (1280, 380):
        page.size(width, 900)
        page.open(tmp_path / "report.html")
        assert page.js("[...document.querySelectorAll('#scatter .count')].map(t => t.textContent).join()") == "×4"
        assert json.loads(page.js(LAYOUT)) == []


def test_effects_are_of_the_selected_configuration(opened: Page, swept: SweepResult) -> None:
    """Changes from the configuration that is selected, with the ends of the same change elsewhere; vague ones are grey."""
    for r, other in ((swept.records[0], swept.records[1]), (swept.records[3], swept.records[2])):
        opened.mouse(*centre(opened, r["key"]), click=True)
        assert opened.js("document.getElementById('effects-from').textContent") == r["label"]
        rows = json.loads(
            opened.js("JSON.stringify([...document.querySelectorAll('#effects tbody tr')].map(t => t.innerText))")
        )
        assert len(rows) == 2
        change = other["figures"]["sqnr_db"] - r["figures"]["sqnr_db"]
        (row,) = (row for row in rows if row.startswith(f"gates {other['scheme']['gates']}"))
        assert f"in place of {r['scheme']['gates']}" in row
        assert f"{change:+.1f}".replace("-", "−") in row
        assert "…" in row  # the same change does something else to the other width of weights
    unsure = "document.querySelectorAll('#effects td.vague[data-label=\"accuracy, %\"]').length"
    low, high = swept.records[3]["judgement"]["accuracy"]["quantized"]["confidence_95"]
    inside = [100 * low <= swept.records[k]["figures"]["accuracy"] <= 100 * high for k in (1, 2)]
    assert opened.js(unsure) == sum(inside)
    quiet(opened)


def test_every_class_has_its_accuracy(opened: Page, swept: SweepResult) -> None:
    r = swept.records[3]
    opened.mouse(*centre(opened, r["key"]), click=True)
    cells = json.loads(
        opened.js("JSON.stringify([...document.querySelectorAll('#classes .matrix td')].map(t => t.innerText))")
    )
    matrix = r["judgement"]["confusion"]["quantized"]
    assert [0 if cell == "·" else int(cell) for cell in cells] == [count for row in matrix for count in row]
    text = opened.js("document.getElementById('classes').innerText")
    for one in r["judgement"]["classes"]:
        assert f"{100 * one['quantized']['rate']:.1f} % of {one['quantized']['total']}" in text
    quiet(opened)


def test_more_classes_than_have_room_are_listed_by_their_mistakes(
    page: Page, swept: SweepResult, tmp_path: Path
) -> None:
    records = json.loads(json.dumps(swept.records))
    for r in records:
        classes = list(range(60))
        matrix = [[5 if a == b else int(b == a + 1) for b in classes] for a in classes]
        r["judgement"]["confusion"] = {"classes": classes, "quantized": matrix, "float": matrix}
    (tmp_path / "report.html").write_bytes(render(replace(swept, records=records), *PATHS))
    page.size(380, 900)
    page.open(tmp_path / "report.html")
    assert page.js("document.querySelectorAll('#classes .matrix').length") == 0
    assert "of 59 kinds of mistakes" in page.js("document.getElementById('classes').innerText")
    assert json.loads(page.js(LAYOUT)) == []


def test_long_tables_begin_with_some_rows(page: Page, swept: SweepResult, tmp_path: Path) -> None:
    records = [{**r, "key": f"{r['key']}{k}"} for k in range(20) for r in swept.records]
    (tmp_path / "report.html").write_bytes(render(replace(swept, records=records), *PATHS))
    page.size(1280, 900)
    page.open(tmp_path / "report.html")
    page.js("document.getElementById('all-rows').click()")
    assert page.js("document.querySelectorAll('#table tbody tr').length") == 60
    assert page.js("document.getElementById('more-rows').textContent") == "show the other 20"
    page.js("document.getElementById('more-rows').click()")
    assert page.js("document.querySelectorAll('#table tbody tr').length") == 80
    assert page.js("document.getElementById('more-rows').hidden")


def centre(page: Page, key: str) -> tuple[float, float]:
    box = page.js(f"""JSON.stringify(document.querySelector('circle[data-key="{key}"]').getBoundingClientRect())""")
    found = json.loads(box)
    return found["x"] + found["width"] / 2, found["y"] + found["height"] / 2


def test_hover_tells_the_configuration(opened: Page, swept: SweepResult) -> None:
    for r in swept.records:
        opened.mouse(*centre(opened, r["key"]))
        tip = opened.js("document.getElementById('tip').innerText")
        assert r["label"] in tip
    assert f"{swept.records[-1]['figures']['sqnr_db']:.1f}" in tip
    opened.mouse(2, 2)
    assert opened.js("document.getElementById('tip').hidden")
    quiet(opened)


def test_click_shows_details(opened: Page, swept: SweepResult) -> None:
    r = swept.records[1]
    opened.mouse(*centre(opened, r["key"]), click=True)
    assert opened.js("document.getElementById('h-details').textContent") == r["label"]
    assert "--gates hard" in opened.js("document.getElementById('command').textContent")
    text = opened.js("document.getElementById('details').innerText")
    for part in (
        "sigmoid as hard_sigmoid",
        f"{r['figures']['sqnr_db']:.1f} dB",
        "Worst sequences",
        str(r["worst"][0]["sequence"]),
    ):
        assert part in text, part
    assert opened.js("document.querySelectorAll('#gates svg path').length") >= 4
    quiet(opened)


def test_axes_and_finder(opened: Page, swept: SweepResult) -> None:
    for axis, name in (("y-axis", "accuracy"), ("x-axis", "size")):
        opened.js(
            f"(e => {{ e.value = '{name}'; e.dispatchEvent(new Event('change')); }})(document.getElementById('{axis}'))"
        )
    label = opened.js("document.getElementById('scatter').getAttribute('aria-label')")
    assert label.startswith("4 configurations, accuracy, % against weights and tables, bytes")
    bound = "(e => { e.value = '%s'; e.dispatchEvent(new Event('input')); })(document.getElementById('finder-bound'))"
    opened.js(bound % "0")
    cheapest = min(swept.records, key=lambda r: r["figures"]["model_bytes"])
    assert cheapest["label"] in opened.js("document.getElementById('finder-answer').textContent")
    opened.js(bound % "101")
    assert opened.js("document.getElementById('finder-answer').textContent").startswith("none: the best has")
    opened.js("document.querySelector('#legend button').click()")
    assert opened.js("document.querySelectorAll('#scatter circle[data-key]').length") == 2
    quiet(opened)


def test_keyboard_alone(opened: Page, swept: SweepResult) -> None:
    opened.js("document.getElementById('scatter').focus()")
    opened.press("ArrowRight")
    first = opened.js("document.querySelector('#tip b').textContent")
    opened.press("ArrowRight")
    second = opened.js("document.querySelector('#tip b').textContent")
    labels = {r["label"] for r in swept.records}
    assert {first, second} <= labels
    assert first != second
    opened.press("Enter")
    assert opened.js("document.getElementById('h-details').textContent") == second
    assert opened.js("document.activeElement.id") == "details"
    stops = opened.js(
        "[...document.querySelectorAll('select,input,button,[tabindex=\"0\"]')].every(e => e.tabIndex === 0)"
    )
    assert stops
    quiet(opened)


@pytest.mark.parametrize("dark", [False, True])
def test_narrow(opened: Page, dark: bool) -> None:
    """At 360 pixels only what scrolls by itself is wider than the window, and the plot is redrawn to fit."""
    opened.size(360, 740, dark)
    opened.js("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert opened.js("document.documentElement.scrollWidth") <= 360
    assert opened.js("document.getElementById('scatter').getBoundingClientRect().right") <= 360
    background = opened.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(21, 24, 28)") == dark
    quiet(opened)


def test_hostile_names_in_a_browser(page: Page, swept: SweepResult, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(render(hostile(swept), *PATHS))
    page.events.clear()
    page.open(tmp_path / "report.html")
    assert page.js("document.getElementById('title').textContent").startswith(HOSTILE)
    assert HOSTILE in page.js("document.getElementById('layers').textContent")
    assert page.js("document.querySelectorAll('img').length") == 0
    quiet(page)
