"""The header's macros give the real numbers that the reference gives, to the last bit, and take the integers that it takes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import compiler
from offset_models import far_quantized

from export.building import WARNINGS, compile_program
from export.kinds import kind
from qrnn.export.real_values import MOST_ELEMENTS, RealValues
from qrnn.export.source import Exported, export_source
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel

VALUES = np.array([-32767, -1234, -1, 0, 1, 77, 32767])


def far_input() -> QuantModel:
    """A model whose input has a scale and an offset for each feature, from 1 to the largest."""
    model = far_quantized()
    fmt = model.tensors["x"]
    own = TensorFormat(fmt.features, True, 8, (0.037, 1e-3, 2.5), 127, (-2700, 5, 1 << 52))
    return replace(model, tensors={**model.tensors, "x": own})


def printed(model: QuantModel, tmp_path: Path, lines: list[str]) -> list[float]:
    """What a C program prints that includes the header of ``model``, exported as ``net``, and a mathematics library."""
    text = "\n".join(["#include <stdio.h>", "#include <math.h>", '#include "net.h"', "int main(void)", "{", *lines])
    (tmp_path / "net.h").write_text(export_source(model, "net", "plain").header)
    (tmp_path / "main.c").write_text(text + "\n    return 0;\n}\n")
    compiler("gcc")
    compile_program(["gcc", *WARNINGS, "-O1", tmp_path / "main.c", "-lm", "-o", tmp_path / "main"])
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    return [float.fromhex(line) for line in done.stdout.split()]


def numbers(exported: Exported, port: str, prefix: str) -> tuple[str, str, list[str]]:
    """The expressions of element k's scale and offset, and the lines that they need."""
    found, needed = [], []
    for what, element in (("SCALE", "double"), ("OFFSET", "int64_t")):
        macro = f"{prefix}_{what}"
        if f"#define {macro} " in exported.header:
            found.append(macro)
        else:
            needed.append(f"    static const {element} {port}_{what}[{prefix}_SIZE] = {macro}S;")
            found.append(f"{port}_{what}[k]")
    return found[0], found[1], needed


@pytest.mark.parametrize("which", ["far", "embedded", "lstm"])
def test_outputs(which: str, tmp_path: Path) -> None:
    model = far_input() if which == "far" else kind(which)
    exported = export_source(model, "net", "plain")
    lines, want = [f"    static const long q[] = {{{', '.join(map(str, VALUES))}}};"], []
    for port, output in zip(exported.outputs, model.outputs, strict=True):
        scale, offset, needed = numbers(exported, port.name, f"NET_{port.name.upper()}")
        lines += [
            *needed,
            f"    for (int i = 0; i < {len(VALUES)}; i++)",
            f"        for (int k = 0; k < {port.count}; k++)",
            f'            printf("%a\\n", (double)(q[i] + {offset}) * {scale});',
        ]
        real = np.empty((len(VALUES), output.features))
        for tensor, indices, positions in output.parts:
            fmt = model.tensors[tensor]
            q = np.broadcast_to(VALUES[:, None], (len(VALUES), fmt.features))
            real[:, positions] = dequantize_array(q, fmt)[:, indices]
        want.append(real.ravel())
    assert printed(model, tmp_path, lines) == np.concatenate(want).tolist()


def test_inputs(tmp_path: Path) -> None:
    model = far_input()
    fmt = model.tensors["x"]
    x = (np.random.default_rng(0).uniform(-140, 140, (20, 3)) + fmt.scales_and_offsets[1]) * fmt.scales
    scale, offset, needed = numbers(export_source(model, "net", "plain"), "x", "NET_X")
    lines = [
        f"    static const double x[20][3] = {{{', '.join('{' + ', '.join(map(float.hex, row)) + '}' for row in x.tolist())}}};",
        *needed,
        "    for (int i = 0; i < 20; i++)",
        "        for (int k = 0; k < 3; k++) {",
        f"            double q = floor(x[i][k] / {scale} + 0.5) - (double){offset};",
        '            printf("%a\\n", q < -127.0 ? -127.0 : q > 127.0 ? 127.0 : q);',
        "        }",
    ]
    assert printed(model, tmp_path, lines) == quantize_array(x, fmt).ravel().tolist()


@given(
    offset=st.integers(-(1 << 52), 1 << 52) | st.sampled_from([(1 << 31) - 1, 1 - (1 << 31), 0, 1 << 52]),
    count=st.sampled_from([1, 2, 300, MOST_ELEMENTS + 1]),
)
@settings(max_examples=30)
def test_macros_in_text(offset: int, count: int) -> None:
    """Every value stands in the macro, lines are continued, and lists that are too long are said to be left out."""
    offsets = tuple(offset + k for k in range(count)) if count > 1 else (offset,)
    text = "\n".join(RealValues((0.5,), offsets, 127).macros("NET_X"))
    assert text.startswith("#define NET_X_SCALE 0.5\n")
    if count > MOST_ELEMENTS:
        assert f"NET_X_OFFSETS: {count} values" in text
        return
    words = text.split("\n", 1)[1].replace("\\\n", " ").replace("}", "").replace("{", "").split(None, 2)
    values = [v.strip(" ()L") for v in words[2].split(",") if v.strip()]
    assert tuple(map(int, values)) == offsets
