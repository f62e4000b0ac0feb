"""Train a small character model on this repository's own documents, and write it as ONNX files.

    python tools/train_char_model.py --out FOLDER [--steps 2400] [--hidden 160] [--seed 0]

The text is that of README.md, CHANGELOG.md and docs/*.md, so that nothing has to be fetched: every eighth block of 2,000 characters is held
out, and decides nothing. A character that is not among the most frequent ones is one token for all of these. The network is an embedding,
one LSTM and a linear layer.

The command writes into FOLDER, and prints the bits per character of the text that was held out::

    char_model.onnx         tokens [N, T] → logits [N, T, V], both axes dynamic
    char_model_stream.onnx  tokens [N, 1] and the states `h`, `c` → logits [N, 1, V] and the states after the character
    char_model.npz          the text as tokens, `train` [K, 2000] and `test` [M, 2000], and `characters` [V], the vocabulary

It needs PyTorch and ONNX, and takes about three minutes on one core. The same seed gives the same files with the same PyTorch on the
same processor and the same documents.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 2000
"""Characters of a block of text."""
HELD_OUT = 8
"""One in so many blocks is held out."""
CHARACTERS = 95
"""The characters that have a token of their own."""
OTHER = "\ufffd"
"""What stands in the vocabulary for all other characters."""
EMBEDDING = 32
BATCH, STEPS = 32, 96
LEARNING_RATE = 0.004
OPSET = 17

Tokens = npt.NDArray[np.int64]


def text() -> str:
    """Return the documents, one after the other."""
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n\n".join(path.read_text(encoding="utf-8") for path in paths)


def blocks(content: str) -> tuple[Tokens, Tokens, list[str]]:
    """Return the blocks to train and those to test as tokens, and the vocabulary."""
    characters = [*sorted(c for c, _ in Counter(content).most_common(CHARACTERS)), OTHER]
    number = {c: k for k, c in enumerate(characters)}
    tokens = np.array([number.get(c, len(characters) - 1) for c in content])
    whole = tokens[: len(tokens) // BLOCK * BLOCK].reshape(-1, BLOCK)
    held = np.arange(len(whole)) % HELD_OUT == HELD_OUT - 1
    return whole[~held], whole[held], characters


def make_network(vocabulary: int, hidden: int) -> Any:
    """Return the network; `forward` takes tokens [N, T] and, for streams, the states h and c."""
    import torch
    from torch import Tensor, nn

    class CharModel(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
        """The network."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, EMBEDDING)
            self.lstm = nn.LSTM(EMBEDDING, hidden, batch_first=True)
            self.linear = nn.Linear(hidden, vocabulary)

        def forward(self, tokens: Tensor, *state: Tensor) -> Any:
            y, after = self.lstm(self.embedding(tokens), state or None)
            logits = self.linear(y)
            return (logits, *after) if state else logits

    torch.set_num_threads(1)
    return CharModel()


def train(network: Any, tokens: Tokens, steps: int, rng: np.random.Generator) -> None:
    """Train on random pieces of blocks."""
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    loss_of = torch.nn.CrossEntropyLoss()
    start = time.perf_counter()
    for step in range(steps):
        rows, first = rng.integers(0, len(tokens), BATCH), rng.integers(0, BLOCK - STEPS, BATCH)
        piece = torch.from_numpy(np.stack([tokens[r, f : f + STEPS + 1] for r, f in zip(rows, first, strict=True)]))
        loss = loss_of(network(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            bits = float(loss.detach()) / np.log(2)
            print(f"step {step}: {bits:.3f} bits per character, {time.perf_counter() - start:.0f} s", flush=True)


def held_out_bits(network: Any, tokens: Tokens) -> float:
    """Return the bits per character of blocks, each from a zero state; the first character of a block is given."""
    import torch

    with torch.no_grad():
        logits = network(torch.from_numpy(tokens[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(tokens[:, 1:]).flatten())
    return float(loss) / float(np.log(2))


def export(network: Any, hidden: int, folder: Path) -> None:
    """Write the two ONNX files."""
    import torch

    tokens = torch.zeros(2, 5, dtype=torch.int64)
    states = torch.zeros(1, 1, hidden), torch.zeros(1, 1, hidden)
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its age
        torch.onnx.export(
            network, (tokens,), str(folder / "char_model.onnx"), opset_version=OPSET, dynamo=False, input_names=["tokens"],
            output_names=["logits"], dynamic_axes={"tokens": {0: "N", 1: "T"}, "logits": {0: "N", 1: "T"}},
        )  # fmt: skip
        torch.onnx.export(
            network, (tokens[:1, :1], *states), str(folder / "char_model_stream.onnx"), opset_version=OPSET, dynamo=False,
            input_names=["tokens", "h", "c"], output_names=["logits", "h_after", "c_after"],
        )  # fmt: skip


def main() -> int:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Train a small character model on the repository's documents.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--steps", type=int, default=2400, help="steps of training (default: 2400)")
    parser.add_argument("--hidden", type=int, default=160, help="units of the LSTM (default: 160)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import torch

    torch.manual_seed(options.seed)
    training, test, characters = blocks(text())
    network = make_network(len(characters), options.hidden)
    train(network, training, options.steps, np.random.default_rng(options.seed))
    print(f"held out: {held_out_bits(network, test):.3f} bits per character of {test.size:,} characters")
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(options.out / "char_model.npz", train=training, test=test, characters=np.array(characters))
    export(network, options.hidden, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
