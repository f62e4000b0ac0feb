"""Room that the caller gives in place of the stack: the same bits, little stack, no array left, and sizes that are the runtime's."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from installed import compiler, cross_compiler

from export.building import WARNINGS, compile_program, quantized, replayed, write_sources
from export.kinds import KINDS, kind
from export.test_devices import usable
from qrnn import layers
from qrnn.devices.verify import verify
from qrnn.export.choices import Choices
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.scratch import moved
from qrnn.export.source import Exported, export_source
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Kernels, load_target

ROOM = Choices(scratch=True)
LOCAL_ARRAY = re.compile(r"^ +(?!return|static)\w+ \w+\[[^\]]*\]", re.MULTILINE)


def normalized() -> QuantModel:
    """A model with layers whose C is translated from their definitions, with arrays of their own."""
    rng = np.random.default_rng(0)
    x = layers.layer_norm(layers.input("x", 6), rng.normal(size=6), rng.normal(size=6))
    gru = layers.gru(x, rng.normal(size=(15, 6)), rng.normal(size=(15, 5)))
    return quantized(layers.model("normalized", {"y": layers.softmax(layers.rms_norm(gru.output, rng.normal(size=5)))}))


def exported(model: QuantModel, kernels: Kernels = "plain") -> Exported:
    return export_source(model, "net", kernels, choices=ROOM)


@pytest.mark.wide("kernels", keep=4)
@pytest.mark.parametrize("kernels", ["plain", "dsp", "mve"])
@pytest.mark.parametrize("which", [*KINDS, "normalized"])
def test_bits_are_the_same(which: str, kernels: Kernels, tmp_path: Path) -> None:
    """No array is left on the stack of a function of the model, and the struct is as large as it says."""
    model = normalized() if which == "normalized" else kind(which)
    found = exported(model, kernels)
    assert LOCAL_ARRAY.findall(found.source) == []
    assert found.scratch is not None
    assert f"#define NET_SCRATCH_BYTES {found.scratch.bytes}\n" in found.header
    source = found.source + f"\ntypedef char as_it_says[(sizeof(net_scratch) == {found.scratch.bytes}U) ? 1 : -1];\n"
    if kernels != "plain":  # dot products of other cores do not run here
        write_sources(found, tmp_path).write_text(source)
        flags = load_target({"dsp": "cortex-m4", "mve": "cortex-m55"}[kernels]).build.gnu_flags
        compile_program(
            [
                cross_compiler("arm-none-eabi-gcc", "-c"),
                *WARNINGS,
                *flags,
                "-c",
                tmp_path / "net.c",
                "-o",
                tmp_path / "a.o",
            ]
        )
        return
    sequences = random_sequences(model, found, (1, 2, 9), seed=3)
    want = host_results(model, found, sequences, "reference")
    got = replayed(replace(found, source=source), sequences, tmp_path, "gcc")
    assert first_difference(want, got) is None


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("name", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_the_stack_stays_small(name: str, tmp_path: Path) -> None:
    """A layer with long rows needs most of its stack for operands; an emulator counts bits and stack."""
    rng, target = np.random.default_rng(1), usable(name)
    x = layers.input("x", 200)
    model = quantized(
        layers.model("long", {"y": layers.rnn(x, rng.normal(size=(64, 200)), rng.normal(size=(64, 64))).output}),
        Scheme(16, input="16"),
    )
    stacks = []
    for number, choices in enumerate((Choices(), ROOM)):
        folder = tmp_path / str(number)
        export_model(model, target, folder, "net", choices=choices)
        found = read_folder(folder)
        assert (found.exported.scratch is not None) == choices.scratch
        result = verify(found, target, random_sequences(model, found.exported, (1, 4), seed=5), "gnu")
        assert result.difference is None
        stacks.append(result.counts.stack_bytes)
        if found.exported.scratch is not None:
            assert stacks[0] - stacks[1] >= 0.9 * found.exported.scratch.bytes
    assert stacks[1] < 400


def test_the_folder_s_self_test_and_readme(tmp_path: Path) -> None:
    """Both pass the room, in every function, and the README's example compiles."""
    for which in ("windows of 16 bits with strides", "whole"):
        found = export_model(kind(which), load_target("generic"), tmp_path / which, "net", choices=ROOM)
        assert found.scratch is not None
        folder = tmp_path / which
        files = [folder / "net.c", folder / "test" / "net_selftest.c", folder / "test" / "main.c"]
        compile_program([compiler("gcc"), *WARNINGS, *files, "-o", tmp_path / "program"])
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
        text = (folder / "README.md").read_text()
        assert "static net_scratch scratch;" in text
        assert f"a `net_scratch` of {found.scratch.bytes:,} bytes" in text
        assert f"NET_SCRATCH_BYTES {found.scratch.bytes}\n" in (folder / "net.h").read_text()


FUNCTIONS = (
    "/* leaf( */\nstatic void leaf(const int16_t *x)\n{\n    uint32_t a[3];\n    int16_t b[5] = {0};\n\n    use(a, b, x);\n}",
    "static void none(int16_t *y)\n{\n    *y = 0;\n}",
    "static void one(int16_t *y)\n{\n    int16_t c[7U];\n\n    leaf((c));\n    none(y);\n}",
    "void net_step(net_state *state)\n{\n    uint32_t d[2];\n\n    one(f(d,\n        g(1)));\n    leaf(state->h);\n}",
    "void net_run(net_state *state)\n{\n    none(state->h);\n}",
)


def test_functions_lie_behind_all_that_call_them() -> None:
    texts, room = moved("net", FUNCTIONS, ["net_step", "net_run"], "plain", four=False)
    assert room.members == {"uint32_t": 5, "int16_t": 12}
    assert room.bytes == 4 * 5 + 2 * 12
    leaf, none, one, step, run = texts
    assert (
        "*const a = &scratch->of_uint32[2];\n    int16_t *const b = &scratch->of_int16[7];\n    QRNN_CLEAR(b, 5U * sizeof(int16_t));\n"
        in leaf
    )
    assert none == FUNCTIONS[1]
    assert "leaf((c), scratch);\n    none(y);" in one
    assert "one(f(d,\n        g(1)), scratch);\n    leaf(state->h, scratch);" in step
    assert run == "void net_run(net_state *state, net_scratch *scratch)\n{\n    (void)scratch;\n    none(state->h);\n}"
    with pytest.raises(ValueError, match="an array of SIZE elements"):
        moved("net", ["void f(int *x)\n{\n    int16_t a[SIZE];\n}"], [], "plain", four=False)
