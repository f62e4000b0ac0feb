"""Exported C equals the reference to the last bit, on random models of every kind, under sanitizers and every warning."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from backends.generators import Case, cases, few, many, quantized_or_refused
from backends.test_exactness import CORNERS
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_modules import load_tool

from export.building import COMPILERS, check, compiler, quantized, replayed
from export.graphs import graphs
from export.kinds import kind
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.replay import replay_source
from qrnn.export.source import export_source
from qrnn.model.float_model import FloatModel
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Kernels

CATALOGUE = load_tool("cell_catalogue")
EMULATED: tuple[Kernels, ...] = ("mla", "dsp", "mve")


def check_case(case: Case, cc: str, kernels: Kernels = "plain") -> None:
    model = quantized_or_refused(case)
    if model is None:
        return
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        check(model, Path(folder), compiler(cc), kernels, case.seed)


# Each example takes a compiler more than a second: the default run has a few, the matrix has these and more.


@pytest.mark.parametrize("cc", COMPILERS)
@settings(few, max_examples=2)
@given(case=cases(most_hidden=14))
def test_few_random_models(cc: str, case: Case) -> None:
    check_case(case, cc)


@pytest.mark.matrix
@pytest.mark.parametrize("cc", COMPILERS)
@settings(few, max_examples=24)
@given(case=cases(most_hidden=14))
def test_random_models(cc: str, case: Case) -> None:
    check_case(case, cc)


@pytest.mark.parametrize("kernels", EMULATED)
@settings(few, max_examples=1)
@given(case=cases(most_hidden=14))
def test_few_random_models_with_the_kernels_of_other_cores(kernels: Kernels, case: Case) -> None:
    check_case(case, "gcc", kernels)


@pytest.mark.matrix
@pytest.mark.parametrize("kernels", EMULATED)
@settings(few, max_examples=8)
@given(case=cases(most_hidden=14))
def test_random_models_with_the_kernels_of_other_cores(kernels: Kernels, case: Case) -> None:
    check_case(case, "gcc", kernels)


@pytest.mark.long
@pytest.mark.parametrize("kernels", ["plain", *EMULATED])
@pytest.mark.parametrize("cc", COMPILERS)
@settings(many, max_examples=400)
@given(case=cases())
def test_random_models_long(cc: str, kernels: Kernels, case: Case) -> None:
    check_case(case, cc, kernels)


def check_graph(model: FloatModel | None, cc: str, kernels: Kernels, scheme: Scheme) -> None:
    if model is None:
        return
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        check(quantized(model, scheme), Path(folder), compiler(cc), kernels)


SCHEMES = st.sampled_from([Scheme(), Scheme(16, input="16"), Scheme(input="8-per-feature"), Scheme(weights=4)])


@settings(few, max_examples=3)
@given(graphs(), st.sampled_from(COMPILERS), SCHEMES)
def test_few_random_graphs(model: FloatModel | None, cc: str, scheme: Scheme) -> None:
    check_graph(model, cc, "plain", scheme)


@pytest.mark.matrix
@settings(few, max_examples=40)
@given(graphs(), st.sampled_from(COMPILERS), SCHEMES)
def test_random_graphs(model: FloatModel | None, cc: str, scheme: Scheme) -> None:
    check_graph(model, cc, "plain", scheme)


@pytest.mark.long
@pytest.mark.parametrize("kernels", ["plain", *EMULATED])
@settings(many, max_examples=400)
@given(graphs(), st.sampled_from(COMPILERS), SCHEMES)
def test_random_graphs_long(kernels: Kernels, model: FloatModel | None, cc: str, scheme: Scheme) -> None:
    check_graph(model, cc, kernels, scheme)


@pytest.mark.wide("cc")
@pytest.mark.parametrize(
    ("case", "cc"),
    [pytest.param(c, COMPILERS[n % 2], id=f"{n}-{c.shape.cell}-{c.head}") for n, c in enumerate(CORNERS)],
)
def test_corners(case: Case, cc: str) -> None:
    check_case(case, cc)


@pytest.mark.wide("cc", keep=3)
@pytest.mark.parametrize(("name", "cc"), [(n, COMPILERS[k % 2]) for k, n in enumerate(CATALOGUE.CELLS)])
def test_every_cell(name: str, cc: str, tmp_path: Path) -> None:
    check(quantized(CATALOGUE.cell(name, 7, 3)), tmp_path, compiler(cc))


@pytest.mark.matrix
@pytest.mark.shard_by("name")
@pytest.mark.parametrize("kernels", ["plain", *EMULATED])
@pytest.mark.parametrize(
    "scheme",
    [Scheme(), Scheme(16, input="16"), Scheme(weights=4), Scheme(multipliers=16)],
    ids=["8", "16", "four bits", "short multipliers"],
)
@pytest.mark.parametrize("name", CATALOGUE.CELLS)
def test_every_cell_with_every_scheme(name: str, scheme: Scheme, kernels: Kernels, tmp_path: Path) -> None:
    check(quantized(CATALOGUE.cell(name, 37, 9), scheme), tmp_path, compiler("gcc"), kernels)


@pytest.mark.parametrize("activations", [8, 16])
def test_multipliers_of_16_bits(activations: int, tmp_path: Path) -> None:
    scheme = Scheme(activations, input=str(activations), multipliers=16)
    model = quantized(CATALOGUE.cell("lstm", 7, 3), scheme)
    assert "QRNN_USE_SHORT_MULTIPLIERS" in export_source(model, "net", "plain").source
    check(model, tmp_path, compiler("gcc"))


@pytest.mark.parametrize(("kernels", "features"), [("mla", 8), ("dsp", 5), ("dsp", 8), ("mve", 8)])
def test_a_state_that_becomes_its_operands(kernels: Kernels, features: int, tmp_path: Path) -> None:
    """With an output for the new state and without one, and with an input that is read in its place; here the operands are read in C."""
    cc, model = compiler("gcc"), quantized(CATALOGUE.cell("lstm", 16, features))
    exported = export_source(model, "net", kernels)
    in_place = '#define QRNN_OPERANDS_IN_PLACE\n#pragma GCC optimize("no-strict-aliasing")\n'
    exported = replace(exported, source=in_place + exported.source)
    sequences = random_sequences(model, exported, (1, 9), 0)
    want = host_results(model, exported, sequences, "reference")
    (port,) = exported.outputs
    usual = replay_source(exported, 9)
    found = {}
    for asked, y in (("output", f"port_{port.name}"), ("none", "(int16_t *)0")):
        program = usual.replace(f"port_{port.name});", f"{y});")
        folder = tmp_path / asked
        folder.mkdir()
        found[asked] = replayed(exported, sequences, folder, cc, replay=program)
    assert first_difference(want, found["output"]) is None
    for expected, got in zip(want, found["none"], strict=True):
        for name, value in expected.state.items():
            np.testing.assert_array_equal(got.state[name], value)


ODD_KINDS = ("embedded", "long rows", "long rows of a gru", "left shift", "pre-shift", "steps")


@pytest.mark.wide("kernels")
@pytest.mark.parametrize(("which", "kernels"), list(zip(ODD_KINDS * 2, cycle(("plain", "dsp", "mve", "plain")))))
def test_kinds_that_random_models_hardly_are(which: str, kernels: Kernels, tmp_path: Path) -> None:
    check(kind(which), tmp_path, compiler("clang" if kernels == "plain" else "gcc"), kernels)
