"""``qrnn generate`` and ``qrnn export --generate``: what they print and write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from decoding_models import forecaster, language_model, one_hot_model, transducer

import qrnn
from cli.running import Cli, Workplace, make_cli


@pytest.fixture
def at(tmp_path: Path, cli: Cli) -> Workplace:
    """A folder with models and prompts."""
    for name, model in (
        ("tokens", language_model()), ("values", forecaster()), ("frames", transducer()), ("one_hot", one_hot_model())
    ):  # fmt: skip
        qrnn.save(model, tmp_path / f"{name}.qrnn")
    frames = np.random.default_rng(5).normal(size=(2, 9, 5))
    np.savez(tmp_path / "frames.npz", tokens=np.zeros((2, 1), int), frames=frames, lengths=np.array([9, 4]))
    np.savez(tmp_path / "values.npz", x=frames[..., :3])
    np.savez(tmp_path / "prompts.npz", tokens=np.array([[1, 2, 3], [4, 0, 0]]), lengths=np.array([3, 1]))
    return Workplace(tmp_path, cli)


def test_tokens(at: Workplace) -> None:
    """Token ids as text print; a file of prompts gives what the session gives."""
    session = qrnn.Session(language_model())
    want = session.generate({"tokens": np.array([[1, 2]])}, steps=6).tokens[0]
    done = at.cli("generate", at.path("tokens.qrnn"), "--prompt", "1, 2", "--steps", 6)
    assert done.status == 0
    assert f"0: {' '.join(map(str, want))} (6 tokens)" in done.out
    out = at.path("out.npz")
    options = ["--temperature", 0.9, "--top-k", 6, "--top-p", 0.9, "--seed", 8, "--stop", 3, "--steps", 20, "--scores"]
    done = at.cli("generate", at.path("tokens.qrnn"), "--prompt", at.path("prompts.npz"), "-o", out, "--json", *options)
    found = session.generate(
        {"tokens": np.array([[1, 2, 3], [4, 0, 0]])}, [3, 1], steps=20, sampling=qrnn.Sampling(0.9, 6, 0.9), seed=8, stop=3, scores=True
    )  # fmt: skip
    with np.load(out) as data:
        np.testing.assert_array_equal(data["tokens"], found.tokens)
        np.testing.assert_array_equal(data["lengths"], found.lengths)
        np.testing.assert_array_equal(data["stopped"], found.stopped)
        np.testing.assert_array_equal(data["scores"], found.scores)  # type: ignore[arg-type]
        state = session.load_state(data["state"].tobytes())
    np.testing.assert_array_equal(state.layers["gru"][0], found.state.layers["gru"][0])
    rows = zip(found.tokens, found.lengths, strict=True)
    assert json.loads(done.out)["tokens"] == [row[:n].tolist() for row, n in rows]


def test_values_frames_and_one_hot_tokens(at: Workplace) -> None:
    out = at.path("out.npz")
    assert (
        at.cli("generate", at.path("values.qrnn"), "--prompt", at.path("values.npz"), "--steps", 4, "-o", out).status
        == 0
    )
    with np.load(out) as data:
        assert data["values"].shape == (2, 4, 3)
    done = at.cli(
        "generate",
        at.path("frames.qrnn"),
        "--prompt",
        at.path("frames.npz"),
        "--blank",
        6,
        "--most-symbols",
        3,
        "-o",
        out,
    )
    assert done.status == 0
    with np.load(out) as data:
        assert data["frames"].max() < 9
        assert data["tokens"].shape == data["frames"].shape
    assert "(3 tokens)" in at.cli("generate", at.path("one_hot.qrnn"), "--prompt", "1,2", "--steps", 3).out


def test_refused(at: Workplace) -> None:
    model = at.path("tokens.qrnn")
    at.refused("generate", model, "--prompt", "99", says="token 99, expected tokens in 0…10")
    at.refused("generate", model, "--prompt", at.path("none.npz"), says="no such file")
    at.refused("generate", at.path("frames.qrnn"), "--prompt", "1", says="give an .npz file of arrays")
    at.refused("generate", model, "--prompt", "1", "--feed", "tokens", says="--feed 'tokens', expected IN=OUT")
    at.refused("generate", model, "--prompt", "1", "--feed", "tokens=y", says="'y' is no output")
    at.refused(
        "generate",
        model,
        "--prompt",
        "1",
        "--temperature",
        0,
        "--top-k",
        3,
        says="--temperature 0 takes the largest score",
    )
    at.refused("generate", model, "--prompt", "1", "--temperature", -1, says="temperature=-1.0")
    at.refused("generate", model, "--prompt", "1", "--seed", -1, says="seed=-1")
    at.refused("generate", model, "--prompt", "1", "--json", "-o", "-", says="both go to stdout")
    at.refused("generate", model, "--prompt", "1", "-o", at.path("none/out.npz"), says="cannot write")
    at.refused(
        "generate", model, "--prompt", at.path("prompts.npz"), "-o", at.path("prompts.npz"), says="also an input"
    )
    at.refused("generate", model, "--prompt", at.path("values.npz"), says="'x' is not an input")
    at.refused("export", model, "-o", at.path("c"), "--blank", 1, says="say how --generate does")
    at.refused("export", model, "-o", at.path("c"), "--generate", "--blank", 1, says="no frames to go through")
    at.refused(
        "export", at.path("values.qrnn"), "-o", at.path("c"), "--generate", "--top-k", 1, says="no token is chosen"
    )


def test_exported_c_generates(at: Workplace) -> None:
    """The folder has the functions and says how to call them, and verify compares what they give."""
    folder = at.path("c")
    options = ["--generate", "--temperature", 0.7, "--top-k", 4, "--feed", "tokens=scores"]
    assert at.cli("export", at.path("tokens.qrnn"), "-o", folder, "--name", "net", *options).status == 0
    header, readme = (folder / "net.h").read_text(), (folder / "README.md").read_text()
    assert "net_generate(" in header
    assert "`net_generate` goes on by itself: `scores` is fed back to `tokens`" in readme
    done = at.cli("verify", folder)
    assert done.status == 0
    assert "generated steps: every output and state is equal" in " ".join(done.out.split())


def test_changed_c_is_found(at: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder whose C takes another token is not equal: the comparison is one of tokens."""
    from qrnn.devices import verify

    folder = at.path("c")
    at.cli("export", at.path("tokens.qrnn"), "-o", folder, "--name", "net", "--generate")
    real = verify.decode_cases

    def off_by_one(*arguments: object) -> object:
        found = real(*arguments)  # type: ignore[arg-type]
        found[-1].outputs["generated"] = found[-1].outputs["generated"] + 1
        return found

    monkeypatch.setattr(verify, "decode_cases", off_by_one)
    done = make_cli(monkeypatch, capsys)("verify", folder)
    assert done.status == 1
    assert "generated sequence 3, output generated[0, 0]" in " ".join(done.out.split())
