"""Models that need whole sequences in C: the reference's outputs and states on this machine under sanitizers, and on emulated cores."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.generators import few, many
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import SANITIZERS
from schemes import BYTES

from export import drawn
from export.building import COMPILERS, check, compiler, quantized
from export.test_devices import usable
from export.whole import models
from qrnn import layers
from qrnn.conversion import quantize
from qrnn.devices.measure import sizes
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import build_replay
from qrnn.errors import UnsupportedError
from qrnn.export.folder import export_model, read_folder
from qrnn.export.source import export_source
from qrnn.export.whole import Linear
from qrnn.export.whole_flow import filling_steps
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import Axis, LengthRule
from qrnn.model.window import Window
from qrnn.onnx_import import load_onnx
from qrnn.targets import Kernels, load_target

LENGTHS = (1, 2, 3, 5, 24)
check_on_host = functools.partial(drawn.check_on_host, lengths=LENGTHS)
check_on_core = functools.partial(drawn.check_on_core, lengths=LENGTHS)
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CORES = ("cortex-m4", "cortex-m55")
KERNELS: tuple[Kernels, ...] = ("plain", "dsp", "mve")


@pytest.mark.long
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("kernels", KERNELS)
@settings(many, max_examples=400)
@given(model=models())
def test_random_whole_models_long(kernels: Kernels, cc: str, model: QuantModel) -> None:
    check_on_host(model, kernels, cc)


@pytest.mark.parametrize("kernels", KERNELS)
@settings(few, max_examples=2)
@given(model=models())
def test_few_random_whole_models(kernels: Kernels, model: QuantModel) -> None:
    check_on_host(model, kernels)


@pytest.mark.matrix
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("kernels", KERNELS)
@settings(few, max_examples=30)
@given(model=models())
def test_random_whole_models(kernels: Kernels, cc: str, model: QuantModel) -> None:
    check_on_host(model, kernels, cc)


@pytest.mark.parametrize("name", CORES)
@settings(few, max_examples=2)
@given(model=models())
def test_few_random_whole_models_on_cores(name: str, model: QuantModel) -> None:
    check_on_core(model, name)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [*CORES, "cortex-m0plus", "cortex-m33", "rv32imc"])
@settings(few, max_examples=15)
@given(model=models())
def test_random_whole_models_on_cores(name: str, model: QuantModel) -> None:
    check_on_core(model, name)


def keywords(padding: int = 1, outputs: tuple[str, ...] = ("words", "steps")) -> QuantModel:
    """A keyword spotter: a convolution over time with a stride, a pool, a bidirectional GRU, its last states to a dense layer."""
    rng = np.random.default_rng(5)
    x = layers.conv(layers.input("x", 10), rng.normal(size=(8, 10, 3)), stride=2, padding=(padding, padding))
    x = layers.max_pool(layers.activation(x, "relu"), Window(2, stride=2))
    ways = [
        layers.gru(x, rng.normal(size=(18, 8)), rng.normal(size=(18, 6)), reverse=reverse) for reverse in (False, True)
    ]
    both = layers.bidirectional(*ways)
    found = {"words": layers.softmax(layers.dense(both.h_n, rng.normal(size=(4, 12)))), "steps": both.output, "conv": x}
    return quantized(layers.model("keywords", {name: found[name] for name in outputs}), steps=60)


@pytest.mark.parametrize("name", CORES)
def test_a_keyword_spotter_on_cores(name: str) -> None:
    check_on_core(keywords(), name)


def digits() -> tuple[QuantModel, dict[str, Any]]:
    """The recognizer of lines of digits, with its images, a column of pixels a step."""
    path, images = SHARED / "models/whole/digits_ocr.onnx", SHARED / "data/digits_ocr_test.npz"
    if not (path.exists() and images.exists()):
        pytest.skip("the shared models are not there")
    with np.load(images) as data:
        x = (data["images"][:40].transpose(0, 2, 1)[:, :80, None] / 255).astype(np.float32)
    return quantize(load_onnx(path), {"x": x}, BYTES), {"x": x}


@pytest.mark.filterwarnings("ignore::qrnn.quantization.source_checks.CalibrationWarning")
@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", ["", *CORES])
def test_a_recognizer_of_digits(name: str) -> None:
    model, data = digits()
    if name:
        check_on_core(model, name, data)
    else:
        check_on_host(model, "plain")


def test_a_sequence_may_leave_a_layer_without_a_row(tmp_path: Path) -> None:
    """Its last states and a last row are then 0, as in every backend, though its states begin with something else."""
    rng = np.random.default_rng(12)
    x = layers.conv(layers.input("x", 3), rng.normal(size=(4, 3, 3)), 5 + rng.normal(size=4), padding=(0, 0))
    start = {"h_0": np.array([0.5, -0.5]), "c_0": np.array([1.0, -2.0])}
    ways = [
        layers.lstm(x, rng.normal(size=(8, 4)), rng.normal(size=(8, 2)), reverse=way, **start) for way in (True, False)
    ]
    both = layers.bidirectional(
        *(layers.lstm(x, rng.normal(size=(8, 4)), rng.normal(size=(8, 2)), reverse=way) for way in (False, True))
    )
    outputs = {
        "h": ways[0].h_n,
        "c": ways[0].c_n,
        "forward": ways[1].h_n,
        "both": both.c_n,
        "last": layers.last_step(x),
    }
    model = quantized(layers.model("short", outputs))
    assert model.length_rules[x.name].of({"time": 2}) == 0
    check(model, tmp_path, compiler("gcc"), lengths=(1, 2, 3, 6))


@pytest.mark.parametrize("kept", [False, True])
def test_a_tensor_that_is_read_again_is_not_written_over(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function of single values takes the room of its input, if it is the last to read it. The model is not aligned."""
    monkeypatch.setattr("qrnn.layers.build.with_aligned", lambda model: model)
    x = layers.input("x", 3)
    both = layers.add(x, layers.conv(x, np.random.default_rng(1).normal(size=(3, 3, 3)), padding=(1, 1)))
    squashed = layers.activation(both, "tanh")
    model = quantized(
        layers.model("skip", {"y": layers.dense(layers.add(both, squashed) if kept else squashed, np.eye(3))})
    )
    whole = export_source(model, "net", "plain").whole
    assert whole is not None
    assert whole.work == Linear(6 if kept else 3)
    check(model, tmp_path, compiler("gcc"), lengths=(1, 2, 6))


def test_layers_that_count_the_same_rows_are_joined() -> None:
    """Two convolutions with one stride side by side: one of them drives what both would, step by step."""
    rng = np.random.default_rng(8)
    x = layers.input("x", 3)
    a, b = (layers.conv(x, rng.normal(size=(4, 3, 2)), stride=2, padding=(1, 0)) for _ in range(2))
    joined = quantized(layers.model("joined", {"y": layers.add(a, b)}))
    beside = quantized(layers.model("beside", {"a": a, "b": b}))
    for model in (joined, beside):
        assert model.uneven is None
        assert export_source(model, "net", "plain").streams
        check_on_host(model, "plain")


def test_layers_that_count_rows_of_other_layers_are_not_joined_step_by_step() -> None:
    """Two convolutions with one stride, of which one reads what a pool with a delay gives: no layer drives the other's rows."""
    rng = np.random.default_rng(8)
    x = layers.input("x", 3)
    late = layers.max_pool(x, Window(2, after=1))
    a = layers.conv(late, rng.normal(size=(4, 3, 2)), stride=2, padding=(1, 0))
    b = layers.conv(x, rng.normal(size=(4, 3, 3)), stride=2, padding=(1, 1))
    joined = quantized(layers.model("joined", {"y": layers.add(a, b)}))
    beside = quantized(layers.model("beside", {"a": a, "b": b}))
    for model, why in (
        (joined, "joins rows that come out of different layers"),
        (beside, "outputs have rows that come"),
    ):
        assert model.uneven is None
        whole = export_source(model, "net", "plain").whole
        assert whole is not None
        assert why in whole.why
        check_on_host(model, "plain")


def test_outputs_of_two_rates_are_refused() -> None:
    model = keywords(outputs=("steps", "conv"))
    check_on_host(model, "plain")  # both after the pool
    rng = np.random.default_rng(9)
    x = layers.input("x", 3)
    late = layers.add(x, layers.conv(x, rng.normal(size=(3, 3, 3)), padding=(1, 1)))
    slow = layers.conv(late, rng.normal(size=(2, 3, 2)), stride=2)
    two = quantized(layers.model("two", {"fast": late, "slow": slow}))
    with pytest.raises(UnsupportedError, match="outputs fast and slow go over time at different rates"):
        export_source(two, "net", "plain")


def test_what_a_folder_says(tmp_path: Path) -> None:
    """The README's example compiles; its text, the header and the sizes agree with the model; the self-test passes."""
    model = keywords(padding=2)
    exported = export_model(model, load_target("generic"), tmp_path / "net", "net")
    assert exported.whole is not None
    assert exported.counts_rows
    assert not exported.finishes
    rule = model.length_rules[next(o for o in model.outputs if o.has_time).parts[0][0]]
    assert all(rule.of({"time": n}) <= exported.rows_of(n) <= rule.of({"time": n}) + 1 for n in range(1, 50))
    text = (tmp_path / "net" / "README.md").read_text()
    assert "There is no step function: layer" in text
    assert "at most `NET_ROWS(length)`" in text
    assert f"{exported.whole.work.per_step} `int16_t` a step and {exported.whole.work.fixed} more" in text
    example = text.split("```c\n")[1].split("\n```")[0]
    begin, body = example.split("\n\nnet_init", 1)
    counted = "return ((int)rows <= (int)NET_ROWS(LENGTH)) ? 0 : 1;"
    program = tmp_path / "net" / "example.c"
    program.write_text(f"#define LENGTH 7\n{begin}\nint main(void)\n{{\nnet_init{body}\n{counted}\n}}\n")
    strict = [compiler("gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror", *SANITIZERS]
    here, test = tmp_path / "net", tmp_path / "net" / "test"
    for sources in ([program], [test / "net_selftest.c", test / "main.c"]):
        command = [*strict, here / "net.c", *sources, "-o", tmp_path / "program"]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    golden = test / "net_golden.h"
    changed = re.sub(
        r"(golden_rows\[\d+\] = {[^}]*?)(\d+)U,\n", lambda m: f"{m[1]}{int(m[2]) - 1}U,\n", golden.read_text(), count=1
    )
    assert changed != golden.read_text()
    golden.write_text(changed)
    command = [*strict, here / "net.c", test / "net_selftest.c", test / "main.c", "-o", tmp_path / "program"]
    assert subprocess.run([str(c) for c in command], check=False).returncode == 0
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 1


def test_sizes_are_those_of_the_program(tmp_path: Path) -> None:
    target, model = usable("cortex-m3"), keywords(padding=2)
    export_model(model, target, tmp_path / "net", "net")
    folder = read_folder(tmp_path / "net")
    image = build_replay(folder, target, find_toolchain(target, "gnu"), 9, tmp_path)
    needs = sizes(folder.exported, target, 9)
    assert image.symbol("state").size == needs.state_bytes
    names = {"work", *(f"port_{p.name}" for p in (*folder.exported.inputs, *folder.exported.outputs))}
    assert sum(s.size for s in image.symbols if s.kind == "object" and s.name in names) == needs.buffer_bytes


def test_the_least_steps_that_call_every_layer() -> None:
    model = keywords(padding=0)
    least = filling_steps(model)
    assert all(rule.of({"time": least}) > 0 for rule in model.length_rules.values())
    assert any(rule.of({"time": least - 1}) == 0 for rule in model.length_rules.values())


@st.composite
def rules(draw: st.DrawFn) -> LengthRule:
    """Any rule of a few windows and repetitions."""
    found: LengthRule = Axis()
    for _ in range(draw(st.integers(0, 4))):
        by = draw(st.integers(1, 4))
        found = found.times(by) if draw(st.booleans()) else found.windows(draw(st.integers(-6, 6)), by)
    return found


@given(rule=rules(), length=st.integers(0, 200))
def test_rows_are_within_their_bound(rule: LengthRule, length: int) -> None:
    found = Linear.below(rule.bound)
    assert rule.of({"time": length}) <= found.of(length)
    text = found.text("(length)").replace("U", "").replace("/", "//")
    assert eval(text, {"length": length}) == found.of(length)
