"""Models exported, built on this machine under sanitizers, run with the host's board and compared with the reference."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from installed import SANITIZERS, compiler

from qrnn.conversion import quantize
from qrnn.devices.toolchain import boards_folder
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.replay import (
    Replayed,
    Vectors,
    decode_sequences,
    encode_sequences,
    replay_source,
    sequence_length,
    sequence_steps,
)
from qrnn.export.source import Exported, export_source
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Kernels, targets_folder

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
SANITIZED = (*WARNINGS, "-O1", *SANITIZERS)
COMPILERS = ("gcc", "clang")
INTRINSICS = Path(__file__).parent / "dot"
"""Arm's intrinsics in plain C, for dot products of other cores on this machine."""


def write_sources(exported: Exported, folder: Path) -> Path:
    """The model's C with the runtime that it includes; its .c file."""
    folder.mkdir(exist_ok=True)
    (folder / f"{exported.name}.h").write_text(exported.header)
    source = folder / f"{exported.name}.c"
    source.write_text(exported.source)
    for header in exported.runtime:
        shutil.copy(targets_folder() / "runtime" / header, folder)
    return source


def compile_program(command: Sequence[object]) -> None:
    """Run a compiler; its words are the failure's."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def replayed(
    exported: Exported, sequences: Sequence[Vectors], folder: Path, cc: str, replay: str | None = None
) -> list[Replayed]:
    """What the model's C makes of ``sequences`` under sanitizers; ``replay``: a program in place of the usual."""
    compiler(cc, *SANITIZERS)
    source = write_sources(exported, folder)
    lengths = [sequence_length(exported, s) for s in sequences]
    steps = [sequence_steps(exported, s) for s in sequences]
    (folder / "replay.c").write_text(replay or replay_source(exported, max(lengths)))
    boards, program = boards_folder(), folder / "replay"
    include = [f"-I{folder}", f"-I{boards}", f"-I{INTRINSICS}", "-DQRNN_ANY_CORE"]
    compile_program([cc, *SANITIZED, *include, source, folder / "replay.c", boards / "host.c", "-o", program])
    done = subprocess.run([program], input=encode_sequences(exported, sequences), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return decode_sequences(exported, steps, done.stdout)[0]


def check(
    model: QuantModel,
    folder: Path,
    cc: str,
    kernels: Kernels = "plain",
    seed: int = 0,
    lengths: Sequence[int] = (1, 2, 9),
) -> None:
    """Outputs and final states of random integers, with the ends of their range, are the reference's to the last bit."""
    exported = export_source(model, "net", kernels)
    sequences = random_sequences(model, exported, lengths, seed)
    for port in exported.inputs:  # a sequence of nothing but ends
        ends = sequences[1][port.name]
        if ends.dtype.kind == "i":
            limit = model.tensors[port.graph_name].limit
            ends[...] = np.where(np.arange(ends.size).reshape(ends.shape) % 2, limit, -limit)
    want = host_results(model, exported, sequences, "reference")
    assert first_difference(want, replayed(exported, sequences, folder, cc)) is None


def quantized(
    model: FloatModel, scheme: Scheme | None = None, seed: int = 0, size: float = 1.0, steps: int = 12
) -> QuantModel:
    """``model``, calibrated with random data for each of its inputs, sequences of ``steps``."""
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {}
    for port in model.inputs:
        shape = (3, steps, *port.shape) if port.has_time else (3, *port.shape)
        tokens = port.kind == "tokens"
        data[port.name] = rng.integers(0, port.vocabulary, shape) if tokens else size * rng.normal(size=shape)
    return quantize(model, data, scheme or Scheme(input="8"))
