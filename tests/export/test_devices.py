"""Exported models on emulated devices: the host's bits, sizes that are those of the program, counts that add up and come again."""

from __future__ import annotations

import importlib.util
import shutil
from itertools import cycle, product
from pathlib import Path

import pytest
from tool_modules import load_tool

from export.building import quantized
from export.kinds import KINDS, kind
from qrnn.devices.measure import measure, sizes
from qrnn.devices.toolchain import Family, find_toolchain, toolchains
from qrnn.devices.verify import Verified, build_replay, verify
from qrnn.errors import DataError, DeviceError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.export.replay import PHASES
from qrnn.export.source import export_source
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, load_target, target_names

TARGETS = [name for name in target_names() if load_target(name).emulation is not None]
USUAL = ("cortex-m0plus", "cortex-m4", "cortex-m55", "rv32imc", "avr")
"""What the default run emulates: a core for each kind of kernels, the smallest one, and one that is none of Arm's."""
PAIRS = [  # every target, and every kind
    pytest.param(which, name, marks=() if name in USUAL else pytest.mark.matrix)
    for which, name in zip(KINDS, cycle(TARGETS))
]
OTHERS = list(product(("lstm", "gru of 16 bits"), ("cortex-m3", "cortex-m55"), ("clang", "zig")))
FEW_OTHERS = [OTHERS[0], OTHERS[3], OTHERS[5], OTHERS[6], ("gru of 16 bits", "cortex-m4", "clang")]
"""Each compiler has each kind of operands, and Clang the loops whose places in memory are computed."""


def usable(name: str, family: Family = "gnu") -> Target:
    """The target; skips the test where its compiler or its emulator is not installed."""
    target = load_target(name)
    if family == "zig" and importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    if family not in [toolchain.family for toolchain in toolchains(target)]:
        pytest.skip(f"no {family} compiler for {name} is installed")
    if target.emulation is not None and shutil.which(target.emulation.command) is None:
        pytest.skip(f"{target.emulation.command} is not installed")
    return target


def exported(model: QuantModel, target: Target, folder: Path) -> ExportedFolder:
    export_model(model, target, folder / "net", "net")
    return read_folder(folder / "net")


def run(model: QuantModel, target: Target, folder: Path, family: Family = "gnu") -> Verified:
    found = exported(model, target, folder)
    return verify(found, target, random_sequences(model, found.exported, (1, 6), seed=4), family)


def check(model: QuantModel, name: str, folder: Path, family: Family = "gnu") -> None:
    result = run(model, usable(name, family), folder, family)
    assert result.difference is None
    assert (result.sequences, result.steps) == (2, 7)
    assert result.counts.instructions > 7 * 100
    assert 0 < result.counts.stack_bytes < 2000


@pytest.mark.wide("name")
@pytest.mark.parametrize(("which", "name"), PAIRS)
def test_every_kind_has_the_hosts_bits(which: str, name: str, tmp_path: Path) -> None:
    check(kind(which), name, tmp_path)


@pytest.mark.wide("family")
@pytest.mark.parametrize(("which", "name", "family"), FEW_OTHERS)
def test_other_compilers_give_the_same_bits(which: str, name: str, family: Family, tmp_path: Path) -> None:
    check(kind(which), name, tmp_path, family)


@pytest.mark.matrix
@pytest.mark.shard_by("which")
@pytest.mark.parametrize("family", ["gnu", "clang", "zig"])
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("which", KINDS)
def test_every_kind_everywhere(which: str, name: str, family: Family, tmp_path: Path) -> None:
    check(kind(which), name, tmp_path, family)


@pytest.mark.matrix
@pytest.mark.shard_by("cell")
@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "cortex-m55", "rv32imc"])
@pytest.mark.parametrize("cell", load_tool("cell_catalogue").CELLS)
def test_every_cell_on_devices(cell: str, name: str, tmp_path: Path) -> None:
    check(quantized(load_tool("cell_catalogue").cell(cell, 19, 5)), name, tmp_path)


def test_the_kinds_need_every_feature_of_the_runtime() -> None:
    """What is chosen with QRNN_USE_… in the runtime is asked for by one of the models above."""
    asked = {
        word
        for which in KINDS
        for kernels in ("plain", "mla", "dsp")
        for word in export_source(kind(which), "net", kernels).source.split()
    }
    runtime = Path(__file__).resolve().parents[2] / "targets" / "runtime"
    words = {
        w.strip("()!,;:.")
        for path in runtime.glob("*.h")
        for w in path.read_text().replace("(", " ").replace(")", " ").split()
    }
    known = {w for w in words if w.startswith(("QRNN_USE_", "QRNN_GATE_"))}
    assert {"QRNN_USE_WIDE", "QRNN_USE_PEEPHOLE", "QRNN_GATE_ODD"} <= known
    assert known <= asked, known - asked


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("which", ["lstm", "bidirectional", "embedded"])
def test_sizes_are_those_of_the_program(which: str, tmp_path: Path) -> None:
    """RAM of the state with its padding; constants as the linker has them."""
    target = usable("cortex-m3")
    folder = exported(kind(which), target, tmp_path)
    image = build_replay(folder, target, find_toolchain(target, "gnu"), 9, tmp_path)
    needs = sizes(folder.exported, target, 9)
    assert image.symbol("state").size == needs.state_bytes
    names = {f"port_{p.name}" for p in (*folder.exported.inputs, *folder.exported.outputs)}
    buffers = sum(s.size for s in image.symbols if s.kind == "object" and s.name in {*names, "work"})
    assert buffers == needs.buffer_bytes
    assert needs.constant_bytes <= image.rodata + image.text


@pytest.mark.parametrize(
    ("which", "name"), [pytest.param("lstm", "cortex-m4", marks=pytest.mark.matrix), ("gru_bidirectional", "rv32imc")]
)
def test_counts_add_up_and_come_again(which: str, name: str, tmp_path: Path) -> None:
    """Of a model that is not tiny: the calls that count phases keep the compiler from some of its optimizations."""
    target = usable(name)
    folder = exported(quantized(load_tool("cell_catalogue").cell(which, 24, 8)), target, tmp_path)
    first, second = (measure(folder, target, 5) for _ in range(2))
    assert first == second
    assert first.problem is None
    assert first.counted
    assert first.instructions is not None
    assert first.phases is not None
    assert sum(first.phases.values()) == pytest.approx(first.instructions, rel=0.02)
    assert {phase for phase, v in first.phases.items() if v > 0} == set(PHASES) - {"windows"}
    assert first.flash_bytes is not None
    assert first.constant_bytes < first.flash_bytes < first.constant_bytes + 8000


def test_kernels_of_another_core_are_refused(tmp_path: Path) -> None:
    folder = exported(kind("lstm"), load_target("cortex-m4"), tmp_path)
    sequences = random_sequences(folder.model, folder.exported, (2,), seed=0)
    with pytest.raises(DeviceError, match="exported for dsp instructions, which host-cpu has not; use --emulate"):
        verify(folder, load_target("host-cpu"), sequences)
    with pytest.raises(DeviceError, match="which cortex-m3 has not; export the model for cortex-m3"):
        verify(folder, load_target("cortex-m3"), sequences)


def test_plain_kernels_run_on_a_core_with_its_own(tmp_path: Path) -> None:
    folder = exported(kind("lstm"), load_target("generic"), tmp_path)
    sequences = random_sequences(folder.model, folder.exported, (3,), seed=0)
    assert verify(folder, usable("cortex-m4"), sequences).difference is None


def test_nothing_to_run_is_an_error(tmp_path: Path) -> None:
    folder = exported(kind("lstm"), load_target("generic"), tmp_path)
    with pytest.raises(DataError, match="no sequence has a step"):
        verify(folder, load_target("host-cpu"), [])
