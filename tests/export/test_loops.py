"""Kinds of layers without C of their own: their loops, translated to C, give the bits of their loops in Python."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from installed import SANITIZERS, compiler, cross_compiler, tool

from export.building import COMPILERS, SANITIZED, check, compile_program, replayed, write_sources
from export.kinds import kind
from export.loop_models import (
    H,
    I,
    difference,
    fmt,
    model_of,
    output,
    plain_run,
    pooled,
    want,
)
from export.test_compilers import STRICT
from qrnn.devices.emulator import run
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import build_replay
from qrnn.export import golden, selftest
from qrnn.export.expected import first_difference, random_sequences
from qrnn.export.folder import ExportedFolder
from qrnn.export.replay import decode_sequences, encode_sequences
from qrnn.export.source import export_source
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel
from qrnn.targets import load_target

WAYS = {"x86-64": ("gcc",), "Clang": ("clang",), "C++": ("g++", "-std=c++11", "-x", "c++")}


def strided(stride: int, delay: int, stride_2: int, delay_2: int, last: bool = False) -> QuantModel:
    """X → a difference by rows → a pooled layer → another one, and its last row."""
    own: list[QuantLayer] = [
        difference(),
        pooled("first", "d", "p", stride, delay),
        pooled("second", "p", "y", stride_2, delay_2, H),
    ]
    tensors, outputs = {"d": fmt(I), "p": fmt(H), "y": fmt(H)}, [output("y", "y", H)]
    if last:
        own += [
            QuantLastStep("end", "y", "l"),
            replace(difference("after", "l", "e"), weight=np.arange(H, dtype=np.int16)),
        ]
        tensors |= {"l": fmt(H, False), "e": fmt(H, False)}
        outputs += [output("last", "l", H, False), output("e", "e", H, False)]
    return model_of(own, tensors, outputs)


@pytest.mark.wide("cc", "last")
@pytest.mark.parametrize(
    ("shape", "last", "cc"),
    [
        ((1, 0, 1, 0), False, "gcc"),
        ((2, 3, 2, 1), True, "gcc"),
        ((2, 3, 2, 1), False, "clang"),
        ((3, 0, 2, 2), True, "clang"),
        ((4, 2, 1, 0), False, "gcc"),
        ((1, 5, 3, 4), True, "gcc"),
    ],
)
def test_strides_and_delays(shape: tuple[int, int, int, int], last: bool, cc: str, tmp_path: Path) -> None:
    """Steps, then the end of the sequence, under sanitizers: the rows that come out, and the states after them."""
    model = strided(*shape, last=last)
    exported = export_source(model, "net", "plain")
    assert exported.counts_rows == (shape != (1, 0, 1, 0))  # a row for each step is nothing to count
    assert exported.finishes == (shape[1] + shape[3] > 0)
    sequences = random_sequences(model, exported, (1, 2, 9, 30), 5)
    assert first_difference(want(model, exported, sequences), replayed(exported, sequences, tmp_path, cc)) is None


CHUNKS = """
#include "net.h"
#include <stdio.h>
#include <string.h>

static int16_t x[30U * NET_X_SIZE];
static int16_t whole[64U * NET_Y_SIZE];
static int16_t parts[64U * NET_Y_SIZE];

int main(void)
{
    net_state a;
    net_state b;
    net_state c;
    uint32_t rows;
    uint32_t found = 0U;
    uint32_t t = 0U;
    uint32_t unwanted;

    for (uint32_t k = 0U; k < 30U * NET_X_SIZE; k++) {
        x[k] = (int16_t)((int32_t)((k * 7919U) % 65535U) - 32767);
    }
    net_init(&a);
    rows = net_run(&a, x, 30U, whole);
    net_init(&b);
    net_init(&c);
    for (uint32_t chunk = 1U; t < 30U; chunk++) {
        const uint32_t length = (t + chunk > 30U) ? (30U - t) : chunk;
        unwanted = net_run(&c, &x[t * NET_X_SIZE], length, NULL);
        found += net_run(&b, &x[t * NET_X_SIZE], length, &parts[found * NET_Y_SIZE]);
        t += length;
        if ((t == 30U) && (unwanted > NET_STEP_ROWS * length)) {
            return 3;
        }
    }
    if ((found != rows) || (memcmp(&a, &b, sizeof(a)) != 0) || (memcmp(&a, &c, sizeof(a)) != 0)) {
        return 1;
    }
    rows += net_finish(&a, &whole[rows * NET_Y_SIZE]);
    found += net_finish(&b, &parts[found * NET_Y_SIZE]);
    if ((found != rows) || (memcmp(whole, parts, sizeof(whole)) != 0) || (net_finish(&c, NULL) > NET_FINISH_ROWS)) {
        return 2;
    }
    printf("%u", (unsigned)rows);
    return 0;
}
"""


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("cc", COMPILERS)
def test_chunks_give_what_a_whole_sequence_gives(cc: str, tmp_path: Path) -> None:
    model = strided(2, 3, 2, 1)
    compiler(cc, "-fsanitize=address,undefined")
    source = write_sources(export_source(model, "net", "plain"), tmp_path)
    (tmp_path / "main.c").write_text(CHUNKS)
    compile_program([cc, *SANITIZED, source, tmp_path / "main.c", "-o", tmp_path / "main"])
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(plain_run(model, np.zeros((30, I), np.int16)).tensors["y"])


@pytest.mark.wide
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernels", ["plain", "dsp", "mve"])
def test_translated_c_compiles_without_a_warning(way: str, kernels: Any, tmp_path: Path) -> None:
    source = write_sources(export_source(strided(2, 3, 2, 1, last=True), "net", kernels), tmp_path)
    command, *flags = WAYS[way]
    compiler(command)
    strict = [w for w in STRICT if way != "C++" or w not in ("-Wstrict-prototypes", "-Wmissing-prototypes")]
    for level in ("-O0", "-O2", "-Os"):
        own = flags or ["-std=c99"]
        compile_program([command, *own, "-DQRNN_ANY_CORE", *strict, level, "-c", source, "-o", tmp_path / "net.o"])


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m0plus"])
def test_a_board_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    """The emulated core runs 32-bit code, for which int64_t takes two registers."""
    target = load_target(name)
    cross_compiler("arm-none-eabi-gcc", "-c")
    tool("qemu-system-arm")
    model = strided(2, 3, 2, 1)
    exported = export_source(model, "net", target.core.kernels)
    write_sources(exported, tmp_path)
    sequences = random_sequences(model, exported, (1, 2, 9), 5)
    places = tmp_path / "net.c", tmp_path / "net.h"
    folder = ExportedFolder(tmp_path, "net", target, model, exported, *places)
    image = build_replay(folder, target, find_toolchain(target), 9, tmp_path)
    done = run(image, target, encode_sequences(exported, sequences), timeout=100)
    assert done.status == 0
    got, counts = decode_sequences(exported, [1, 2, 9], done.output)
    assert first_difference(want(model, exported, sequences), got) is None
    assert counts.calls == 12


@pytest.mark.wide
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_the_self_test_counts_rows(last: bool, damaged: bool, tmp_path: Path) -> None:
    """It passes with what the definitions give, and fails where a row is missing."""
    model = strided(2, 3, 2, 1, last=last)
    exported = export_source(model, "net", "plain")
    sequences = random_sequences(model, exported, (*golden.RANDOM_LENGTHS, golden.LONG), 5)
    results = want(model, exported, sequences)
    if damaged:
        results[-1].outputs["y"] = results[-1].outputs["y"][:-1]
    test = tmp_path / "test"
    test.mkdir()
    source = write_sources(exported, tmp_path)
    (test / "net_golden.h").write_text(golden.golden_header(exported, sequences, results))
    (test / "net_selftest.h").write_text(selftest.selftest_header("net"))
    (test / "net_selftest.c").write_text(selftest.selftest_source(model, exported, sequences))
    (test / "main.c").write_text(selftest.main_source("net"))
    compiler("gcc", *SANITIZERS)
    parts = [source, test / "net_selftest.c", test / "main.c"]
    compile_program(["gcc", *SANITIZED, *parts, "-o", tmp_path / "selftest"])
    done = subprocess.run([tmp_path / "selftest"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (int(damaged), "")


@pytest.mark.wide("stride", "cc")
@pytest.mark.parametrize(("stride", "delay"), [(1, 1), (2, 0), (3, 2)])
@pytest.mark.parametrize("cc", COMPILERS)
def test_rows_behind_a_stride_or_a_delay_are_read_backwards(stride: int, delay: int, cc: str, tmp_path: Path) -> None:
    """Layer after layer: a translated one that counts its rows, past the end of the sequence too, and both directions over these rows."""
    whole = kind("bidirectional")
    (layer,) = whole.recurrent_layers
    first = pooled("first", "x", "p", stride, delay)
    first = replace(first, weight=first.weight[:I], bias=first.bias[:I], multiplier=first.multiplier[:I])
    tensors = {name: whole.tensors[name] for name in layer.outputs}
    outputs = [output("y", layer.output, 10), output("end", layer.h_n, 10, False)]
    model = model_of([first, replace(layer, input="p")], {"p": fmt(I), **tensors}, outputs)
    check(model, tmp_path, compiler(cc), lengths=(1, 4, 9))
