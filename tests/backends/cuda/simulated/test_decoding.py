"""Backend cuda generates the reference's tokens."""

from __future__ import annotations

import numpy as np
import pytest
from decoding_models import language_model

import qrnn


@pytest.mark.parametrize("sampling", [None, qrnn.Sampling(1.5, top_k=6)])
def test_tokens(sampling: qrnn.Sampling | None) -> None:
    model, prompt = language_model(), {"tokens": np.array([[1, 2], [3, 0]])}
    want, got = (
        qrnn.Session(model, backend).generate(prompt, [2, 1], steps=4, sampling=sampling, seed=3, stop=5)
        for backend in ("reference", "cuda")
    )
    np.testing.assert_array_equal(got.tokens, want.tokens)
    for name, arrays in want.state.layers.items():
        for a, b in zip(got.state.layers[name], arrays, strict=True):
            np.testing.assert_array_equal(a, b)
