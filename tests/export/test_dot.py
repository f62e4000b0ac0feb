"""The dot products of exported models: equal to NumPy on a host, under sanitizers, and on the processors that QEMU has."""

import dataclasses
import functools
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import SANITIZERS, compiler, cross_compiler, tool

from export.building import COMPILERS
from export.hosts import VECTOR_TARGETS, host_target
from qrnn.arithmetic.reals import operands
from qrnn.devices.hosts import find_host_compiler, host_of, runner_of
from qrnn.export.layout import (
    BLOCK_LOOPS,
    COLUMNS,
    VECTORS,
    Kernels,
    block_rows,
    pack_block,
    pack_block_four,
    pack_halves,
    padded_columns,
    row_biases,
    takes_halves,
)

HERE = Path(__file__).parent / "dot"
RUNTIME = Path(__file__).parents[2] / "targets" / "runtime"
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


@dataclasses.dataclass(frozen=True)
class Core:
    """A processor, the board of QEMU that has it or runs its code, and the dot products for it."""

    kernels: Kernels
    cpu: str
    board: str
    flags: tuple[str, ...] = ()


CORES = {
    "Cortex-M0+": Core("plain", "cortex-m0plus", "mps2-an385"),
    "Cortex-M0+, C": Core("plain", "cortex-m0plus", "mps2-an385", ("-DQRNN_NO_ASSEMBLY",)),
    "Cortex-M3": Core("mla", "cortex-m3", "mps2-an385"),
    "Cortex-M3, C": Core("mla", "cortex-m3", "mps2-an385", ("-DQRNN_NO_ASSEMBLY",)),
    "Cortex-M3, long rows": Core("mla", "cortex-m3", "mps2-an385", ("-DQRNN_LONG_ROWS",)),
    "Cortex-M3, plain": Core("plain", "cortex-m3", "mps2-an385"),
    "Cortex-M4": Core("dsp", "cortex-m4", "mps2-an386"),
    "Cortex-M4, C": Core("dsp", "cortex-m4", "mps2-an386", ("-DQRNN_NO_ASSEMBLY",)),
    "Cortex-M7, short rows": Core("dsp", "cortex-m7", "mps2-an500", ("-DQRNN_SHORT_ROWS",)),
    "Cortex-M4, a frame pointer and r9": Core(
        "dsp", "cortex-m4", "mps2-an386", ("-fno-omit-frame-pointer", "-ffixed-r9")
    ),
    "Cortex-M55": Core("mve", "cortex-m55", "mps3-an547", ("-mfloat-abi=hard",)),
    "Cortex-M55, C": Core("mve", "cortex-m55", "mps3-an547", ("-mfloat-abi=hard", "-DQRNN_NO_ASSEMBLY")),
}

USUAL = ("Cortex-M0+", "Cortex-M3", "Cortex-M4", "Cortex-M55")
"""What the default run emulates: each kind of kernels, and the kernels in C."""
HOSTS: dict[str, tuple[Kernels, tuple[str, ...]]] = {
    "plain": ("plain", ()),
    "mla": ("mla", ()),
    "dsp": ("dsp", ()),
    "mve": ("mve", ()),
    "avr": ("avr", ()),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """The rows of a block; of weights of four bits ``weight`` is q, and ``scale`` belongs to it."""

    weight: npt.NDArray[np.int8]
    scale: npt.NDArray[np.int8] | None
    values: npt.NDArray[np.int16]
    bias: npt.NDArray[np.int32]
    shift: int
    limit: int
    wide: bool
    halves: bool = False

    @property
    def weights(self) -> npt.NDArray[np.int64]:
        weight = self.weight.astype(np.int64)
        if self.scale is not None:
            weight *= np.repeat(self.scale, 32, axis=1)[:, : len(self.values)]
        return weight

    def sums(self) -> list[int]:
        sums = self.bias + self.weights @ operands(self.values, self.shift, self.limit)
        assert (np.abs(sums) < 2**31).all()
        return [int(s) for s in sums]

    def pack(self, kernels: Kernels) -> bytes:
        count, four = len(self.values), self.scale is not None
        if self.halves:
            packed = pack_halves(self.weight)
        elif self.scale is None:
            packed = pack_block(self.weight, kernels, self.wide)
        else:
            packed = pack_block_four(self.weight, self.scale, kernels, self.wide)
        columns = padded_columns(count, kernels, four)
        bias = row_biases(self.bias, self.weights, kernels, self.wide, four, columns).view(np.uint32)
        head = struct.pack(
            f"<IIIIIIi{len(bias)}I",
            self.wide,
            2 if self.halves else four,
            count,
            columns,
            len(packed),
            self.shift,
            self.limit,
            *bias,
        )
        return head + self.values.tobytes() + packed


def random_case(columns: int, seed: int, wide: bool, extreme: bool, four: bool, rows: int = 4) -> Case:
    random = np.random.default_rng(seed)
    weight = random.integers(-8, 8, (4, columns)) if four else random.integers(-127, 128, (4, columns))
    scale = random.choice([*range(-15, 0), *range(1, 16)], (4, -(-columns // 32))) if four else None
    values = random.integers(-32768, 32768, columns)
    limit = int(random.integers(1, 128))
    if wide:
        limit = int(min(32767, (2**30 - 1) // (127 * columns)))
    shift = int(random.integers(0, 16))
    if extreme:  # every product of row 0 as large as it can be, and of one sign
        weight = np.where(weight < 0, *((-8, 7) if four else (-127, 127)))
        weight[3] = np.where(weight[0] < 0, 7, -8) if four else -weight[0]
        weight[2] = -8 if four else weight[2]
        values = np.where(weight[0] < 0, -32768, 32767)
        values = np.full(columns, -32768 if seed % 2 else 32767) if four and seed % 3 else values
        scale = None if scale is None else np.where(scale < 0, -15, 15)
        shift, limit = (0, limit) if wide else (8, 127)
    if rows > 4:
        weight = np.concatenate([np.roll(weight, k, axis=0) for k in range(rows // 4)])
    bias = random.integers(-(2**30), 2**30, rows)
    found = None if scale is None else scale.astype(np.int8)
    return Case(weight.astype(np.int8), found, values.astype(np.int16), bias.astype(np.int32), shift, limit, wide)


booleans = st.booleans()
cases = st.builds(random_case, st.integers(1, 600), st.integers(0, 2**32), booleans, booleans, booleans)


@functools.cache
def build_directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="qrnn-dot-"))


def with_halves(batch: list[Case], kernels: Kernels) -> list[Case]:
    """The cases, and those with rows that may be stored as halfwords stored so too."""
    short = [case for case in batch if case.scale is None and takes_halves(len(case.values), kernels, case.wide)]
    return batch + [dataclasses.replace(case, halves=True) for case in short]


def run(command: list[str], kernels: Kernels, batch: list[Case]) -> list[list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cases.bin").write_bytes(b"".join(case.pack(kernels) for case in batch))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        sums = np.frombuffer((Path(folder) / "sums.bin").read_bytes(), np.int32)
    return [[int(s) for s in row] for row in sums.reshape(-1, block_rows(kernels))]


def compile_driver(cc: str, flags: list[str], kernels: Kernels, name: str, *sources: Path) -> str:
    program = build_directory() / name.replace(" ", "-").replace(",", "")
    if not program.exists():
        header = f'-DHEADER="qrnn_{"blocks" if kernels in BLOCK_LOOPS else "dot"}_{kernels}.h"'
        halves = ["-DHALVES"] if kernels == "dsp" else []
        command = [cc, *WARNINGS, f"-I{RUNTIME}", header, *halves, *flags]
        command += ["-o", str(program), str(HERE / "driver.c"), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return str(program)


@pytest.mark.wide("host", "cc")
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("host", list(HOSTS))
@pytest.mark.parametrize("count", [8, pytest.param(30, marks=pytest.mark.matrix)])
def test_host(host: str, cc: str, count: int) -> None:
    kernels, defines = HOSTS[host]
    flags = ["-O1", "-g", *SANITIZERS, f"-I{HERE}", *defines]
    program = compile_driver(compiler(cc, *SANITIZERS), flags, kernels, f"{host} {cc}")

    @settings(max_examples=count, deadline=None)
    @given(st.lists(cases, min_size=1, max_size=8))
    def check(batch: list[Case]) -> None:
        batch = with_halves(batch, kernels)
        assert run([program], kernels, batch) == [case.sums() for case in batch]

    check()


@pytest.mark.wide
@pytest.mark.parametrize("optimization", ["-O0", "-Os", "-O2", "-O3"])
@pytest.mark.parametrize("core", [pytest.param(c, marks=() if c in USUAL else pytest.mark.matrix) for c in CORES])
def test_emulated(core: str, optimization: str) -> None:
    emulator, target = tool("qemu-system-arm"), CORES[core]
    cc = cross_compiler("arm-none-eabi-gcc", "--specs=rdimon.specs")
    flags = [optimization, f"-mcpu={target.cpu}", "-mthumb", *target.flags]
    flags += ["--specs=rdimon.specs", "-nostartfiles", f"-T{HERE / 'ram.ld'}"]
    longest = 256 if "-DQRNN_SHORT_ROWS" in flags else 600
    program = compile_driver(cc, flags, target.kernels, core + optimization, HERE / "start.c")
    command = [emulator, "-M", target.board, "-nographic", "-monitor", "none", "-serial", "null"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", program]
    step = 32 if "-DQRNN_LONG_ROWS" in flags else 2 * COLUMNS[target.kernels] if "-DQRNN_EVEN_ROWS" in flags else 1
    batch = [
        random_case(columns, columns, wide, extreme, four)
        for columns in [*range(1, 70), 127, 255, 256, 257, 511, 513, 600]
        for wide in (False, True)
        for extreme in (False, True)
        for four in (False, True)
        if columns <= longest and padded_columns(columns, target.kernels) % step == 0
    ]
    batch = with_halves(batch, target.kernels)
    assert run(command, target.kernels, batch) == [case.sums() for case in batch]


@pytest.mark.parametrize("name", VECTOR_TARGETS)
def test_vectors(name: str) -> None:
    """The products of the kernels of desktops, by this processor or by an emulator of programs."""
    target = host_target(name)
    kernels, compiler, rows = target.core.kernels, find_host_compiler(target), block_rows(target.core.kernels)
    flags = [*compiler.flags, *host_of(target).program_flags, "-O2", f"-DQRNN_BLOCK_ROWS={rows}U", "-DONLY_BYTES"]
    program = compile_driver(compiler.path, flags, kernels, name)
    batch = [
        random_case(columns, columns, wide, extreme, False, rows)
        for columns in [*range(1, 70), 127, 255, 256, 257, 511, 513, 600]
        for wide in (False, True)
        for extreme in (False, True)
    ]
    assert run([*runner_of(target), program], kernels, batch) == [case.sums() for case in batch]


@pytest.mark.parametrize("kernels", list(COLUMNS))
def test_a_block_has_a_byte_for_each_weight(kernels: Kernels) -> None:
    for columns in (1, 7, 8, 16, 33):
        weight = np.full((block_rows(kernels), columns), -127, np.int8)
        assert len(pack_block(weight, kernels, False)) == len(weight) * padded_columns(columns, kernels)


@pytest.mark.parametrize("kernels", [k for k in COLUMNS if k not in VECTORS])
def test_a_block_of_four_bits_has_17_bytes_for_32_weights(kernels: Kernels) -> None:
    for columns in (1, 32, 33, 64):
        groups = -(-columns // 32)
        for wide in (False, True):
            block = pack_block_four(
                np.full((4, columns), -8, np.int8), np.full((4, groups), -15, np.int8), kernels, wide
            )
            assert len(block) == 4 * 17 * groups


def test_a_block_has_four_rows() -> None:
    with pytest.raises(ValueError, match="4 rows"):
        pack_block_four(np.zeros((3, 8), np.int8), np.ones((3, 1), np.int8), "plain", False)
    with pytest.raises(ValueError, match="4 rows"):
        pack_block(np.zeros((3, 8), np.int8), "plain", False)
    with pytest.raises(ValueError, match="16 rows"):
        pack_block(np.zeros((4, 8), np.int8), "vnni", False)
