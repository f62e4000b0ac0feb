"""Exported C under the compilers, cores and flags that users have: it compiles without a warning, and computes the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from installed import cross_compiler, tool

from export.building import WARNINGS, compile_program, compiler, write_sources
from export.kinds import kind
from qrnn.devices.emulator import run
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import build_replay
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.replay import decode_sequences, encode_sequences
from qrnn.export.source import export_source
from qrnn.targets import Kernels, load_target

STRICT = (
    *(
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wpedantic",
        "-Wshadow",
        "-Wundef",
        "-Wcast-align",
        "-Wcast-qual",
        "-Wstrict-prototypes",
    ),
    *(
        "-Wmissing-prototypes",
        "-Wsign-conversion",
        "-Wpointer-arith",
        "-Wwrite-strings",
        "-Wredundant-decls",
        "-Wvla",
        "-Werror",
    ),
)
LEVELS = {"gcc": ("-O0", "-O1", "-O2", "-O3", "-Os", "-Og"), "clang": ("-O0", "-O1", "-O2", "-O3", "-Os", "-Oz", "-Og")}
GCC = "arm-none-eabi-gcc"
CLANG = ("clang", "-ffreestanding")
FPU = ("-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
TIGHT = ("-fno-omit-frame-pointer", "-ffixed-r9")
"""Leave an assembly loop the fewest registers."""
FLAGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "gcc": (
        (),
        TIGHT,
        (*TIGHT, *FPU),
        ("-fPIC", "-msingle-pic-base"),
        ("-fPIC", "-msingle-pic-base", "-fno-omit-frame-pointer", *FPU),
        ("-fstack-protector-all", *TIGHT),
        ("-mno-unaligned-access", "-mslow-flash-data", "-fshort-enums"),
        ("-flto", "-fno-builtin", "-ffreestanding", "-std=gnu17"),
    ),
    "clang": (
        (),
        ("-fomit-frame-pointer",),
        TIGHT,
        ("-fPIC", "-fstack-protector-all", *TIGHT),
        ("-fropi", "-frwpi", "-mno-unaligned-access"),
        ("-mfloat-abi=hard", "-std=c2x", "-flto"),
    ),
}
WHOLE = ("windows", "windows of 16 bits with strides", "windows beside four bits")
LISTS = ("lists of tiles",)
LOOPS: tuple[tuple[str, Kernels], ...] = (
    *((which, "dsp") for which in ("lstm", "gru of 16 bits", "four bits", "four bits of 16", *WHOLE, *LISTS)),
    *((which, "plain") for which in ("lstm", "gru of 16 bits", "four bits", "four bits of 16", *WHOLE)),
)
"""A model for each assembly loop of Thumb-2, and models with functions of several such loops (QRNN_WHOLE)."""

BOTH_STATES = (
    *("cortex-a5", "cortex-a7", "cortex-a9", "cortex-a53", "cortex-r4", "cortex-r5", "cortex-r52"),
    *("arm926ej-s", "arm1176jzf-s"),
)
"""Arm cores that run code in Thumb state and in Arm state."""

ARM_CORES = {
    "-mthumb": (
        *(
            "cortex-m0",
            "cortex-m0plus",
            "cortex-m1",
            "cortex-m3",
            "cortex-m4",
            "cortex-m7",
            "cortex-m23",
            "cortex-m33",
            "cortex-m35p",
        ),
        *BOTH_STATES,
    ),
    "-marm": (
        *BOTH_STATES,
        "arm7tdmi",
    ),
}
OTHER_CORES = (
    *(
        "armv4t-none-eabi",
        "armv5te-none-eabi",
        "armv6-none-eabi",
        "armv7r-none-eabi",
        "aarch64-none-elf",
        "riscv32-unknown-elf",
    ),
    *(
        "riscv64-unknown-elf",
        "x86_64-linux-gnu",
        "i386-linux-gnu",
        "wasm32-unknown-unknown",
        "mipsel-linux-gnu",
        "msp430",
    ),
)


def compiles(source: Path, *command: object) -> None:
    compile_program([*command, *STRICT, "-c", source, "-o", source.with_suffix(".o")])


def sources(which: str, kernels: Kernels, folder: Path) -> Path:
    return write_sources(export_source(kind(which), "net", kernels), folder)


@pytest.mark.shard_by("which")
@pytest.mark.wide("kernels")
@pytest.mark.parametrize("number", range(len(FLAGS["gcc"])))
@pytest.mark.parametrize(("which", "kernels"), LOOPS)
def test_gcc_takes_users_flags(which: str, kernels: Kernels, number: int, tmp_path: Path) -> None:
    source = sources(which, kernels, tmp_path)
    for level in LEVELS["gcc"]:
        compiles(
            source, cross_compiler(GCC, "-c"), "-mcpu=cortex-m4", "-mthumb", "-std=c99", *FLAGS["gcc"][number], level
        )


@pytest.mark.shard_by("which")
@pytest.mark.wide("kernels")
@pytest.mark.parametrize("number", range(len(FLAGS["clang"])))
@pytest.mark.parametrize(("which", "kernels"), LOOPS)
def test_clang_takes_users_flags(which: str, kernels: Kernels, number: int, tmp_path: Path) -> None:
    source, (cc, *own) = sources(which, kernels, tmp_path), CLANG
    for level in LEVELS["clang"]:
        core = ("--target=thumbv7em-none-eabi", "-mcpu=cortex-m4", "-mfloat-abi=soft", "-std=c99")
        compiles(source, compiler(cc), *own, *core, *FLAGS["clang"][number], level)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("flags", [(), ("-fno-omit-frame-pointer",)])
@pytest.mark.parametrize("which", ["lstm", "gru of 16 bits", "four bits"])
def test_avr_gcc_takes_users_flags(which: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    """A compiler that keeps a frame pointer has few registers left for the assembly loops."""
    source, gcc = sources(which, "avr", tmp_path), cross_compiler("avr-gcc", "-c")
    for level in LEVELS["gcc"]:
        command = [gcc, "-mmcu=atmega1284p", "-std=gnu99", *flags, level, "-Wall", "-Wextra", "-Wconversion", "-Werror"]
        compile_program([*command, "-c", source, "-o", source.with_suffix(".o")])


@pytest.mark.matrix
@pytest.mark.parametrize("state", ARM_CORES)
@pytest.mark.parametrize("which", ["lstm", "four bits", "gru of 16 bits", *WHOLE[1:]])
def test_plain_kernels_compile_for_every_arm_core(which: str, state: str, tmp_path: Path) -> None:
    source, (cc, *own) = sources(which, "plain", tmp_path), CLANG
    for core in ARM_CORES[state]:
        compiles(source, cross_compiler(GCC, "-c"), f"-mcpu={core}", state, "-O2", "-std=c99")
        compiles(source, compiler(cc), *own, "--target=arm-none-eabi", f"-mcpu={core}", state, "-O2", "-std=c99")


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("which", ["lstm", "four bits", "gru of 16 bits", *WHOLE[1:]])
@pytest.mark.parametrize("core", OTHER_CORES)
def test_plain_kernels_compile_for_other_cores(core: str, which: str, tmp_path: Path) -> None:
    (cc, *own) = CLANG
    source = sources(which, "plain", tmp_path)
    for level in ("-O0", "-O2"):
        compiles(source, compiler(cc), *own, f"--target={core}", level, "-std=c99")


@pytest.mark.parametrize("core", ["armeb-none-eabi", "mips-linux-gnu", "powerpc-linux-gnu"])
def test_big_endian_processors_are_refused(core: str, tmp_path: Path) -> None:
    (cc, *own), source = CLANG, sources("lstm", "plain", tmp_path)
    command = [compiler(cc), *own, f"--target={core}", "-fsyntax-only", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "qrnn: the weights are packed for little-endian processors" in done.stderr.splitlines()[1]


def test_c_before_c99_is_refused(tmp_path: Path) -> None:
    command = [compiler("gcc"), "-std=gnu89", "-fsyntax-only", sources("lstm", "plain", tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "qrnn: this is C99; compile it with -std=c99 or newer" in done.stderr


@pytest.mark.parametrize(
    ("target", "core", "says"),
    [
        (
            "cortex-m4",
            "cortex-m3",
            "exported for cortex-m4 (compile it with -mcpu=cortex-m4 -mthumb); this compiler is told of a core",
        ),
        (
            "cortex-m55",
            "cortex-m33",
            "without Arm Helium. Name the core to it (-mcpu=...), or export the model for your core",
        ),
    ],
)
def test_a_folder_for_another_core_says_so_first(target: str, core: str, says: str, tmp_path: Path) -> None:
    export_model(kind("lstm"), load_target(target), tmp_path / "out", "net")
    command = [cross_compiler(GCC, "-c"), f"-mcpu={core}", "-mthumb", "-fsyntax-only", tmp_path / "out" / "net.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    first = next(line for line in done.stderr.splitlines() if "error:" in line)
    assert says in first


CXX = """#include "net.h"
#include "test/net_selftest.h"
int main()
{{
    static net_state state;
{arrays}
    net_init(&state);
    net_reset(&state);
    net_step({step});
    net_run({run});
    return net_selftest();
}}
"""


@pytest.mark.wide("source")
@pytest.mark.parametrize("source", ["C", "C++"])
@pytest.mark.parametrize("standard", ["c++11", "c++17", "c++20"])
@pytest.mark.parametrize("which", ["lstm", "embedded", "windows"])
def test_a_program_in_cxx_links_and_has_the_bits(which: str, standard: str, source: str, tmp_path: Path) -> None:
    """Every function is called; the model is compiled as C, or, as after a renaming to .cpp, as C++."""
    exported = export_model(kind(which), load_target("generic"), tmp_path / "out", "net")
    ports = (*exported.inputs, *exported.outputs)
    arrays = "\n".join(f"    static {p.kind} {p.name}[{p.count}] = {{0}};" for p in ports)
    ins, outs = ([p.name for p in group] for group in (exported.inputs, exported.outputs))
    step, run = ", ".join(["&state", *ins, *outs]), ", ".join(["&state", *ins, "1U", *outs])
    (tmp_path / "main.cpp").write_text(CXX.format(arrays=arrays, step=step, run=run))
    files = [tmp_path / "out" / "net.c", tmp_path / "out" / "test" / "net_selftest.c"]
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    for name in ("g++", "clang++"):
        objects = []
        for file in files:
            objects.append(tmp_path / f"{file.stem}.o")
            if source == "C":
                compile_program([compiler("gcc"), *WARNINGS, "-c", file, "-o", objects[-1]])
            else:
                compile_program(
                    [compiler(name), f"-std={standard}", *warnings, "-x", "c++", "-c", file, "-o", objects[-1]]
                )
        own = [f"-std={standard}", *warnings, "-Wold-style-cast", f"-I{tmp_path / 'out'}"]
        compile_program([compiler(name), *own, tmp_path / "main.cpp", *objects, "-o", tmp_path / "program"])
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("which", ["lstm", "windows"])
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m55"])
def test_a_model_for_a_device_compiles_as_cxx(name: str, which: str, tmp_path: Path) -> None:
    target = load_target(name)
    export_model(kind(which), target, tmp_path / "out", "net")
    for file in (tmp_path / "out" / "net.c", tmp_path / "out" / "test" / "net_selftest.c"):
        own = [*target.build.gnu_flags, "-O2", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        compile_program(
            [cross_compiler("arm-none-eabi-g++", "-c"), *own, "-x", "c++", "-c", file, "-o", tmp_path / "a.o"]
        )


@pytest.mark.matrix
@pytest.mark.parametrize(("which", "most"), [("lstm", 1.4), ("gru after", 1.4), ("four bits", 1.55), ("windows", 2.0)])
def test_helium_needs_no_gnu_c(which: str, most: float, tmp_path: Path) -> None:
    """Without __GNUC__ the intrinsics are enough: the bits, with gates in vectors and nearly as few instructions.

    The small windows have functions that GNU C compiles for each layer, and GNU C has loops over whole blocks of rows.
    """
    target = load_target("cortex-m55")
    for name in (GCC, "qemu-system-arm"):
        tool(name)
    export_model(kind(which), target, tmp_path / "out", "net")
    folder, tools = read_folder(tmp_path / "out"), find_toolchain(target, "gnu")
    sequences = random_sequences(folder.model, folder.exported, (9,), seed=1)
    (tmp_path / "other.h").write_text("#include <arm_mve.h>\n#include <string.h>\n#undef __GNUC__\n")
    (tmp_path / "scalars.h").write_text("#define QRNN_USE_PEEPHOLE\n")  # has gates that are no vectors
    counted = []
    # GCC's own arm_acle.h, which is used then, converts signs implicitly inside of __ssat.
    pretends = ("-include", str(tmp_path / "other.h"), "-Wno-undef", "-Wno-sign-conversion")
    for flags in ((), pretends):
        image = build_replay(folder, target, tools, 9, tmp_path, flags)
        done = run(image, target, encode_sequences(folder.exported, sequences))
        found, counts = decode_sequences(folder.exported, [9], done.output)
        assert first_difference(host_results(folder.model, folder.exported, sequences), found) is None
        counted.append(counts.instructions)
    # The products' loops are the compiler's here. Gates of single values would take it past 1.5.
    assert counted[1] < most * counted[0]


RUNS = {
    "Cortex-A7, Arm state": ("plain", "cortex-a7", "-marm"),
    "Cortex-A7, Thumb state": ("plain", "cortex-a7", "-mthumb"),
    "Cortex-A7, DSP in Arm state": ("dsp", "cortex-a7", "-marm"),
    "Cortex-A7, DSP in Thumb state": ("dsp", "cortex-a7", "-mthumb"),
    "Arm926": ("plain", "arm926ej-s", "-marm"),
    "Arm926, Thumb-1": ("plain", "arm926ej-s", "-mthumb"),
    "Arm1176": ("dsp", "arm1176jzf-s", "-marm"),
}


@pytest.mark.shard_by("which")
@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("which", ["lstm", "gru of 16 bits", "four bits", "four bits of 16", "unbounded gates"])
@pytest.mark.parametrize("core", RUNS)
def test_other_arm_cores_have_the_bits(core: str, which: str, level: str, tmp_path: Path) -> None:
    """The self-test, run by QEMU in user mode: programs that end by Linux's call, without a library."""
    kernels, cpu, state = RUNS[core]
    tool("qemu-arm")
    export_model(kind(which), load_target("cortex-m4" if kernels == "dsp" else "generic"), tmp_path / "out", "net")
    start = tmp_path / "start.c"
    start.write_text(
        "extern int net_selftest(void);\nvoid begin(void);\n"
        'void begin(void) { register int status __asm__("r0") = net_selftest();\n'
        '__asm__ volatile("mov r7, #1\\n\\tsvc #0" : : "r"(status) : "r7"); for (;;) { } }\n'
    )
    end = ["-nostartfiles", "-Wl,--entry=begin", "-o", tmp_path / "program"]
    files = [start, tmp_path / "out" / "net.c", tmp_path / "out" / "test" / "net_selftest.c"]
    compile_program(
        [cross_compiler(GCC, "-c"), f"-mcpu={cpu}", state, level, "-fomit-frame-pointer", *end, *files, "-lc", "-lgcc"]
    )
    done = subprocess.run(["qemu-arm", tmp_path / "program"], timeout=60, check=False)
    assert done.returncode == 0
