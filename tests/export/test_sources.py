"""What exported C does not do: write to globals, call libraries, compute with floats, get in the way of another model."""

from __future__ import annotations

import subprocess
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_modules import load_tool

from export.building import (
    COMPILERS,
    WARNINGS,
    compile_program,
    compiler,
    quantized,
    replayed,
    write_sources,
)
from export.kinds import KINDS, kind
from qrnn.devices.toolchain import find_toolchain
from qrnn.errors import DeviceError, MissingToolError, UnsupportedError
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.folder import export_model
from qrnn.export.replay import COUNTS, decode_sequences, encode_sequences, replay_source
from qrnn.export.source import export_source
from qrnn.targets import load_target

elf = pytest.importorskip("elftools.elf.elffile", reason="pyelftools is not installed")

HELPERS = {
    "host-cpu": set(),
    "cortex-m0plus": {"__aeabi_lmul", "__aeabi_lasr", "__aeabi_llsl", "__aeabi_llsr", "__aeabi_uidiv", "__aeabi_idiv"},
    "cortex-m4": {"__aeabi_lasr", "__aeabi_llsl", "__aeabi_llsr"},
    "rv32imc": {"__ashrdi3", "__ashldi3", "__lshrdi3", "__muldi3"},
}
"""Integer arithmetic of 64 bits, and division, that the core has no instruction for."""


def written_and_called(program: Path) -> tuple[list[str], set[str]]:
    """Sections of an object file that are written to and not empty, and names that it takes from elsewhere."""
    with program.open("rb") as file:
        found = elf.ELFFile(file)
        sections = [s.name for s in found.iter_sections() if s["sh_flags"] & 3 == 3 and s["sh_size"]]
        table = found.get_section_by_name(".symtab")
        undefined = {s.name for s in table.iter_symbols() if s["st_shndx"] == "SHN_UNDEF" and s.name}
    return sections, undefined


def compiled(source: Path, name: str, optimization: str = "-O2") -> Path:
    target = load_target(name)
    try:
        tools = find_toolchain(target, "gnu")
    except MissingToolError as error:
        pytest.skip(str(error))
    program = source.with_suffix(".o")
    own = [
        *target.build.gnu_flags,
        "-mgeneral-regs-only" if name == "host-cpu" else "-ffreestanding",
    ]  # no float, or the compiler refuses
    compile_program([*tools.compiler, *own, *WARNINGS, optimization, "-fno-pic", "-c", source, "-o", program])
    return program


@pytest.mark.wide
@pytest.mark.parametrize("name", HELPERS)
@pytest.mark.parametrize("which", ["lstm", "bidirectional", "embedded", "gru before of 16 bits", "unbounded gates"])
def test_no_writable_global_no_call_no_float(which: str, name: str, tmp_path: Path) -> None:
    exported = export_source(kind(which), "net", load_target(name).core.kernels)
    sections, undefined = written_and_called(compiled(write_sources(exported, tmp_path), name))
    assert sections == []
    assert undefined - {"memcpy", "memset", "__aeabi_memcpy", "__aeabi_memclr", "__aeabi_memclr4"} <= HELPERS[name]


@pytest.mark.wide
@pytest.mark.parametrize("optimization", ["-Os", "-O2", "-O3"])
@pytest.mark.parametrize(
    ("which", "name"), [("shared", "cortex-m3"), ("embedded", "cortex-m4"), ("shared", "host-cpu")]
)
def test_no_warning_when_optimized(which: str, name: str, optimization: str, tmp_path: Path) -> None:
    """As of variables that a compiler takes for uninitialized."""
    exported = export_source(kind(which), "net", load_target(name).core.kernels)
    compiled(write_sources(exported, tmp_path), name, optimization=optimization)


def test_a_writable_global_and_a_call_would_be_found(tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text(
        "void *malloc(__SIZE_TYPE__ n);\nvoid *f(void);\nvoid *f(void) { static int n; return malloc((__SIZE_TYPE__)++n); }\n"
    )
    sections, undefined = written_and_called(compiled(source, "host-cpu"))
    assert sections == [".bss"]
    assert undefined == {"malloc"}


@pytest.mark.parametrize("cc", COMPILERS)
def test_two_models_in_one_program(cc: str, tmp_path: Path) -> None:
    """They share the runtime's headers and need different parts of them."""
    target, names = load_target("generic"), {"one": "lstm", "two": "gru of 16 bits", "three": "bidirectional"}
    for name, which in names.items():
        export_model(kind(which), target, tmp_path / name, name)
    calls = " + ".join(f"{1 << n} * {name}_selftest()" for n, name in enumerate(names))
    declared = "".join(f"int {name}_selftest(void);\n" for name in names)
    main = tmp_path / "main.c"
    main.write_text(f"{declared}int main(void) {{ return {calls}; }}\n")
    sources = [tmp_path / name / file for name in names for file in (f"{name}.c", f"test/{name}_selftest.c")]
    compile_program([compiler(cc), *WARNINGS, main, *sources, "-o", tmp_path / "program"])
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("which", "every"),
    [("embedded", False), *(pytest.param(w, True, marks=pytest.mark.matrix) for w in ("lstm", "shared", "embedded"))],
)
def test_outputs_may_be_null(which: str, every: bool, tmp_path: Path) -> None:
    """The others and the state are the same, whatever is left out; unless ``every``, the first output and all but one are."""
    model = kind(which)
    exported = export_source(model, "net", "plain")
    sequences = random_sequences(model, exported, (1, 5), 0)
    want = host_results(model, exported, sequences)
    names = [p.name for p in exported.outputs]
    choices = [left_out for count in range(1, len(names) + 1) for left_out in combinations(names, count)]
    for left_out in choices if every else [tuple(names[:1]), tuple(names[1:])]:
        replay = replay_source(exported, 5)
        for name in left_out:
            assert f", port_{name}" in replay
            replay = replay.replace(f", port_{name}", ", NULL")
        replay = "#include <stddef.h>\n" + replay
        got = replayed(exported, sequences, tmp_path, compiler("gcc"), replay)
        for expected in want:
            expected.outputs.update({n: np.zeros_like(expected.outputs[n]) for n in left_out})
        assert first_difference(want, got) is None
        want = host_results(model, exported, sequences)


def test_run_is_a_loop_of_steps(tmp_path: Path) -> None:
    """Of a model that streams: outputs over time, outputs of the last step, and the state."""
    model = kind("embedded")
    exported = export_source(model, "net", "plain")
    sequences = random_sequences(model, exported, (6,), 0)
    ids, profile = (", ".join(map(str, sequences[0][p.name].reshape(-1).tolist())) for p in exported.inputs)
    sizes = {p.name: p.count for p in exported.outputs}
    outputs = [f"{p.kind} {w}_{p.name}[{p.count}];" for p in exported.outputs for w in ("a", "b")]
    each = {w: ", ".join(f"{w}_{name}" for name in sizes) for w in "ab"}
    same = " || ".join(f"memcmp(a_{name}, b_{name}, sizeof a_{name})" for name in sizes)
    (tmp_path / "main.c").write_text(f"""#include <string.h>
#include "net.h"
int main(void)
{{
    static const uint16_t ids[] = {{{ids}}};
    static const int16_t profile[] = {{{profile}}};
    static net_state a, b;
    static {" static ".join(outputs)}
    net_init(&a);
    net_init(&b);
    net_run(&a, ids, profile, 6, {each["a"]});
    net_run(&b, ids, profile, 2, {each["b"]});
    net_step(&b, &ids[2], profile, {each["b"]});
    net_run(&b, &ids[3], profile, 3, {each["b"]});
    net_run(&b, &ids[3], profile, 0, {each["b"]});
    return (memcmp(&a, &b, sizeof a) || {same}) ? 1 : 0;
}}
""")
    source = write_sources(exported, tmp_path)
    compile_program([compiler("gcc"), *WARNINGS, tmp_path / "main.c", source, "-o", tmp_path / "program"])
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_what_is_replayed_is_read_back(which: str, lengths: list[int], seed: int) -> None:
    """A program's output, written here from its description, decodes to the same integers; one of another size is refused."""
    model = kind(which)
    exported = export_source(model, "net", "plain")
    sequences = random_sequences(model, exported, lengths, seed)
    timed = sum(p.count * np.dtype(np.int16).itemsize for p in exported.inputs if p.has_time)
    fixed = sum(p.count * np.dtype(np.int16).itemsize for p in exported.inputs if not p.has_time)
    assert len(encode_sequences(exported, sequences)) == 4 + sum(4 + fixed + timed * n for n in lengths)
    results = host_results(model, exported, sequences)
    output = b""
    for length, result in zip(lengths, results, strict=True):
        over_time = [result.outputs[p.name] for p in exported.outputs if p.has_time]
        if exported.counts_rows:  # all rows in the first call, and none in the others
            none = [np.zeros(1, np.uint32)] * (length + exported.finishes - 1 if exported.streams else 0)
            steps = [np.array([len(over_time[0])], np.uint32), *over_time, *none]
        else:
            steps = [value[t] for t in range(length) for value in over_time] if exported.streams else over_time
        last = [result.outputs[p.name] for p in exported.outputs if not p.has_time]
        output += b"".join(np.ascontiguousarray(v).tobytes() for v in (*steps, *last, *result.state.values()))
    output += COUNTS.pack(5, 4, 3, 2, 1, 6, 7, 8, 9, 10)
    decoded, counts = decode_sequences(exported, lengths, output)
    assert first_difference(results, decoded) is None
    assert (counts.instructions, counts.calls, counts.stack_bytes, counts.phases) == (5, 4, 1, (6, 7, 8, 9, 10))
    for wrong in (output[:-1], output + b"\0", output[: COUNTS.size]):
        with pytest.raises(DeviceError, match="the program wrote"):
            decode_sequences(exported, lengths, wrong)
    name = next(iter(results[-1].state))
    results[-1].state[name][..., -1] ^= 1
    assert f"state {name}[" in str(first_difference(results, decoded))


def test_rows_that_are_too_long_are_refused() -> None:
    model = quantized(load_tool("cell_catalogue").cell("rnn_tanh", 2, 16_400))
    with pytest.raises(
        UnsupportedError, match=r"rows of 16400 columns, an export takes at most 16383; make the layer smaller"
    ):
        export_source(model, "net", "plain")
