"""The boundary in C: real numbers, codes of converters and classes have the integers that the host has; headers are C99 and C++."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import compiler, tool
from offset_models import far_quantized

from export.building import COMPILERS, WARNINGS, compile_program, write_sources
from export.kinds import kind
from export.test_given_states import of_graph
from qrnn.errors import DataError
from qrnn.export.choices import Choices
from qrnn.export.folder import export_model
from qrnn.export.golden import CODE_ROWS
from qrnn.export.real_functions import float_header, in_float
from qrnn.export.real_values import port_values
from qrnn.export.source import Exported, export_source
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.codes import CodeKind, code_format
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.targets import load_target

FORMATS = {
    "one": TensorFormat(3, True, 8, (0.0371,), 127),
    "each": TensorFormat(3, True, 8, (0.037, 1e-3, 2.5), 127, (-2700, 5, 0)),
    "wide": TensorFormat(3, True, 16, (3.3e-5, 7.0, 2.0**-9), 32767, (0, 123_456, -9)),
    "far": TensorFormat(3, True, 8, (0.037, 1e-3, 2.5), 127, (-2700, 5, 1 << 52)),
    "tiny": TensorFormat(3, True, 8, (1e-60, 1.0, 1e60), 127),
}
REALS: dict[str, Any] = {"double": ctypes.c_double, "float": ctypes.c_float}


@cache
def of_format(name: str) -> QuantModel:
    """A model whose input x has one of `FORMATS`."""
    model = far_quantized(Scheme(input="16" if FORMATS[name].bits == 16 else "8"))
    return replace(model, tensors={**model.tensors, "x": FORMATS[name]})


def with_headers(exported: Exported, model: QuantModel, folder: Path) -> Path:
    """The model's sources with NAME_float.h; the .c file."""
    source = write_sources(exported, folder)
    (folder / "net_float.h").write_text(float_header("net", model, exported.inputs, exported.outputs, exported.given))
    return source


def library(exported: Exported, model: QuantModel, folder: Path, real: str = "double", cc: str = "gcc") -> Any:
    """A shared library of the model, in which the header's inline functions have names that begin with ``the_``."""
    source = with_headers(exported, model, folder)
    lines = ['#include "net_float.h"', "int the_exactness(void); int the_exactness(void) { return QRNN_REAL_EXACT; }"]
    states, inputs = [s.port for s in exported.given], [p for p in exported.inputs if p.kind == "int16_t"]
    words = [("quantize", p, f"const net_real *a, {p.kind} *b", "(a, b)", "void") for p in (*inputs, *states)]
    words += [
        ("dequantize", p, f"const {p.kind} *a, net_real *b", "(a, b)", "void") for p in (*exported.outputs, *states)
    ]
    words += [
        ("argmax", p, f"const {p.kind} *a", "(a)", "uint32_t")
        for p in exported.outputs
        if f"net_argmax_{p.name}(const" in exported.header
    ]
    for word, port, parameters, arguments, result in words:
        head = f"{result} the_{word}_{port.name}({parameters})"
        lines += [f"{head};", f"{head} {{ {'return ' if result != 'void' else ''}net_{word}_{port.name}{arguments}; }}"]
    (folder / "the.c").write_text("\n".join([*lines, ""]))
    flags = [*WARNINGS, "-O1", "-shared", "-fPIC", *(["-DQRNN_FLOAT"] if real == "float" else [])]
    compile_program([compiler(cc), *flags, folder / "the.c", source, "-o", folder / f"the_{real}.so"])
    return ctypes.CDLL(str(folder / f"the_{real}.so"))


def pointer(values: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def quantized_in_c(lib: Any, name: str, x: np.ndarray[Any, Any], kind: Any = np.int16) -> np.ndarray[Any, Any]:
    """The integers of real numbers [N, F], by the library."""
    found = np.zeros(x.shape, kind)
    for row, q in zip(x, found, strict=True):
        lib[f"the_quantize_{name}"](pointer(np.ascontiguousarray(row)), pointer(q))
    return found


def places(fmt: TensorFormat, rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Real numbers about every integer of a format, its ends, and the halves between two, where rounding decides."""
    scales, offsets = (np.broadcast_to(v, fmt.features) for v in fmt.scales_and_offsets)
    q = rng.integers(-fmt.limit - 3, fmt.limit + 4, (count, fmt.features)) + offsets
    part = rng.choice([0.0, 0.5, -0.5, 0.25, 0.49999999, 1e-9], q.shape) + rng.normal(0, 0.3, q.shape) * rng.integers(
        0, 2, q.shape
    )
    x: np.ndarray[Any, Any] = (q + part) * scales
    return np.where(rng.random(x.shape) < 0.1, np.nextafter(x, np.inf), x)


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("name", FORMATS)
def test_quantize_in_double_has_the_bits(name: str, cc: str, tmp_path: Path) -> None:
    """`qrnn.model.boundary.to_integers`, integer for integer, with numbers far beyond the range."""
    model = of_format(name)
    lib, fmt, rng = (
        library(export_source(model, "net", "plain"), model, tmp_path, cc=cc),
        FORMATS[name],
        np.random.default_rng(1),
    )
    assert lib.the_exactness() == 1
    x = np.concatenate([places(fmt, rng, 4000), 10.0 ** rng.uniform(-70, 70, (200, 3)) * rng.choice([-1, 1], (200, 3))])
    assert np.array_equal(quantized_in_c(lib, "x", x), quantize_array(x, fmt))
    ends = np.array([[np.inf] * 3, [-np.inf] * 3, [np.nan] * 3])
    assert quantized_in_c(lib, "x", ends).tolist() == [[fmt.limit] * 3, [-fmt.limit] * 3, [-fmt.limit] * 3]


@pytest.fixture(scope="module")
def in_double(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library of a model with one of `FORMATS`, built once."""

    @cache
    def made(name: str) -> Any:
        model = of_format(name)
        return library(export_source(model, "net", "plain"), model, tmp_path_factory.mktemp(name))

    return made


@given(x=st.lists(st.floats(width=64), min_size=3, max_size=3), name=st.sampled_from(["each", "wide", "far"]))
@settings(max_examples=200)
def test_quantize_of_any_double(in_double: Any, x: list[float], name: str) -> None:
    """Infinities are ends, and what is not a number is the lowest integer."""
    found = quantized_in_c(in_double(name), "x", np.array([x]))
    fmt = FORMATS[name]
    with np.errstate(over="ignore"):
        want = quantize_array(np.array([np.where(np.isnan(x), -np.inf, x)]), fmt)
    assert np.array_equal(found, want)


@pytest.mark.parametrize("name", ["each", "wide", "far"])
def test_quantize_in_float_is_within_one_unit(name: str, tmp_path: Path) -> None:
    """And is that of the float's own value exactly where float has too few bits, so that it computes in double."""
    model = of_format(name)
    exported = export_source(model, "net", "plain")
    lib, fmt = library(exported, model, tmp_path, "float"), FORMATS[name]
    assert lib.the_exactness() == 0
    x = places(fmt, np.random.default_rng(2), 20_000).astype(np.float32)
    found, want = quantized_in_c(lib, "x", x), quantize_array(x.astype(np.float64), fmt)
    error = np.abs(found.astype(int) - want)
    assert error.max() <= 1
    values = port_values(model, exported.inputs[0])
    assert values is not None
    assert in_float(values) == (name != "far")
    assert bool(error.any()) == in_float(values)


@pytest.mark.parametrize("real", REALS)
def test_dequantize(real: str, tmp_path: Path) -> None:
    model = far_quantized()
    exported = export_source(model, "net", "plain")
    lib, rng = library(exported, model, tmp_path, real), np.random.default_rng(3)
    for port, output in zip(exported.outputs, model.outputs, strict=True):
        q = rng.integers(-32767, 32768, (50, port.count)).astype(np.int16)
        found = np.zeros(q.shape, np.float64 if real == "double" else np.float32)
        for row, x in zip(q, found, strict=True):
            lib[f"the_dequantize_{port.name}"](pointer(row), pointer(x))
        ((tensor, indices, _),) = output.parts
        fmt = model.tensors[tensor]
        every = np.zeros((len(q), fmt.features), np.int64)
        every[:, indices] = q
        want = dequantize_array(every, fmt)[:, indices]
        if real == "double":
            assert np.array_equal(found, want)
        else:
            assert np.abs(found - want).max() <= 2.0**-22 * np.abs(want).max()


def test_states(tmp_path: Path) -> None:
    """States are given as real numbers as inputs are, each element with its own format and limit."""
    model = of_graph("joint")
    exported = export_source(model, "net", "plain")
    lib, rng = library(exported, model, tmp_path), np.random.default_rng(4)
    assert exported.given
    for state in exported.given:
        real = rng.normal(0, 4, (200, state.port.count)) * 10.0 ** rng.integers(-3, 6, (200, 1))
        source = np.zeros((200, int(state.source.max()) + 1))
        source[:, state.source] = real
        found = quantized_in_c(lib, state.port.name, real, np.int16 if state.port.kind == "int16_t" else np.int32)
        assert np.array_equal(found, state.integers(source))


@pytest.mark.parametrize("which", ["lstm", "embedded", "far"])
def test_argmax(which: str, tmp_path: Path) -> None:
    """The first of the largest real values, whatever scales and offsets the elements have."""
    model = far_quantized() if which == "far" else kind(which)
    exported = export_source(model, "net", "plain")
    lib, rng, tried = library(exported, model, tmp_path), np.random.default_rng(5), 0
    for port, output in zip(exported.outputs, model.outputs, strict=True):
        if f"net_argmax_{port.name}(const" not in exported.header:
            assert port.count == 1
            continue
        tried += 1
        scales, offsets = model.scales_and_offsets(output)
        for _ in range(200):
            q = rng.integers(-40, 40, port.count).astype(np.int16 if port.kind == "int16_t" else np.int32)
            want = int(np.argmax((q + offsets) * scales))
            assert lib[f"the_argmax_{port.name}"](pointer(q)) == want
    assert tried


# codes

CODES: dict[str, tuple[str, Any, Any, CodeKind]] = {
    "microphone": ("one", 2.0**-12, 0.0, "int16"),
    "converter": ("each", 3.3 / 4096, (-101.0, -0.1, -1.65), "uint16"),
    "of each": ("wide", (1e-4, 0.5, -0.01), (0.0, 800.0, 3.0), "int32"),
}


@cache
def coded(name: str) -> tuple[QuantModel, Choices]:
    own, scale, offset, code_kind = CODES[name]
    model = of_format(own)
    return model, Choices(codes={"x": code_format(model, "x", scale, offset, code_kind)})


@pytest.mark.parametrize("name", CODES)
def test_codes_have_the_bits_of_python(name: str, tmp_path: Path) -> None:
    model, choices = coded(name)
    lib = library(export_source(model, "net", "plain", choices=choices), model, tmp_path)
    code_kind, rng = choices.codes["x"].kind, np.random.default_rng(6)
    info = np.iinfo(code_kind)
    codes = rng.integers(info.min, info.max, (500, 3), endpoint=True) >> rng.integers(0, 16, (500, 3))
    codes = np.clip(codes, info.min, info.max).astype(code_kind)
    codes[0], codes[1] = info.min, info.max
    found = np.zeros(codes.shape, np.int16)
    for row, q in zip(codes, found, strict=True):
        lib.net_from_codes_x(pointer(row), pointer(q))
    assert np.array_equal(found, choices.codes["x"].integers(codes))
    own, scale, offset, _ = CODES[name]
    real = quantize_array(codes * np.asarray(scale) + np.asarray(offset), FORMATS[own])
    assert np.abs(found.astype(int) - real).max() <= 1
    assert (found != real).mean() < 0.01


def test_the_self_test_has_codes(tmp_path: Path) -> None:
    """A wrong bias in the C is found."""
    model, choices = coded("converter")
    export_model(model, load_target("generic"), tmp_path / "out", "net", choices=choices)
    source = tmp_path / "out" / "net.c"
    files = [tmp_path / "out" / "test" / name for name in ("net_selftest.c", "main.c")]
    command = [compiler("gcc"), *WARNINGS, source, *files, "-o", tmp_path / "program"]
    compile_program(command)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    header = (tmp_path / "out" / "test" / "net_golden.h").read_text()
    assert f"golden_codes_x[{3 * CODE_ROWS}]" in header
    text = source.read_text()
    assert ", 127);" in text
    source.write_text(text.replace("], 127);", "], 126);"))
    compile_program(command)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 1


# headers

USER = """
#include "net_float.h"
#include "net_info.h"
#include "net.h"
{arrays}
static net_state state;
int main(void)
{{
    net_init(&state);
{calls}
    return ((net_info.state_bytes == sizeof(state)) && (net_info.contract_major == NET_CONTRACT_MAJOR)) ? 0 : 1;
}}
"""


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("standard", ["c99", "c11", "c++11", "c++14", "c++17", "c++20"])
@pytest.mark.parametrize("which", ["converter", "embedded"])
@pytest.mark.parametrize("real", REALS)
def test_headers_compile_without_a_warning(which: str, standard: str, real: str, tmp_path: Path) -> None:
    """In every standard of C and C++, with every function called, and with none."""
    model, choices = coded(which) if which in CODES else (kind(which), Choices())
    choices = replace(
        choices, names={model.outputs[0].name: tuple(f'a "{k}" ??/ ü' for k in range(model.outputs[0].features))}
    )
    exported = export_model(model, load_target("generic"), tmp_path / "out", "net", choices=choices)
    arrays, calls = [], []
    reals = [p for p in (*exported.inputs, *exported.outputs) if not p.kind.startswith("u")]
    for port in reals:
        arrays += [f"static {port.kind} {port.name}[{port.count}];", f"static net_real real_{port.name}[{port.count}];"]
    calls += [f"net_quantize_{p.name}(real_{p.name}, {p.name});" for p in exported.inputs if p.kind == "int16_t"]
    calls += [f"net_dequantize_{p.name}({p.name}, real_{p.name});" for p in exported.outputs]
    first = exported.outputs[0].name
    calls += [f"if (net_name_{first}(net_argmax_{first}({first}))[0] != 'a') {{ return 2; }}"]
    calls += [f"if (net_name_{first}(99U)[0] != '\\0') {{ return 3; }}"]
    extra = ["-Wold-style-cast"] if "++" in standard else ["-Wconversion", "-Wdouble-promotion"]
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *extra, f"-I{tmp_path / 'out'}"]
    flags += ["-DQRNN_FLOAT"] if real == "float" else []
    model_object = tmp_path / "net.o"
    compile_program([compiler("gcc"), *WARNINGS, "-c", tmp_path / "out" / "net.c", "-o", model_object])
    end = "cpp" if "++" in standard else "c"
    for cc in ("g++", "clang++") if "++" in standard else COMPILERS:
        for number, lines in enumerate((calls, [])):
            user = tmp_path / f"user{number}.{end}"
            declared = "\n".join(arrays) if lines else ""
            user.write_text(USER.format(arrays=declared, calls="\n".join(f"    {line}" for line in lines)))
            compile_program([compiler(cc), *flags, user, model_object, "-o", tmp_path / "program"])
            assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


def test_weights_lie_where_the_macro_says(tmp_path: Path) -> None:
    """The arrays of weights have the section, all other constants the other one."""
    exported = export_source(kind("embedded"), "net", "plain")
    source, made = write_sources(exported, tmp_path), tmp_path / "net.o"
    sections = {"WEIGHTS": ".external", "CONSTANTS": ".tightly"}
    places_ = [f'-DQRNN_{k}=__attribute__((section("{v}")))' for k, v in sections.items()]
    for cc in COMPILERS:
        compile_program([compiler(cc), *WARNINGS, *places_, "-c", source, "-o", made])
        done = subprocess.run([tool("objdump"), "-t", made], capture_output=True, text=True, check=True)
        found = {line.split()[-1]: line for line in done.stdout.splitlines() if " O " in line}
        assert " .external\t" in found["net_cells_ih_weight"]
        assert " .external\t" in found["net_words_table"]
        assert " .tightly\t" in found["net_cells_ih_row"]
        assert " .tightly\t" in found["table_exp"]


# the rule of codes, in Python


@given(
    scale=st.floats(1e-6, 1e3) | st.floats(-1e3, -1e-6),
    offset=st.floats(-1e3, 1e3),
    name=st.sampled_from(["one", "each", "wide"]),
    codes=st.lists(st.integers(-(1 << 15), (1 << 15) - 1), min_size=3, max_size=3),
)
@settings(max_examples=200)
def test_codes_are_rounded_as_real_numbers_are(scale: float, offset: float, name: str, codes: list[int]) -> None:
    """To one unit; a rule that cannot is refused."""
    model = of_format(name)
    try:
        found = code_format(model, "x", scale, offset)
    except DataError as error:
        assert "codes of 'x'" in str(error)  # noqa: PT017
        return
    q = found.integers(np.array([codes]))
    want = quantize_array(np.array([codes]) * scale + offset, FORMATS[name])
    assert np.abs(q.astype(int) - want).max() <= 1
