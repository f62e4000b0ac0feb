"""Target descriptions: those that come with the package load, and wrong ones say what is wrong."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from qrnn.conversion import DEFAULT_SCHEME
from qrnn.devices.toolchain import linker_script
from qrnn.errors import TargetError
from qrnn.export.layout import VECTORS
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.targets import (
    Build,
    Core,
    Cost,
    Emulation,
    Energy,
    Host,
    Memory,
    Target,
    Timing,
    load_target,
    read_target,
    target_names,
    targets_folder,
)

PARTS = (Core, Memory, Build, Emulation, Host, Cost, Timing, Energy)

GOOD = """
name = "board"
description = "A board"

[core]
word_bits = 32
instructions = ["smlad"]

[scheme]
activations = 16
gates = "pwl:64"
calibrator = "mse"
input = "8"

[memory]
flash_bytes = 1048576
"""


def test_folder() -> None:
    folder = targets_folder()
    assert folder.is_dir()
    assert target_names() == tuple(
        sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.suffix == ".toml")
    )
    assert {"generic", "host-cpu"} <= set(target_names())


def test_targets_folder_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel carries the folder inside the package, which comes first."""
    package = tmp_path / "qrnn"
    (package / "targets").mkdir(parents=True)
    (package / "targets" / "board.toml").write_text(GOOD)
    monkeypatch.setattr("qrnn.hardware.description.files", lambda _: package)
    assert targets_folder() == package / "targets"
    assert target_names() == ("board",)
    assert load_target("board").description == "A board"


@pytest.mark.parametrize("name", target_names())
def test_every_target_loads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert target.core.word_bits in (8, 16, 32, 64)
    if target.host is None:
        assert (target.core.kernels in ("dsp", "mve")) == ("dsp" in target.core.instructions)
        assert (target.core.kernels == "mve") == ("mve" in target.core.instructions)
    else:
        assert target.build.board is None  # it is built by its section host alone
        assert target.core.kernels in {"plain", *VECTORS}
        others = [load_target(other) for other in target.host.variants]
        assert all(o.host is not None and o.host.machine == target.host.machine and o.host.features for o in others)
    assert Scheme(**target.scheme).to_dict() == target.scheme


@pytest.mark.parametrize("name", [name for name in target_names() if load_target(name).memory.flash_bytes])
def test_every_device_is_described(name: str) -> None:
    """A device has a name, a source, a clock and a basis for estimates; what starts here can be built by the compilers that know its core."""
    target = load_target(name)
    memory, build = target.memory, target.build
    assert memory.device
    assert memory.source
    assert memory.ram_bytes
    assert memory.clock_hz
    assert target.cost
    assert target.cost.cycles_per_instruction
    assert (build.board is None) == (target.emulation is None)
    if build.board:
        assert build.gnu
        assert build.gnu_package
        assert build.gnu_flags
        known = build.board not in ("avr", "xtensa")  # LLVM's for AVR is young, and that for Xtensa younger
        assert bool(build.clang_flags) == bool(build.zig_flags) == known


def test_the_narrow_and_the_wide() -> None:
    kernels = {name: load_target(name).core.kernels for name in target_names()}
    assert {name for name, kind in kernels.items() if kind == "dsp"} == {
        *("cortex-m4", "cortex-m7", "cortex-m33", "cortex-r5", "cortex-a7"),
    }
    assert {name for name, kind in kernels.items() if kind == "mve"} == {"cortex-m52", "cortex-m55", "cortex-m85"}
    assert {name for name, kind in kernels.items() if kind == "avr"} == {"avr"}
    assert {name for name, kind in kernels.items() if kind == "mla"} == {"cortex-m3"}
    assert load_target("cortex-m0plus").scheme["gates"] == "pwl:64"


def test_generic_is_the_default_scheme() -> None:
    assert load_target("generic").scheme == load_target("host-cpu").scheme == DEFAULT_SCHEME.to_dict()
    others = {load_target(name).scheme["activations"] for name in target_names()} - {AUTO}
    assert others == {8}


def write(folder: Path, text: str, name: str = "board") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_good(tmp_path: Path) -> None:
    target = read_target(write(tmp_path, GOOD))
    assert target == Target(
        name="board",
        description="A board",
        core=Core(32, ("smlad",), "plain"),
        scheme={"activations": 16, "gates": "pwl:64", "calibrator": "mse", "input": "8", "weights": 8},
        memory=Memory(flash_bytes=1048576),
    )
    assert target.to_dict()["core"] == {
        "word_bits": 32,
        "instructions": ("smlad",),
        "kernels": "plain",
        "counter": None,
    }


def test_by_path(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert load_target(str(path)) == read_target(path)
    with pytest.raises(TargetError, match=r"none\.toml: No such file"):
        load_target(str(tmp_path / "none.toml"))


def test_the_page_s_example_is_a_target(tmp_path: Path) -> None:
    """docs/add_a_target.md shows one file with every key there is, in pieces; together they load, and link."""
    page = (Path(__file__).parent.parent / "docs" / "add_a_target.md").read_text(encoding="utf-8")
    text = "\n".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    target = load_target(str(write(tmp_path, text, "nrf52840-dk")))
    shown = tomllib.loads(text)
    page = (Path(__file__).parent.parent / "docs" / "hosts.md").read_text(encoding="utf-8")
    (host,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert load_target(str(write(tmp_path, host, "skylake-server"))).host is not None
    shown["host"] = tomllib.loads(host)["host"]
    for kind, table in ((Target, shown), *((part, shown[part.__name__.lower()]) for part in PARTS)):
        assert [field.name for field in fields(kind) if field.name not in table] == []
    assert target.emulation is not None
    assert f"LENGTH = {target.emulation.ram_bytes:#x}" in linker_script(target)


def test_scheme_keys_left_out_are_the_defaults(tmp_path: Path) -> None:
    text = GOOD.replace("activations = 16\n", "").replace('gates = "pwl:64"\n', "")
    scheme = read_target(write(tmp_path, text)).scheme
    assert scheme == Scheme(calibrator="mse", input="8").to_dict()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "board"', 'name = "other"', "name is 'other', expected the file's own name 'board'"),
        ('name = "board"', "", "key 'name' is missing; expected str"),
        ('name = "board"', "name = 3", "name = 3, expected str"),
        ('name = "board"', 'name = "board"\ncolour = "red"', "key 'colour' is unknown"),
        ('description = "A board"', "description = []", r"description = \[\], expected str"),
        ("word_bits = 32", 'word_bits = "32"', "word_bits = '32', expected int"),
        ("word_bits = 32", "word_bits = 32.0", "word_bits = 32.0, expected int"),
        ("word_bits = 32", "word_bits = true", "word_bits = True, expected int"),
        ("word_bits = 32", "", r"key 'core\.word_bits' is missing; expected int"),
        ("word_bits = 32", "word_bits = 32\nbits = 3", r"key 'core\.bits' is unknown"),
        ('instructions = ["smlad"]', 'instructions = "smlad"', "core.instructions = 'smlad', expected a list of str"),
        (
            "word_bits = 32",
            'word_bits = 32\ncounter = "sundial"',
            "core.counter = 'sundial', expected one of ccount, clock, dwt",
        ),
        ('instructions = ["smlad"]', "instructions = [1]", r"instructions = \[1\], expected a list of str"),
        ("[core]", "[cores]", "key 'core' is missing"),
        ("activations = 16", "widest_operand = 12", r"\[scheme\] widest_operand=12, expected 8 or 16"),
        ("activations = 16", "widest_operand = true", r"\[scheme\] widest_operand=True, expected 8 or 16"),
        ("activations = 16", "activations = 12", r"\[scheme\] activations=12, expected 8, 16 or auto"),
        ("activations = 16", 'activations = "8"', r"\[scheme\] activations='8', expected 8, 16 or auto"),
        ("activations = 16", "activations = 16\nbits = 3", r"\[scheme\].*'bits'"),
        ('gates = "pwl:64"', 'gates = "pwl:65"', r"\[scheme\] gates 'pwl:65'"),
        ('gates = "pwl:64"', "gates = 64", r"\[scheme\]"),
        ('calibrator = "mse"', 'calibrator = "kl"', r"\[scheme\] calibrator='kl'"),
        ('input = "8"', "input = 8", r"\[scheme\] input=8"),
        ("flash_bytes = 1048576", 'flash_bytes = "1M"', "flash_bytes = '1M', expected int"),
        ("flash_bytes = 1048576", "rom_bytes = 1", r"key 'memory\.rom_bytes' is unknown"),
        ("flash_bytes = 1048576", "flash_bytes = 0", r"memory\.flash_bytes = 0, expected more than 0"),
        (
            "word_bits = 32",
            'word_bits = 32\nkernels = "simd"',
            "kernels = 'simd', expected 'plain' or 'mla' or 'dsp' or 'mve' or 'avr'",
        ),
        ("[core]", "emulation = 3\n[core]", "emulation = 3, expected a table"),
        ("[core]", "[cost]\n[core]", r"key 'cost\.source' is missing; expected str"),
        (
            "[core]",
            '[cost]\nsource = "a"\ninstructions_per_mac = "b"\n[core]',
            "instructions_per_mac = 'b', expected a number",
        ),
        ("[core]", '[build]\nboard = "mips"\n[core]', "board = 'mips', expected 'arm_m' or 'arm_ar' or 'riscv32'"),
        ("flash_bytes = 1048576", "wait_states = -1", r"memory\.wait_states = -1, expected 0 or more"),
        (
            "[core]",
            '[timing]\nrules = "cortex-m9"\n[core]',
            r"timing\.rules = 'cortex-m9', expected one of cortex-m0, ",
        ),
        ("[core]", "[timing]\nmultiply_cycles = 0\n[core]", r"timing\.multiply_cycles = 0, expected more than 0"),
        ("[core]", "[energy]\nvolts = 3.0\nmicroamps_per_mhz = 50\n[core]", r"key 'energy\.source' is missing"),
        ("flash_bytes = 1048576", "flash_line_bytes = 0", r"memory\.flash_line_bytes = 0, expected more than 0"),
        ("word_bits = 32", "word_bits = = 32", "Invalid value"),
    ],
)
def test_wrong_descriptions(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert GOOD.count(old) == 1
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(TargetError, match=says) as caught:
        read_target(path)
    assert str(path) in str(caught.value)


EMULATED = """
[build]
board = "arm_m"
[emulation]
command = "qemu-system-arm"
package = "qemu-system-arm"
machine = "mps2-an386"
core = "Cortex-M4"
icount_shift = 7
tick_hz = 25_000_000
flash_origin = 0
flash_bytes = 4_194_304
ram_origin = 0x2000_0000
ram_bytes = 4_194_304
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("icount_shift = 7", "icount_shift = 11", "icount_shift = 11, expected 0 to 10"),
        (
            "icount_shift = 7",
            "icount_shift = 6",
            "icount_shift = 6 at tick_hz = 25000000 is at most two ticks an instruction",
        ),
        ("tick_hz = 25_000_000", "", r"key 'emulation\.tick_hz' is missing; expected int"),
        ('board = "arm_m"', 'board = "riscv32"', "icount_shift = 7, expected 0"),
        ("ram_bytes = 4_194_304", "ram_bytes = -1", r"emulation\.ram_bytes = -1, expected more than 0"),
    ],
)
def test_wrong_emulation(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert read_target(write(tmp_path, GOOD + EMULATED)).emulation
    with pytest.raises(TargetError, match=says):
        read_target(write(tmp_path, GOOD + EMULATED.replace(old, new)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No such file"):
        read_target(tmp_path / "none.toml")
    path = tmp_path / "board.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(TargetError, match=r"board\.toml"):
        read_target(path)


@pytest.mark.parametrize("name", ["toaster", "", "../targets/generic", "GENERIC"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(TargetError, match=r"is unknown; .*expected one of .*cortex-m0plus, .*qrnn targets"):
        load_target(name)
