"""Exported C on AVR: constants in flash, products of bytes, ints of 16 bits; run in simavr."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from installed import cross_compiler
from models import Shape, make_model

from export.building import quantized, write_sources
from export.kinds import KINDS, kind
from export.test_devices import check, exported, usable
from qrnn.arithmetic.fixedpoint import requantize
from qrnn.devices.emulator import run
from qrnn.devices.fit import fit
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import WARNINGS, build_replay, verify
from qrnn.errors import DeviceError, UnsupportedError
from qrnn.export.expected import random_sequences
from qrnn.export.source import export_source
from qrnn.targets import Kernels, load_target, targets_folder

RUNTIME = targets_folder() / "runtime"
GCC = ("avr-gcc", "-mmcu=atmega1284p", "-std=gnu99", "-Os", "-ffreestanding")
FORMS = """#include "qrnn_types.h"
#include "qrnn_arithmetic.h"
#include "board.h"
int main(void)
{
    int32_t case_[2];
    while (board_read(case_, sizeof case_) == sizeof case_) {
        const int32_t y = qrnn_requantize(case_[0], case_[1], 0U);
        board_write(&y, sizeof y);
    }
    return 0;
}
"""


def test_the_product_is_that_of_the_contract(tmp_path: Path) -> None:
    target = usable("avr")
    rng = np.random.default_rng(0)
    ends = np.array([0, 1, -1, 255, 256, -256, 65535, 65536, 2**31 - 1, -(2**31), -(2**31) + 1])
    acc = np.concatenate([np.repeat(ends, 4), rng.integers(-(2**31), 2**31, 3000) >> rng.integers(0, 32, 3000)])
    least, most = 1 << 30, (1 << 31) - 1
    multiplier = np.concatenate([np.tile([0, least, least + 1, most], len(ends)), rng.integers(least, most + 1, 3000)])
    (tmp_path / "forms.c").write_text(FORMS)
    flags = ("-O2", *WARNINGS)
    image = find_toolchain(target).build(
        target, [tmp_path / "forms.c"], [RUNTIME], output=tmp_path / "forms.elf", flags=flags
    )
    done = run(image, target, np.stack([acc, multiplier], axis=1).astype("<i4").tobytes())
    want = [requantize(int(a), int(m), 0) for a, m in zip(acc, multiplier, strict=True)]
    assert np.frombuffer(done.output, "<i4").tolist() == want


@pytest.mark.parametrize("which", ["lstm", pytest.param("windows", marks=pytest.mark.matrix)])
def test_constants_take_no_ram(which: str, tmp_path: Path) -> None:
    """What the program has in RAM are the state and the buffers of the test."""
    target = usable("avr")
    folder = exported(kind(which), target, tmp_path)
    image = build_replay(folder, target, find_toolchain(target), 1, tmp_path)
    assert not [
        s.name
        for s in image.symbols
        if s.section in ("data", "bss") and s.name.startswith(("net_", "table_", "initial_"))
    ]
    assert image.data < 32


@pytest.mark.parametrize("kernels", ["avr", "plain"])
@pytest.mark.parametrize(
    "which", [k if k in ("lstm", "embedded") else pytest.param(k, marks=pytest.mark.matrix) for k in KINDS]
)
def test_no_pointer_loses_its_memory(which: str, kernels: Kernels, tmp_path: Path) -> None:
    """GCC converts a pointer to flash into one to RAM without a word; a null pointer is the only one that may be converted, the other way."""
    source = write_sources(export_source(kind(which), "net", kernels), tmp_path)
    command = [cross_compiler(*GCC[:1], "-c"), *GCC[1:], "-Waddr-space-convert", "-c", source, "-o", tmp_path / "net.o"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "to address space ‘generic’" not in done.stderr


@pytest.mark.parametrize(
    ("which", "flags"),
    [
        ("lstm", ()),
        ("four bits", ("-std=c99",)),  # constants in RAM
        ("lists of rows of 16 bits", ()),
        pytest.param("lists of tiles", (), marks=pytest.mark.matrix),
        pytest.param("windows of 16 bits with strides", (), marks=pytest.mark.matrix),
        pytest.param("four bits of 16", (), marks=pytest.mark.matrix),
    ],
)
def test_plain_kernels_run_on_ints_of_16_bits(which: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    target = usable("avr")
    emulation = target.emulation
    assert emulation is not None
    build = replace(target.build, gnu_flags=(*target.build.gnu_flags, *flags))
    target = replace(target, core=replace(target.core, kernels="plain"), build=build)
    folder = exported(kind(which), load_target("generic"), tmp_path)
    assert verify(folder, target, random_sequences(folder.model, folder.exported, (1, 6), seed=4)).difference is None


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["arduino-uno", "arduino-leonardo", "arduino-mega"])
def test_chips_with_other_addresses(name: str, tmp_path: Path) -> None:
    check(kind("gru after"), name, tmp_path)


def test_what_16_bits_do_not_address_is_refused(tmp_path: Path) -> None:
    model = quantized(make_model(Shape("lstm", 100, 96), np.random.default_rng(0)))
    with pytest.raises(
        UnsupportedError, match=r"bytes of weights and tables, and an AVR reaches the first 64,000 of its flash"
    ):
        exported(model, load_target("avr"), tmp_path)
    (found,) = fit(model, [load_target("avr")], 1, 0.01)
    assert not found.fits
    source = write_sources(export_source(model, "net", "plain"), tmp_path)
    done = subprocess.run([cross_compiler(*GCC[:1], "-c"), *GCC[1:], "-c", source], capture_output=True, check=False)
    assert b"bytes of weights and tables, and an AVR reaches the first 64,000 of its flash" in done.stderr
    assert "a way to its constants" in found.lacks


def test_cycles_are_measured(tmp_path: Path) -> None:
    (found,) = fit(kind("lstm"), [usable("arduino-uno")], 1, 0.01)
    assert found.needs.cycles_measured
    assert found.needs.cycles == found.needs.instructions
    assert found.needs.to_dict()["cycles_kind"] == "measured"
    assert found.needs.seconds == pytest.approx(found.needs.cycles / 16e6)


def test_ram_that_the_variables_leave_is_said(tmp_path: Path) -> None:
    target = usable("arduino-uno")
    (tmp_path / "program.c").write_text("volatile char much[1900]; int main(void) { return much[0]; }")
    with pytest.raises(DeviceError, match="is not within region"):
        find_toolchain(target).build(target, [tmp_path / "program.c"], output=tmp_path / "program.elf")
