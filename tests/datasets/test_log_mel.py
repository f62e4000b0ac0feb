"""The integer log-mel front end: close to float64, and the bits of its C."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from installed import SANITIZERS, compiler

from qrnn.datasets.front_end_c import write_front_end
from qrnn.datasets.log_mel import CODE_FRAC, FLOOR_BITS, LogMel
from qrnn.errors import DataError

PROGRAM = """
#include <stdio.h>
#include "qrnn_log_mel.h"

int main(void)
{
    static qrnn_log_mel sound;
    int16_t samples[37], codes[QRNN_LOG_MEL_BANDS];
    size_t count;

    qrnn_log_mel_init(&sound);
    while ((count = fread(samples, 2, 37, stdin)) > 0) {
        for (size_t done = 0; done < count;) {
            done += qrnn_log_mel_take(&sound, &samples[done], count - done);
            if (qrnn_log_mel_ready(&sound)) {
                qrnn_log_mel_codes(&sound, codes);
                fwrite(codes, sizeof codes, 1, stdout);
            }
        }
    }
    return 0;
}
"""
WARNINGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
SETTINGS = (
    LogMel(8000, 200, 80, 32, 60, 4000),
    LogMel(16000, 400, 160, 40, 20, 8000),
    LogMel(1000, 17, 1, 1, 0, 500),  # the smallest transform, and a frame at every sample
    LogMel(48000, 4096, 4096, 13, 100, 20000),  # the largest, and frames side by side
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[LogMel], Path]:
    """The program of each of the settings, built once."""

    @cache
    def build(settings: LogMel) -> Path:
        cc, folder = compiler("gcc", *SANITIZERS), tmp_path_factory.mktemp("front_end")
        write_front_end(settings, folder)
        (folder / "main.c").write_text(PROGRAM)
        command = [cc, *WARNINGS, *SANITIZERS, "main.c", "qrnn_log_mel.c", "-o", "program"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return folder / "program"

    return build


@st.composite
def sounds(draw: st.DrawFn, least: int) -> np.ndarray:
    """Noise and tones of any loudness, silence, and full scale."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = least + draw(st.integers(0, 500))
    kind = draw(st.sampled_from(["noise", "tone", "click", "silence", "least", "switching"]))
    loudness = 2.0 ** draw(st.floats(0, 15))
    if kind == "noise":
        sound = rng.normal(0, loudness, count)
    elif kind == "tone":
        sound = loudness * np.sin(np.arange(count) * rng.uniform(0, np.pi))
    elif kind == "click":
        sound = np.zeros(count)
        sound[rng.integers(count)] = loudness
    elif kind == "switching":
        sound = np.where(rng.integers(0, 2, count), 32767, -32768)
    else:
        sound = np.full(count, 0 if kind == "silence" else -32768)
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: str(s.points))
@given(data=st.data())
@hypothesis_settings(max_examples=15, deadline=None)
def test_c_has_the_same_bits(settings: LogMel, program: Callable[[LogMel], Path], data: st.DataObject) -> None:
    sound = data.draw(sounds(settings.window))
    done = subprocess.run([program(settings)], input=sound.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.frombuffer(done.stdout, np.int16).reshape(-1, settings.bands), settings.codes(sound))


@pytest.mark.parametrize("settings", SETTINGS[:2], ids=lambda s: str(s.points))
@given(data=st.data())
def test_integers_are_close_to_float(settings: LogMel, data: st.DataObject) -> None:
    """The window's 15 bits limit what is seen 90 dB below a frame's power; in bands above -60 dB, features are right to 0.05 dB."""
    sound = data.draw(sounds(settings.window))
    real = settings.real(sound)
    error = np.abs(settings.codes(sound) / (1 << CODE_FRAC) - real)
    loud = real > settings.level(sound)[:, None] - 6 * np.log(10)
    assert error[loud].max(initial=0) < 0.01
    assert settings.codes(sound).min() >= round(-FLOOR_BITS * np.log(2) * (1 << CODE_FRAC))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: str(s.points))
def test_a_tone_is_loudest_in_its_band(settings: LogMel) -> None:
    mel = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (settings.low, settings.high)), settings.bands + 2)
    for band in range(0, settings.bands, 5):
        hertz = 700 * (10 ** (mel[band + 1] / 2595) - 1)
        tone = 10000 * np.sin(2 * np.pi * hertz / settings.rate * np.arange(settings.window))
        assert abs(int(settings.codes(tone.astype(np.int16))[0].argmax()) - band) <= 1


def test_frames() -> None:
    settings = SETTINGS[0]
    sound = np.arange(1000, dtype=np.int16)
    frames = settings.frames(sound)
    assert frames.shape == (11, 200)
    assert frames[3, 0] == 240
    short = settings.frames(sound[:150])
    assert short.shape == (1, 200)
    assert short[0, 149] == 149
    assert not short[0, 150:].any()
    assert len(settings.codes(np.zeros(3000 * 80, np.int16))) == 2998  # in several parts
    with pytest.raises(DataError, match="int16"):
        settings.frames(np.zeros(300))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rate": 10}, "a rate of 10 Hz"),
        ({"window": 5000}, "frames of 5000 samples"),
        ({"hop": 201}, "no sample may fall between"),
        ({"bands": 0}, "0 bands"),
        ({"high": 4001.0}, "half the rate"),
        ({"low": 4000.0}, "rising frequencies"),
        ({"bands": 200}, "choose fewer bands"),
    ],
)
def test_settings_that_cannot_be(changed: dict[str, float], says: str) -> None:
    good = {"rate": 8000, "window": 200, "hop": 80, "bands": 32, "low": 60.0, "high": 4000.0}
    with pytest.raises(DataError, match=says):
        LogMel(**{**good, **changed})  # type: ignore[arg-type]
