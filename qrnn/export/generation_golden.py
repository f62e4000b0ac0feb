"""The part of an exported model's self-test that generates: cases with what the reference generates, and C that does so again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.export.c_text import caller_array
from qrnn.export.generation_replay import MOST_SYMBOLS, Case, generate_call, numbers_of
from qrnn.export.replay import Replayed
from qrnn.export.source import Exported


def golden_arrays(exported: Exported, cases: Sequence[Case], results: Sequence[Replayed]) -> list[str]:
    """Return the definitions of the inputs of all cases, and of what follows them."""
    code, lines = exported.generates, []
    assert code is not None
    kind = "int16_t" if code.kind == "values" else "uint16_t"
    for n, (case, result) in enumerate(zip(cases, results, strict=True)):
        ports = code.others if code.plan.blank is not None else [code.fed, *code.others]
        lines += [caller_array(p.kind, f"golden_from{n}_{p.name}", case.inputs[p.name]) for p in ports]
        values = result.outputs["generated"]
        lines.append(caller_array(kind, f"golden_generated{n}", values if values.size else np.zeros(1, np.int64)))
        if code.kind != "values":
            lines.append(caller_array("uint16_t", f"golden_stop{n}", np.array(case.stop or (0,))))
    return lines


def selftest_function(exported: Exported, cases: Sequence[Case], results: Sequence[Replayed]) -> list[str]:
    """Return the definition of ``static void generate_again(array, first)``, which compares what is generated again."""
    code, name = exported.generates, exported.name
    assert code is not None
    values = code.kind == "values"
    each, kind = (code.read.count, "int16_t") if values else (1, "uint16_t")
    most = max(case.steps for case in cases)
    lines = [
        f"static void generate_again(const compared_array *array, {name}_difference *first)",
        "{",
        f"    static {name}_state state;",
        f"    static {kind} made[{most * each}];",
        "",
        f"    {name}_init(&state);",
    ]
    for n, (case, result) in enumerate(zip(cases, results, strict=True)):
        count = len(result.outputs["generated"])
        words = {
            "prompt": f"golden_from{n}_{code.fed.name}", "token": "&token", "length": f"{case.length}U", "steps": f"{case.steps}U",
            "most": f"{MOST_SYMBOLS}U", "stop": f"golden_stop{n}", "stops": f"{len(case.stop)}U", "choice": "&choice", "draws": "&draws",
            "generated": "made", "frames": "(uint32_t *)0",
        }  # fmt: skip
        body = []
        if code.draws:
            c = numbers_of(exported, case)
            body += [f"const {name}_choice choice = {{{c.multiplier}, {c.shift}, {c.top_k}, {c.top_p}}};"]
            body += [f"{name}_draws draws = {{{{{case.seed & 0xFFFFFFFF}U, {case.seed >> 32}U}}, {{0U, 0U}}}};"]
        if code.plan.blank is not None:
            given = case.inputs[code.fed.name].reshape(-1)
            token = int(np.argmax(given)) if code.kind == "one_hot" else int(given[0])
            body.append(f"{code.fed.kind if code.kind == 'tokens' else 'uint16_t'} token = {token}U;")
        others = {p.name: f"golden_from{n}_{p.name}" for p in code.others}
        body += [f"const uint32_t count = {generate_call(exported, others, words)};", ""]
        body += [
            f"if (count != {count}U) {{",
            f"    differs(first, array, {n}U, 0U, (int32_t)count, {count});",
            "} else {",
            f"    compare(first, array, {n}U, made, golden_generated{n}, {count * each}U);",
            "}",
        ]
        lines += ["    {", *(f"        {line}" if line else "" for line in body), "    }", f"    {name}_reset(&state);"]
    return [*lines, "}", ""]
