"""The keyword spotter of ``targets/examples/keyword``: its C has the bits of its definition in Python, part by part."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import SANITIZERS, compiler, tool

import qrnn
from qrnn import layers
from qrnn.datasets.log_mel import CODE_FRAC, LogMel
from qrnn.model.quant_model import QuantModel
from qrnn.targets import load_target, targets_folder

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from keyword_clips import NOTHING, SETTINGS, clip, clips_to_test, frame_at
from keyword_spotter import EXAMPLE, build, hear, replay, smoothed, smoother_settings
from measure_keyword import Heard, words_heard
from train_keyword import IGNORED, targets

SHARED = Path(__file__).parents[2] / "shared"
CLASSES = NOTHING + 1

SMOOTHER = """
#include <stdio.h>
#include "smoother.h"

int main(void)
{
    static smoother s;
    int16_t p[SMOOTHER_CLASSES];

    smoother_init(&s);
    while (fread(p, sizeof p, 1, stdin) == 1) {
        const int16_t heard = (int16_t)smoother_step(&s, p);
        fwrite(&heard, 2, 1, stdout);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def smoother(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cc, folder = compiler("gcc", *SANITIZERS), tmp_path_factory.mktemp("smoother")
    (folder / "main.c").write_text(SMOOTHER)
    warnings = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    command = [cc, *warnings, *SANITIZERS, f"-I{EXAMPLE}", "main.c", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


@given(st.integers(0, 2**32 - 1), st.integers(0, 120), st.floats(0.2, 4))
@settings(max_examples=20)
def test_smoother(smoother: Path, seed: int, frames: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    scores = np.repeat(rng.normal(0, spread, (frames // 8 + 1, CLASSES)), 8, axis=0)[:frames] * 3
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    q = np.rint(p * smoother_settings()["ONE"]).astype(np.int16)
    done = subprocess.run([smoother], input=q.tobytes(), capture_output=True, check=True)
    assert np.array_equal(np.frombuffer(done.stdout, np.int16), smoothed(q))


def test_a_word_is_heard_once() -> None:
    known = smoother_settings()
    p = np.zeros((60, CLASSES), np.int16)
    p[:10, NOTHING] = p[10:25, 7] = p[25:, NOTHING] = known["ONE"]
    words = smoothed(p)
    needed = -(-known["LEAST"] * known["FRAMES"] // known["ONE"])  # frames that make the mean
    assert np.flatnonzero(words >= 0).tolist() == [9 + needed]
    assert words.max() == 7


def network() -> QuantModel:
    """A network that was not trained, which has the input and the output of the spotter's."""
    rng = np.random.default_rng(0)
    x = layers.input("x", features=SETTINGS.bands)
    units = 12
    gru = layers.gru(x, rng.normal(0, 0.1, (3 * units, SETTINGS.bands)), rng.normal(0, 0.4, (3 * units, units)))
    scores = layers.dense(gru.output, rng.normal(0, 12.0, (CLASSES, units)))
    model = layers.model("keyword", outputs={"p": layers.softmax(scores)})
    x_seen = SETTINGS.codes(sounds()[0])[None] / (1 << CODE_FRAC)
    return qrnn.quantize(model, {"x": x_seen.astype(np.float32)}, qrnn.Scheme(**load_target("cortex-m4").scheme))


def sounds() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    tone = 9000 * np.sin(np.cumsum(rng.uniform(0.1, 2.0, 4000)))
    return [tone.astype(np.int16), rng.integers(-300, 300, 900).astype(np.int16), np.zeros(500, np.int16)]


def check(folder: Path, target_name: str, recordings: list[np.ndarray]) -> None:
    model, target = network(), load_target(target_name)
    found, counted = replay(build(model, SETTINGS, target, folder), target, SETTINGS, recordings)
    for ours, theirs in zip(hear(model, SETTINGS, recordings), found, strict=True):
        assert np.array_equal(ours.codes, theirs.codes)
        assert np.array_equal(ours.probabilities, theirs.probabilities)
        assert np.array_equal(ours.words, theirs.words)
    if target.build.board != "host":
        assert counted.front_end > 1000
        assert counted.network > 1000
        assert counted.smoother > 50


def test_the_whole_spotter_on_this_machine(tmp_path: Path) -> None:
    compiler("gcc")
    check(tmp_path, "host-cpu", sounds())


@pytest.mark.matrix
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_the_whole_spotter_in_an_emulator(tmp_path: Path, target: str) -> None:
    found = load_target(target)
    assert found.emulation is not None
    tool(f"{found.build.gnu}-gcc")
    tool(found.emulation.command)
    check(tmp_path, target, sounds())


@pytest.mark.matrix
@pytest.mark.skipif(not (SHARED / "data" / "fsdd_wav.npz").is_file(), reason="the shared recordings are not here")
def test_recordings_in_an_emulator(tmp_path: Path) -> None:
    tool("arm-none-eabi-gcc")
    tool("qemu-system-arm")
    clips = clips_to_test(SHARED)
    assert len(clips) == 300
    check(tmp_path, "cortex-m4", [c.samples for c in clips[::60]])


def test_a_recording_that_is_linked(tmp_path: Path) -> None:
    compiler("gcc")
    (samples, *_), model, target = sounds(), network(), load_target("host-cpu")
    values = ", ".join(map(str, samples))
    (tmp_path / "recording.c").write_text(
        f"#include <stdint.h>\nconst int16_t recording[] = {{{values}}};\nconst uint32_t recording_samples = {len(samples)}U;\n"
    )
    image = build(model, SETTINGS, target, tmp_path, "linked.c")
    done = subprocess.run([image.path], capture_output=True, check=True, text=True)
    (heard,) = hear(model, SETTINGS, [samples])
    assert done.stdout.split() == [str(word) for _, word in heard.events()]
    assert heard.events()


@pytest.mark.matrix
@pytest.mark.time_limit(300)
def test_the_walkthrough(tmp_path: Path) -> None:
    """Every block of docs/keyword.md runs with recordings of noise, but for the one that trains."""
    cc, bin_folder = compiler("gcc"), tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "qrnn"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qrnn "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    for name in ("recordings/no/1.wav", "recordings/yes/2.wav", "more/3.wav"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(work / name), "wb") as file:
            file.setparams((1, 2, SETTINGS.rate, 0, "NONE", ""))
            file.writeframes(sounds()[1].tobytes())
    (work / "labels.csv").write_text("file,label\nmore/3.wav,0\n")
    qrnn.save(network(), work / "keyword.qrnn")
    page = (Path(__file__).parents[1] / "docs" / "keyword.md").read_text(encoding="utf-8")
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    ran = []
    for language, block in re.findall(r"^```(sh|c)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if "tools/train_keyword.py" not in block:
            call = ["bash", "-euc", block]
            if language == "c":
                (work / "block.c").write_text(block)
                call = [cc, "-std=c99", "-Wall", "-Werror", "-c", "block.c", f"-I{EXAMPLE}", "-Ifront_end", "-Inet"]
            done = subprocess.run(call, cwd=work, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            ran.append(language)
    assert ran == ["sh", "sh", "c"]


def test_targets_of_training() -> None:
    example = clip(np.full(4000, 100, np.int16), 7, 10, 26, np.random.default_rng(0))
    end = frame_at(example.end)
    wanted = targets([example, example], len(SETTINGS.frames(np.concatenate([example.samples] * 2))))
    for start in (0, len(example.samples) // SETTINGS.hop):
        own = wanted[start : start + end + 26]
        assert set(own[: end // 2].tolist()) == {NOTHING}
        assert set(own[end : end + 12].tolist()) == {7}
        assert own[end + 13] == IGNORED
        assert set(own[end + 16 :].tolist()) == {NOTHING}


def test_words_of_a_long_recording() -> None:
    rng = np.random.default_rng(0)
    clips = [clip(np.full(4000, 100, np.int16), digit, 30, 8, rng) for digit in (3, 4, 5)]
    words = np.full(len(SETTINGS.frames(np.concatenate([c.samples for c in clips]))), -1, np.int16)
    ends = [frame_at(k * len(clips[0].samples) + c.end) for k, c in enumerate(clips)]
    words[ends[0] + 2], words[ends[1] - 5], words[ends[2] - 40] = 3, 9, 5
    empty = np.zeros((0, 0), np.int16)
    assert words_heard(Heard(empty, empty, words), clips) == (1, 1, 1)


def test_the_settings_are_those_of_the_example() -> None:
    assert LogMel(8000, 200, 80, 32, 60.0, 4000.0) == SETTINGS
    assert smoother_settings()["CLASSES"] == CLASSES
    assert targets_folder() / "examples" in EXAMPLE.parents
