"""Audio that is made up for training: it has the spectra of the recording that it is made like, and follows from its seed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from finetune_sets import CLIP_FRAMES, speech_like


def test_made_up_audio_has_the_level_and_spectrum_of_the_recording() -> None:
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(8.0, 0.05, 257)
    noise = np.abs(rng.normal(size=(1, 60, 257)) + 1j * rng.normal(size=(1, 60, 257))) * 0.01
    recording = (noise + rng.random((1, 60, 1)) ** 2 * spectrum).astype(np.float32)
    made = speech_like(3, 1, recording)
    assert made.shape == (3, CLIP_FRAMES, 257)
    assert made.dtype == np.float32
    bands = [
        np.sqrt(np.square(a.astype(np.float64)).mean(axis=(0, 1))[4:].reshape(11, 23).mean(axis=1))
        for a in (recording, made)
    ]
    assert (np.abs(20 * np.log10(bands[1] / bands[0])) < 9).all()
    np.testing.assert_array_equal(speech_like(1, 2, recording), speech_like(1, 2, recording))
