"""silero's voice activity detector, a graph of one chunk of samples per call, converts whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.batch import make_batch
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import load_onnx
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
