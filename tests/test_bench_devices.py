"""tools/bench_devices.py: its page, from one small layer and one run; CMSIS-NN's figures; and the files that must agree with the page."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import bench_devices
import bench_more_devices
import device_figures
import device_page
from provenance import when

import qrnn
from qrnn.devices.toolchain import toolchains
from qrnn.targets import target_names, targets_folder

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "benchmarks" / "devices.md").read_text(encoding="utf-8")


MORE = (ROOT / "docs" / "benchmarks" / "more_devices.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def layer() -> device_page.Layer:
    target = qrnn.load_target("cortex-m4")
    if not toolchains(target):
        pytest.skip("no compiler for cortex-m4")
    found = bench_devices.run_layer("gru", 8, target)
    if found.needs.problem is not None:
        pytest.skip(found.needs.problem)
    return found


def run_of(layer: device_page.Layer) -> device_page.Measured:
    """A run whose LSTM of 64 units is this layer, under that name."""
    lstm = replace(layer, cell="lstm")
    needs = layer.needs
    return device_page.Measured(
        command="python tools/bench_devices.py",
        when=when(),
        emulator="QEMU",
        models=[
            device_page.Ran("net", "cortex-m4", 3, 20, needs=needs),
            device_page.Ran("net", "cortex-m3", refused="no compiler"),
            device_page.Ran("net", "cortex-m7", 3, 20, "sequence 0, output y[0, 1]: 5, expected 4", needs=needs),
        ],
        layers=[lstm, layer, replace(layer, units=16, macs=4 * layer.macs), replace(layer, units=5, gate_values=1)],
        peers={
            "gcc -O3": [replace(lstm, units=64)],
            "clang -O3": [replace(lstm, units=64, needs=replace(needs, counted=False, problem="no clang"))],
        },
        timed=[replace(lstm, units=64)],
        code=[("qrnn_rows", 100)],
        short_steps=36,
        short_ram=32768,
        window=8,
    )


def test_the_page(layer: device_page.Layer) -> None:
    text = device_page.page(run_of(layer))
    needs = layer.needs
    assert needs.instructions is not None
    assert needs.timing is not None
    assert needs.timing.kind == "traced"
    total = needs.timing.total
    cycles = f"{total.mid:,.0f} traced"
    assert f"| net | cortex-m4 | 3, 20 | all equal | {needs.instructions:,.0f} | {cycles} |" in text
    assert "| net | cortex-m3 | – | no compiler |" in text
    assert "expected 4" in text
    assert "| 1.000 |" in text, "a GRU is compared with the LSTM of its size"
    assert "100 bytes of functions" in text
    ratio = f"**{needs.instructions / 98138:.2f}**"
    traced = 98138 * 128462 / 98144
    assert (
        f"| cortex-m4 | 64 | 98,138 | 45,530 | **0.46** | {needs.instructions:,.0f} | {ratio} | {traced:,.0f} | {cycles} |"
        in text
    )
    assert "| cortex-m4 | 64 | 101,135 | 45,537 | **0.45** | no clang |" in text
    assert (
        f"| cortex-m4 | 64 | traced | {needs.instructions:,.0f} | {total.low:,.0f} / {total.mid:,.0f} / {total.high:,.0f} |"
        f" {total.mid / needs.instructions:.2f} | {traced:,.0f} | **{total.mid / traced:.2f}** |"
    ) in text
    assert "measured independently, November 2026" in text
    assert re.search(
        r"^Made by `python tools/bench_devices.py` on \d{4}-\d\d-\d\d at (an unknown )?revision ", text, re.MULTILINE
    )


@pytest.mark.matrix
def test_a_model_is_run_and_compared(layer: device_page.Layer) -> None:
    model = bench_devices.layer("lstm", 5)
    data = {"x": np.random.default_rng(0).normal(size=(3, 4, 5))}
    ran = bench_devices.run_model("net", model, data, layer.needs.target)
    assert (ran.difference, ran.refused, ran.sequences, ran.steps) == (None, None, 3, 12)


def test_bounds_are_below_what_is_counted(layer: device_page.Layer) -> None:
    assert layer.needs.instructions is not None
    assert device_figures.bound("dsp", layer.macs) < layer.needs.instructions


@pytest.mark.matrix
def test_optimization_and_compiler_are_those_asked_for(layer: device_page.Layer) -> None:
    """-Os takes less flash and more instructions than -O3; the split into phases is left out."""
    target = layer.needs.target
    small, quick = (bench_devices.run_layer("lstm", 16, target, f"gcc {o}").needs for o in ("-Os", "-O3"))
    assert small.flash_bytes is not None and quick.flash_bytes is not None  # noqa: PT018
    assert small.instructions is not None and quick.instructions is not None  # noqa: PT018
    assert small.flash_bytes < quick.flash_bytes
    assert small.instructions > quick.instructions
    assert small.phases is None
    if any(chain.family == "clang" for chain in toolchains(target)):
        assert "clang" in str(bench_devices.run_layer("lstm", 16, target, "clang -O3").needs.compiler)


def test_reference_figures() -> None:
    """The ratios that were reported with them, from both ends of each table."""
    found = device_figures.references()
    assert {compiler for compiler, _, _ in found} == set(device_page.COMPILERS)
    for key, ratio in {
        ("gcc -O3", "cortex-m0plus", 16): 0.47,
        ("gcc -O3", "cortex-m3", 256): 0.52,
        ("gcc -O3", "cortex-m55", 128): 0.34,
        ("gcc -Os", "cortex-m0plus", 256): 0.92,
        ("clang -O3", "cortex-m55", 16): 0.28,
        ("clang -O3", "cortex-m55", 256): 0.69,
    }.items():
        assert found[key].qrnn_instructions / found[key].instructions == pytest.approx(ratio, abs=0.005)
    rates = {(t.core, t.code, t.units): t.per_instruction for t in device_figures.traced()}
    assert rates["cortex-m3", "qrnn 52895b5", 128] == pytest.approx(2.21, abs=0.005)
    assert device_figures.reference_cycles_per_instruction("cortex-m3", 100) == rates["cortex-m3", "CMSIS-NN", 128]
    assert device_figures.reference_cycles_per_instruction("cortex-m7", 64) is None


def test_cycles_for_an_instruction_are_those_traced() -> None:
    """For cores with traced steps, the target's figure lies among the traced ones."""
    for name in ("cortex-m0plus", "cortex-m3", "cortex-m4"):
        cost = qrnn.load_target(name).cost
        assert cost is not None
        own = [t.per_instruction for t in device_figures.traced() if t.core == name and t.code != "CMSIS-NN"]
        assert min(own) - 0.01 <= (cost.cycles_per_instruction or 0) <= max(own) + 0.01


def test_costs_are_written(layer: device_page.Layer, tmp_path: Path) -> None:
    for path in targets_folder().glob("*.toml"):
        shutil.copy(path, tmp_path)
    shutil.copy(ROOT / "docs" / "add_a_target.md", tmp_path)
    layers = run_of(layer).layers
    device_page.write_costs(layers, tmp_path, tmp_path / "add_a_target.md")
    values, _ = device_page.fitted_costs(layers)["cortex-m4"]
    for name in ("cortex-m4.toml", "add_a_target.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        for key, value in zip(device_page.COST_KEYS, values, strict=True):
            assert f"\n{key} = {value}" in text


def test_targets_agree_with_the_page() -> None:
    """The cost models in targets/ and in docs/add_a_target.md are those of the page."""
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+ \| [\d.]+ \| [\d.]+) \| [\d.]+ % \|$", PAGE + MORE, re.MULTILINE))
    assert set(rows) == {*bench_devices.TARGETS, *bench_more_devices.TARGETS}
    for name in target_names():
        cost = qrnn.load_target(name).cost
        if cost is not None and cost.like is not None:
            rows[name] = rows[cost.like]
    assert set(rows) == {name for name in target_names() if qrnn.load_target(name).cost is not None}
    for name, row in rows.items():
        cost = qrnn.load_target(name).cost
        assert [getattr(cost, key) for key in device_page.COST_KEYS] == [float(v) for v in row.split(" | ")], name
    walkthrough = (ROOT / "docs" / "add_a_target.md").read_text(encoding="utf-8")
    for key, value in zip(device_page.COST_KEYS, rows["cortex-m4"].split(" | "), strict=True):
        assert f"\n{key} = {value}" in walkthrough


def test_the_page_has_the_reference_figures() -> None:
    """Every figure of CMSIS-NN that the data has is on the page, which is of the present form."""
    for (_, core, units), one in device_figures.references().items():
        assert f"| {core} | {units} | {one.instructions:,} | {one.qrnn_instructions:,} |" in PAGE
