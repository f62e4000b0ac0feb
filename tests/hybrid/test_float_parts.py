"""Float parts: what cannot be integers, or is not to be, runs by ONNX Runtime, and the rest is the model of integers that it would be alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_import.builders import Graph
from onnx_import.running import data, runtime

from hybrid.parts import PLAIN, built, converted, gru, kinds, odd, saved
from qrnn.conversion import quantize
from qrnn.errors import BackendError, DataError, ModelFileError, QrnnError, UnsupportedError
from qrnn.export.folder import export_model
from qrnn.hybrid.compare import compare_parts
from qrnn.hybrid.convert import convert_with_float_parts
from qrnn.hybrid.file import load, save
from qrnn.hybrid.model import HybridModel
from qrnn.model.file import load as load_integers
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.running.session import Session
from qrnn.targets import load_target

pytest.importorskip("onnxruntime")


def check_types(session: Session, x: np.ndarray[Any, Any]) -> None:
    """Assert that outputs have the type of the inputs, or that which is asked for."""
    want = session.run({"x": x}, real="float64").outputs
    for kind, real in (("f", None), ("d", None), ("f", "float64"), ("d", "float32")):
        own = x.astype(kind)
        stream, pool = session.stream(len(x), real=real), session.pool(real=real)
        stepped = [stream.step({"x": own[:, 0]}), pool.step([pool.open() for _ in x], {"x": own[:, 0]})]
        stepped.append(session.step({"x": own[:, 0]}, real=real).outputs)
        for name, value in session.run({"x": own}, real=real).outputs.items():
            assert value.dtype == (real or own.dtype)
            np.testing.assert_array_equal(value, want[name].astype(value.dtype))
            for outputs in stepped:
                assert outputs[name].dtype == value.dtype
                np.testing.assert_array_equal(outputs[name], value[:, 0])


def check_everywhere(model: HybridModel, x: np.ndarray[Any, Any], lengths: Any = None) -> dict[str, Any]:
    """Assert that runs, chunks, steps, streams and pools give the same bits, and return the outputs of the run."""
    session = Session(model)
    whole = session.run({"x": x}, lengths)
    for n in range(len(x)):
        steps = x.shape[1] if lengths is None else lengths[n]
        alone = session.run({"x": x[n : n + 1, :steps]})
        for name, value in alone.outputs.items():
            np.testing.assert_array_equal(value[0], whole.outputs[name][n, :steps])
    if lengths is not None:
        return whole.outputs
    check_types(session, x)
    first = session.run({"x": x[:, :3]}, end=False)
    rest = session.run({"x": x[:, 3:]}, state=session.load_state(session.save_state(first.state)))
    stream, pool = session.stream(len(x)), session.pool(2)
    streams = [pool.open() for _ in x]
    for name, value in whole.outputs.items():
        np.testing.assert_array_equal(np.concatenate([first.outputs[name], rest.outputs[name]], axis=1), value)
    state = None
    for t in range(x.shape[1]):
        result = session.step({"x": x[:, t]}, state)
        state = result.state
        outputs = stream.step({"x": x[:, t]})
        order = np.random.default_rng(t).permutation(len(x))
        pooled = pool.step([streams[k] for k in order], {"x": x[order, t]})
        for name, value in whole.outputs.items():
            np.testing.assert_array_equal(result.outputs[name], value[:, t])
            np.testing.assert_array_equal(outputs[name], value[:, t])
            np.testing.assert_array_equal(pooled[name], value[order, t])
    for name, arrays in whole.state.layers.items():
        for after in (rest.state, stream.state, state):
            assert after is not None
            for a, b in zip(arrays, after.layers[name], strict=True):
                np.testing.assert_array_equal(a, b)
    return whole.outputs


PARTS = {
    "front": ["float", "integers"],
    "loop": ["float", "integers"],
    "middle": ["integers", "float", "integers"],
    "behind": ["integers", "float"],
    "front behind": ["float", "integers", "float"],
    "front middle behind": ["float", "integers", "float", "integers", "float"],
}


@pytest.mark.parametrize("where", PARTS)
def test_what_is_refused_stays_in_float(where: str, tmp_path: Path) -> None:
    """As few parts as there have to be; saved, loaded, run and streamed, near the whole graph by ONNX Runtime."""
    path = saved(built(where), tmp_path)
    x = data(4, 9, 4)
    with pytest.raises(UnsupportedError):
        load_onnx(path)
    made = converted(path, {"x": x})
    save(made, tmp_path / "model.qrnn")
    model = load(tmp_path / "model.qrnn")
    assert isinstance(model, HybridModel)
    assert kinds(model) == PARTS[where]
    assert model.not_streamed is None
    assert all("Sin" in why or "Loop" in why for part in model.float_parts for why in part.why)
    other = data(3, 8, 4, seed=8)
    got = check_everywhere(model, other)["y"]
    want = runtime(onnx.load(path), {"x": other})["y"]
    assert got.shape == want.shape
    assert np.sqrt(np.mean((got - want) ** 2)) < 0.02 * np.sqrt(np.mean(want**2))
    report = compare_parts(path, model, {"x": other, "lengths": np.array([8, 3, 5])})
    assert report.outputs["y"].sqnr_db > 34
    assert report.decisions is not None
    assert report.decisions.agreement.total == 16
    products, weights = model.shares
    assert 0 < products <= 1
    assert 0 < weights <= 1


def test_padding_is_exact(tmp_path: Path) -> None:
    path = saved(built("front middle"), tmp_path)
    x = data(4, 9, 4)
    check_everywhere(converted(path, {"x": x, "lengths": np.array([9, 4, 6, 2])}), data(3, 7, 4), np.array([7, 2, 4]))


def test_integer_part_is_the_model_of_its_own(tmp_path: Path) -> None:
    """The part behind a named tensor is what converting the graph from there on gives; its float front is ONNX Runtime's, value for value."""
    path = saved(built(""), tmp_path)
    name = next(n.output[0] for n in onnx.load(path).graph.node if n.op_type == "MatMul")
    x = data(4, 9, 4)
    model = converted(path, {"x": x}, name)
    front = onnx.load(path)
    del front.graph.output[:]
    front.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    values = runtime(front, {"x": x})[name]
    alone = quantize(load_onnx(path, cut_from=[name]), {name: values}, PLAIN)
    assert kinds(model) == ["float", "integers"]
    (part,) = model.float_parts
    assert "on purpose" in part.why[0]
    for n in range(4):
        one = runtime(front, {"x": x[n : n + 1]})[name]
        got = Session(alone).run({name: one}).outputs["y"]
        np.testing.assert_array_equal(Session(model).run({"x": x[n : n + 1]}).outputs["y"], got)


def test_between_named_tensors(tmp_path: Path) -> None:
    g = built("")
    path = saved(g, tmp_path)
    x = data(4, 9, 4)
    hidden = next(n.output[0] for n in reversed(g.nodes) if n.op_type == "Transpose")
    model = converted(path, {"x": x}, hidden, "y")
    assert kinds(model) == ["integers", "float"]
    assert model.border == (hidden,)
    with pytest.raises(UnsupportedError, match="nothing of it can be in integers"):
        converted(path, {"x": x}, "y")
    assert isinstance(convert_with_float_parts(path, {"x": x}, scheme=PLAIN), QuantModel)
    with pytest.raises(UnsupportedError, match=r"--float-parts 'hiden'"):
        converted(path, {"x": x}, "hiden")


def test_named_parts_refuse_the_rest(tmp_path: Path) -> None:
    """A name leaves nothing else in float; with auto beside it, what is refused stays in float too."""
    path = saved(built("front behind"), tmp_path)
    x = data(4, 9, 4)
    with pytest.raises(UnsupportedError, match=r"Sin.*--float-parts auto"):
        converted(path, {"x": x}, "front")
    assert kinds(converted(path, {"x": x}, "front", "auto")) == ["float", "integers", "float"]


def spectrum(whole: bool) -> Graph:
    """A transform in front: DFT of the features of each step, or STFT of samples, which makes steps of them."""
    g = Graph(opset=17)
    if whole:
        x = g.input("x", ["batch", "samples", 1])
        window = g.const(np.hanning(16).astype(np.float32))
        made = g.node("STFT", [x, g.const(np.array(8, np.int64)), window, g.const(np.array(16, np.int64))])
    else:
        x = g.input("x", ["batch", "time", 16])
        made = g.node("DFT", [g.axes_op("Unsqueeze", x, [3])], axis=2, onesided=1)
    power = g.node("ReduceSumSquare", [made], ["power"], axes=[3], keepdims=0)
    g.node("MatMul", [gru(g, power, 9, 5, "rnn"), g.random(5, 3)], ["y"])
    g.output("y")
    return g


def test_transform_of_each_step(tmp_path: Path) -> None:
    path = saved(spectrum(False), tmp_path)
    x = data(4, 6, 16)
    model = converted(path, {"x": x})
    assert kinds(model) == ["float", "integers"]
    check_everywhere(model, x)


def test_transform_that_makes_steps(tmp_path: Path) -> None:
    """Samples to frames: whole sequences run, each as long as it is, and streams are refused by name."""
    path = saved(spectrum(True), tmp_path)
    x = data(3, 72, 1)
    lengths = np.array([72, 40, 56])
    model = converted(path, {"x": x, "lengths": lengths})
    assert kinds(model) == ["float", "integers"]
    assert not model.float_parts[0].by_steps
    session = Session(model)
    result = session.run({"x": x}, lengths)
    np.testing.assert_array_equal(result.lengths["y"], [8, 4, 6])
    for n, length in enumerate(lengths):
        want = runtime(onnx.load(path), {"x": x[n : n + 1, :length]})["y"]
        got = result.outputs["y"][n, : want.shape[1]]
        assert np.abs(got - want[0]).max() < 0.05
        assert not result.outputs["y"][n, want.shape[1] :].any()
    for refused in (session.stream, session.pool, lambda: session.step({"x": x[:, 0]})):
        with pytest.raises(DataError, match="'float1' needs whole sequences"):
            refused()
    report = compare_parts(path, model, {"x": x, "lengths": lengths})
    assert report.outputs["y"].sqnr_db > 30


def test_memory_of_a_float_part_is_seen(tmp_path: Path) -> None:
    """A sum over the steps so far has as many steps out as in, and yet is no function of each step."""
    g = Graph()
    x = g.input("x", ["batch", "time", 4])
    total = g.node("CumSum", [x, g.const(np.array(1, np.int64))])
    g.node("MatMul", [gru(g, odd(g, total), 4, 5, "rnn"), g.random(5, 3)], ["y"])
    g.output("y")
    model = converted(saved(g, tmp_path), {"x": data(3, 9, 4)})
    assert not model.float_parts[0].by_steps
    with pytest.raises(DataError, match="cannot be streamed"):
        Session(model).stream()


@pytest.mark.parametrize("batch", [1, 3, "n"])
def test_one_step_per_call(batch: Any, tmp_path: Path) -> None:
    """States go through inputs and outputs of the graph; the float parts are called once for each step."""
    g = Graph()
    x, h = g.input("x", [batch, 4]), g.input("h", [1, batch, 5])
    g.recurrent("GRU", g.axes_op("Unsqueeze", odd(g, x), [0]), 4, 5, h=h, outputs=["Y", "h_next"])
    g.node("MatMul", [odd(g, g.axes_op("Squeeze", "Y", [0, 1])), g.random(5, 2)], ["y"])
    g.output("y", 2)
    g.output("h_next")
    path = saved(g, tmp_path)
    values = data(3, 8, 4)
    model = converted(path, {"x": values})
    assert kinds(model) == ["float", "integers", "float"]
    assert model.one_step
    assert dict(model.pairs) == {"h": "h_next"}
    session = Session(model)
    got = session.run({"x": values}).outputs["y"]
    stream = session.stream(3)
    for t in range(8):
        np.testing.assert_array_equal(stream.step({"x": values[:, t]})["y"], got[:, t])
    report = compare_parts(path, model, {"x": values})
    assert report.outputs["y"].sqnr_db > 34
    start = data(3, 1, 5)
    other = session.run({"x": values, "h": start}).outputs["y"]
    assert np.abs(other - got).max() > 0.01
    state = session.initial_state(3, {"h": start})
    np.testing.assert_array_equal(session.run({"x": values}, state=state).outputs["y"], other)


def test_state_of_a_float_part(tmp_path: Path) -> None:
    """What a float part would have to carry from call to call is refused by name."""
    g = Graph()
    x, buffer = g.input("x", [1, 4]), g.input("buffer", [1, 4])
    mixed = odd(g, g.node("Add", [x, buffer]))
    g.node("Sin", [mixed], ["buffer_out"])
    h = g.input("h", [1, 1, 5])
    g.recurrent("GRU", g.axes_op("Unsqueeze", mixed, [0]), 4, 5, h=h, outputs=["", "h_next"])
    g.output("h_next")
    g.output("buffer_out", 2)
    g.outputs[-1].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 4]))
    with pytest.raises(UnsupportedError, match="'buffer' and output 'buffer_out' are a state of a float part"):
        converted(saved(g, tmp_path), {"x": data(2, 5, 4), "buffer": data(2, 5, 4)})


def test_random_numbers(tmp_path: Path) -> None:
    g = Graph()
    x = g.input("x", ["batch", "time", 4])
    noisy = g.node("Add", [x, g.node("RandomNormalLike", [x])])
    g.node("MatMul", [gru(g, noisy, 4, 5, "rnn"), g.random(5, 3)], ["y"])
    g.output("y")
    with pytest.raises(UnsupportedError, match=r"RandomNormalLike.*draws random numbers"):
        converted(saved(g, tmp_path), {"x": data(2, 5, 4)})


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, HybridModel]:
    path = saved(built("front"), tmp_path)
    model = converted(path, {"x": data(4, 9, 4)})
    save(model, tmp_path / "model.qrnn")
    return tmp_path / "model.qrnn", model


def test_what_makes_no_sense_is_refused(small: tuple[Path, HybridModel], tmp_path: Path) -> None:
    path, model = small
    session = Session(model)
    x = data(2, 5, 4)
    for call in (
        lambda: Session(model, integers=True),
        lambda: session.run({"x": x}, integers=True),
        lambda: session.stream(integers=True),
        lambda: session.device_stream(),
        lambda: session.generate({"x": x}, steps=2),
        lambda: session.pool().choose([], {}),
        lambda: export_model(model, load_target("generic"), tmp_path / "c", "m"),  # type: ignore[arg-type]
    ):
        with pytest.raises(QrnnError, match=r"has float parts, with 'front' at their border.*--from and --to"):
            call()
    with pytest.raises(ModelFileError, match=r"float parts, with the tensors 'front' at their border.*--from and --to"):
        load_integers(path)
    with pytest.raises(DataError, match="'x'"):
        session.run({"z": x})
    with pytest.raises(DataError, match="no layer of the model"):
        session.run({"x": x}, state=Session(model.integer_parts[0].model).initial_state(2))


def test_without_onnx_runtime(small: tuple[Path, HybridModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"not installed: pip install 'qrnn\[ort\]'"):
        Session(small[1])


def test_a_failed_step_leaves_the_state(tmp_path: Path) -> None:
    """Values that a later part does not take are refused, and no part has taken the step."""
    g = Graph()
    x = g.input("x", ["batch", "time", 4])
    h = gru(g, x, 4, 5, "first")
    big = g.node("Mod", [h, g.input("gain", ["batch", "time", 1])], fmod=1)  # which is no number where the gain is 0
    g.node("MatMul", [gru(g, big, 5, 5, "second"), g.random(5, 3)], ["y"])
    g.output("y")
    values, gain = data(4, 9, 4), np.ones((4, 9, 1), np.float32)
    session = Session(converted(saved(g, tmp_path), {"x": values, "gain": gain}))
    stream, pool = session.stream(4), session.pool()
    numbers = [pool.open() for _ in range(4)]
    good = {"x": values[:, 0], "gain": gain[:, 0]}
    stream.step(good)
    pool.step(numbers, good)
    for owner, take in ((stream, stream.step), (pool, lambda given: pool.step(numbers, given))):
        before = stream.state if owner is stream else pool.state(numbers[0])
        with pytest.raises(DataError):
            take({"x": values[:, 1], "gain": np.zeros((4, 1))})
        after = stream.state if owner is stream else pool.state(numbers[0])
        for name, arrays in before.layers.items():
            for a, b in zip(arrays, after.layers[name], strict=True):
                np.testing.assert_array_equal(a, b)
