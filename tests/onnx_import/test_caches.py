"""Graphs of one step or a few steps per call that hold past steps in inputs and outputs, against ONNX Runtime call by call; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from schemes import SHORTS

from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import QrnnError, UnsupportedError
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.delay import Delay
from qrnn.model.window import Window
from qrnn.onnx_import import import_model, load_onnx
from qrnn.running.session import Session

from .builders import Graph
from .running import data

SHARED = Path(__file__).parents[3] / "shared"

Build = Callable[[Graph], None]


def ints(g: Graph, *values: int) -> str:
    return g.const(np.array(values, dtype=np.int64))


def output(g: Graph, name: str, dims: list[Any]) -> None:
    g.outputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))


def cache(g: Graph, name: str, dims: list[Any]) -> str:
    """An input of past steps; its output is declared too."""
    output(g, f"{name}_out", dims)
    return g.input(name, dims)


def joined(g: Graph, past: str, new: str, axis: int, steps: int, to_end: int = 1 << 40) -> str:
    """Past steps and new ones; the last ``steps`` of them are given on."""
    both = g.node("Concat", [past, new], axis=axis)
    g.node("Slice", [both, ints(g, -steps), ints(g, to_end), ints(g, axis)], [f"{past}_out"])
    return str(both)


def head(g: Graph, y: str, features: int, perm: list[int]) -> None:
    """[N, C, T, …] → GRU, whose state is an input and an output too → logits."""
    y = g.node("Transpose", [y], perm=perm)
    if len(perm) == 4:
        y = g.node("Reshape", [y, ints(g, 0, 0, features)])
    h = g.input("h", [1, "n", 5])
    y = g.recurrent("GRU", y, features, 5, h=h, outputs=["y_all", "h_out"])[0]
    output(g, "h_out", [1, "n", 5])
    g.node("MatMul", [g.axes_op("Squeeze", y, [1]), g.random(5, 3)], ["logits"])
    g.output("logits")


def conv(g: Graph, y: str, shape: list[int], **attributes: Any) -> str:
    return str(g.node("Relu", [g.node("Conv", [y, g.random(*shape), g.random(shape[0])], **attributes)]))


def frames_3(g: Graph, steps: Any = 1) -> None:
    """[N, C, T]: two convolutions, each with its own cache, the second dilated."""
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1])
    y = conv(g, joined(g, cache(g, "a", ["n", 4, 2]), x, 2, 2), [3, 4, 3])
    y = conv(g, joined(g, cache(g, "b", ["n", 3, 4]), y, 2, 4), [6, 3, 3], dilations=[2])
    head(g, y, 6, [2, 0, 1])


def frames_4(g: Graph, steps: Any = 1) -> None:
    """[N, C, T, F], zeros around the bands by a Pad of their own."""
    x = g.axes_op("Unsqueeze", g.input("x", ["n", steps, 4]), [1])
    y = joined(g, cache(g, "a", ["n", 1, 2, 4]), x, 2, 2)
    y = g.node("Pad", [y, ints(g, 0, 0, 0, 1, 0, 0, 0, 1)])
    y = conv(g, y, [2, 1, 3, 3])
    y = g.node("MaxPool", [y], kernel_shape=[1, 2], strides=[1, 2])
    y = conv(g, joined(g, cache(g, "b", ["n", 2, 1, 2]), y, 2, 1), [3, 2, 2, 1])
    head(g, y, 6, [2, 0, 1, 3])


def time_last(g: Graph, steps: Any = 1) -> None:
    """[N, C, F, T]."""
    x = g.axes_op("Unsqueeze", g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1]), [1])
    y = conv(g, joined(g, cache(g, "a", ["n", 1, 4, 2]), x, 3, 2), [2, 1, 3, 3], pads=[1, 0, 1, 0])
    head(g, y, 8, [3, 0, 1, 2])


def bounds_of_shapes(g: Graph, steps: Any = 1) -> None:
    """The past is what is left of past and new steps behind as many as are new, or before the length of both."""
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1])
    first = g.node("Concat", [cache(g, "a", ["n", 4, 2]), x], axis=2)
    new = g.node("Gather", [g.node("Shape", [x]), ints(g, 2)])
    whole = g.node("Gather", [g.node("Shape", [first]), ints(g, 2)])
    g.node("Slice", [first, new, whole, ints(g, 2)], ["a_out"])
    y = conv(g, first, [3, 4, 3])
    second = g.node("Concat", [cache(g, "b", ["n", 3, 1]), y], axis=2)
    start = g.node("Sub", [g.node("Gather", [g.node("Shape", [second]), ints(g, 2)]), ints(g, 1)])
    g.node("Slice", [second, start, ints(g, 1 << 40), ints(g, 2)], ["b_out"])
    head(g, conv(g, second, [6, 3, 2]), 6, [2, 0, 1])


def strided(g: Graph, steps: Any = 1) -> None:
    """A stride over time: a cache of span - stride steps, in calls of a multiple of the stride."""
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1])
    y = conv(g, joined(g, cache(g, "a", ["n", 4, 1]), x, 2, 1), [6, 4, 3], strides=[2])
    head(g, y, 6, [2, 0, 1])


ANY: dict[str, Callable[..., None]] = {
    "frames_3": frames_3, "frames_4": frames_4, "time_last": time_last, "bounds": bounds_of_shapes,
}  # fmt: skip


def oldest_dropped_first(g: Graph) -> None:
    """The cache loses its oldest step before the newest one is joined, and the convolution reads what is given on."""
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    past = cache(g, "a", ["n", 4, 3])
    kept = g.node("Slice", [past, ints(g, 1), ints(g, 1 << 40), ints(g, 2)])
    both = g.node("Concat", [kept, x], ["a_out"], axis=2)
    head(g, conv(g, both, [6, 4, 3]), 6, [2, 0, 1])


def packed(g: Graph) -> None:
    """One tensor holds the caches of two layers, one behind the other, of different lengths."""
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    past = cache(g, "a", [2, "n", 4, 3])
    first, second = (g.node("Gather", [past, g.const(np.int64(k))], axis=0) for k in (0, 1))
    one = g.node("Concat", [first, x], axis=2)
    y = conv(g, one, [4, 4, 4])
    two = g.node("Concat", [second, y], axis=2)
    late = [g.node("Slice", [v, ints(g, -3), ints(g, 1 << 40), ints(g, 2)]) for v in (one, two)]
    g.node("Concat", [g.axes_op("Unsqueeze", v, [0]) for v in late], ["a_out"], axis=0)
    head(g, conv(g, two, [6, 4, 4]), 6, [2, 0, 1])


def without_a_time_axis(g: Graph) -> None:
    """X [N, F] is one frame; the cache is [N, T, F]."""
    x = g.axes_op("Unsqueeze", g.input("x", ["n", 4]), [1])
    both = joined(g, cache(g, "a", ["n", 2, 4]), x, 1, 2)
    head(g, conv(g, g.node("Transpose", [both], perm=[0, 2, 1]), [6, 4, 3]), 6, [2, 0, 1])


def stacked(g: Graph) -> None:
    """A product over a frame and those before it, side by side: no convolution."""
    x = g.input("x", ["n", 1, 4])
    both = joined(g, cache(g, "a", ["n", 2, 4]), x, 1, 2)
    y = g.node("MatMul", [g.node("Reshape", [both, ints(g, 0, 1, 12)]), g.random(12, 6)])
    head(g, g.node("Transpose", [y], perm=[0, 2, 1]), 6, [2, 0, 1])


def stacked_as_channels(g: Graph) -> None:
    """Past frames are channels beside the newest one's."""
    x = g.axes_op("Unsqueeze", g.input("x", ["n", 1, 4]), [1])
    both = joined(g, cache(g, "a", ["n", 2, 1, 4]), x, 1, 2)
    head(g, conv(g, both, [2, 3, 1, 3], pads=[0, 1, 0, 1]), 8, [2, 0, 1, 3])


def newest_not_read(g: Graph) -> None:
    """The convolution reads the past steps alone, and the head the newest one."""
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    past = cache(g, "a", ["n", 4, 3])
    joined(g, past, x, 2, 3)
    y = conv(g, past, [2, 4, 3])
    head(g, g.node("Concat", [y, x], axis=1), 6, [2, 0, 1])


def newest_first(g: Graph) -> None:
    """The newest step comes first, the oldest last."""
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    both = g.node("Concat", [x, cache(g, "a", ["n", 4, 2])], axis=2)
    g.node("Slice", [both, ints(g, 0), ints(g, 2), ints(g, 2)], ["a_out"])
    head(g, conv(g, both, [6, 4, 3]), 6, [2, 0, 1])


def step_by_itself(g: Graph) -> None:
    """A cache of one step, whose next value is the new step itself."""
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    both = g.node("Concat", [cache(g, "a", ["n", 4, 1]), x], axis=2)
    g.node("Identity", [x], ["a_out"])
    head(g, conv(g, both, [6, 4, 2]), 6, [2, 0, 1])


ONE_STEP: dict[str, tuple[Build, dict[str, str]]] = {
    "oldest dropped first": (oldest_dropped_first, {}),
    "packed": (packed, {}),
    "no time axis": (without_a_time_axis, {}),
    "stacked": (stacked, {}),
    "stacked as channels": (stacked_as_channels, {}),
    "newest not read": (newest_not_read, {"a": "a_out"}),
    "newest first": (newest_first, {}),
    "step by itself": (step_by_itself, {"a": "a_out"}),
}


def built(build: Callable[..., None], *more: Any) -> onnx.ModelProto:
    g = Graph()
    build(g, *more)
    return g.model()


def agree(
    proto: onnx.ModelProto, folder: Path, steps: int, state: dict[str, str] | None = None, features: int = 4
) -> FloatModel:
    """Assert that the oracle of the whole sequence gives what ONNX Runtime gives call by call; and what every backend gives, in integers."""
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load_onnx(path, state=state)
    x = {"x": data(3, steps, features)}
    batch = make_batch(model.inputs, x)
    want = run_onnxruntime(model, path, batch)
    got = run_oracle(model, x).outputs
    assert set(got) == set(want) == {"logits", "h_out"}
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, atol=1e-5, rtol=1e-4, err_msg=name)
    made = quantize(model, x, SHORTS)
    whole = Session(made, "reference").run(x)
    for backend in available_backends():
        session = Session(made, backend)
        first = session.run({"x": x["x"][:, :3]})
        second = session.run({"x": x["x"][:, 3:]}, state=first.state)
        if not any(isinstance(layer, Conv) and layer.time.stride > 1 for layer in model.layers):
            chunks = np.concatenate([first.outputs["logits"], second.outputs["logits"]], axis=1)
            np.testing.assert_array_equal(chunks, whole.outputs["logits"])
        np.testing.assert_array_equal(session.run(x).outputs["logits"], whole.outputs["logits"])
    return model


@pytest.mark.wide
@pytest.mark.parametrize("steps", [1, 4, "t"])
@pytest.mark.parametrize("name", ANY)
def test_caches_become_states(name: str, steps: Any, tmp_path: Path) -> None:
    model = agree(built(ANY[name], steps), tmp_path, 8)
    assert [c.input for c in model.caches] == (["a"] if name == "time_last" else ["a", "b"])
    assert [i.name for i in model.inputs] == ["x", "h"]
    convs = [layer for layer in model.layers if isinstance(layer, Conv)]
    assert all(layer.time.before == layer.time.span - 1 and layer.time.after == 0 for layer in convs)
    assert model.one_step == (steps == 1)


def test_a_stride_over_time(tmp_path: Path) -> None:
    model = agree(built(strided, 4), tmp_path, 8)
    assert [layer.time for layer in model.layers if isinstance(layer, Conv)] == [Window(3, 2, 1, 1)]


@pytest.mark.parametrize("name", ONE_STEP)
def test_caches_of_one_step_per_call(name: str, tmp_path: Path) -> None:
    build, state = ONE_STEP[name]
    model = agree(built(build), tmp_path, 8, state)
    assert [c.input for c in model.caches] == ["a"]
    delays = [layer for layer in model.layers if isinstance(layer, Delay)]
    assert len(delays) == (1 if name in ("stacked", "stacked as channels", "newest not read", "newest first") else 0)


def test_the_same_layers_as_of_the_whole_graph(tmp_path: Path) -> None:
    """A convolution with a cache is one with as many zeros before the sequence."""

    def whole(g: Graph) -> None:
        x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
        y = conv(g, g.node("Pad", [x, ints(g, 0, 0, 2, 0, 0, 0)]), [3, 4, 3])
        y = conv(g, g.node("Pad", [y, ints(g, 0, 0, 4, 0, 0, 0)]), [6, 3, 3], dilations=[2])
        head(g, y, 6, [2, 0, 1])

    def order(g: Graph) -> None:
        frames_3(g)
        g.inputs = [i for i in g.inputs if i.name != "h"] + [i for i in g.inputs if i.name == "h"]

    a, b = import_model(built(whole), "m"), import_model(built(order), "m")
    x = {"x": data(3, 9, 4)}
    made = [quantize(m, x, SHORTS) for m in (a, b)]
    for one, other in zip(made[0].layers, made[1].layers, strict=True):
        assert type(one) is type(other)
        for first, second in zip(one.matrices(), other.matrices(), strict=True):
            np.testing.assert_array_equal(first.matrix.weight, second.matrix.weight)
    np.testing.assert_array_equal(Session(made[0]).run(x).outputs["logits"], Session(made[1]).run(x).outputs["logits"])


def feedback(g: Graph) -> None:
    """A filter that reads its own past output: no past steps of anything else."""
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    past = cache(g, "a", ["n", 4, 1])
    y = conv(g, g.node("Concat", [past, x], axis=2), [4, 4, 2])
    g.node("Identity", [y], ["a_out"])
    head(g, y, 4, [2, 0, 1])


def never_replaced(g: Graph) -> None:
    x = g.node("Transpose", [g.input("x", ["n", 1, 4])], perm=[0, 2, 1])
    past = cache(g, "a", ["n", 4, 2])
    both = g.node("Concat", [past, x], axis=2)
    g.node("Slice", [both, ints(g, 0), ints(g, 2), ints(g, 2)], ["a_out"])
    head(g, conv(g, both, [6, 4, 3]), 6, [2, 0, 1])


def too_short(g: Graph) -> None:
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    head(g, conv(g, joined(g, cache(g, "a", ["n", 4, 1]), x, 2, 1), [6, 4, 3]), 6, [2, 0, 1])


def too_long(g: Graph, steps: Any) -> None:
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1])
    head(g, conv(g, joined(g, cache(g, "a", ["n", 4, 5]), x, 2, 5), [6, 4, 3]), 6, [2, 0, 1])


def padded_beside(g: Graph, steps: Any) -> None:
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1])
    head(g, conv(g, joined(g, cache(g, "a", ["n", 4, 1]), x, 2, 1), [6, 4, 3], pads=[1, 0]), 6, [2, 0, 1])


def wrong_part(g: Graph) -> None:
    """A graph of several steps per call that gives its first steps on is refused."""
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    both = g.node("Concat", [cache(g, "a", ["n", 4, 2]), x], axis=2)
    g.node("Slice", [both, ints(g, 0), ints(g, 2), ints(g, 2)], ["a_out"])
    head(g, conv(g, both, [6, 4, 3]), 6, [2, 0, 1])


def channels_swapped(g: Graph) -> None:
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    both = g.node("Concat", [cache(g, "a", ["n", 4, 2]), x], axis=2)
    last = g.node("Slice", [both, ints(g, -2), ints(g, 1 << 40), ints(g, 2)])
    g.node("Gather", [last, ints(g, 1, 0, 2, 3)], ["a_out"], axis=1)
    head(g, conv(g, both, [6, 4, 3]), 6, [2, 0, 1])


def read_by_another(g: Graph) -> None:
    """A pool over past and new steps, in a graph of several steps per call."""
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    both = joined(g, cache(g, "a", ["n", 4, 2]), x, 2, 2)
    head(g, g.node("MaxPool", [both], kernel_shape=[3]), 4, [2, 0, 1])


@pytest.mark.parametrize(
    ("proto", "state", "says"),
    [
        (lambda: built(feedback), {"a": "a_out"}, "computes with the cache 'a', whose next value 'a_out' depends on the result"),
        (lambda: built(never_replaced), {}, "no call replaces"),
        (lambda: built(too_short), {}, "a window of 3 steps over a cache of 1 past ones"),
        (lambda: built(too_long, "t"), {}, "by 5 and 0, and its kernel spans 3"),
        (lambda: built(too_long, 1), {}, "by 5 and 0, and its kernel spans 3"),
        (lambda: built(padded_beside, "t"), {}, "pads time by 1 and 0 beside the 1 past steps of a cache"),
        (lambda: built(padded_beside, 1), {}, "pads time by 1 and 0 beside the 1 past steps of a cache"),
        (lambda: built(wrong_part), {}, "slices [0:2:1] of 2 past steps and the new ones"),
        (lambda: built(channels_swapped), {}, "in the cache's own order"),
        (lambda: built(read_by_another), {}, "only Conv and AveragePool read zeros padded over time"),
        (lambda: built(frames_3), {"c": "a_out"}, "the graph has no input 'c'; its inputs are 'x', 'a', 'b', 'h'"),
        (lambda: built(frames_3), {"a": "z"}, "the graph has no output 'z'; its outputs are"),
        (lambda: built(frames_3), {"a": "b_out"}, "have different shapes"),
        (lambda: built(frames_3), {"a": "a_out", "b": "a_out"}, "have different shapes"),
        (lambda: built(frames_3), {"x": "logits"}, "whose next value 'logits' depends on the result"),
        (lambda: built(packed), {"h": "a_out"}, "have different shapes"),
        (lambda: built(frames_3), {"h": "h_out"}, None),
    ],
)  # fmt: skip
def test_what_is_refused(proto: Callable[[], onnx.ModelProto], state: dict[str, str], says: str | None) -> None:
    if says is None:
        assert import_model(proto(), "m", state=state).caches
        return
    with pytest.raises(UnsupportedError) as caught:
        import_model(proto(), "m", state=state)
    assert says in str(caught.value), str(caught.value)


def test_a_state_that_is_not_given_on_is_refused() -> None:
    def build(g: Graph) -> None:
        frames_3(g)
        g.node("Neg", ["h_out"], ["other"])
        output(g, "other", [1, "n", 5])

    with pytest.raises(QrnnError, match="does not give input 'h' on by output 'other'"):
        import_model(built(build), "m", state={"h": "other"})


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not here")
def test_the_streaming_export_has_the_integers_of_the_causal_one() -> None:
    models = [load_onnx(SHARED / f"models/whole/fsdd_crnn_{kind}.onnx") for kind in ("causal", "stream")]
    clips = np.load(SHARED / "data/fsdd_logmel.npz")
    x = clips["frames"][: 10 * 40].astype(np.float64).reshape(10, 40, 32)
    causal, stream = (quantize(m, {"x": x[:8]}, SHORTS) for m in models)
    for one, other in zip(causal.layers, stream.layers, strict=True):
        assert type(one) is type(other)
        assert one.name == other.name
        for first, second in zip(one.matrices(), other.matrices(), strict=True):
            np.testing.assert_array_equal(first.matrix.weight, second.matrix.weight)
            np.testing.assert_array_equal(first.matrix.multiplier, second.matrix.multiplier)
    assert {n: f for n, f in causal.tensors.items() if n in stream.tensors} == {
        n: f for n, f in stream.tensors.items() if n in causal.tensors
    }
    test = {"x": x[8:]}
    for backend in available_backends():
        want, got = (Session(m, backend).run(test).outputs["logits"] for m in (causal, stream))
        np.testing.assert_array_equal(want, got)
