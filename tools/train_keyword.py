"""Train the keyword spotter of docs/keyword.md on recordings of spoken digits, and write it as an ONNX file with its data.

    python tools/train_keyword.py --shared DIR --out FOLDER [--epochs 24] [--seed 0]

DIR holds ``data/fsdd_wav.npz`` (`keyword_clips`). The features are those of the integer front end. FOLDER gets::

    keyword.onnx               x [N, T, 32] → p [N, T, 11], the probabilities of ten digits and of nothing at each frame
    keyword_calibration.npz    100 training sequences
    keyword_test.npz           the test clips, with their digits

At a frame the network says which word has just ended; it is silent from 120 ms after the word. The test clips decide nothing: no early
stopping, no choice of epoch. The command needs PyTorch and ONNX; the same seed gives the same files on the same processor.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from keyword_clips import LONGEST, NOTHING, SETTINGS, Clip, clip, clips_to_test, features, frame_at, words

UNITS = 64
BATCH = 32
OPSET = 17
LEARNING_RATE = 0.004
TAIL = 26
"""Frames behind a word in training, which teach the network to fall silent."""

SPOKEN, SILENT = 12, 16
"""Frames after a word's end until which it is to be said, and from which nothing is."""

TOGETHER = 2
"""Words that follow each other in training: the network hears a word behind another, too."""

IGNORED = -100
"""The target of frames that may say what they will."""

CALIBRATION_SEQUENCES = 100


def targets(clips: Sequence[Clip], steps: int) -> npt.NDArray[np.int64]:
    """Return the class [steps] that is to be said at each frame of clips that follow each other."""
    found = np.full(steps, NOTHING, np.int64)
    start = 0
    for example in clips:
        begin, end = (frame_at(start + sample) for sample in (example.begin, example.end))
        found[end - (end - begin) // 4 : end + SILENT] = IGNORED
        found[max(end - 2, 0) : end + SPOKEN] = example.digit
        start += len(example.samples)
    return found


def training_clips(shared: Path, rng: np.random.Generator) -> list[tuple[Clip, ...]]:
    """Return every recording of the training part, in the order of a shuffle, as loud as chance has it, a few after each other."""
    known = [(word, digit) for word, digit in words(shared, False) if len(word) <= LONGEST]
    clips = [
        clip(word, digit, int(rng.integers(4, 26)), TAIL, rng, 2.0 ** rng.uniform(-1.5, 0.5))
        for word, digit in (known[k] for k in rng.permutation(len(known)))
    ]
    return [tuple(clips[k : k + TOGETHER]) for k in range(0, len(clips), TOGETHER)]


def make_network(mean: npt.NDArray[np.float32], spread: npt.NDArray[np.float32]) -> Any:
    """Return the network, which standardizes its features by constants."""
    import torch
    from torch import Tensor, nn

    class Keyword(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
        """A GRU over frames, and the probabilities of its classes at each."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("spread", torch.from_numpy(spread))
            self.gru = nn.GRU(SETTINGS.bands, UNITS, batch_first=True)
            self.out = nn.Linear(UNITS, NOTHING + 1)

        def scores(self, x: Tensor) -> Tensor:
            return self.out(self.gru((x - self.mean) / self.spread)[0])

        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(self.scores(x), -1)

    return Keyword()


def train(network: Any, x: Any, lengths: Any, wanted: Any, epochs: int, rng: np.random.Generator) -> None:
    """Train by Adam, with a learning rate that falls along half a cosine; each sequence is made louder or quieter in every epoch."""
    import torch

    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    steps = epochs * ((len(x) + BATCH - 1) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        order, total = rng.permutation(len(x)), 0.0
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            most = int(lengths[batch].max())
            louder = rng.uniform(-1.0, 1.0, (len(batch), 1, 1)).astype(np.float32)
            scores = network.scores(torch.from_numpy(x[batch, :most] + louder))
            loss = torch.nn.functional.cross_entropy(
                scores.flatten(0, 1), torch.from_numpy(wanted[batch, :most]).flatten(), ignore_index=IGNORED
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(x):.4f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    import torch

    rng = np.random.default_rng(chosen.seed)
    torch.manual_seed(chosen.seed)
    clips = training_clips(chosen.shared, rng)
    x, lengths = features([np.concatenate([c.samples for c in some]) for some in clips])
    wanted = np.full(x.shape[:2], IGNORED, np.int64)
    for row, some, steps in zip(wanted, clips, lengths, strict=True):
        row[:steps] = targets(some, int(steps))
    valid = np.concatenate([row[:n] for row, n in zip(x, lengths, strict=True)])
    network = make_network(valid.mean(0), valid.std(0))
    train(network, x, lengths, wanted, chosen.epochs, rng)

    chosen.out.mkdir(parents=True, exist_ok=True)
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, SETTINGS.bands),),
            str(chosen.out / "keyword.onnx"),
            input_names=["x"],
            output_names=["p"],
            dynamic_axes={"x": {0: "N", 1: "T"}, "p": {0: "N", 1: "T"}},
            opset_version=OPSET,
            dynamo=False,
        )
    first = slice(0, CALIBRATION_SEQUENCES)
    np.savez_compressed(chosen.out / "keyword_calibration.npz", x=x[first], lengths=lengths[first])
    tested = clips_to_test(chosen.shared)
    x, lengths = features([c.samples for c in tested])
    labels = np.array([c.digit for c in tested], np.int64)
    np.savez_compressed(chosen.out / "keyword_test.npz", x=x, lengths=lengths, labels=labels)
    with torch.no_grad():
        p = network(torch.from_numpy(x)).numpy()
    right = p[np.arange(len(x)), lengths - 1].argmax(1) == labels
    print(f"{int(right.sum())} of {len(right)} test clips are right at their last frame")
    return 0


if __name__ == "__main__":
    sys.exit(main())
