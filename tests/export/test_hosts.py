"""Models exported for desktops, phones and browsers: the host's bits, by this processor or by an emulator, and no warning of a compiler."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from installed import tool
from tool_modules import load_tool

from export.building import compile_program, quantized, write_sources
from export.hosts import HOST_TARGETS, VECTOR_TARGETS, host_target
from export.kinds import KINDS, kind
from export.test_compilers import STRICT
from qrnn.devices import hosts
from qrnn.devices.hosts import find_host_compiler, host_of, runner_of, runs_here
from qrnn.devices.verify import verify
from qrnn.errors import DeviceError, MissingToolError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.source import export_source
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, load_target

USUAL = ("lstm", "gru of 16 bits", "windows")
EVERY = [
    pytest.param(which, name, marks=() if which in USUAL else pytest.mark.matrix)
    for which, name in product(KINDS, HOST_TARGETS)
]


def check(model: QuantModel, target: Target, folder: Path) -> None:
    """Outputs and states are the reference's; the second sequence is longer than a vector has lanes."""
    export_model(model, target, folder / "net", "net")
    found = read_folder(folder / "net")
    result = verify(found, target, random_sequences(found.model, found.exported, (1, 9), seed=4))
    assert result.difference is None
    assert (result.sequences, result.steps) == (2, 10)


@pytest.mark.wide("name", "which")
@pytest.mark.parametrize(("which", "name"), EVERY)
def test_every_kind_has_the_hosts_bits(which: str, name: str, tmp_path: Path) -> None:
    check(kind(which), host_target(name), tmp_path)


@pytest.mark.matrix
@pytest.mark.shard_by("cell")
@pytest.mark.parametrize("name", VECTOR_TARGETS)
@pytest.mark.parametrize("cell", load_tool("cell_catalogue").CELLS)
def test_every_cell_on_hosts(cell: str, name: str, tmp_path: Path) -> None:
    """Units and inputs that fill no block of any of them."""
    check(quantized(load_tool("cell_catalogue").cell(cell, 19, 5)), host_target(name), tmp_path)


@pytest.mark.matrix
def test_longer_registers_of_risc_v_have_the_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = host_target("rv64gcv")
    if runs_here(host_of(target)):
        pytest.skip("this processor's registers have the length that they have")
    command = [word.replace("vlen=128", "vlen=512") for word in runner_of(target)]
    assert command != [*runner_of(target)]
    monkeypatch.setattr(hosts, "runner_of", lambda _: command)
    check(kind("lstm"), target, tmp_path)


def test_avx2_has_the_bits_in_an_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor without AVX2 it is the only proof."""
    tool("qemu-x86_64")
    monkeypatch.setattr(hosts, "runs_here", lambda _: False)
    check(kind("lstm"), host_target("x86-64-v3"), tmp_path)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "runs_here", lambda _: False)
    with pytest.raises(MissingToolError, match="lacks its instructions, and no emulator has them"):
        runner_of(load_target("x86-64-v4-vnni"))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(MissingToolError, match="qemu-x86_64 is not installed; apt-get install gcc qemu-user"):
        runner_of(load_target("x86-64-v3"))
    with pytest.raises(MissingToolError, match=r"none of clang, .* apt-get install clang lld"):
        find_host_compiler(load_target("wasm32-simd128"))
    with pytest.raises(DeviceError, match="no operating system that runs programs"):
        runner_of(load_target("cortex-m4"))


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
@pytest.mark.parametrize("which", ["lstm", "windows of 16 bits with strides", "unbounded gates"])
@pytest.mark.parametrize("name", VECTOR_TARGETS)
def test_strict_compilers_have_no_warning(name: str, which: str, level: str, tmp_path: Path) -> None:
    """As C, and on this architecture, with the warnings that its users have, as C++."""
    target = load_target(name)
    try:
        compiler = find_host_compiler(target)
    except MissingToolError as error:
        pytest.skip(str(error))
    source = write_sources(export_source(kind(which), "net", target.core.kernels), tmp_path / "out")
    free = ["-ffreestanding"] if name.startswith("wasm") else []
    command = [compiler.path, *compiler.flags, *free, level, "-c", source, "-o", tmp_path / "net.o"]
    compile_program([*command, "-std=c99", *STRICT])
    if name.startswith("x86-64"):  # cross compilers come without C++
        cxx = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        compile_program([*command[:-3], *cxx, *command[-3:]])
