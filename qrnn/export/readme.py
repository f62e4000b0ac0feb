"""An exported folder's README, Makefile and CMake file get their values here."""

from __future__ import annotations

import re
from importlib.metadata import version
from string import Template

from qrnn.export.given_states import StatePort
from qrnn.export.packages import NAME, Layout, Package
from qrnn.export.ports import Port, state_bytes
from qrnn.export.source import Exported
from qrnn.export.whole import Whole
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target

OPTIMIZATION = "-O2"
"""The compiler's option with which the instructions in docs/benchmarks/devices.md are counted."""

MOST_SCALES = 8
"""The most scales or offsets that stand in one line of the README; of more, it says where they are."""


def calling_fields(model: QuantModel, exported: Exported) -> dict[str, str]:
    """Return how a model's functions are called, and a table of the formats of their arguments, by ``calling`` and ``formats``."""
    counted = exported.counts_rows
    return {
        "calling": "\n\n".join([_calling(exported), *_given(exported), *_generating(exported)]),
        "formats": "\n".join(
            ["| | type | elements | scale | offset | limit |", "|---|---|---|---|---|---|"]
            + [line for port in exported.inputs for line in _rows(model, port, port.steps)]
            + [line for port in exported.outputs for line in _rows(model, port, "rows" if counted else port.steps)]
            + [_state_row(state) for state in exported.given]
        ),
    }


def readme_fields(
    model: QuantModel,
    exported: Exported,
    target: Target,
    digest: str,
    package: Package,
    layout: Layout,
    bench: bool = False,
) -> dict[str, str]:
    """Return values for the templates of a package in targets/packages, whose ``layout`` is that for the model's name."""
    name, build = exported.name, target.build
    runs_here = exported.kernels == "plain"
    in_flash = exported.kernels == "avr"  # constants are there by a type that GNU's dialect of C has
    compiler = f"{build.gnu}-gcc" if build.gnu else "cc" if target.host is None else target.host.compilers[0]
    sources = f"{name}.c test/{name}_selftest.c test/main.c"
    texts = {key: Template(text) for key, text in (("building", package.building), ("checking", package.check))}
    check = f"$(HOST_CC) $(CFLAGS) {sources} -o test/selftest && ./test/selftest && echo every bit is right"
    values = {
        "name": name,
        "NAME": name.upper(),
        "title": package.title,
        "status": package.status,
        "listing": _listing(exported, package, layout, bench),
        "source_dir": layout.source,
        "header_dir": layout.header,
        "test_dir": layout.test,
        "scratch": _scratch(exported),
        "version": version("qrnn"),
        "model_sha256": f"SHA-256 {digest[:16]}…",
        "target": target.name,
        "target_word": re.sub(r"[^A-Za-z0-9._+-]", "_", target.name),
        "contract": model.contract,
        "example": _example(exported),
        **calling_fields(model, exported),
        "weight_bytes": f"{exported.weight_bytes:,}",
        "state_bytes": f"{state_bytes(exported.state):,}",
        "runs_here": "yes" if runs_here else "",
        "check_note": " and runs it on this machine" if runs_here else f"; it runs on {target.name} alone",
        "cc": compiler,
        "host_cc": "cc" if build.gnu else "$(CC)",
        "ar": f"{build.gnu}-ar" if build.gnu else "ar",
        "flags": " ".join(
            [*target.compiler_flags, *(["-ffreestanding"] if build.gnu else [])]
        ),  # <stdint.h> without a C library
        "standard": "gnu99" if in_flash else "c99",
        "extensions": "ON" if in_flash else "OFF",
        "standard_note": _FLASH_NOTE if in_flash else "",
        "optimization": OPTIMIZATION,
        "headers": " ".join(
            [
                f"{name}.h",
                f"{name}_float.h",
                f"{name}_info.h",
                f"test/{name}_selftest.h",
                f"test/{name}_golden.h",
                *exported.runtime,
            ]
        ),
        "bench_rule": _bench_rule(name, runs_here) if bench else "",
        "bench_phony": " bench" if bench else "",
        "check": check if runs_here else f"@echo run {name}_selftest on the device, or: qrnn verify . --emulate",
    }
    return values | {key: text.substitute(values).strip() for key, text in texts.items()}


def _bench_rule(name: str, runs_here: bool) -> str:
    """Return the Makefile's rule that prints the line of NAME_bench."""
    sources = f"{name}.c test/{name}_selftest.c test/{name}_bench.c test/bench_main.c"
    line = f"$(HOST_CC) $(CFLAGS) {sources} -o test/bench && ./test/bench"
    return f"\nbench:\n\t{line if runs_here else f'@echo call {name}_bench on the device'}\n"


def _listing(exported: Exported, package: Package, layout: Layout, bench: bool) -> str:
    """Return the rows of the table of files."""
    name = exported.name
    named = {"name": name, "NAME": name.upper()}

    def at(folder: str, file: str) -> str:
        return f"`{folder}/{file}`" if folder else f"`{file}`"

    prints = f", or with a line for each sequence by `int {name}_golden(print)`" if package.prints else ""
    rows = {
        at(layout.header, f"{name}.h"): "what you call, from C and from C++",
        at(layout.header, f"{name}_float.h"): "the way from real numbers and back, for programs that have them",
        at(layout.header, f"{name}_info.h"): "what the model is: versions, digests, memory",
        at(layout.source, f"{name}.c"): "the model: constants, which stay in flash, and its steps",
        at(layout.source, "qrnn_*.h"): "the arithmetic that it includes",
        at(
            layout.test, ""
        ): f"the self-test: golden vectors replayed by `int {name}_selftest(void)`, 0 where every bit is right{prints}",
        **(
            {
                at(package.bench.replace(NAME, name) or layout.test, f"{name}_bench.c"): (
                    f"`int {name}_bench(put, clock_hz, stack_limit)`, which runs the self-test, times calls by `qrnn_counter.h` and prints "
                    "a line of JSON for `qrnn verify --serial`"
                )
            }
            if bench
            else {}
        ),
        **{f"`{path.replace(NAME, name)}`": Template(what).substitute(named) for path, what in package.rows.items()},
        f"{at(layout.model, f'{name}.qrnn')}, `manifest.json`": "the model, and the digests of these files: what `qrnn verify` reads",
        "`LICENSE`": "of the code",
    }
    return "\n".join(f"| {file} | {what} |" for file, what in rows.items())


def _scratch(exported: Exported) -> str:
    """Return what there is to know of the room that functions take from their caller."""
    if exported.scratch is None:
        return "Functions work on the stack; `qrnn export --scratch argument` has them take room from their caller."
    return (
        f"A call works in a `{exported.name}_scratch` of {exported.scratch.bytes:,} bytes, which its caller gives, and leaves nothing in "
        "it: calls that do not overlap in time may share one."
    )


_FLASH_NOTE = (
    "\nCompiled as GNU's dialect of C, `-std=gnu99` or newer, which Arduino takes for files that end in `.c`, its constants stay in flash; "
    "as `-std=c99` or C++ they\nare copied to RAM."
)


def _example(exported: Exported) -> str:
    """Return a few lines of C that run the model."""
    name = exported.name
    arguments = ["&state", *(p.name for p in exported.inputs)]
    outputs = [p.name for p in exported.outputs]
    last = exported.last_arguments
    given = written = "" if exported.streams else "LENGTH * "
    if exported.counts_rows:
        written = f"{exported.most_rows} * " if exported.streams else f"{name.upper()}_ROWS(LENGTH) * "
    arrays = [
        f"static {p.kind} {p.name}[{times if p.has_time else ''}{p.count}];"
        for ports, times in ((exported.inputs, given), (exported.outputs, written))
        for p in ports
    ]
    if exported.streams:
        call = f"{name}_step({', '.join([*arguments, *outputs, *last])});"
        if exported.counts_rows:
            call = f"uint32_t rows = {call} /* how many rows of outputs came out */"
        body = [f"{name}_init(&state);", "for (;;) {", "    /* fill the inputs */", f"    {call}", "}"]
    else:
        arrays.append(f"static int16_t work[{name.upper()}_WORK(LENGTH)];")
        lengths = ["LENGTH" for _ in exported.lengths]
        call = f"{name}_run({', '.join([*arguments, *lengths, *outputs, 'work', *last])});"
        if exported.counts_rows:
            call = f"uint32_t rows = {call} /* how many rows of outputs came out */"
        body = [f"{name}_init(&state);", "/* fill the inputs */", call]
    variables = [f"static {name}_state state;", *exported.scratch_variable]
    return "\n".join([f'#include "{name}.h"', "", *variables, *arrays, "", *body])


def _calling(exported: Exported) -> str:
    """Return what the functions do to the state."""
    name = exported.name
    state = f"`{name}_reset` begins a new sequence; without it the state is carried on, and nothing else resets it."
    null = "An output that is not wanted may be `NULL`, and what only serves it is not computed."
    if exported.rows:
        state = (
            "The model keeps nothing from one call to the next: every row is computed by itself, in any order, "
            f"and `{name}_reset` changes no result."
        )
        if exported.whole is None:
            return f"One call of `{name}_step` computes one row; `{name}_run` is a loop over it. {state} {null}"
        work = f"`work` is room for what lies between layers, {exported.whole.work.per_step} `int16_t` a row."
        return f"`{name}_run` computes `length` rows, one after the other. {work} {state} {null}"
    if exported.whole is not None:
        return f"`{name}_run` reads a whole sequence. {_whole(exported, exported.whole)} {null}"
    if exported.counts_rows:
        finish = (
            f" `{name}_finish` ends a sequence: it writes the rows that layers with a delay still hold back, at most "
            f"`{name.upper()}_FINISH_ROWS`, and returns how many. Call `{name}_reset` after it."
        )
        return (
            f"One call of `{name}_step` is one time step. It writes at most `{name.upper()}_STEP_ROWS` rows of the outputs over time, often "
            f"none, and returns how many; `{name}_run` is a loop over it, which writes the rows one after the other."
            f"{finish if exported.finishes else ''} {state} {null}"
        )
    return f"One call of `{name}_step` is one time step; `{name}_run` is a loop over it. {state} {null}"


def _given(exported: Exported) -> list[str]:
    """Return what the functions of states do that callers may give; nothing where there are none."""
    if not exported.given:
        return []
    name, state = exported.name, exported.given[0].port.name
    listed = ", ".join(f"`{s.port.name}`" for s in exported.given)
    begins = "Rows begin with what was set last" if exported.rows else "The next step goes on from there"
    return [
        f"States that you may give: {listed}. `{name}_set_{state}` takes the integers of one, whose meaning is below, and returns 0; where "
        f"one of them is out of its range it returns 1 and changes nothing. {begins}. `{name}_get_{state}` reads the state back as it is, "
        f"and `{name}_clear_{state}` makes it again what it is after `{name}_reset`."
    ]


def _generating(exported: Exported) -> list[str]:
    """Return what the functions do that feed an output back; nothing where there are none."""
    code, name = exported.generates, exported.name
    if code is None:
        return []
    fed = f"`{code.read.name}` is fed back to `{code.fed.name}`"
    if code.kind == "values":
        return [
            f"`{name}_generate` goes on by itself: {fed}, each step as it is. It is given the first steps of `{code.fed.name}` and writes as "
            f"many of `{code.read.name}` as you ask for, which have that output's format."
        ]
    how = "the largest score, of equal ones the first"
    if code.draws:
        upper = name.upper()
        how = (
            f"the largest score with `{upper}_LARGEST`, or one that is drawn with `{upper}_CHOICE` or another `{name}_choice`. A "
            f"`{name}_draws` holds the seed of a sequence and how many tokens it has drawn: begin with a seed and zeros"
        )
    found = [f"`{name}_choose` chooses a token by the scores `{code.read.name}` of a step: {how}."]
    if code.plan.blank is not None:
        found.append(
            f"`{name}_transduce` decodes the frames of a transducer: {fed}, and at the blank, {code.plan.blank}, the state stays what it was."
        )
    else:
        found.append(f"`{name}_generate` goes on by itself: {fed}, until a stop token or as many as you ask for.")
    return [" ".join(found)]


def _whole(exported: Exported, whole: Whole) -> str:
    """Return what the function of whole sequences needs and gives."""
    name = exported.name
    found = [f"There is no step function: {whole.why}."]
    more = f" and {whole.work.fixed} more" if whole.work.fixed else ""
    found.append(f"`work` is room for what lies between layers, {whole.work.per_step} `int16_t` a step{more}.")
    if exported.counts_rows:
        found.append(
            f"`{name}_run` returns how many rows of the outputs over time came out, at most `{name.upper()}_ROWS(length)`; "
            "it writes them one after the other."
        )
    found.append(f"`{name}_reset` begins a new sequence: call it before each.")
    return " ".join(found)


def _rows(model: QuantModel, port: Port, steps: str) -> list[str]:
    """Return lines of the table of formats: one, or one for each part of an output; ``steps`` is the length of a time axis."""
    head = f"| `{port.name}` | `{port.kind}` |"
    elements = f"{f'{steps} × ' if port.has_time else ''}{port.count}"
    if port.kind.startswith("u"):
        vocabulary = next(i.vocabulary for i in model.inputs if i.name == port.graph_name)
        return [f"{head} {elements} | a token | | {vocabulary - 1} |"]
    output = next((o for o in model.outputs if o.name == port.graph_name), None)
    if output is None:
        return [f"{head} {elements} | {_numbers(model, port.graph_name)}"]
    parts = [(t, elements if len(output.parts) == 1 else f"{len(i)}, of {_code(t)}") for t, i, _ in output.parts]
    return [f"{head} {what} | {_numbers(model, t)}" for t, what in parts]


def _state_row(state: StatePort) -> str:
    """Return the line of a state in the table of formats."""
    values, port = state.values(), state.port
    scales = ", ".join(map(repr, values.scales))
    if len(values.scales) > MOST_SCALES:
        scales = "one for each element: see the header"
    return f"| `{port.name}`, a state | `{port.kind}` | {port.count} | {scales} | 0 | {values.limit} |"


def _numbers(model: QuantModel, tensor: str) -> str:
    """Return the columns of a tensor's scale, offset and limit."""
    fmt = model.tensors[tensor]
    given = {"scales": fmt.scale, "offsets": fmt.offset}
    columns = [
        f"one for each feature: see {name} of {_code(tensor)} in `qrnn inspect --json`"
        if len(values) > MOST_SCALES
        else ", ".join(map(repr, values))
        for name, values in given.items()
    ]
    return f"{columns[0]} | {columns[1]} | {fmt.limit} |"


def _code(name: str) -> str:
    """Return a name that may hold anything, within a table of Markdown."""
    plain = "".join(c if c.isprintable() and c not in "`|\\" else "?" for c in name)
    return f"`{plain}`"
