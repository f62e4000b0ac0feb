"""A program that generates with exported C on a board, and what the host generates for the same integers.

Both streams are little-endian. In, for each case: `HEADER`, the stop tokens (uint16), the inputs without a time axis, the prompt, and the other
inputs over time. Out, for each case: how many steps were generated (uint32), these, of a transducer their frames (uint32), and the members of
the state. The length 0xFFFFFFFF ends the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.export.generation_code import GenerationCode
from qrnn.export.ports import Port
from qrnn.export.replay import END, KINDS, ProgramOutput, Replayed, Vectors, sequence_length
from qrnn.export.source import Exported
from qrnn.model.choosing import ChoiceNumbers, Sampling, choice_numbers
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

HEADER = struct.Struct("<6I4i")
"""The steps of the prompt or the frames, the steps or tokens at most, the tokens of a frame at most, the number of stop tokens, the seed in
two words; multiplier, shift, top_k and top_p of the choice."""

MOST_PROMPT = 4
MOST_STEPS = 12
MOST_SYMBOLS = 2
"""The sizes of cases: a device has room for no more than it must."""

SEED = 0x1234_5678_9ABC_DEF0


@dataclass(frozen=True)
class Case:
    """A prompt with its other inputs by C name, as `Vectors`, and what is to follow; of a transducer the prompt is one token."""

    inputs: Vectors
    length: int
    steps: int
    sampling: Sampling | None
    stop: tuple[int, ...] = ()
    seed: int = SEED


def _code_of(exported: Exported) -> GenerationCode:
    assert exported.generates is not None
    return exported.generates


def cases_of(exported: Exported, sequences: Sequence[Vectors]) -> list[Case]:
    """Return cases from sequences of integers: the first steps are the prompt, and the rest of other inputs goes on beside what follows."""
    code = _code_of(exported)
    timed = [p for p in code.others if p.has_time]
    found: list[Case] = []
    for n, sequence in enumerate(sequences):
        length = sequence_length(exported, sequence)
        if code.plan.blank is not None:
            frames = min(length, MOST_STEPS)
            given = {code.fed.name: sequence[code.fed.name][:1]} | {p.name: sequence[p.name][:frames] for p in timed}
            lengths = frames, MOST_SYMBOLS * frames
        else:
            prompt = min(MOST_PROMPT, max(1, length // 2))
            steps = min(MOST_STEPS, length - prompt + 1) if timed else MOST_STEPS
            given = {code.fed.name: sequence[code.fed.name][:prompt]}
            given |= {p.name: sequence[p.name][: prompt + steps - 1] for p in timed}
            lengths = prompt, steps
        given |= {p.name: sequence[p.name] for p in code.others if not p.has_time}
        choices: list[Sampling | None] = [None]
        if code.draws:
            choices += [code.plan.generation.sampling, Sampling(2.0, top_k=5, top_p=0.9)]
        ending = () if code.kind == "values" or n % 2 == 0 else (1 if code.plan.blank == 0 else 0,)
        found += [Case(given, *lengths, choice, ending, SEED + n) for choice in choices]
    return found


def host_generated(
    model: QuantModel, exported: Exported, cases: Sequence[Case], backend: str = "cpu"
) -> list[Replayed]:
    """Return what a session of this machine generates, and the state that it ends with."""
    code, session, found = _code_of(exported), Session(model, backend, integers=True), []
    feedback, generation = code.plan.feedback, code.plan.generation
    shapes = {i.name: i.shape for i in model.inputs}
    for case in cases:
        inputs: dict[str, npt.NDArray[Any]] = {}
        for port in (code.fed, *code.others):
            values, shape = case.inputs[port.name], shapes[port.graph_name]
            tokens = port.kind.startswith("u")
            lead = (1, len(values)) if port.has_time else (1,)
            inputs[port.graph_name] = values.astype(np.int64 if tokens else np.int16).reshape(
                *lead, *(() if tokens else shape)
            )
        result = session.generate(
            inputs, steps=case.steps, sampling=case.sampling, seed=case.seed, stop=case.stop, one_hot=feedback.kind == "one_hot" or None,
            feed={feedback.input.name: feedback.output.name}, blank=generation.blank, most_symbols=MOST_SYMBOLS,
        )  # fmt: skip
        values = result.tokens[0] if result.values is None else result.values[0]
        outputs: dict[str, npt.NDArray[np.integer]] = {"generated": values.reshape(len(values), -1)}
        if result.frames is not None:
            outputs["frames"] = result.frames[0][:, None]
        state = {}
        for f in exported.compared_state:
            assert f.array is not None
            value = result.state.layers[f.layer][f.array][0]
            state[f.name] = (value if f.part is None else value[f.part]).reshape(-1)
        found.append(Replayed(outputs, state))
    return found


def numbers_of(exported: Exported, case: Case) -> ChoiceNumbers:
    """Return the integers of a case's choice."""
    scored = _code_of(exported).plan.feedback.scored
    return (
        ChoiceNumbers()
        if scored is None
        else choice_numbers(case.sampling, scored.unit, scored.kind == "probabilities")
    )


def encode_cases(exported: Exported, cases: Sequence[Case]) -> bytes:
    """Return the input of the program."""
    code, parts = _code_of(exported), []
    for case in cases:
        n = numbers_of(exported, case)
        seed = case.seed & 0xFFFFFFFF, case.seed >> 32
        words = case.length, case.steps, MOST_SYMBOLS, len(case.stop), *seed, n.multiplier, n.shift, n.top_k, n.top_p
        parts += [HEADER.pack(*words), np.array(case.stop, "<u2").tobytes()]
        ports = [*(p for p in code.others if not p.has_time), code.fed, *(p for p in code.others if p.has_time)]
        parts += [np.ascontiguousarray(case.inputs[p.name], KINDS[p.kind]).tobytes() for p in ports]
    return b"".join([*parts, HEADER.pack(END, *[0] * 9)])


def decode_cases(exported: Exported, count: int, output: bytes) -> list[Replayed]:
    """Read the program's output for so many cases; DeviceError where it is of another size."""
    code, written = _code_of(exported), ProgramOutput(output)
    values, found, take = code.kind == "values", [], written.take
    for _ in range(count):
        steps = int(take("uint32_t", 1)[0])
        outputs = {"generated": take("int16_t" if values else "uint16_t", steps, code.read.count if values else 1)}
        if code.plan.blank is not None:
            outputs["frames"] = take("uint32_t", steps, 1)
        found.append(Replayed(outputs, {f.name: take(f.kind, f.count) for f in exported.compared_state}))
    written.end()
    return found


def generate_call(exported: Exported, others: Mapping[str, str], words: Mapping[str, str]) -> str:
    """Return the call of NAME_generate or NAME_transduce.

    ``others`` has the other inputs by their names in C, and ``words`` the rest of the arguments by what they are.
    """
    code, name = _code_of(exported), exported.name
    given = ["&state"]
    given += [words["choice"], words["draws"]] if code.draws else []
    given += [words["token" if code.plan.blank is not None else "prompt"]]
    given += [others[p.name] for p in code.others]
    if code.plan.blank is not None:
        given += [words[word] for word in ("length", "most", "stop", "stops", "steps", "generated", "frames")]
        return f"{name}_transduce({', '.join(given)})"
    given += [words["length"], words["steps"]]
    given += [] if code.kind == "values" else [words["stop"], words["stops"]]
    return f"{name}_generate({', '.join([*given, words['generated']])})"


def generation_source(exported: Exported, cases: Sequence[Case]) -> str:
    """Return the program, with room for these cases; see board.h for what runs it."""
    code, name, blank = _code_of(exported), exported.name, _code_of(exported).plan.blank
    rows = {p.name: max(len(c.inputs[p.name]) if p.has_time else 1 for c in cases) for p in (code.fed, *code.others)}
    most, stops = max(c.steps for c in cases), max(1, 1, *(len(c.stop) for c in cases))
    values = code.kind == "values"
    kind, each = ("int16_t", code.read.count) if values else ("uint16_t", 1)
    inputs = (code.fed, *code.others)
    buffers = [f"static {p.kind} port_{p.name}[{p.count * rows[p.name]}];" for p in inputs]
    buffers += [
        f"static {kind} made[{most * each}];",
        *([f"static uint32_t places[{most}];"] if blank is not None else []),
    ]
    buffers += [] if values else [f"static uint16_t stop[{stops}];"]
    words = {
        "prompt": f"port_{code.fed.name}", "token": "&token" if code.kind == "one_hot" else f"port_{code.fed.name}",
        "length": "h[0]", "steps": "h[1]",
        "most": "h[2]", "stops": "h[3]", "stop": "stop", "choice": "&choice", "draws": "&draws", "generated": "made", "frames": "places",
    }  # fmt: skip
    checks = [f"(h[1] > {most}U)", *([] if values else [f"(h[3] > {stops}U)"])]
    body = [f"{name}_reset(&state);"]
    body += [] if values else ["(void)board_read(stop, h[3] * (uint32_t)sizeof(*stop));"]
    body += [_read(p, "1U") for p in code.others if not p.has_time]
    body += [_read(code.fed, "1U" if blank is not None else "h[0]")]
    timed = "h[0]" if blank is not None else "(h[0] + h[1] - 1U)"
    body += [_read(p, timed) for p in code.others if p.has_time]
    if code.draws:
        body += [f"const {name}_choice choice = {{(int32_t)h[6], (int32_t)h[7], (int32_t)h[8], (int32_t)h[9]}};"]
        body += [f"{name}_draws draws = {{{{h[4], h[5]}}, {{0U, 0U}}}};"]
    if blank is not None and code.kind == "one_hot":
        body += ["uint16_t token = 0U;", f"for (uint32_t k = 1U; k < {code.fed.count}U; k++) {{"]
        body += [f"    token = (port_{code.fed.name}[k] > port_{code.fed.name}[token]) ? (uint16_t)k : token;", "}"]
    body += [
        f"const uint32_t count = {generate_call(exported, {p.name: f'port_{p.name}' for p in code.others}, words)};",
        "board_write(&count, sizeof(count));",
    ]
    body += [f"board_write(made, count * {each}U * (uint32_t)sizeof(*made));"]
    body += ["board_write(places, count * (uint32_t)sizeof(*places));"] if blank is not None else []
    body += [f"board_write(state.{f.name}, sizeof(state.{f.name}));" for f in exported.compared_state]
    return "\n".join(
        [
            f'#include "{name}.h"',
            '#include "board.h"',
            "",
            f"static {name}_state state;",
            *buffers,
            "",
            "int main(void)",
            "{",
            "    uint32_t h[10];",
            "",
            f"    {name}_init(&state);",
            f"    while ((board_read(h, sizeof(h)) == sizeof(h)) && (h[0] != 0x{END:X}U)) {{",
            f"        if ({' || '.join(checks)}) {{",
            "            return 2;",
            "        }",
            *(f"        {line}" for line in body),
            "    }",
            "    return 0;",
            "}",
            "",
        ]
    )


def _read(port: Port, rows: str) -> str:
    return f"(void)board_read(port_{port.name}, {rows} * {port.count}U * (uint32_t)sizeof(*port_{port.name}));"
