"""NAME_bench: its line from this machine and from emulated boards, and what of it fits a folder."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.running import Done, make_cli
from cli.test_export import renew_digests
from installed import tool

from export.building import WARNINGS, compile_program, compiler
from export.kinds import kind
from export.test_devices import usable
from export.test_trace import with_spoiled_layer
from qrnn.devices.board_result import BoardResult, check_fits, read_result
from qrnn.devices.emulator import run
from qrnn.devices.image import Image
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import verify
from qrnn.export import bench
from qrnn.export.expected import random_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.export.packages import load_package, package_names
from qrnn.export.source import export_source
from qrnn.hardware.description import counter_names
from qrnn.model.file import save
from qrnn.model.quant_model import QuantModel
from qrnn.targets import chip_names, load_target, target_names, targets_folder

BOARD_MAIN = """#include "board.h"
#include "net_bench.h"

extern uint8_t LIMIT[];

static int put(int character)
{
    const uint8_t byte = (uint8_t)character;

    board_write(&byte, 1U);
    return character;
}

int main(void)
{
    return net_bench(put, 16000000U, LIMIT);
}
"""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    return make_cli(monkeypatch, capsys)


def exported(model: QuantModel, place: Path, target: str = "generic", **more: Any) -> ExportedFolder:
    export_model(model, load_target(target), place / "net", "net", bench=True, **more)
    return read_folder(place / "net")


def line_here(folder: ExportedFolder, place: Path, *flags: str, cc: str = "gcc") -> tuple[int, str]:
    """What the program for a machine with a standard output prints, built without a warning, and its status."""
    test = folder.path / "test"
    sources = [folder.source, test / "net_selftest.c", test / "net_bench.c", test / "bench_main.c"]
    compile_program([compiler(cc), *(flags or WARNINGS), *sources, "-o", place / "bench"])
    done = subprocess.run([place / "bench"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def board_program(folder: ExportedFolder, place: Path, *flags: str) -> Image:
    """The program for an emulated board, built without a warning."""
    target, test = usable(folder.target.name), folder.path / "test"
    limit = "_end" if target.build.board == "avr" else "board_stack_limit"
    (place / "main.c").write_text(BOARD_MAIN.replace("LIMIT", limit))
    sources = [folder.source, test / "net_selftest.c", test / "net_bench.c", place / "main.c"]
    return find_toolchain(target).build(
        target, sources, [*folder.include_dirs, test], output=place / "bench.elf", flags=("-O2", *WARNINGS[1:4], *flags)
    )


def line_of_board(folder: ExportedFolder, place: Path, *flags: str) -> tuple[int, BoardResult]:
    """The result of an emulated board, and the status of its program."""
    done = run(board_program(folder, place, *flags), folder.target, timeout=120)
    return done.status, read_result(done.output.decode(), "board")


def spoil(folder: ExportedFolder, other: QuantModel) -> None:
    """Give a folder the C of another model, and tell its manifest."""
    hardware = load_target(folder.target.name)
    folder.source.write_text(export_source(other, "net", hardware.core.kernels, lists=hardware.lists).source)
    renew_digests(folder.path)


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("which", ["stacked", "whole", "embedded", "windows of 16 bits with strides"])
def test_the_line(which: str, tmp_path: Path) -> None:
    folder = exported(kind(which), tmp_path, "host-cpu")
    status, text = line_here(folder, tmp_path)
    assert (status, text.count("\n")) == (0, 1)
    assert text.isascii()
    result = read_result(text, "here")
    check_fits(result, folder, "here")
    assert json.loads(text)["qrnn_bench"] == 1
    assert (result.right, result.difference, result.first_layer) == (True, None, None)
    assert (result.counter, result.unit, result.calls) == ("clock", "ns", 32)
    assert result.steps == (1 if folder.exported.streams else 16)
    assert result.min is not None
    assert 0 < result.min <= result.median <= result.max  # type: ignore[operator]
    assert result.min <= result.mean <= result.max  # type: ignore[operator]
    assert (result.stack_bytes, result.clock_hz) == (None, None)
    assert result.compiler.startswith("gcc ")


def test_as_cxx_and_under_sanitizers(tmp_path: Path) -> None:
    folder = exported(kind("stacked"), tmp_path)
    flags = ("-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    for more in (flags, (*flags, "-DNET_TRACE"), (*WARNINGS, "-DNET_TRACE", "-fsanitize=address,undefined")):
        cc = "g++" if "c++" in more else "gcc"
        status, text = line_here(folder, tmp_path, *more, cc=cc)
        assert (status, read_result(text, "here").right) == (0, True)
    assert json.loads(text)["first_layer"] is None
    assert "min" not in json.loads(text)


COUNTED = {
    "cortex-m0plus": "SysTick",
    "rv32imc": "mcycle",
    "hazard3": "mcycle",
    "cortex-r5": "PMCCNTR",
    "lx106": "CCOUNT",
}
"""Counters that the emulator has: they count its virtual time, or instructions."""


@pytest.mark.parametrize(
    "name",
    [
        *("cortex-m0plus", "avr"),
        *(
            pytest.param(n, marks=pytest.mark.matrix)
            for n in ("cortex-m4", "rv32imc", "hazard3", "cortex-r5", "lx106", "cortex-m55")
        ),
    ],
)
def test_on_an_emulated_board(name: str, tmp_path: Path) -> None:
    """The self-test is right, times are those of the board's counter, and the stack is what the usual measurement finds."""
    usable(name)
    folder = exported(kind("stacked"), tmp_path, name)
    status, result = line_of_board(folder, tmp_path)
    check_fits(result, folder, "board")
    assert (status, result.right, result.clock_hz) == (0, True, 16_000_000)
    measured = verify(folder, folder.target, random_sequences(folder.model, folder.exported, (4,), seed=1))
    assert result.stack_bytes is not None
    assert abs(result.stack_bytes - measured.counts.stack_bytes) <= 96
    counts = measured.counts
    if name == "avr":  # an interrupt each 65,536 cycles
        assert result.counter == "Timer 1"
        cycles = result.cycles_per_step
        assert cycles is not None
        assert cycles["median"] == pytest.approx(counts.instructions / counts.calls, rel=0.02)
        assert cycles["min"] > 65_536
        assert result.seconds_per_step is not None
        assert result.seconds_per_step["median"] == pytest.approx(cycles["median"] / 16e6)
    elif name in COUNTED:
        assert result.counter == COUNTED[name]
        assert result.min is not None
        assert result.min > 0
    else:  # QEMU has no DWT
        assert (result.counter, result.min, result.median, result.cycles_per_step) == ("DWT CYCCNT", None, None, None)


def test_a_board_names_the_first_layer(tmp_path: Path) -> None:
    """Traced C with one wrong number names the layer, step, unit and both values, as the host finds them."""
    check_first_layer("stacked", "layer1", "cortex-m0plus", tmp_path)


@pytest.mark.parametrize(
    ("which", "layer"),
    [
        ("whole", "dense"),
        pytest.param("embedded", "logits", marks=pytest.mark.matrix),
        pytest.param("whole", "conv_2", marks=pytest.mark.matrix),
    ],
)
def test_this_machine_names_the_first_layer(which: str, layer: str, tmp_path: Path) -> None:
    check_first_layer(which, layer, "generic", tmp_path)


def check_first_layer(which: str, layer: str, target: str, tmp_path: Path) -> None:
    model = kind(which)
    folder = exported(model, tmp_path, target)
    spoil(folder, with_spoiled_layer(model, layer, 1))
    if target == "generic":
        status, text = line_here(folder, tmp_path, *WARNINGS, "-DNET_TRACE")
        result = read_result(text, "here")
    else:
        status, result = line_of_board(folder, tmp_path, "-DNET_TRACE")
    golden = random_sequences(model, folder.exported, (1, 2, 5), seed=20)
    expected = verify(folder, load_target("host-cpu" if target == "generic" else target), golden).layer
    found = result.first_layer
    assert (status, result.right) == (1, False)
    assert result.difference is not None
    assert found is not None
    assert expected is not None
    assert (found.layer, found.what) == (layer, f"tensor {expected.tensor}")
    places = (found.sequence, found.step, found.unit, found.got, found.expected)
    assert places == (expected.sequence, expected.step or 0, expected.unit, expected.got, expected.expected)


def test_rows_of_layers_that_have_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences are left out, all of them if need be, and the program is built as it is with them."""
    sizes = []
    for most in (1 << 15, 300, 0):
        monkeypatch.setattr(bench, "MOST_ROW_BYTES", most)
        folder = exported(kind("stacked"), tmp_path)
        text = (folder.path / "test" / "net_bench.c").read_text()
        sizes.append(int(text.partition("#define SEQUENCES ")[2].partition("U")[0]))
        status, line = line_here(folder, tmp_path, *WARNINGS, "-DNET_TRACE")
        assert (status, json.loads(line)["first_layer"]) == (0, None)
    assert sizes[0] == 3
    assert 0 < sizes[1] < 3
    assert sizes[2] == 0


def test_a_counter_of_the_user(tmp_path: Path) -> None:
    folder = exported(kind("lstm"), tmp_path)
    (tmp_path / "own.h").write_text(
        '#include <stdint.h>\n#define QRNN_COUNTER "own"\n#define QRNN_COUNTER_UNIT "cycles"\n'
        "static uint32_t now;\nstatic void qrnn_counter_start(void) { now = 0xFFFFF000U; }\nstatic void qrnn_counter_stop(void) {}\n"
        "static uint32_t qrnn_counter_now(void) { now += 1000U; return now; }\n"  # a call takes nothing but the reading
    )
    _, text = line_here(folder, tmp_path, *WARNINGS, f'-DQRNN_COUNTER_HEADER="{tmp_path}/own.h"')
    result = read_result(text, "here")
    assert (result.counter, result.min, result.max) == ("own", None, None)  # an empty loop takes as long as nothing
    head, tail = (tmp_path / "own.h").read_text().split("now += 1000U;")
    (tmp_path / "own.h").write_text(f"{head}static uint32_t k; k++; now += 1000U + 7U * (k / 2U % 2U);{tail}")
    _, text = line_here(folder, tmp_path, *WARNINGS, f'-DQRNN_COUNTER_HEADER="{tmp_path}/own.h"')
    assert read_result(text, "here").counter == "own"


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("package", package_names())
def test_every_package_has_it(package: str, tmp_path: Path) -> None:
    folder = exported(kind("embedded"), tmp_path, package=package)
    laid_out = load_package(package)
    place = folder.path / (laid_out.bench or laid_out.layout.test).replace("NAME", "net")
    names = {"net_bench.c", "net_bench.h", "qrnn_counter.h", "net_selftest.c", "net_golden.h"}
    assert names <= {path.name for path in place.iterdir()}
    for name in names:
        assert "SPDX-License-Identifier: Apache-2.0" in (place / name).read_text().splitlines()[0]
    text = (folder.path / "README.md").read_text()
    assert f"`{place.relative_to(folder.path)}/net_bench.c`" in text
    include = [f"-I{p}" for p in (folder.source.parent, folder.header.parent)]
    sources = [folder.source, place / "net_selftest.c", place / "net_bench.c", tmp_path / "main.c"]
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net_bench.h"\nint main(void) { return net_bench(putchar, 0U, NULL); }\n'
    )
    compile_program([compiler("gcc"), *WARNINGS, *include, f"-I{place}", *sources, "-o", tmp_path / "bench"])
    done = subprocess.run([tmp_path / "bench"], capture_output=True, text=True, check=True)
    assert read_result(done.stdout, "here").right


def test_a_folder_has_it_where_it_is_asked_for(tmp_path: Path) -> None:
    """Without, no file of it is there; with, the model's C and header are the same."""
    texts = {}
    for wanted in (False, True):
        export_model(kind("lstm"), load_target("generic"), tmp_path / "net", "net", bench=wanted)
        texts[wanted] = [(tmp_path / "net" / name).read_text() for name in ("net.c", "net.h")]
        assert (
            bool([p for p in (tmp_path / "net").rglob("*") if "bench" in p.name or p.name == "qrnn_counter.h"])
            == wanted
        )
        assert ("bench" in (tmp_path / "net" / "Makefile").read_text().replace("test/bench\n", "")) == wanted
    assert texts[False] == texts[True]


def test_the_command(cli: Callable[..., Done], tmp_path: Path) -> None:
    save(kind("lstm"), tmp_path / "own.qrnn")
    done = cli("export", tmp_path / "own.qrnn", "-o", tmp_path / "c", "--bench")
    assert (done.status, done.lines) == (0, []), done.err
    assert (tmp_path / "c" / "test" / "own_bench.c").is_file()
    done = cli("export", tmp_path / "own.qrnn", "-o", tmp_path / "c", "--bench", "--library", "--target", "x86-64-v3")
    assert (done.status, len(done.lines)) == (2, 1)
    assert "--bench and --library" in done.err


def test_make_bench(tmp_path: Path) -> None:
    compiler("cc")
    folder = exported(kind("lstm"), tmp_path)
    done = subprocess.run([tool("make"), "-s", "bench"], cwd=folder.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_result(done.stdout, "make").right


def test_every_counter_is_of_a_target_and_every_target_has_one() -> None:
    used = {load_target(name).core.counter or "none" for name in (*target_names(), *chip_names())}
    assert used == set(counter_names())
    assert {n for n in target_names() if load_target(n).core.counter is None} == {"generic"}
    for name in counter_names():
        text = (targets_folder() / "counters" / f"{name}.h").read_text()
        functions = set(re.findall(r"qrnn_counter_(start|stop|now|begin|end)\(void\)", text))
        assert functions == {"start", "stop"} | ({"begin", "end"} if "QRNN_COUNTER_SPANS" in text else {"now"}), name
