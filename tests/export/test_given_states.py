"""States that callers give to exported C: set, read back and cleared, with the host's bits; what is out of range changes nothing."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import SANITIZERS, compiler
from models import Shape, make_model
from onnx_import.builders import Graph

from export.building import COMPILERS, SANITIZED, WARNINGS, check, compile_program, quantized, write_sources
from qrnn import Session
from qrnn.devices.verify import verify
from qrnn.export.expected import host_results, integer_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.given_states import Start, StatePort
from qrnn.export.real_values import output_values
from qrnn.export.source import Exported, export_source
from qrnn.model.kinds.recurrent.definition import CellKind
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import import_model
from qrnn.targets import load_target

DEVICES = ("cortex-m0plus", "cortex-m4", "rv32imc")


def steps(carried: bool, op: str = "LSTM", joint: bool = False) -> onnx.ModelProto:
    """Build one step of a cell a call, with its states as inputs, which outputs give on where they are ``carried``.

    With ``joint`` one input holds h and c, unit by unit.
    """
    g = Graph()
    x = g.input("x", [1, "n", 3])
    if joint:
        both = g.input("both", [1, "n", 4, 2])
        h, c = (g.axes_op("Squeeze", g.slice(both, [k], [k + 1], [3]), [3]) for k in (0, 1))
    else:
        h, c = g.input("hx", [1, "n", 4]), g.input("cx", [1, "n", 4]) if op == "LSTM" else ""
    found = g.recurrent(op, x, 3, 4, h=h, c=c)
    g.node("Squeeze", [found[0], g.const(np.array([1]))], ["y"])
    g.output("y", 3)
    if carried and joint:
        parts = [g.axes_op("Unsqueeze", part, [3]) for part in found[1:]]
        g.node("Concat", parts, ["both_out"], axis=3)
        g.output("both_out", 4)
    elif carried:
        for name, part in zip(("hy", "cy"), found[1:], strict=False):
            g.node("Identity", [part], [name])
            g.output(name, 3)
    return g.model()


MODELS = {
    "given alone": lambda: steps(False),
    "given alone, gru": lambda: steps(False, "GRU"),
    "carried": lambda: steps(True),
    "carried, gru": lambda: steps(True, "GRU"),
    "joint": lambda: steps(True, joint=True),
    "joint, given alone": lambda: steps(False, joint=True),
}


def of_graph(which: str) -> QuantModel:
    model = import_model(MODELS[which](), "net")
    return quantized(model, seed=3, size=0.7, steps=1 if model.rows else 12)


@pytest.mark.wide
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("which", MODELS)
def test_given_states_have_the_hosts_bits(which: str, cc: str, tmp_path: Path) -> None:
    model = of_graph(which)
    assert model.rows == ("alone" in which)
    exported = export_source(model, "net", "plain")
    assert sorted(s.port.name for s in exported.given) == sorted(i.name for i in model.inputs if i.kind == "state")
    check(model, tmp_path, cc)


@settings(max_examples=3, deadline=None)
@given(st.data())
def test_states_of_few_drawn_models(data: st.DataObject) -> None:
    check_drawn(data)


@pytest.mark.matrix
@settings(max_examples=24, deadline=None)
@given(st.data())
def test_states_of_drawn_models(data: st.DataObject) -> None:
    check_drawn(data)


def check_drawn(data: st.DataObject) -> None:
    shape = Shape(
        data.draw(st.sampled_from(["lstm", "gru", "rnn"])),
        3,
        data.draw(st.integers(1, 6)),
        data.draw(st.sampled_from([(False,), (True,), (False, True)])),
        layers=data.draw(st.integers(1, 2)),
        states=True,
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    with tempfile.TemporaryDirectory() as folder:
        check(quantized(make_model(shape, rng)), Path(folder), "gcc", seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_states_whose_elements_lie_in_any_order(cell: CellKind, tmp_path: Path) -> None:
    """A layer begins with elements of the input that are no run; some of the input are not read at all, and are 0 when they are read back."""
    rng = np.random.default_rng(5)
    model = make_model(Shape(cell, 3, 5, states=True), rng)
    (layer,) = model.recurrent_layers
    (direction,) = layer.directions
    assert direction.h_0.indices is not None
    h_0 = replace(direction.h_0, indices=rng.permutation(direction.h_0.indices))
    twisted = replace(layer, directions=(replace(direction, h_0=h_0),))
    model = replace(model, layers=tuple(twisted if other is layer else other for other in model.layers))
    made = quantized(model)
    (state,) = export_source(made, "net", "plain").given
    assert (len({int(e) for start in state.starts for e in start.elements}) < state.port.count) == (cell == "gru")
    check(made, tmp_path, "gcc")


def test_users_states_are_those_of_a_session() -> None:
    """The integers that data give to the C are those with which a session begins."""
    model = of_graph("carried")
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(3, 5, 3)), "hx": rng.normal(size=(3, 1, 4)) * 5, "cx": rng.normal(size=(3, 1, 4))}
    exported = export_source(model, "net", "plain")
    sequences = integer_sequences(model, exported, data)
    want = Session(model, "reference").run(data).outputs["y"]
    (scale,) = output_values(model.outputs[0], model).scales
    for n, result in enumerate(host_results(model, exported, sequences, "reference")):
        np.testing.assert_array_equal(result.outputs["y"].reshape(-1) * scale, want[n].reshape(-1))
    for state in exported.given:
        real = data[state.port.graph_name].reshape(3, -1)
        np.testing.assert_array_equal(
            state.integers(real), np.stack([s[state.port.name] for s in sequences]).astype(np.int64)
        )


def test_formats_that_one_integer_cannot_have_are_ports_of_their_own() -> None:
    """One input that starts h and c of an LSTM, which have other fraction bits."""
    g = Graph()
    same = g.input("same", [1, "n", 4])
    y = g.recurrent("LSTM", g.input("x", ["t", "n", 3]), 3, 4, h=same, c=same)[0]
    g.node("Squeeze", [y, g.const(np.array([1]))], ["y"])
    g.output("y", 3)
    model = quantized(import_model(g.model(), "net"))
    names = [s.port.name for s in export_source(model, "net", "plain").given]
    assert len(names) == 2
    assert all(name.startswith("same_") for name in names)


PROGRAM = """
#include "net.h"
static net_state state, before;
static int differs(const void *a, const void *b)
{{
    for (uint32_t k = 0U; k < sizeof(net_state); k++) {{
        if (((const uint8_t *)a)[k] != ((const uint8_t *)b)[k]) {{ return 1; }}
    }}
    return 0;
}}
int main(void)
{{
    {kind} given[{count}], got[{count}];
    net_init(&state);
    before = state;
    for (uint32_t k = 0U; k < {count}U; k++) {{ given[k] = ({kind})((int32_t)(3U * k) + 1); }}
    if (net_set_{name}(&state, given) != 0) {{ return 1; }}
    net_get_{name}(&state, got);
    for (uint32_t k = 0U; k < {count}U; k++) {{ if (got[k] != given[k]) {{ return 2; }} }}
    if (differs(&state, &before) == 0) {{ return 3; }}
    net_clear_{name}(&state);
    if (differs(&state, &before) != 0) {{ return 4; }}
    if (net_set_{name}(&state, given) != 0) {{ return 5; }}
    before = state;
    given[0] = ({kind})(given[0] + 1);
    given[{count} - 1] = ({kind})({beyond});
    if (net_set_{name}(&state, given) != 1) {{ return 6; }}
    if (differs(&state, &before) != 0) {{ return 7; }}
    return 0;
}}
"""


def bounded(state: StatePort) -> Start | None:
    """Return a start whose range is narrower than the port's type; None where there is none."""
    types = {"int16_t": 1 << 15, "int32_t": 1 << 31}
    last = state.port.count - 1
    narrower = (s for s in state.starts if last in s.elements and s.declared.range[0] > -types[state.port.kind])
    return next(narrower, None)


@pytest.mark.parametrize("which", ["given alone", "carried, gru", "carried"])
def test_set_get_clear_and_what_is_out_of_range(which: str, tmp_path: Path) -> None:
    exported = export_source(of_graph(which), "net", "plain")
    state = next(s for s in exported.given if s.port.name == "hx")
    start = bounded(state)
    assert start is not None
    source = write_sources(exported, tmp_path)
    port, beyond = state.port, start.declared.range[0] - 1
    text = PROGRAM.format(kind=port.kind, name=port.name, count=port.count, beyond=beyond)
    (tmp_path / "main.c").write_text(text)
    for cc in COMPILERS:
        compiler(cc, *SANITIZERS)
        compile_program([cc, *SANITIZED, f"-I{tmp_path}", source, tmp_path / "main.c", "-o", tmp_path / "program"])
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


def test_the_values_of_int32_ports_are_checked(tmp_path: Path) -> None:
    """An int32 port that holds h too takes no h beyond 16 bits."""
    exported = export_source(of_graph("joint"), "net", "plain")
    (state,) = exported.given
    assert state.port.kind == "int32_t"
    assert len(state.values().scales) == state.port.count
    source = write_sources(exported, tmp_path)
    lines = [f"    static int32_t v[{state.port.count}];", "    static net_state state;", "    net_init(&state);"]
    of_h = next(s for s in state.starts if s.kind == "int16_t").elements
    for element in range(state.port.count):
        for value, wrong in ((32767, 0), (32768, int(element in of_h)), (-32767, 0), (-32768, int(element in of_h))):
            lines += [
                f"    v[{element}] = {value};",
                f"    if (net_set_both(&state, v) != {wrong}) {{ return 1; }}",
                f"    v[{element}] = 0;",
            ]
    program = "\n".join(['#include "net.h"', "int main(void)", "{", *lines, "    return 0;", "}", ""])
    (tmp_path / "main.c").write_text(program)
    cc = compiler("gcc", *SANITIZERS)
    compile_program([cc, *SANITIZED, f"-I{tmp_path}", source, tmp_path / "main.c", "-o", tmp_path / "program"])
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


@pytest.mark.parametrize("which", ["given alone", "joint"])
def test_the_selftest_and_cxx(which: str, tmp_path: Path) -> None:
    """The folder's own self-test, and the header and model as C++."""
    exported = export_model(of_graph(which), load_target("generic"), tmp_path / "out", "net")
    folder = tmp_path / "out"
    parts = [folder / "net.c", folder / "test" / "net_selftest.c", folder / "test" / "main.c"]
    compile_program([compiler("gcc"), *WARNINGS, *parts, "-o", tmp_path / "program"])
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c++"]
    compile_program([compiler("g++"), *flags, *parts, "-o", tmp_path / "program"])
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    assert_documented(exported, folder)


def assert_documented(exported: Exported, folder: Path) -> None:
    header, text = (folder / "net.h").read_text(), (folder / "README.md").read_text()
    for state in exported.given:
        for word in ("set", "get", "clear"):
            assert f"net_{word}_{state.port.name}(" in header
        assert f"| `{state.port.name}`, a state |" in text


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("which", ["given alone", "joint"])
def test_bits_on_emulated_devices(which: str, name: str, tmp_path: Path) -> None:
    from export.test_devices import usable

    target, model = usable(name), of_graph(which)
    export_model(model, target, tmp_path / "out", "net")
    folder = read_folder(tmp_path / "out")
    rng = np.random.default_rng(4)
    data = {i.name: rng.normal(size=(5, *([1] if i.has_time else []), *i.shape)) for i in model.inputs}
    sequences = integer_sequences(model, folder.exported, data)
    assert verify(folder, target, sequences).difference is None
