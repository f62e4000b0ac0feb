"""Exported C that generates: the tokens and values of a session, under sanitizers, on devices, in its self-test and through its folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding_models import SCHEME, forecaster, language_model, one_hot_model, transducer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from installed import SANITIZERS, compiler

import qrnn
from export.building import SANITIZED, WARNINGS, compile_program, write_sources
from export.test_devices import usable
from qrnn import layers
from qrnn.arithmetic.choices import fed_value
from qrnn.devices.toolchain import boards_folder
from qrnn.devices.verify import verify
from qrnn.errors import DataError, ModelFileError, UnsupportedError
from qrnn.export.expected import first_difference, random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.generation import Generation, PlannedGeneration, fed_numbers
from qrnn.export.generation_replay import (
    Case,
    cases_of,
    decode_cases,
    encode_cases,
    generation_source,
    host_generated,
)
from qrnn.export.replay import Replayed
from qrnn.export.source import Exported, export_source
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel
from qrnn.targets import load_target

DRAWN = qrnn.Sampling(0.8, top_k=5)


def apart(seed: int = 0) -> QuantModel:
    """Scores of two layers, of which one lies far from the other: of one unit, with an offset each."""
    rng = np.random.default_rng(seed)
    x = layers.embedding(layers.tokens("tokens", 8), rng.normal(size=(8, 4)))
    y = layers.gru(x, rng.normal(size=(18, 4)), rng.normal(size=(18, 6))).output
    far, weight = np.full(4, 700.0), rng.normal(size=(4, 6))
    a, b = layers.dense(y, weight, far), layers.dense(y, -weight, far + 1.0)
    return qrnn.quantize(layers.model("apart", {"scores": (a, b)}), {"tokens": rng.integers(0, 8, (8, 30))}, SCHEME)


CASES: dict[str, tuple[Any, Generation]] = {
    "greedy": (language_model, Generation()),
    "drawn": (language_model, Generation(DRAWN)),
    "probabilities": (lambda: language_model("softmax", "lstm", conditioned=True), Generation(qrnn.Sampling(1.5, top_p=0.7))),
    "log probabilities": (lambda: language_model("log_softmax"), Generation(DRAWN)),
    "argmax": (lambda: language_model("argmax"), Generation()),
    "offsets": (apart, Generation(DRAWN)),
    "offsets, greedy": (apart, Generation()),
    "one-hot": (one_hot_model, Generation(DRAWN)),
    "values": (lambda: forecaster(scheme="8-per-feature"), Generation()),
    "values of the last step": (lambda: forecaster(scheme="16", last=True), Generation()),
    "transducer": (transducer, Generation(blank=6)),
    "transducer, drawn": (transducer, Generation(DRAWN, blank=6)),
}  # fmt: skip


def made(exported: Exported, cases: list[Case], folder: Path, cc: str = "gcc") -> list[Replayed]:
    """What the model's C generates under sanitizers."""
    compiler(cc, *SANITIZERS)
    source = write_sources(exported, folder)
    (folder / "generate.c").write_text(generation_source(exported, cases))
    boards, program = boards_folder(), folder / "generate"
    include = [f"-I{folder}", f"-I{boards}"]
    compile_program([cc, *SANITIZED, *include, source, folder / "generate.c", boards / "host.c", "-o", program])
    done = subprocess.run([program], input=encode_cases(exported, cases), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return decode_cases(exported, len(cases), done.stdout)


USUAL = ("drawn", "probabilities", "offsets", "one-hot", "values", "transducer, drawn")


@pytest.mark.parametrize("which", [pytest.param(c, marks=() if c in USUAL else pytest.mark.matrix) for c in CASES])
def test_c_generates_what_a_session_does(which: str, tmp_path: Path) -> None:
    make, generation = CASES[which]
    model: QuantModel = make()
    exported = export_source(model, "net", "plain", generation=generation)
    cases = cases_of(exported, random_sequences(model, exported, (1, 2, 9, 24), 3))
    if "offsets" in which:
        assert exported.generates is not None
        assert exported.generates.plan.level_offsets is not None
    want = host_generated(model, exported, cases, "reference")
    assert first_difference(want, host_generated(model, exported, cases)) is None
    assert first_difference(want, made(exported, cases, tmp_path)) is None
    assert len({tuple(r.outputs["generated"].ravel().tolist()) for r in want}) > 2


@pytest.fixture(scope="module", params=["logits", "softmax"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[QuantModel, Exported, Path]:
    """A program for cases of at most nine steps and two stop tokens."""
    model = language_model(request.param)
    exported = export_source(model, "net", "plain", generation=Generation(DRAWN))
    folder = tmp_path_factory.mktemp("random")
    made(exported, [Case(PROMPT, 2, 9, None, (0, 0))], folder)
    return model, exported, folder / "generate"


PROMPT = {"tokens": np.array([[3], [7]])}

drawn_cases = st.builds(
    Case,
    st.just(PROMPT),
    st.just(2),
    st.integers(1, 9),
    st.none()
    | st.builds(qrnn.Sampling, st.floats(0.05, 20.0), st.none() | st.integers(1, 12), st.none() | st.floats(0.01, 1.0)),
    st.lists(st.integers(0, 10), max_size=2).map(tuple),
    st.integers(0, (1 << 64) - 1),
)


@settings(max_examples=15, deadline=None)
@given(cases=st.lists(drawn_cases, min_size=1, max_size=8))
def test_random_choices_in_c(program: tuple[QuantModel, Exported, Path], cases: list[Case]) -> None:
    """Temperatures, top-k, top-p, seeds and stop tokens are given at run time."""
    model, exported, path = program
    done = subprocess.run([path], input=encode_cases(exported, cases), capture_output=True, check=True)
    want = host_generated(model, exported, cases)
    assert first_difference(want, decode_cases(exported, len(cases), done.stdout)) is None


DEVICES = ("cortex-m4", "avr", *(pytest.param(d, marks=pytest.mark.matrix) for d in ("cortex-m0plus", "rv32imc")))


@pytest.mark.parametrize("device", DEVICES)
def test_devices_generate_what_the_host_does(device: str, tmp_path: Path) -> None:
    """`qrnn verify` compares it, from the folder alone."""
    target = usable(device)
    model = language_model()
    export_model(model, target, tmp_path / "net", "net", generation=Generation(DRAWN))
    folder = read_folder(tmp_path / "net")
    found = verify(folder, target, random_sequences(model, folder.exported, (1, 9), 1))
    assert found.difference is None
    assert found.generated > 20


@pytest.mark.parametrize(
    "which",
    [
        "drawn",
        "values",
        "transducer",
        *(pytest.param(c, marks=pytest.mark.matrix) for c in ("probabilities", "one-hot")),
    ],
)
def test_the_self_test_generates(which: str, tmp_path: Path) -> None:
    """It passes, and does not where one of the tokens that it knows is another; the C is C++ as well."""
    make, generation = CASES[which]
    export_model(make(), load_target("generic"), tmp_path / "net", "net", generation=generation)
    test, sources = (
        tmp_path / "net" / "test",
        [tmp_path / "net" / "net.c", *sorted((tmp_path / "net" / "test").glob("*.c"))],
    )
    for cc, flags in (
        ("gcc", WARNINGS),
        ("g++", ("-std=c++11", "-x", "c++", "-Wall", "-Wextra", "-Wconversion", "-Werror")),
    ):
        compile_program([compiler(cc), *flags, *sources, "-o", tmp_path / "right"])
        assert subprocess.run([tmp_path / "right"], check=False).returncode == 0
    golden = test / "net_golden.h"
    head, _, rest = golden.read_text().partition("golden_generated0[")
    size, _, values = rest.partition("{\n    ")
    other = "1" if not values.startswith("1") else "2"
    number, _, tail = values.partition(",")
    golden.write_text(f"{head}golden_generated0[{size}{{\n    {other}{'U' * number.endswith('U')},{tail}")
    compile_program(["gcc", *WARNINGS, *sources, "-o", tmp_path / "wrong"])
    assert subprocess.run([tmp_path / "wrong"], check=False).returncode == 1


def test_a_folder_without_generation_is_as_before(tmp_path: Path) -> None:
    export_model(language_model(), load_target("generic"), tmp_path / "net", "net")
    assert "generate" not in json.loads((tmp_path / "net" / "manifest.json").read_text())
    assert "choose" not in (tmp_path / "net" / "net.h").read_text()
    assert read_folder(tmp_path / "net").exported.generates is None


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    export_model(language_model(), load_target("generic"), tmp_path / "net", "net", generation=Generation(DRAWN))
    path = tmp_path / "net" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert read_folder(tmp_path / "net").exported.header == (tmp_path / "net" / "net.h").read_text().replace(
        "/* net: made by qrnn for generic */\n", ""
    )
    good = manifest["generate"]
    for damaged in (5, {}, {**good, "feed": 3}, {**good, "sampling": {"temperature": -1}}, {**good, "x": 1}):
        path.write_text(json.dumps({**manifest, "generate": damaged}))
        with pytest.raises((ModelFileError, DataError)):
            read_folder(tmp_path / "net")


@given(
    st.integers(0, 15),
    st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-300, 300),
    st.floats(1e-6, 1e4),
    st.integers(-1000, 1000),
    st.sampled_from([127, 32767]),
)
@settings(max_examples=60, deadline=None)
@example(1, 0, 3.0, 0, 127)
def test_fed_integers_are_those_of_the_boundary(
    frac: int, offset: int, to_scale: float, to_offset: int, limit: int
) -> None:
    fmt = TensorFormat(1, True, 16, (to_scale,), limit, (to_offset,))
    own = TensorFormat(1, True, 16, (2.0**-frac,), 32767, (offset,))
    try:
        multiplier, bias, shift = fed_numbers("here", 2.0**-frac, float(offset), to_scale, float(to_offset), limit)
    except UnsupportedError:
        assert 2.0**-frac / to_scale > 2.0**40  # the multiplier has no room for what is always clipped
        return
    every = np.arange(-(1 << 15), 1 << 15, 7)
    want = quantize_array(dequantize_array(every[:, None], own), fmt)[:, 0]
    assert want.tolist() == [fed_value(int(q), multiplier, bias, shift, limit) for q in every]


@pytest.mark.parametrize(
    ("make", "generation", "message"),
    [
        (forecaster, Generation(DRAWN), "no token is chosen"),
        (forecaster, Generation(blank=1), "no token is chosen"),
        (lambda: language_model("argmax"), Generation(DRAWN), "nothing can be drawn"),
        (transducer, Generation(blank=7), "blank=7"),
        (transducer, Generation(blank=0), "token 6 could be chosen"),
        (language_model, Generation(feed={"tokens": "x"}), "'x' is no output"),
        (lambda: language_model(conditioned=True), Generation(feed={"voice": "scores"}), "without time"),
    ],
)
def test_refused(make: Any, generation: Generation, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PlannedGeneration(make(), generation)
