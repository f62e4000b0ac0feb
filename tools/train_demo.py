"""Train the bundled example: a small GRU that reads scikit-learn's handwritten digits row by row.

Each 8x8 image is a sequence of 8 steps of 8 features (pixel value / 16). The model is GRU(8→32) and Linear(32→10) with logits
at every step; the answer is the largest logit of the last step. The images are split once and for all, stratified by label, into
1437 training and 360 test images; ``--seed`` changes the training and leaves the split alone. The test images decide nothing:
no early stopping, no choice of epoch.

The command writes three files::

    digits_gru.onnx         x [batch, time, 8] → logits [batch, time, 10], dynamic batch and time, opset 17
    digits_calibration.npz  x [128, 8, 8] float32, from the training images
    digits_test.npz         x [360, 8, 8] float32 and labels [360] int64

They are written under temporary names, checked in ONNX Runtime, and only then renamed. The accuracies are printed::

    pip install 'qrnn[train,ort]'
    python tools/train_demo.py

The same seed gives the same files with the same PyTorch on the same processor; elsewhere the weights differ slightly.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

HIDDEN = 32
CLASSES = 10
STEPS = 8
FEATURES = 8
OPSET = 17

TEST_IMAGES = 360
CALIBRATION_IMAGES = 128
SPLIT_SEED = 0

BATCH = 32
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-5
SHIFT_PROBABILITY = 0.2  # of one pixel in each of the four directions
NOISE = 0.1  # standard deviation, in units of a full pixel
LOSS_POWER = 3  # the loss of step t (1..8) weighs t to this power

MODEL_NAME = "digits_gru.onnx"
CALIBRATION_NAME = "digits_calibration.npz"
TEST_NAME = "digits_test.npz"
LOGITS_TOLERANCE = 1e-4  # largest accepted difference between PyTorch and ONNX Runtime

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The images as sequences ``[n, 8, 8]`` in 0..1, and their labels."""

    train_x: Images
    train_labels: Labels
    calibration_x: Images
    test_x: Images
    test_labels: Labels


def load_split() -> Split:
    """Load the digits and split them, always in the same way."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = (digits.images / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_labels, test_labels = train_test_split(
        x, labels, test_size=TEST_IMAGES, stratify=labels, random_state=SPLIT_SEED
    )
    calibration_x, _ = train_test_split(
        train_x, train_size=CALIBRATION_IMAGES, stratify=train_labels, random_state=SPLIT_SEED
    )
    return Split(train_x, train_labels, calibration_x, test_x, test_labels)


def make_model() -> torch.nn.Module:
    """Return a GRU with a linear layer on every step's output."""
    from torch import Tensor, nn

    class DigitsGru(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
            self.head = nn.Linear(HIDDEN, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            outputs, _ = self.gru(x)
            return self.head(outputs)

    return DigitsGru()


def augment(x: torch.Tensor) -> torch.Tensor:
    """Shift each image by up to one pixel and add noise, staying in 0..1."""
    import torch

    n = x.shape[0]
    shifted = torch.nn.functional.pad(x, (1, 1, 1, 1)).unfold(1, STEPS, 1).unfold(2, FEATURES, 1)  # [n, 3, 3, 8, 8]
    odds = torch.tensor([SHIFT_PROBABILITY, 1.0 - 2.0 * SHIFT_PROBABILITY, SHIFT_PROBABILITY])
    rows, columns = torch.multinomial(odds, 2 * n, replacement=True).reshape(2, n)
    shifted = shifted[torch.arange(n), rows, columns]
    return (shifted + NOISE * torch.randn_like(shifted)).clamp(0.0, 1.0)


def train(model: torch.nn.Module, split: Split, epochs: int) -> None:
    """Train by Adam with a cosine schedule; the loss is cross entropy at every step, the last steps weighing most."""
    import torch

    x = torch.from_numpy(split.train_x)
    labels = torch.from_numpy(split.train_labels)
    batches = -(-len(x) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    step_weights = torch.arange(1, STEPS + 1, dtype=torch.float32) ** LOSS_POWER
    step_weights /= step_weights.sum()

    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for chosen in torch.randperm(len(x)).split(BATCH):
            logits = model(augment(x[chosen]))
            targets = labels[chosen, None].expand(-1, STEPS)
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
            loss = (losses @ step_weights).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if epoch % 10 == 0 or epoch == epochs:
            print(f"epoch {epoch:3d}/{epochs}  loss {total / len(x):.4f}", flush=True)
    model.eval()


def export(model: torch.nn.Module, path: Path) -> None:
    """Write the model as ONNX with dynamic batch and time."""
    import onnx
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future and of a fixed batch size; checked below
        torch.onnx.export(
            model,
            (torch.zeros(1, STEPS, FEATURES),),
            str(path),
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": {0: "batch", 1: "time"}, "logits": {0: "batch", 1: "time"}},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def accuracy(logits: Images, labels: Labels) -> float:
    """Return the share of sequences whose largest logit at the last step is the label."""
    return float(np.mean(np.argmax(logits[:, -1], axis=-1) == labels))


def torch_logits(model: torch.nn.Module, x: Images) -> Images:
    """Return the logits of the PyTorch model."""
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(x)).numpy(), dtype=np.float32)


def onnx_logits(path: Path, x: Images) -> Images:
    """Return the logits of the ONNX model by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"x": x})[0], dtype=np.float32)


def check_export(model: torch.nn.Module, path: Path, x: Images) -> None:
    """Compare ONNX Runtime with PyTorch on several batch sizes and lengths."""
    for part in (x, x[:1], x[:3, : STEPS // 2], x[:2, :1]):
        difference = float(np.max(np.abs(onnx_logits(path, part) - torch_logits(model, part))))
        if difference > LOGITS_TOLERANCE:
            raise RuntimeError(
                f"{MODEL_NAME}: ONNX Runtime differs from PyTorch by {difference:g} in logits on input {part.shape}, "
                f"expected at most {LOGITS_TOLERANCE:g}; nothing was written"
            )


def make_example(out: Path, epochs: int, seed: int) -> None:
    """Train, write the three files into ``out`` and print the accuracies."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)

    split = load_split()
    model = make_model()
    train(model, split, epochs)

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".digits-", dir=out) as temporary:
        made = Path(temporary)
        export(model, made / MODEL_NAME)
        check_export(model, made / MODEL_NAME, split.test_x)
        np.savez_compressed(made / CALIBRATION_NAME, x=split.calibration_x)
        np.savez_compressed(made / TEST_NAME, x=split.test_x, labels=split.test_labels)

        n = len(split.test_labels)
        print(f"train accuracy, PyTorch:      {accuracy(torch_logits(model, split.train_x), split.train_labels):.2%}")
        for runtime, logits in (
            ("PyTorch:     ", torch_logits(model, split.test_x)),
            ("ONNX Runtime:", onnx_logits(made / MODEL_NAME, split.test_x)),
        ):
            share = accuracy(logits, split.test_labels)
            print(f"test accuracy,  {runtime} {share:.2%} ({round(share * n)} of {n})")

        for name in (MODEL_NAME, CALIBRATION_NAME, TEST_NAME):
            size = (made / name).stat().st_size
            os.replace(made / name, out / name)
            print(f"{out / name}: {size} bytes")


def missing_package() -> str | None:
    """Return the first package that this tool needs and that is not installed, with its extra, or None."""
    needed: tuple[tuple[str, str, str], ...] = (
        ("torch", "PyTorch", "train"),
        ("sklearn", "scikit-learn", "train"),
        ("onnxruntime", "ONNX Runtime", "ort"),
    )
    for module, name, extra in needed:
        try:
            __import__(module)
        except ImportError as error:
            return f"{name} is needed to train the example: pip install 'qrnn[{extra}]' ({error})"
    return None


def positive(text: str) -> int:
    """Parse a positive whole number of the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Train the bundled example model and write it with its data.")
    default_out = Path(__file__).resolve().parent.parent / "qrnn" / "examples"
    parser.add_argument("--out", type=Path, default=default_out, metavar="DIR", help="folder (default: qrnn/examples)")
    parser.add_argument("--epochs", type=positive, default=80, help="passes over the training images (default: 80)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training, not of the split (default: 0)")
    options: Any = parser.parse_args(arguments)

    missing = missing_package()
    if missing is not None:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    make_example(options.out, options.epochs, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
