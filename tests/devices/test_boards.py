"""Every board, built by every compiler that is here: bytes, counts, stack, start-up, faults, sizes."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qrnn.devices import Image, find_toolchain, run, toolchains
from qrnn.devices.toolchain import FAMILIES, Family
from qrnn.errors import DeviceError, MissingToolError
from qrnn.targets import Target, load_target, target_names

PROBE = Path(__file__).parent / "probe.c"
WARNINGS = ("-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")

TARGETS = [name for name in target_names() if load_target(name).build.board is not None and name != "generic"]
BARE = [name for name in TARGETS if name != "host-cpu"]


USUAL = ("host-cpu", "cortex-m0plus", "cortex-m55", "rv32imc", "cortex-r5", "lx106", "avr")


def usual(name: str, family: Family) -> bool:
    """Return whether the default run has this build: the usual compiler for every kind of kernels, the others for one target."""
    return name == "cortex-m4" or (family == "gnu" and name in USUAL)


BUILDS = [
    pytest.param((name, family), id=f"{name}-{family}", marks=() if usual(name, family) else pytest.mark.matrix)
    for name in TARGETS
    for family in FAMILIES
]
BARE_BUILDS = [build for build in BUILDS if build.values[0][0] in BARE]

MEMORY_ORDERS = [
    *((0, 3, 20, 9), (0, 0, 32, 31), (1, 5, 3, 40), (1, 3, 5, 40)),
    *((2, 1, 7, 30), (2, 4, 255, 17), (3, 8, 0, 21)),
]
"""Which function of the probe's, to where, from where or which value, how many bytes."""

Ask = Callable[..., bytes]


@cache
def built(folder: Path, name: str, family: Family) -> Image:
    target = load_target(name)
    output = folder / f"{name}-{family}.elf"
    return find_toolchain(target, family).build(target, [PROBE], output=output, flags=WARNINGS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boards")


@pytest.fixture
def probe(request: pytest.FixtureRequest, folder: Path) -> tuple[Target, Image]:
    name, family = request.param
    target = load_target(name)
    if family not in [toolchain.family for toolchain in toolchains(target)]:
        pytest.skip(f"no {family} compiler for {name} is installed")
    if target.emulation is not None and shutil.which(target.emulation.command) is None:
        pytest.skip(f"{target.emulation.command} is not installed")
    return target, built(folder, name, family)


@pytest.fixture
def ask(probe: tuple[Target, Image]) -> Ask:
    """The output of the probe, asked for one thing."""
    target, image = probe

    def answer(what: str, word: int | None = None, data: bytes = b"") -> bytes:
        stdin = what.encode() + (b"" if word is None else struct.pack("<I", word)) + data
        done = run(image, target, stdin)
        assert done.status == 0
        return done.output

    return answer


def name_of(build: tuple[str, str]) -> str:
    return "-".join(build)


def number(answer: bytes) -> int:
    return int(struct.unpack("<I", answer)[0])


every_build = pytest.mark.parametrize("probe", BUILDS, indirect=True)
every_bare_build = pytest.mark.parametrize("probe", BARE_BUILDS, indirect=True)


@every_build
def test_bytes_come_back(ask: Ask) -> None:
    """All byte values, and more than any buffer or any board's RAM of 16 KB holds."""
    data = np.random.default_rng(1).integers(0, 256, 300_001, dtype=np.uint8).tobytes()
    assert ask("e", data=data) == data
    assert ask("e") == b""


@every_build
def test_start_up_fills_memory(ask: Ask) -> None:
    assert ask("m") == bytes([1, 2, 3]) + bytes(997) + bytes([4, 5, 6]) + bytes(197) + bytes(3000)


def expected_count(target: Target, turns: int) -> int:
    """What the probe's loop takes: two instructions a turn; on an AVR six cycles, of which the last turn, which does not branch, saves one."""
    assert target.emulation is not None
    return 2 * turns if target.emulation.counts == "instructions" else 6 * turns - 1


@pytest.mark.wide
@every_bare_build
@pytest.mark.parametrize("turns", [1, 2, 3, 1000, 3_000_001])
def test_counts_are_exact(probe: tuple[Target, Image], ask: Ask, turns: int) -> None:
    """A loop counts 2 instructions a turn and 1 to return, against 1; it does so across a period of the timer as well."""
    assert number(ask("c", turns)) == expected_count(probe[0], turns)


@every_bare_build
def test_a_reading_costs_nothing(ask: Ask) -> None:
    """Ten thousand times; one instruction is the caller's, who keeps the first reading."""
    assert number(ask("b")) <= 2


@pytest.mark.wide
@every_bare_build
@pytest.mark.parametrize("turns", [1, 1_000_000])
def test_counts_while_the_stack_is_painted(probe: tuple[Target, Image], ask: Ask, turns: int) -> None:
    assert number(ask("p", turns)) == expected_count(probe[0], turns)


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("probe", [(name, "gnu") for name in BARE], indirect=True, ids=name_of)
def test_a_hundred_million_instructions(probe: tuple[Target, Image], ask: Ask) -> None:
    assert number(ask("c", 50_000_000)) == expected_count(probe[0], 50_000_000)


@pytest.mark.wide
@every_bare_build
@pytest.mark.parametrize("depth", [4, 8, 512, 4096])
def test_stack_to_the_word(ask: Ask, depth: int) -> None:
    assert number(ask("s", depth)) == depth


@every_build
def test_the_cores_instructions_run(probe: tuple[Target, Image], ask: Ask) -> None:
    """All flags choose the instructions of the target's kernels; vectors need their coprocessor, which start-up turns on."""
    assert number(ask("v")) == (12 if probe[0].core.kernels in ("dsp", "mve") else 10)


@pytest.mark.shard_by("probe")
@pytest.mark.wide
@every_build
@pytest.mark.parametrize("order", MEMORY_ORDERS)
def test_memory_functions(ask: Ask, order: tuple[int, ...]) -> None:
    """Copies, moves that overlap both ways, fills: aligned and not, with odd ends."""
    before = bytes(range(1, 65))
    which, to, source, count = order
    after = bytearray(before)
    after[to : to + count] = (
        before[source : source + count] if which < 2 else bytes([source if which == 2 else 0]) * count
    )
    assert ask("a", data=bytes(order) + before) == bytes(after) + bytes(4)


@pytest.mark.wide
@every_build
@pytest.mark.parametrize(("to", "source", "result"), [(0, 20, 1), (20, 0, 2), (0, 40, 0)])
def test_memory_comparison(ask: Ask, to: int, source: int, result: int) -> None:
    data = bytes(range(1, 41)) + bytes(range(1, 25))
    assert number(ask("a", data=bytes((4, to, source, 10)) + data)[64:]) == result


@every_build
def test_sections(probe: tuple[Target, Image]) -> None:
    target, image = probe
    table, start, later = (image.symbol(name) for name in ("table", "initial", "later"))
    in_ram = target.build.board == "avr"  # constants that no type puts into flash
    assert [(s.size, s.kind, s.section) for s in (table, start, later)] == [
        (1000, "object", "data" if in_ram else "rodata"), (200, "object", "data"), (3000, "object", "bss"),
    ]  # fmt: skip
    main = image.symbol("main")
    assert (main.kind, main.section) == ("function", "text")
    assert 20 < main.size < image.text
    assert image.flash_bytes == image.text + image.rodata + image.data
    assert image.ram_bytes == image.data + image.bss


@every_bare_build
def test_a_bare_image_is_small(probe: tuple[Target, Image]) -> None:
    """Nothing is linked but the probe, its board, and no library's start-up; sizes are those of its objects, and alignment."""
    target, image = probe
    assert image.text < 4000
    assert 1000 <= image.rodata + image.data - 200 < 1200
    assert 200 <= image.data < (216 if target.build.board != "avr" else 1216)
    assert 3000 <= image.bss < 3160


@every_bare_build
def test_a_fault_is_an_error(probe: tuple[Target, Image]) -> None:
    target, image = probe
    with pytest.raises(DeviceError, match=f"target {target.name}: .*took a fault"):
        run(image, target, b"f")


@every_build
def test_status(probe: tuple[Target, Image]) -> None:
    target, image = probe
    assert [run(image, target, b"x" + struct.pack("<I", status)).status for status in (0, 3, 200)] == [0, 3, 200]
    assert run(image, target, b"").status == 1


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("probe", [("host-cpu", "gnu"), ("cortex-m4", "gnu")], indirect=True, ids=name_of)
def test_a_program_without_end_is_an_error(probe: tuple[Target, Image]) -> None:
    target, image = probe
    with pytest.raises(DeviceError, match=f"target {target.name}: the program still ran after 1 s"):
        run(image, target, b"l", timeout=1)


def test_generic_is_built_for_the_host(tmp_path: Path) -> None:
    target = load_target("generic")
    try:
        image = find_toolchain(target).build(target, [PROBE], output=tmp_path / "probe")
    except MissingToolError as error:
        pytest.skip(str(error))
    assert run(image, target, b"eabc").output == b"abc"
