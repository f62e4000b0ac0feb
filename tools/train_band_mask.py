"""Train a small band-wise mask network on noisy band magnitudes of spoken digits, and write it as ONNX files.

    python tools/train_band_mask.py --shared DIR --out FOLDER [--variant full] [--epochs 40] [--seed 0]

The network is one of the kind of GTCRN (Rong et al., ICASSP 2024): causal convolutions over time and bands, a dual-path block of recurrent
layers over the bands of a frame and over time for each band, transposed convolutions with skip connections, and a mask times the input. DIR
holds ``data/`` with the files that `band_mask_data` reads. The clips to test decide nothing: no early stopping, no choice of epoch.

The command writes into FOLDER, and prints the improvement over the noisy input, in dB::

    band_mask.onnx         x [N, T, 32] → y [N, T, 32], both axes dynamic, opset 17
    band_mask_stream.onnx  x [N, 1, 32] and the states `enc1`, `enc3`, `h` → y [N, 1, 32] and the states after the frame

Variants that leave a part out go by their own names: ``convt`` has no recurrent layer over bands, ``dual`` no transposed convolutions. They
need PyTorch, ONNX and ONNX Runtime. The same seed gives the same files with the same PyTorch on the same processor.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from band_mask_data import BANDS, Clips, Frames, noise, test_clips, training_clips

VARIANTS = "full", "convt", "dual"
STATES = "enc1", "enc3", "h"
OPSET = 17
BATCH = 32
STEPS = 48
"""Frames of a clip that one step of training reads."""

LEARNING_RATE = 0.004
TOLERANCE = 1e-4
"""Largest accepted difference between PyTorch and ONNX Runtime."""


def make_network(variant: str) -> Any:
    """Return the network of a variant; `forward` takes x [N, T, 32] and, for streams, the states before the frame."""
    import torch
    from torch import Tensor, nn

    stride, narrow = (1, 32) if variant == "dual" else (2, 8)
    inner = 8 if variant == "dual" else 16

    def follow(channels: int) -> Any:
        return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))

    class DualPath(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
        """A recurrent layer over the bands of a frame, and one over time for each band, both with a way around them."""

        def __init__(self) -> None:
            super().__init__()
            if variant != "convt":
                self.bands = nn.GRU(inner, 8, batch_first=True, bidirectional=True)
                self.bands_out = nn.Linear(16, inner)
                self.norm = nn.LayerNorm((narrow, inner))
            self.time = nn.GRU(inner, 16, batch_first=True)
            self.time_out = nn.Linear(16, inner)

        def forward(self, e: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
            e = e.permute(0, 2, 3, 1)  # [N, T, bands, channels]
            n, t = e.shape[0], e.shape[1]
            if variant != "convt":
                within, _ = self.bands(e.reshape(n * t, narrow, inner))
                e = e + self.norm(self.bands_out(within).reshape(n, t, narrow, inner))
            over, h = self.time(e.permute(0, 2, 1, 3).reshape(n * narrow, t, inner), h)
            e = e + self.time_out(over).reshape(n, narrow, t, inner).permute(0, 2, 1, 3)
            return e.permute(0, 3, 1, 2), h

    class BandMask(nn.Module):  # type: ignore[misc]
        """The network."""

        def __init__(self) -> None:
            super().__init__()
            self.enc1, self.after1 = nn.Conv2d(1, 8, (2, 3), stride=(1, stride), padding=(0, 1)), follow(8)
            self.enc2, self.after2 = (
                nn.Conv2d(8, inner, (1, 3), stride=(1, stride), padding=(0, 1), groups=2),
                follow(inner),
            )
            self.enc3, self.after3 = (
                nn.Conv2d(inner, inner, 3, dilation=(2, 1), padding=(0, 1), groups=inner),
                follow(inner),
            )
            self.point, self.after4 = nn.Conv2d(inner, inner, 1), follow(inner)
            self.dual = DualPath()
            if variant == "dual":
                self.dec2: Any = nn.Conv2d(inner, 8, (1, 3), padding=(0, 1))
                self.dec1: Any = nn.Conv2d(8, 1, (1, 3), padding=(0, 1))
            else:
                up = {"stride": (1, 2), "padding": (0, 1), "output_padding": (0, 1)}
                self.dec2 = nn.ConvTranspose2d(inner, 8, (1, 3), groups=2, **up)
                self.dec1 = nn.ConvTranspose2d(8, 1, (1, 3), **up)
            self.after5 = follow(8)

        def states(self, n: int) -> tuple[Tensor, ...]:
            """Return the states before the first frame, [N, channels, steps, bands] of the convolutions and [1, N · bands, 16]."""
            middle = 32 if variant == "dual" else 8
            return torch.zeros(n, 1, 1, BANDS), torch.zeros(n, inner, 4, middle), torch.zeros(1, n * narrow, 16)

        def forward(self, x: Tensor, *given: Tensor) -> Any:
            past1, past3, h = given or (None, None, None)
            e0 = x.unsqueeze(1)
            e0 = nn.functional.pad(e0, (0, 0, 1, 0)) if past1 is None else torch.cat([past1, e0], 2)
            e1 = self.after1(self.enc1(e0))
            e2 = self.after2(self.enc2(e1))
            e3 = nn.functional.pad(e2, (0, 0, 4, 0)) if past3 is None else torch.cat([past3, e2], 2)
            e = self.after4(self.point(self.after3(self.enc3(e3))))
            e, h = self.dual(e, h)
            d = self.after5(self.dec2(e + e2))
            y = torch.sigmoid(self.dec1(d + e1)).squeeze(1) * x
            return (y, e0[:, :, 1:], e3[:, :, 1:], h) if given else y

    return BandMask()


def batches(clips: Sequence[Frames], rng: np.random.Generator) -> Any:
    """Yield noisy and clean frames [N, `STEPS`, 32] of one pass over the clips, and which of them are real, [N, `STEPS`, 1]."""
    import torch

    for chosen in np.array_split(rng.permutation(len(clips)), len(clips) // BATCH):
        clean = np.zeros((len(chosen), STEPS, BANDS), np.float32)
        real = np.zeros((len(chosen), STEPS, 1), np.float32)
        for row, mask, i in zip(clean, real, chosen, strict=True):
            first = int(rng.integers(0, max(1, len(clips[i]) - STEPS + 1)))
            part = clips[i][first : first + STEPS]
            row[: len(part)], mask[: len(part)] = part, 1
        noisy = (clean + noise(clean.shape, rng)) * real
        yield torch.from_numpy(noisy), torch.from_numpy(clean), torch.from_numpy(real)


def train(network: Any, clips: Sequence[Frames], epochs: int, seed: int) -> None:
    """Train by Adam with one cycle of the rate of learning; the loss is the squared error over that of the clean magnitudes."""
    import torch

    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = epochs * (len(clips) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    network.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for noisy, clean, real in batches(clips, rng):
            loss = (((network(noisy) - clean) * real) ** 2).sum() / (clean**2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if epoch % 5 == 0 or epoch == epochs:
            decibels = -10 * np.log10(total / (len(clips) // BATCH))
            print(f"epoch {epoch:3d}/{epochs}  {decibels:.2f} dB on the clips to train", flush=True)
    network.eval()


def export(network: Any, path: Path, stream: bool) -> None:
    """Write the network, or its form of one frame per call, as ONNX."""
    import onnx
    import torch

    names = ["x", *(STATES if stream else ())]
    outputs = ["y", *(f"{name}_out" for name in STATES if stream)]
    frames = {0: "N"} if stream else {0: "N", 1: "T"}
    axes = dict.fromkeys(("x", "y"), frames)
    axes |= {name: {1: "NB"} if name.startswith("h") else {0: "N"} for name in (*names, *outputs) if name not in axes}
    example = torch.zeros(2, 1 if stream else 5, BANDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        torch.onnx.export(
            network, (example, *(network.states(2) if stream else ())), str(path), input_names=names, output_names=outputs,
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    onnx.checker.check_model(str(path), full_check=True)


def onnx_estimates(path: Path, clips: Clips) -> list[Frames]:
    """Return what ONNX Runtime makes of each noisy clip alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(["y"], {"x": clip[None]})[0][0] for clip in clips.noisy]


def onnx_stream(path: Path, network: Any, clip: Frames) -> Frames:
    """Return what ONNX Runtime makes of a noisy clip, frame by frame."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    states = [value.numpy() for value in network.states(1)]
    outputs, found = ["y", *(f"{name}_out" for name in STATES)], []
    for frame in clip:
        feed = dict(zip(STATES, states, strict=True))
        y, *states = session.run(outputs, {"x": frame[None, None], **feed})
        found.append(y[0, 0])
    return np.array(found)


def check(network: Any, whole: Path, stream: Path, clips: Clips) -> None:
    """Refuse files in which ONNX Runtime does not give PyTorch's results."""
    import torch

    with torch.no_grad():
        want = [network(torch.from_numpy(clip[None])).numpy()[0] for clip in clips.noisy[:8]]
    got = {
        "whole clips": onnx_estimates(whole, Clips(clips.noisy[:8], clips.clean[:8])),
        "frames one by one": [onnx_stream(stream, network, clip) for clip in clips.noisy[:8]],
    }
    for how, estimates in got.items():
        difference = max(float(np.abs(a - b).max()) for a, b in zip(want, estimates, strict=True))
        if difference > TOLERANCE:
            raise SystemExit(
                f"error: ONNX Runtime differs from PyTorch by {difference:.1e} over {how}, expected at most {TOLERANCE:g}"
            )


def main() -> int:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Train a band-wise mask network and write it as ONNX files.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the ONNX files")
    parser.add_argument(
        "--variant", choices=VARIANTS, default="full", help="what parts the network has (default: full)"
    )
    parser.add_argument("--epochs", type=int, default=40, help="passes over the clips to train (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the noise (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    options = parser.parse_args()
    try:
        import torch
    except ImportError as error:
        print(f"error: PyTorch is needed to train: pip install 'qrnn[train]' ({error})", file=sys.stderr)
        return 2

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    data, name = options.shared / "data", "band_mask" if options.variant == "full" else f"band_mask_{options.variant}"
    network = make_network(options.variant)
    train(network, training_clips(data), options.epochs, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    whole = options.out / f"{name}.onnx"
    export(network, whole, False)
    stream = options.out / f"{name}_stream.onnx"
    export(network, stream, True)
    clips = test_clips(data)
    check(network, whole, stream, clips)
    noisy, estimates = clips.ratio(clips.noisy), onnx_estimates(whole, clips)
    print(
        f"{noisy:.2f} dB noisy, {clips.ratio(estimates):.2f} dB by the network: {clips.improvement(estimates):.2f} dB improvement"
    )
    for path in (whole, stream):
        print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
