"""Known hardware, as data: each target is one TOML file in ``targets/``, or anywhere else when it is named by its path.

docs/add_a_target.md walks through every key. The classes below are the file's sections, and their fields its keys: a field with a default
is a key that may be left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from qrnn.errors import QuantizationError, TargetError
from qrnn.system.brief import Described
from qrnn.system.files import read_regular, reason
from qrnn.system.sizes import size_text

Kernels = Literal["plain", "mla", "dsp", "mve", "avr", "avx2", "vnni", "neon", "wasm", "rvv"]
Board = Literal["arm_m", "arm_ar", "riscv32", "xtensa", "avr", "host"]

MOST_BYTES = 1 << 20
"""The most bytes that a target's file may have; qrnn's own have about a thousand."""

_TICKING: dict[Board | None, str] = {"arm_m": "SysTick", "xtensa": "CCOUNT"}
"""The boards that count ticks of a timer, and the timer."""

_EXACT: dict[Board | None, str] = {"riscv32": "minstret", "arm_ar": "the cycle counter"}
"""The boards that read a counter of nanoseconds of virtual time, and the counter."""

_POSITIVE = ("word_bits", "flash_bytes", "ram_bytes", "clock_hz", "tick_hz", "flash_line_bytes", "multiply_cycles")
"""The keys of sections whose numbers are more than 0."""

_SHIFTS = range(11)
"""The shifts that QEMU's ``-icount`` accepts."""


@dataclass(frozen=True)
class Core:
    """The processor: bits of a register, instructions that count, and the kernels of dot products that exported C uses.

    ``counter`` is what counts its clock cycles for a program: a file of ``targets/counters``, without its ending; None where none is known.
    """

    word_bits: int
    instructions: tuple[str, ...]
    kernels: Kernels = "plain"
    counter: str | None = None


@dataclass(frozen=True)
class Memory:
    """Flash and RAM in bytes and the clock in Hz of one typical ``device``; None where there is no limit, or it is not known.

    ``wait_states`` are the cycles that the flash adds to a read at that clock, without a cache, and ``flash_line_bytes`` are what one read
    brings, a word where left out; docs/devices.md, "Cycles", says what they do to estimates.
    """

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    clock_hz: int | None = None
    wait_states: int | None = None
    flash_line_bytes: int | None = None
    device: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Build:
    """How C is built: ``board`` names the start-up code in ``targets/boards``, the rest the compilers that know the core.

    ``core`` takes the place of the core in ``-mcpu`` where the compiler knows it, for cores that older compilers do not know. ``gnu`` is the
    prefix of GNU's tools ("arm-none-eabi"), ``gnu_package`` Debian's package of them. A compiler without flags is not used.
    ``gnu_link_flags``, where given, take the place of ``gnu_flags`` when GNU's compiler links, which chooses its library by them. Board
    "host" needs no flags: it is the compiler's own machine.
    """

    board: Board | None = None
    core: str | None = None
    gnu: str | None = None
    gnu_package: str | None = None
    gnu_flags: tuple[str, ...] = ()
    gnu_link_flags: tuple[str, ...] = ()
    clang_flags: tuple[str, ...] = ()
    zig_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Emulation:
    """The machine of QEMU or simavr that stands for the device, its memory map in bytes, and its timer.

    Under QEMU each instruction takes 2^``icount_shift`` ns of virtual time; ``tick_hz`` is the rate of SysTick (Arm) or CCOUNT (Xtensa), from
    which instructions are counted. ``counts`` is what is counted: QEMU counts instructions, simavr clock cycles. ``load`` is how QEMU takes
    the program: "kernel", or "device" for a machine that boots none. ``core`` says what is emulated, ``note`` where that differs from the
    target.
    """

    command: str
    package: str
    machine: str
    core: str
    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    icount_shift: int = 0
    tick_hz: int | None = None
    counts: Literal["instructions", "cycles"] = "instructions"
    load: Literal["kernel", "device"] = "kernel"
    options: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Host:
    """A machine with an operating system, or an engine of WebAssembly: how programs and libraries are built for it and run.

    ``machine`` is the architecture, by Python's `platform.machine`, and ``features`` are the words of Linux's ``/proc/cpuinfo`` that a
    processor must have. Of ``compilers``, the first one that is installed and makes the kernels' instructions is taken, with ``flags`` and,
    where its name begins with clang, ``clang_flags``; programs have ``program_flags`` too. ``binutils`` is the prefix of ar and objcopy.
    ``emulator`` runs programs on other machines, which are then built with ``emulator_flags`` in addition; ``packages`` are Debian's. A
    library for ``variants``, other targets of the same machine, best first, takes the first whose instructions the processor has at run
    time, and else this target's own kernels.
    """

    machine: str
    compilers: tuple[str, ...]
    features: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    clang_flags: tuple[str, ...] = ()
    program_flags: tuple[str, ...] = ()
    binutils: str | None = None
    emulator: tuple[str, ...] = ()
    emulator_flags: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Figures for estimates of time: cycles per instruction, instructions per multiply-add, gate function and step; and their ``source``.

    A time step of a model is estimated as ``step + unit * values of gate functions + mac * multiply-adds`` instructions, both counted by
    `qrnn.devices.measure.work`: an LSTM has five values for each unit, a GRU three, an RNN one. Any may be None: not known. ``like`` is the
    target whose counted instructions they are, where they are not counted on this one.
    """

    source: str
    cycles_per_instruction: float | None = None
    instructions_per_mac: float | None = None
    instructions_per_unit: float | None = None
    instructions_per_step: float | None = None
    like: str | None = None


@dataclass(frozen=True)
class Timing:
    """How executed instructions become cycles.

    ``rules`` names a file of ``targets/timings``, the timings in the core's manual; ``multiply_cycles``, where given, are those of a
    multiplication. ``model`` is the processor whose model in llvm-mca is used, the option ``-mcpu``, from version ``least_llvm`` on.
    """

    rules: str | None = None
    multiply_cycles: int | None = None
    model: str | None = None
    least_llvm: int = 14


@dataclass(frozen=True)
class Energy:
    """The current of the typical device while its core computes, in µA for each MHz of its clock, the supply in V, and their ``source``."""

    microamps_per_mhz: float
    volts: float
    source: str

    @property
    def joules_per_cycle(self) -> float:
        """Return the energy of a cycle in joules: the current over the clock, times the supply."""
        return 1e-12 * self.microamps_per_mhz * self.volts


@dataclass(frozen=True)
class ListCosts:
    """What a multiply-add of block-sparse weights costs, in multiply-adds of weights that are not: of ``tiles`` of four rows, and of ``rows``.

    A matrix has the lists (`qrnn.export.lists`) whose multiply-adds times their cost are fewest; none where these are as many as its weights.
    """

    tiles: float = 2.0
    rows: float = 4.0


@dataclass(frozen=True)
class Target(Described):
    """One device. ``scheme`` holds defaults for `qrnn.Scheme`, and ``note`` is for people."""

    name: str
    description: str
    core: Core
    scheme: dict[str, Any]
    memory: Memory = field(default_factory=Memory)
    build: Build = field(default_factory=Build)
    emulation: Emulation | None = None
    host: Host | None = None
    cost: Cost | None = None
    timing: Timing = field(default_factory=Timing)
    energy: Energy | None = None
    lists: ListCosts = field(default_factory=ListCosts)
    note: str | None = None

    def describe_lines(self) -> Iterator[str]:
        """Yield what the device is: its description, memory, clock, and the kernels that exported C uses."""
        yield f"Target {self.name!r}: {self.description}"
        memory = self.memory
        sizes = [
            f"{size_text(count)} of {what}"
            for what, count in (("flash", memory.flash_bytes), ("RAM", memory.ram_bytes))
            if count is not None
        ]
        clock = [] if memory.clock_hz is None else [f"{memory.clock_hz / 1e6:g} MHz"]
        if sizes or clock:
            yield f"  {', '.join([*sizes, *clock])}" + ("" if memory.device is None else f" ({memory.device})")
        yield f"  kernels {self.core.kernels}; emulated: {self.emulation.core if self.emulation else 'no'}"

    @property
    def compiler_flags(self) -> tuple[str, ...]:
        """Return the flags that choose the processor, of GNU's compiler or, for a host, of the first of its compilers."""
        if self.host is None:
            return self.build.gnu_flags
        return (*self.host.flags, *(self.host.clang_flags if self.host.compilers[0].startswith("clang") else ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def targets_folder() -> Path:
    """Return the folder of the TOML files, inside the installed package or beside it in a source checkout."""
    installed = Path(str(files("qrnn"))) / "targets"
    return installed if installed.is_dir() else Path(str(files("qrnn"))).parent / "targets"


def read_target(path: Path) -> Target:
    """Read and check a TOML file."""
    try:
        table = tomllib.loads(read_regular(path, MOST_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TargetError(f"{path}: {error}") from None
    except OSError as error:
        why = reason(error)
        why = why[:1].upper() + why[1:]
        raise TargetError(f"{path}: {why}; expected the .toml file of a target") from None
    target: Target = read_section(path, Target, table, "")
    if target.name != path.stem:
        raise TargetError(f"{path}: name is {target.name!r}, expected the file's own name {path.stem!r}")
    parts = {"core": target.core, "memory": target.memory, "emulation": target.emulation, "timing": target.timing}
    for where, part in parts.items():
        check_sizes(path, where, part)
    check_rules(path, "", target.timing)
    check_counter(path, "core", target.core.counter)
    if target.emulation is not None:
        _check_timer(path, target.build.board, target.emulation)
    _complete_scheme(path, target.scheme)
    return target


def check_sizes(path: Path, where: str, part: Any) -> None:
    """Refuse sizes and rates of a section that are not more than 0, and less than no wait states."""
    for key in _POSITIVE:
        value = getattr(part, key, None)
        if value is not None and value <= 0:
            raise TargetError(f"{path}: {where}.{key} = {value}, expected more than 0")
    if (getattr(part, "wait_states", None) or 0) < 0:
        raise TargetError(f"{path}: {where}.wait_states = {part.wait_states}, expected 0 or more")


def check_rules(path: Path, where: str, timing: Timing) -> None:
    """Refuse the name of rules that no file of ``targets/timings`` has."""
    names = sorted(file.stem for file in (targets_folder() / "timings").glob("*.toml"))
    if timing.rules is not None and timing.rules not in names:
        raise TargetError(f"{path}: {where}timing.rules = {timing.rules!r}, expected one of {', '.join(names)}")


def counter_names() -> tuple[str, ...]:
    """Return the names of the counters of clock cycles that a target may have."""
    return tuple(sorted(path.stem for path in (targets_folder() / "counters").glob("*.h")))


def check_counter(path: Path, where: str, counter: str | None) -> None:
    """Refuse a counter of which there is no file."""
    if counter is not None and counter not in counter_names():
        raise TargetError(f"{path}: {where}.counter = {counter!r}, expected one of {', '.join(counter_names())}")


def _check_timer(path: Path, board: Board | None, emulation: Emulation) -> None:
    """Refuse a timer by which instructions cannot be counted exactly.

    More than two ticks must pass with each instruction, as `targets/boards/arm_m.c` says.
    """
    if emulation.icount_shift not in _SHIFTS:
        raise TargetError(f"{path}: emulation.icount_shift = {emulation.icount_shift}, expected 0 to 10")
    if board in _TICKING:
        if emulation.tick_hz is None:
            raise TargetError(
                f"{path}: key 'emulation.tick_hz' is missing; expected int, the rate of {_TICKING[board]}"
            )
        if emulation.tick_hz << emulation.icount_shift <= 2_000_000_000:
            raise TargetError(
                f"{path}: emulation.icount_shift = {emulation.icount_shift} at tick_hz = {emulation.tick_hz} is at most two ticks "
                "an instruction; raise icount_shift"
            )
    elif board in _EXACT and emulation.icount_shift != 0:
        raise TargetError(
            f"{path}: emulation.icount_shift = {emulation.icount_shift}, expected 0, where {_EXACT[board]} is exact"
        )


def _complete_scheme(path: Path, scheme: dict[str, Any]) -> None:
    """Check the scheme and fill in its defaults."""
    from qrnn.quantization.scheme import Scheme  # costly to import, and only needed to check

    try:
        scheme.update(Scheme(**scheme).to_dict())
    except (TypeError, QuantizationError) as error:
        raise TargetError(f"{path}: [scheme] {error}") from None


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a section's fields, without the None of those that may be left out: TOML has no null."""
    unions = (Union, UnionType)
    hints = get_type_hints(kind)
    return {name: get_args(hint)[0] if get_origin(hint) in unions else hint for name, hint in hints.items()}


def read_section(path: Path, kind: type, table: dict[str, Any], where: str) -> Any:
    """Make a dataclass from a table whose keys are its fields."""
    values = {}
    for entry in fields(kind):
        expected = _hints(kind)[entry.name]
        if entry.name in table:
            values[entry.name] = _value(path, where + entry.name, expected, table[entry.name])
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise TargetError(f"{path}: key {where + entry.name!r} is missing; expected {_words(expected)}")
    for key in table:
        if key not in values:
            raise TargetError(f"{path}: key {where + key!r} is unknown; remove it")
    return kind(**values)


def _value(path: Path, key: str, expected: Any, value: Any) -> Any:
    """Return ``value`` as the type that a field has."""
    if is_dataclass(expected) and isinstance(expected, type) and isinstance(value, dict):
        return read_section(path, expected, value, f"{key}.")
    origin = get_origin(expected)
    if origin is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if origin is Literal and value in get_args(expected):
        return value
    if origin is dict and isinstance(value, dict):
        return value
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if expected in (int, str) and isinstance(value, expected) and not isinstance(value, bool):
        return value
    raise TargetError(f"{path}: {key} = {value!r}, expected {_words(expected)}")


def _words(expected: Any) -> str:
    """Return a field's type in words."""
    origin = get_origin(expected)
    if origin is tuple:
        return "a list of str"
    if origin is Literal:
        return " or ".join(map(repr, get_args(expected)))
    if origin is dict or is_dataclass(expected):
        return "a table"
    return "a number, 0 or more" if expected is float else str(expected.__name__)
