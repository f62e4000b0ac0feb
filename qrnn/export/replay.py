"""A program runs an exported model on a board: sequences of integers go in; outputs, states, instructions and stack come out.

Both streams are little-endian. In, for each sequence: its length (uint32), or that of each time axis, the inputs without a time axis, the
states that are given, then its steps' inputs; where every step is a row by itself, its states come behind its inputs. Out, for each
sequence: its steps' outputs, the outputs without a time axis, the members of the state, the states that can be given as they are read back.
A model that streams is given and gives all of one step before the next; one that reads whole sequences is given and gives all of one input
or output before the next. A model that counts rows gives how many come (uint32) before them: for each step and then for the end of the
sequence, or for the whole sequence. The length 0xFFFFFFFF ends the stream; `Counts` follow.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DeviceError
from qrnn.export.given_states import StatePort
from qrnn.export.ports import Port
from qrnn.export.source import Exported

END = 0xFFFFFFFF
MOST_WAITED = 1 << 16
"""The most steps in which a first row may come out of a model that counts rows, for the depth of the stack."""
KINDS: dict[str, np.dtype[Any]] = {
    "int16_t": np.dtype("<i2"),
    "int32_t": np.dtype("<i4"),
    "uint16_t": np.dtype("<u2"),
    "uint32_t": np.dtype("<u4"),
}
COUNTS = struct.Struct("<QIIII5I")
PHASES = ("input", "state", "gates", "other", "windows")
"""The phases of a step: W·x, R·h, gate functions with the new state, all else but convolutions and pools, and these; QRNN_PHASE_… of
targets/runtime/qrnn_types.h."""

PHASES_HEADER = "void replay_phase(unsigned phase);\n#define QRNN_PHASE(phase) replay_phase(phase)\n"
"""The text that is included before everything else where phases are counted, with REPLAY_PHASES defined."""

Vectors = Mapping[str, npt.NDArray[np.integer]]
"""The integers of one sequence by C name: [T, count] or [count]."""


@dataclass(frozen=True)
class Counts:
    """What a run counted: instructions in all calls together, the calls, the fewest and the most of one call, bytes of stack.

    ``instructions`` has those past the ends of sequences, too, which are no calls of their own. ``phases`` counts the same by `PHASES`; they
    are zeros where the program was built without.
    """

    instructions: int
    calls: int
    fewest: int
    most: int
    stack_bytes: int
    phases: tuple[int, ...]


@dataclass(frozen=True)
class Replayed:
    """A sequence's outputs by port name, and its final state by member."""

    outputs: dict[str, npt.NDArray[np.integer]]
    state: dict[str, npt.NDArray[np.integer]]


def sequence_steps(model: Exported, inputs: Vectors) -> dict[str, int]:
    """Return the steps of a sequence on each time axis, by the parameter of C that says them; 1 where no input is over time."""
    found = dict.fromkeys(model.lengths, 1)
    return found | {p.steps: len(inputs[p.name]) for p in model.inputs if p.has_time}


def sequence_length(model: Exported, inputs: Vectors) -> int:
    """Return the steps of a sequence, the most of a time axis; 1 where no input is over time."""
    return max(sequence_steps(model, inputs).values())


def encode_sequences(model: Exported, sequences: Sequence[Vectors]) -> bytes:
    """Return the input of the program."""
    parts: list[bytes] = []
    for inputs in sequences:
        timed, steps = [p for p in model.inputs if p.has_time], sequence_steps(model, inputs)
        states = [s.port for s in model.given]
        arrays = {p.name: np.ascontiguousarray(inputs[p.name], KINDS[p.kind]) for p in (*model.inputs, *states)}
        timed += [p for p in states if p.has_time]
        parts += [struct.pack("<I", steps[name]) for name in model.lengths]
        parts += [arrays[p.name].tobytes() for p in (*model.inputs, *states) if not p.has_time]
        if model.streams:
            parts += [arrays[p.name][t].tobytes() for t in range(steps["length"]) for p in timed]
        else:
            parts += [arrays[p.name].tobytes() for p in timed]
    return b"".join([*parts, struct.pack("<I", END)])


class ProgramOutput:
    """The bytes that a program wrote, as numbers that are taken one array after the other."""

    def __init__(self, output: bytes) -> None:
        self._output, self._at = output, 0

    def take(self, kind: str, *shape: int) -> npt.NDArray[np.integer]:
        """Return the next numbers of a type of C, such as ``int16_t``; DeviceError where the program wrote fewer."""
        dtype, count = KINDS[kind], int(np.prod(shape))
        if self._at + dtype.itemsize * count > len(self._output):
            raise DeviceError(
                f"the program wrote {len(self._output)} bytes, expected more; it was built for another model"
            )
        found = np.frombuffer(self._output, dtype, count, self._at).reshape(shape)
        self._at += found.nbytes
        return found

    def end(self, size: int = 0) -> bytes:
        """Return the last ``size`` bytes; DeviceError where more or fewer were not taken yet."""
        if len(self._output) - self._at != size:
            expected = size or "none"
            raise DeviceError(
                f"the program wrote {len(self._output) - self._at} bytes after its results, expected {expected}"
            )
        return self._output[self._at :]


def decode_sequences(
    model: Exported, lengths: Sequence[int | Mapping[str, int]], output: bytes
) -> tuple[list[Replayed], Counts]:
    """Read the program's output; DeviceError where it is not of the size that these sequences give.

    ``lengths`` has the steps of each sequence, or those of each of its time axes (`sequence_steps`).
    """
    written = ProgramOutput(output)
    take = written.take
    found: list[Replayed] = []
    timed = [p for p in model.outputs if p.has_time]
    for own in lengths:
        steps_of = dict.fromkeys(model.lengths, own) if isinstance(own, int) else own
        length = max(steps_of.values())
        outputs: dict[str, npt.NDArray[np.integer]] = {}
        if model.counts_rows:
            calls = []
            for _ in range(length + model.finishes if model.streams else 1):
                rows = int(take("uint32_t", 1)[0])
                calls.append([take(p.kind, rows, p.count) for p in timed])
            outputs = {p.name: np.concatenate([call[k] for call in calls]) for k, p in enumerate(timed)}
        elif model.streams:
            steps = [[take(p.kind, p.count) for p in timed] for _ in range(length)]
            outputs = {p.name: np.stack([step[k] for step in steps]) for k, p in enumerate(timed)}
        else:
            outputs = {p.name: take(p.kind, steps_of[p.steps], p.count) for p in timed}
        outputs |= {p.name: take(p.kind, p.count) for p in model.outputs if not p.has_time}
        state = {f.name: take(f.kind, f.count) for f in model.compared_state}
        state |= {read_back(s): take(s.port.kind, s.port.count) for s in model.given}
        found.append(Replayed(outputs, state))
    instructions, calls, fewest, most, stack_bytes, *phases = COUNTS.unpack(written.end(COUNTS.size))
    return found, Counts(instructions, calls, fewest, most, stack_bytes, tuple(phases))


def replay_source(model: Exported, most_steps: int) -> str:
    """Return the program for sequences of at most ``most_steps`` steps; see board.h for what runs it."""
    steps = "1U" if model.streams else f"{most_steps}U"
    rows = f"{model.most_rows if model.streams else max(1, model.rows_of(most_steps))}U"
    buffers = [f"static {p.kind} port_{p.name}[{_size(p, steps)}];" for p in model.inputs]
    buffers += [f"static {p.kind} port_{p.name}[{_size(p, rows)}];" for p in model.outputs]
    buffers += [f"static {s.port.kind} given_{s.port.name}[{s.port.count}U];" for s in model.given]
    buffers += ["static uint32_t rows;"] if model.counts_rows else []
    if not model.streams:
        buffers.append(f"static int16_t work[{model.name.upper()}_WORK({steps})];")
    timed_in = [_read(p, "1U" if model.streams else p.steps) for p in model.inputs if p.has_time]
    written = "rows" if model.counts_rows else "1U" if model.streams else ""
    timed_out = ["board_write(&rows, sizeof(rows));"] if model.counts_rows else []
    timed_out += [_write(p, written or p.steps) for p in model.outputs if p.has_time]
    verb = "step" if model.streams else "run"
    arguments = ["&state", *(f"port_{p.name}" for p in model.inputs)]
    arguments += [] if model.streams else model.lengths
    arguments += [*(f"port_{p.name}" for p in model.outputs), *([] if model.streams else ["work"])]
    arguments += model.last_arguments
    filling = 1 if model.whole is None else min(model.whole.filling_steps, most_steps)
    first = [f"{filling}U" if a in model.lengths else a for a in arguments]
    leading, *others = model.lengths
    result = "rows = " if model.counts_rows else ""
    call = f"{result}{model.name}_{verb}({', '.join(arguments)});"
    timed_in += [line for s in model.given if s.port.has_time for line in _set(model, s)]
    one = [*timed_in, "enter();", "before = board_instructions();", call]
    one += ["count(board_instructions() - before);", "leave();", *timed_out]
    body = [f"    {line}" for line in one]
    if model.streams:
        body = ["    for (uint32_t t = 0U; t < length; t++) {", *(f"    {line}" for line in body), "    }"]
    deepest = [f"{result}{model.name}_{verb}({', '.join(first)});"]
    if model.counts_rows and model.streams:  # layers are called where rows come out of those before them
        deepest = [f"for (uint32_t k = 0U; (rows == 0U) && (k < {MOST_WAITED}U); k++) {{", f"    {deepest[0]}", "}"]
    if model.finishes:
        past = [p for p in model.inputs if not p.has_time]
        given = [f"port_{p.name}" for p in (*past, *model.outputs)]
        ended = ", ".join(["&state", *given, *model.last_arguments])
        deepest.append(f"rows = {model.name}_finish({ended});")
        finish = ["enter();", "before = board_instructions();", f"rows = {model.name}_finish({ended});"]
        finish += ["add(board_instructions() - before);", "leave();"]
        body += [f"    {line}" for line in (*finish, *timed_out)]
    return "\n".join(
        [
            f'#include "{model.name}.h"',
            '#include "board.h"',
            "",
            f"static {model.name}_state state;",
            *model.scratch_variable,
            *buffers,
            "static uint32_t counts[6]; /* instructions, their high word, calls, fewest, most, stack */",
            f"static uint32_t phases[{len(PHASES)}];",
            "",
            _PHASES,
            "",
            "static void add(uint32_t instructions)",
            "{",
            "    counts[0] += instructions;",
            "    counts[1] += (counts[0] < instructions) ? 1U : 0U;",
            "}",
            "",
            "static void count(uint32_t instructions)",
            "{",
            "    add(instructions);",
            "    counts[2]++;",
            "    counts[3] = ((counts[2] == 1U) || (instructions < counts[3])) ? instructions : counts[3];",
            "    counts[4] = (instructions > counts[4]) ? instructions : counts[4];",
            "}",
            "",
            "int main(void)",
            "{",
            *(f"    uint32_t {name};" for name in model.lengths),
            "    uint32_t before;",
            "",
            f"    {model.name}_init(&state);",
            "    board_stack_paint();",
            "    /* How deep the stack becomes does not depend on values. */",
            *(f"    {line}" for line in deepest),
            "    counts[5] = board_stack_used();",
            "    calibrate();",
            f"    while ((board_read(&{leading}, sizeof({leading})) == sizeof({leading})) && ({leading} != 0x{END:X}U)) {{",
            *(f"        (void)board_read(&{name}, sizeof({name}));" for name in others),
            *(
                line
                for name in (() if model.streams else model.lengths)
                for line in (f"        if ({name} > {steps}) {{", "            return 2;", "        }")
            ),
            f"        {model.name}_reset(&state);",
            *(f"        {_read(p, '1U')}" for p in model.inputs if not p.has_time),
            *(f"        {line}" for s in model.given if not s.port.has_time for line in _set(model, s)),
            *(f"    {line}" for line in body),
            *(f"        {_write(p, '1U')}" for p in model.outputs if not p.has_time),
            *(f"        board_write(state.{f.name}, sizeof(state.{f.name}));" for f in model.compared_state),
            *(f"        {line}" for s in model.given for line in _got(model, s)),
            "    }",
            "    board_write(counts, sizeof(counts));",
            "    board_write(phases, sizeof(phases));",
            "    return 0;",
            "}",
            "",
        ]
    )


_PHASES = """#if defined(REPLAY_PHASES)
/* Instructions since the last call belong to the phase that it named, but for those of calling: `cost`, found by the first two calls. */
static uint32_t since;
static uint32_t current;
static uint32_t cost;

void replay_phase(unsigned phase)
{
    const uint32_t spent = board_instructions() - since;

    phases[current] += spent - cost;
    current = phase;
    since = board_instructions();
}

static void enter(void)
{
    current = 3U;
    since = board_instructions();
}

/* Nothing lies between these two: what is counted is what counting costs. */
static void calibrate(void)
{
    cost = 0U;
    phases[3] = 0U;
    enter();
    replay_phase(0U);
    cost = phases[3];
    for (uint32_t k = 0U; k < sizeof(phases) / sizeof(phases[0]); k++) {
        phases[k] = 0U;
    }
}
#define leave() replay_phase(3U)
#else
#define calibrate() ((void)0)
#define enter() ((void)0)
#define leave() ((void)0)
#endif
"""


def read_back(state: StatePort) -> str:
    """Return the name among the members of the state for what NAME_get_STATE gives."""
    return f"{state.port.name} read back"


def _set(model: Exported, state: StatePort) -> list[str]:
    """Return statements that read a state and set it; a value out of its range ends the program."""
    name = state.port.name
    return [
        f"(void)board_read(given_{name}, (uint32_t)sizeof(given_{name}));",
        f"if ({model.name}_set_{name}(&state, given_{name}) != 0) {{",
        "    return 3;",
        "}",
    ]


def _got(model: Exported, state: StatePort) -> list[str]:
    """Return statements that read a state back and write it."""
    name = state.port.name
    return [
        f"{model.name}_get_{name}(&state, given_{name});",
        f"board_write(given_{name}, (uint32_t)sizeof(given_{name}));",
    ]


def _size(port: Port, steps: str) -> str:
    return f"{port.count}U * {steps}" if port.has_time else f"{port.count}U"


def _read(port: Port, steps: str) -> str:
    return f"(void)board_read(port_{port.name}, {steps} * {port.count}U * (uint32_t)sizeof(*port_{port.name}));"


def _write(port: Port, steps: str) -> str:
    return f"board_write(port_{port.name}, {steps} * {port.count}U * (uint32_t)sizeof(*port_{port.name}));"
