"""silero's voice activity detector, a graph of one chunk of samples per call, converts whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_import.running import runtime
from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.compare import compare_parts
from qrnn.hybrid.convert import convert_with_float_parts
from qrnn.hybrid.cut_data import cut_data
from qrnn.hybrid.model import FloatPart, HybridModel
from qrnn.hybrid.runtime import Runtime
from qrnn.model.batch import make_batch
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import cut_onnx, load_onnx
from qrnn.onnx_import.parts.cut import Cut
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

SILERO = Path(__file__).parents[3] / "shared" / "models" / "thirdparty" / "silero_vad_v6_16k.onnx"
pytestmark = pytest.mark.skipif(not SILERO.is_file(), reason="the shared models are not here")


def chunks(clips: int, steps: int, seed: int) -> np.ndarray:
    """Chunks [N, T, 576] of 16 kHz audio, each with the last 64 samples before it: noise, of which a half swells and hums as vowels do."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps * 512) / 16000
    made = []
    for _ in range(clips):
        pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * t))
        phase = 2 * np.pi * np.cumsum(pitch) / 16000
        hum = sum(np.sin(k * phase) / (1 + ((k * 150 - rng.uniform(400, 900)) / 200) ** 2) for k in range(1, 20))
        x = hum * (np.sin(2 * np.pi * rng.uniform(2, 5) * t) > 0) + 10 ** rng.uniform(-2, 0.5) * rng.normal(size=t.size)
        whole = np.concatenate([np.zeros(64), x / np.abs(x).max() * rng.uniform(0.1, 0.9)])
        made.append(np.stack([whole[k : k + 576] for k in range(0, steps * 512, 512)]))
    return np.array(made)


def test_silero_is_whole() -> None:
    """Reflected samples, a transform by a convolution over the samples of a step, a magnitude, four convolutions, an LSTM with its state."""
    model = load_onnx(SILERO)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [Concat, Conv, Magnitude, *[Conv, Pointwise] * 4, Recurrent, Pointwise, Conv, Pointwise]
    assert model.one_step
    assert not model.rows
    x = {"input": chunks(2, 30, 0)}
    want = run_onnxruntime(model, SILERO, make_batch(model.inputs, x))
    got = run_oracle(model, x).outputs
    assert set(got) == set(want) == {"output", "stateN"}
    assert want["output"].max() > 0.5 > 0.1 > want["output"].min()
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, atol=2e-4, err_msg=name)


def test_silero_in_integers() -> None:
    """Whole, step by step and on every backend the same bits; probabilities beside float, whose weights are rounded to 8 bits."""
    model = load_onnx(SILERO)
    made = quantize(model, {"input": chunks(6, 30, 1)}, Scheme(activations=16))
    x = chunks(2, 12, 2)
    want = Session(made, "cpu").run({"input": x}).outputs
    real = run_oracle(model, {"input": x}).outputs
    assert np.sqrt(np.mean((want["output"] - real["output"]) ** 2)) < 0.1
    np.testing.assert_array_equal(
        Session(made, "reference").run({"input": x[:, :2]}).outputs["output"], want["output"][:, :2]
    )
    stream = Session(made, "cpu").stream(2)
    for t in range(12):
        np.testing.assert_array_equal(stream.step({"input": x[:, t]})["output"], want["output"][:, t])


def test_the_edition_with_branches_is_the_same_at_16_khz() -> None:
    """The graph that holds a network for each sampling rate, with the rate fixed; its number of samples is that of the data."""
    branches = SILERO.with_name("silero_vad_v6_if.onnx")
    x = chunks(2, 8, 7).astype(np.float32)
    plain, chosen = load_onnx(SILERO), load_onnx(branches, values={"sr": 16000}, shapes={"input": x.shape})
    assert dict(chosen.values) == {"sr": 16000, "input[1]": 576}
    want = run_oracle(plain, {"input": x}).outputs
    got = run_oracle(chosen, {"input": x}).outputs
    runtime = run_onnxruntime(chosen, branches, make_batch(chosen.inputs, {"input": x}))
    for name in ("output", "stateN"):
        np.testing.assert_allclose(got[name], want[name], atol=1e-5, rtol=0)
        np.testing.assert_allclose(got[name], runtime[name], atol=1e-5, rtol=0)


FRONT = "F0::If_0_then_branch__Inline_0__/stft/Sqrt_output_0"
"""The magnitudes of the transform, [1, 129, 4] in each chunk."""

HEAD = "F0::If_0_then_branch__Inline_0__/decoder/decoder/2/Conv_output_0"


def magnitudes(cut: Cut, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the magnitudes of chunks [N, T, 576] by ONNX Runtime, one chunk a call."""
    runs = [[runtime(cut.others["before"], {"input": chunk[None]})[FRONT] for chunk in clip] for clip in x]
    return np.array(runs)[:, :, 0]


def test_silero_with_its_front_end_in_float() -> None:
    """The front end's values are ONNX Runtime's; probabilities are nearer to float than with all of it in integers; chunks equal the whole."""
    pytest.importorskip("onnxruntime")
    scheme = Scheme(activations=16)
    x = chunks(2, 12, 2).astype(np.float32)
    model = convert_with_float_parts(SILERO, {"input": chunks(6, 30, 1)}, [FRONT], scheme)
    assert isinstance(model, HybridModel)
    front, rest = model.parts
    assert isinstance(front, FloatPart)
    assert front.by_steps
    values = Runtime(front, front.content.tobytes()).run({"input": Carried(x.astype(np.float64), np.full(2, 12))})
    want = magnitudes(cut_onnx(SILERO, [FRONT]), x)
    np.testing.assert_array_equal(values[FRONT].values, want)
    session = Session(model)
    got = session.run({"input": x}).outputs
    alone = Session(rest.model).run({FRONT: want}).outputs  # type: ignore[union-attr]
    np.testing.assert_array_equal(got["output"], alone["output"])
    stream = session.stream(2)
    for t in range(12):
        np.testing.assert_array_equal(stream.step({"input": x[:, t]})["output"], got["output"][:, t])
    whole = load_onnx(SILERO)
    real = run_oracle(whole, {"input": x}).outputs["output"]
    integers = Session(quantize(whole, {"input": chunks(6, 30, 1)}, scheme)).run({"input": x}).outputs["output"]
    errors = [float(np.sqrt(np.mean((outputs - real) ** 2))) for outputs in (got["output"], integers)]
    assert errors[0] < 0.1
    assert errors[0] <= 1.05 * errors[1]
    report = compare_parts(SILERO, model, {"input": x})
    assert report.outputs["output"].rmse == pytest.approx(errors[0], rel=0.02)
    products, weights = model.shares
    assert 0.6 < products < 0.62  # 415,360 of 679,552 multiply-adds a chunk
    assert 0.47 < weights < 0.49


def test_silero_cut_at_both_ends() -> None:
    """ONNX Runtime before, integers between, ONNX Runtime behind: near the whole graph, whose state the middle carries."""
    pytest.importorskip("onnxruntime")
    x = chunks(2, 8, 2).astype(np.float32)
    cut = cut_onnx(SILERO, [FRONT], [HEAD])
    assert cut.model.inputs == ("state", FRONT)
    assert cut.model.outputs == (HEAD, "stateN")
    model = load_onnx(SILERO, cut_from=[FRONT], cut_to=[HEAD])
    calibration = cut_data(cut, model, {"input": chunks(6, 30, 1)})
    made = quantize(model, calibration, Scheme(activations=16))
    middle = Session(made).run({FRONT: magnitudes(cut, x)}).outputs[HEAD]
    behind = [
        [runtime(cut.others["after"], {HEAD: v[None].astype(np.float32)})["output"][0] for v in clip] for clip in middle
    ]
    whole = load_onnx(SILERO)
    want = run_onnxruntime(whole, SILERO, make_batch(whole.inputs, {"input": x}))["output"]
    assert np.sqrt(np.mean((np.array(behind) - want) ** 2)) < 0.1
    with pytest.raises(UnsupportedError, match="no tensor of that name"):
        cut_onnx(SILERO.with_name("silero_vad_v6_if.onnx"), [FRONT])
