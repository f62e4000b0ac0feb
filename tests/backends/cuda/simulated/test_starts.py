"""Initial states that are computed, by kernels in the simulator: the reference's bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_starts import EIGHT, captioner, data_of, drawn, lengths_of, same

from qrnn import Session
from qrnn.conversion import quantize


@settings(deadline=None, max_examples=3)
@given(data=st.data())
def test_drawn_models(data: st.DataObject) -> None:
    model, rng = drawn(data.draw), np.random.default_rng(1)
    made = quantize(model, data_of(model, rng, size=2, past=4, future=3), EIGHT)
    x = data_of(made, rng, size=2, past=3, future=2)
    lengths = lengths_of(made, x, data.draw)
    same(Session(made, "reference").run(x, lengths), Session(made, "cuda").run(x, lengths))


def test_streams_on_the_device_begin_once() -> None:
    model, rng = captioner(), np.random.default_rng(5)
    data = {name: values.astype(np.float32) for name, values in data_of(model, rng, size=2).items()}
    session = Session(quantize(model, data, EIGHT), "cuda")
    whole = Session(session.model, "reference").run(data)
    stream = session.device_stream(2)
    for t in range(2):
        stream.inputs["x"].copy_to_device(np.ascontiguousarray(data["x"][:, t]))
        stream.inputs["features"].copy_to_device(data["features"] * np.float32(t == 0))
        stream.advance()
        np.testing.assert_array_equal(stream.outputs["y"].copy_to_host(), whole.outputs["y"][:, t].astype(np.float32))
    assert stream.state.layers["lstm"][2].copy_to_host().tolist() == [[1], [1]]
