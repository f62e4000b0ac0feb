"""How times are taken: rounds, order, samples; random inputs of every kind; a model measured. No time itself is tested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model.qrnn_files import token_model
from models import Shape, make_model

from qrnn.conversion import quantize
from qrnn.errors import DataError
from qrnn.model.batch import make_batch
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.bench import (
    BenchPlan,
    Others,
    Timed,
    bench_model,
    interleaved,
    not_streamed,
    processor,
    random_arrays,
    resident_bytes,
    seconds,
    settle,
)


def quantized(shape: Shape) -> QuantModel:
    model = make_model(shape, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(4, 6, shape.input_size))
    return quantize(model, {"x": x}, Scheme(input="8"))


def test_rounds_are_interleaved_and_rotate() -> None:
    seen: list[str] = []
    prepared: list[str] = []
    timed = {
        name: Timed(lambda name=name: seen.append(name), lambda name=name: prepared.append(name)) for name in "abc"
    }
    samples = interleaved(timed, rounds=3, sample_seconds=1e-5)
    assert {name: len(found) for name, found in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(sample > 0.0 for found in samples.values() for sample in found)
    assert prepared == [*"abc", *"abc", *"bca", *"cab"]
    assert set(seen) == set("abc")


def test_samples_repeat_quick_calls_and_rounds_keep_to_a_budget() -> None:
    count = 0

    def quick() -> None:
        nonlocal count
        count += 1

    interleaved({"quick": Timed(quick)}, rounds=1, sample_seconds=1e-4)
    assert count > 10
    slow = {"slow": Timed(lambda: settle(0.01))}
    assert len(interleaved(slow, rounds=50, sample_seconds=1e-4, budget=1e-3)["slow"]) == 3
    assert len(interleaved(slow, rounds=2, sample_seconds=1e-4, budget=1e-3)["slow"]) == 2


def test_seconds_is_of_one_call() -> None:
    calls: list[int] = []
    assert seconds(lambda: calls.append(0), repeats=5) > 0.0
    assert len(calls) == 5


def test_settle_and_machine() -> None:
    assert settle(limit=0.05) >= 0.0
    assert processor()
    others = Others().cores()
    assert (others is None) == (not Path("/proc/stat").exists())
    if Path("/proc/self/statm").exists():
        assert (resident_bytes() or 0) > 1_000_000


def test_random_inputs_of_every_kind(tmp_path: Path) -> None:
    model = quantized(Shape(states=True))
    arrays = random_arrays(model, 3, 5)
    assert {name: value.shape for name, value in arrays.items()} == {"x": (3, 5, 3)}
    fmt = model.tensors["x"]
    assert 0.1 < np.abs(arrays["x"]).max() / (fmt.limit * fmt.scales.max()) < 2.0
    make_batch(model.inputs, arrays)
    (tmp_path / "ids.onnx").write_bytes(token_model().SerializeToString())
    tokens = quantize(load_onnx(tmp_path / "ids.onnx"), "random", Scheme(input="8"))
    ids = random_arrays(tokens, 4, 6)["ids"]
    assert ids.shape == (4, 6)
    assert (ids.min() >= 0, ids.max() < 7) == (True, True)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("states", [False, True])
def test_a_model(states: bool) -> None:
    model = quantized(Shape(states=states, head=2))
    arrays = random_arrays(model, 3, 5)
    if states:
        arrays["state"] = np.zeros((3, *Shape().state_shape))
    batch = make_batch(model.inputs, arrays | {"lengths": np.array([5, 0, 2])})
    plan = BenchPlan(batches=(1, 5), threads=(1, 2), seconds=0.01, step_ms=10.0)
    found = bench_model(model, batch, plan, before=0)
    assert [(one.batch, one.threads) for one in found.whole] == [(1, 1), (1, 2), (5, 1), (5, 2)]
    assert [(one.batch, one.threads) for one in found.stream] == [(1, 1), (1, 2), (5, 1), (5, 2)]
    five = found.whole[2]
    assert five.sequences_per_second / five.steps_per_second == pytest.approx(5 / (5 + 2 + 5 + 2 + 5))
    assert five.us_per_step * 5 * five.sequences_per_second == pytest.approx(5e6)
    assert five.real_time_factor == pytest.approx(five.us_per_step * 1e-3 / 10.0)
    for one in found.stream:
        assert 0.0 < one.p50 <= one.p90 <= one.p99 <= one.p99_9 <= one.max
        assert one.steps > 0
        assert one.real_time_factor == pytest.approx(one.p50 * 1e-3 / 10.0)
    assert set(found.memory) == {"resident_loaded", "resident_running"}
    some = bench_model(model, batch, replace(plan, batches=(1,), threads=(1,), stream=False, step_ms=None))
    assert (some.stream, some.whole[0].real_time_factor, some.memory["resident_loaded"]) == ((), None, None)


def test_what_cannot_be_measured() -> None:
    model = quantized(Shape(directions=(False, True)))
    assert not_streamed(model) == "layer 'layer0' reads the sequence backwards"
    batch = make_batch(model.inputs, random_arrays(model, 2, 3))
    with pytest.raises(DataError, match="'layer0' reads the sequence backwards"):
        bench_model(model, batch, BenchPlan(seconds=0.01))
    forward = quantized(Shape())
    assert not_streamed(forward) is None
    empty = make_batch(forward.inputs, random_arrays(forward, 2, 3) | {"lengths": np.zeros(2, np.int64)})
    with pytest.raises(DataError, match="no steps"):
        bench_model(forward, empty, BenchPlan(seconds=0.01))
