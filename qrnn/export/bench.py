"""NAME_bench is C for a board: it runs the self-test, times calls by the target's counter, and prints one line of JSON.

The code is `targets/bench`; what counts cycles is a file of ``targets/counters``, which the target names. `qrnn.devices.board_result` reads the
line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qrnn.export.boundary import c_string
from qrnn.export.c_text import caller_array
from qrnn.export.expected import host_rows
from qrnn.export.packages import substituted
from qrnn.export.ports import Port, is_cell_tensor
from qrnn.export.replay import Vectors
from qrnn.export.source import Exported
from qrnn.export.trace import trace_declaration, traced_tensors
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, targets_folder

MOST_ROW_BYTES = 1 << 15
"""The most bytes of rows of layers, which are there for a build that is traced alone."""

MOST_AVR_ROW_BYTES = 1 << 10
"""The same for an AVR, whose compiler keeps them in RAM."""

LENGTH = 16
"""The steps of the sequence that is timed, of a model that reads whole ones."""


def bench_files(
    model: QuantModel, exported: Exported, target: Target, sequences: Sequence[Vectors], include: str
) -> dict[str, str]:
    """Return the texts of the files by their names; ``include`` is where NAME.h lies, seen from them.

    ``sequences`` are those of the self-test, whose rows of layers are compared in C that is traced.
    """
    name, root = exported.name, targets_folder() / "bench"
    steps = 1 if exported.streams else max(LENGTH, 0 if exported.whole is None else exported.whole.filling_steps)
    values = {
        "name": name,
        "NAME": name.upper(),
        "include": include,
        "steps": f"{steps}U",
        "buffers": "\n".join(_buffers(exported, steps)),
        "fill": "\n".join(f"    {line}" for line in _fill(model, exported, steps)),
        "call": _call(exported, steps),
        "rows": "\n".join(_rows(model, exported, target, sequences)),
    }
    return {
        f"{name}_bench.h": substituted(root / "bench.h", values),
        f"{name}_bench.c": substituted(root / "bench.c", values),
        "qrnn_counter.h": counter_path(target).read_text(encoding="utf-8"),
    }


def bench_main(name: str) -> str:
    """Return a program for a machine with a standard output."""
    return substituted(targets_folder() / "bench" / "main.c", {"name": name})


def counter_path(target: Target) -> Path:
    """Return the file that counts the target's clock cycles."""
    return targets_folder() / "counters" / f"{target.core.counter or 'none'}.h"


def sequence_macro(name: str) -> list[str]:
    """Return the lines of C by which the self-test tells which of its sequences begins, where it is traced."""
    macro = f"{name.upper()}_SEQUENCE"
    lines = [
        f"#if defined({name.upper()}_TRACE)",
        f"void {name}_sequence(uint32_t n);",
        f"#define {macro}(n) {name}_sequence(n)",
    ]
    return [*lines, "#else", f"#define {macro}(n) ((void)0)", "#endif", ""]


def _size(exported: Exported, port: Port, steps: int, written: bool) -> int:
    """Return the elements of a port in the call that is timed."""
    rows = steps
    if written:
        rows = exported.most_rows if exported.streams else max(1, exported.rows_of(steps))
    return port.count * (rows if port.has_time else 1)


def _buffers(exported: Exported, steps: int) -> list[str]:
    name = exported.name
    lines = [f"static {name}_state state;", *exported.scratch_variable]
    lines += [f"static {p.kind} in_{p.name}[{_size(exported, p, steps, False)}];" for p in exported.inputs]
    lines += [f"static {p.kind} out_{p.name}[{_size(exported, p, steps, True)}];" for p in exported.outputs]
    return lines + ([] if exported.streams else [f"static int16_t work[{name.upper()}_WORK({steps}U)];"])


def _fill(model: QuantModel, exported: Exported, steps: int) -> list[str]:
    """Return the statements that draw inputs from their ranges; a sequence that is timed begins with its state."""
    lines = [] if exported.streams else [f"{exported.name}_reset(&state);"]
    for p in exported.inputs:
        if p.kind.startswith("u"):
            vocabulary = next(i.vocabulary for i in model.inputs if i.name == p.graph_name)
            value = f"({p.kind})(draw() % {vocabulary}U)"
        else:
            limit = model.tensors[p.graph_name].limit
            value = f"(int16_t)((int32_t)(draw() % {2 * limit + 1}U) - {limit})"
        count = _size(exported, p, steps, False)
        lines += [f"for (uint32_t k = 0U; k < {count}U; k++) {{", f"    in_{p.name}[k] = {value};", "}"]
    return lines


def _call(exported: Exported, steps: int) -> str:
    verb = "step" if exported.streams else "run"
    arguments = ["&state", *(f"in_{p.name}" for p in exported.inputs)]
    arguments += [] if exported.streams else [f"{steps}U" for _ in exported.lengths]
    arguments += [*(f"out_{p.name}" for p in exported.outputs), *([] if exported.streams else ["work"])]
    ignored = "(void)" if exported.counts_rows else ""
    return f"{ignored}{exported.name}_{verb}({', '.join([*arguments, *exported.last_arguments])});"


def _rows(model: QuantModel, exported: Exported, target: Target, sequences: Sequence[Vectors]) -> list[str]:
    """Return the rows that layers give for as many of the sequences as have room, as arrays of C."""
    room = MOST_AVR_ROW_BYTES if target.core.kernels == "avr" else MOST_ROW_BYTES
    found: list[Mapping[str, npt.NDArray[np.integer]]] = []
    for inputs in sequences:
        rows = host_rows(model, exported, inputs, "reference")
        room -= sum(rows[tensor].size * _bytes(model, tensor) for _, tensor in traced_tensors(model))
        if room < 0:
            break
        found.append(rows)
    lines = [
        trace_declaration(exported.name),
        f"void {exported.name}_sequence(uint32_t n);",
        "",
        "/* Rows that a layer gives: elements of `size` bytes, of which `count` are a row. Those of sequence n begin at row first[n]. */",
        "typedef struct {",
        "    const char *what;",
        "    const char *layer;",
        "    uint32_t timed;",
        "    uint32_t count;",
        "    uint32_t size;",
        "    const void *rows;",
        "    const uint32_t *first;",
        "} traced_tensor;",
        "",
        f"#define SEQUENCES {len(found)}U",
        f"#define TENSORS {len(traced_tensors(model))}U",
        "",
    ]
    entries = []
    for number, (layer, tensor) in enumerate(traced_tensors(model)):
        size, parts = _bytes(model, tensor), [own[tensor] for own in found]
        values = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0, np.int16)
        first = np.cumsum([0, *map(len, parts)])
        lines.append(
            caller_array(f"int{8 * size}_t", f"rows_{number}", values if values.size else np.zeros(1, np.int16))
        )
        lines.append(caller_array("uint32_t", f"first_{number}", first))
        timed = 1 if model.tensors[tensor].has_time else 0
        texts = f"{c_string(f'tensor {tensor}')}, {c_string(layer.name)}"
        entries.append(
            f"    {{{texts}, {timed}U, {model.tensors[tensor].features}U, {size}U, rows_{number}, first_{number}}},"
        )
    return [*lines, "", "static const traced_tensor tensors[] = {", *entries, "};"]


def _bytes(model: QuantModel, tensor: str) -> int:
    return 4 if is_cell_tensor(model, tensor) else 2
