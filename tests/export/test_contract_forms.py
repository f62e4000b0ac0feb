"""Special forms of the contract's functions in C equal the generated functions that they replace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from installed import cross_compiler, tool

from export.building import COMPILERS, WARNINGS, compile_program, compiler
from export.contract_tools import HERE, MAKE, RUNTIME
from export.hosts import VECTOR_TARGETS, host_target
from qrnn.devices.hosts import find_host_compiler, host_of, runner_of
from qrnn.export.layout import block_rows

HOSTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "64-bit registers": ("plain", ()),
    "registers of 32 bits": ("plain", ("-DQRNN_HAS_NARROW_REGISTERS",)),
    "halfword products": ("plain", ("-DQRNN_HALFWORD_PRODUCTS",)),
    "DSP": ("dsp", ("-DOPERANDS_OF_DSP",)),
    "Helium's operands": ("mve", ("-DOPERANDS_OF_HELIUM",)),
}


ARM: dict[str, tuple[str, tuple[str, ...]]] = {
    "SSAT, QADD, SMMULR in Arm state": ("dsp", ("-mcpu=cortex-a7", "-marm", "-DOPERANDS_OF_DSP")),
    "SSAT, QADD, SMMULR in Thumb state": ("dsp", ("-mcpu=cortex-a7", "-mthumb", "-DOPERANDS_OF_DSP")),
    "SSAT and QADD of ACLE": ("dsp", ("-mcpu=cortex-a7", "-mthumb", "-DOPERANDS_OF_DSP", "-DQRNN_NO_ASSEMBLY")),
    "QADD": ("plain", ("-mcpu=arm926ej-s", "-marm")),
    "Thumb-1": ("plain", ("-mcpu=arm926ej-s", "-mthumb")),
    "Thumb-1 of Armv6": ("plain", ("-mcpu=arm1176jzf-s", "-mthumb")),
}


START = """extern int main(void);
void begin(void);
void begin(void) { register int status __asm__("r0") = main();
__asm__ volatile("mov r7, #1\\n\\tsvc #0" : : "r"(status) : "r7"); for (;;) { } }
"""
"""A program for Linux on Arm that needs no library's start."""


def plain_contract(folder: Path) -> None:
    """The generated scalar functions under other names, which no special form takes."""
    text = (
        MAKE.files()["qrnn_contract.h"]
        .replace("qrnn_", "plain_")
        .replace("QRNN_", "PLAIN_")
        .replace("PLAIN_FLASH ", "")
    )
    (folder / "plain_contract.h").write_text(text.replace('#include "plain_arithmetic.h"\n', ""))


def forms_command(kernels: str, folder: Path, count: int) -> list[object]:
    plain_contract(folder)
    return [
        *WARNINGS[:-1], "-Wno-unused-function", "-Werror", f"-I{RUNTIME}", f"-I{folder}", f'-DHEADER="qrnn_dot_{kernels}.h"',
        f"-DCOUNT={count}", "-DQRNN_UNIT_GATES", HERE / "contract" / "forms.c", "-o", folder / "forms",
    ]  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("host", HOSTS)
def test_special_forms_on_this_machine(host: str, cc: str, tmp_path: Path) -> None:
    kernels, flags = HOSTS[host]
    checked = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", f"-I{HERE / 'dot'}")
    compile_program([compiler(cc), *checked, *flags, *forms_command(kernels, tmp_path, 400_000)])
    assert subprocess.run([tmp_path / "forms"], timeout=120, check=False).returncode == 0


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("core", ARM)
def test_special_forms_of_arm(core: str, tmp_path: Path) -> None:
    """By QEMU in user mode: a program that ends by Linux's call, without a library's start."""
    kernels, flags = ARM[core]
    (start := tmp_path / "start.c").write_text(START)
    cc = cross_compiler("arm-none-eabi-gcc", "-c")
    end = ["-nostartfiles", "-Wl,--entry=begin", start]
    compile_program([cc, "-O2", *flags, *forms_command(kernels, tmp_path, 200_000), *end, "-lc", "-lgcc"])
    assert subprocess.run([tool("qemu-arm"), tmp_path / "forms"], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize(
    "flags",
    [pytest.param((), id="assembly"), pytest.param(("-DQRNN_NO_ASSEMBLY",), id="C", marks=pytest.mark.matrix)],
)
def test_special_forms_of_helium(flags: tuple[str, ...], tmp_path: Path) -> None:
    """Four lanes, in a Cortex-M55 that QEMU has."""
    emulator = tool("qemu-system-arm")
    cc = cross_compiler("arm-none-eabi-gcc", "--specs=rdimon.specs")
    core = ["-O2", "-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-DOPERANDS_OF_HELIUM", *flags]
    end = ["--specs=rdimon.specs", "-nostartfiles", f"-T{HERE / 'dot' / 'ram.ld'}", HERE / "dot" / "start.c"]
    compile_program([cc, *core, *forms_command("mve", tmp_path, 200_000), "-Wno-pedantic", *end])
    command = [emulator, "-M", "mps3-an547", "-nographic", "-monitor", "none", "-serial", "null"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(tmp_path / "forms")]
    assert subprocess.run(command, timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("name", VECTOR_TARGETS)
def test_special_forms_of_vectors(name: str, tmp_path: Path) -> None:
    """The vectors of desktops' processors and of WebAssembly, by this processor or by an emulator of programs."""
    target = host_target(name)
    compiler, rows = find_host_compiler(target), block_rows(target.core.kernels)
    flags = [*compiler.flags, *host_of(target).program_flags, "-O2", f"-DQRNN_BLOCK_ROWS={rows}U"]
    compile_program([compiler.path, *flags, *forms_command(target.core.kernels, tmp_path, 40_000)])
    assert subprocess.run([*runner_of(target), tmp_path / "forms"], timeout=120, check=False).returncode == 0


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        (1, "ssat %0, #16", "ssat %0, #15"),
        (2, "qadd %0", "qsub %0"),
        (5, "smmulr %0", "smmul %0"),
    ],
)
def test_a_wrong_instruction_is_found(form: int, right: str, wrong: str, tmp_path: Path) -> None:
    header = (RUNTIME / "qrnn_arithmetic.h").read_text(encoding="utf-8")
    assert right in header
    (tmp_path / "qrnn_arithmetic.h").write_text(header.replace(right, wrong))
    for name in ("qrnn_contract.h", "qrnn_contract_lanes.h", "qrnn_lanes.h", "qrnn_types.h", "qrnn_dot_plain.h"):
        (tmp_path / name).write_text((RUNTIME / name).read_text(encoding="utf-8"))
    (start := tmp_path / "start.c").write_text(START)
    cc = cross_compiler("arm-none-eabi-gcc", "-c")
    command = [cc, "-O2", "-mcpu=cortex-a7", "-marm", f"-I{tmp_path}", *forms_command("plain", tmp_path, 1000)]
    compile_program([*command, "-nostartfiles", "-Wl,--entry=begin", start, "-lc", "-lgcc"])
    assert subprocess.run([tool("qemu-arm"), tmp_path / "forms"], timeout=60, check=False).returncode == form
