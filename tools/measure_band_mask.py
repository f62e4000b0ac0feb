"""Measure the default conversion of band-wise mask networks: the improvement by float and by integers, and streams beside whole clips.

    python tools/measure_band_mask.py --shared DIR MODEL.onnx [MODEL.onnx ...] [--backend cpu]

The models are those that ``tools/train_band_mask.py`` writes, or others of x [N, T, 32] → y [N, T, 32] over the same magnitudes. The
improvement is the ratio of signal to error over the 150 clips to test, each alone from a zero state, less that of their noisy input; float
is that of ONNX Runtime. Calibration is 200 of the clips to train. Streams get every clip frame by frame, and have to give the bits of whole
clips. The command fails where they do not, and where integers lose more than `LARGEST_LOSS` of what float improves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from band_mask_data import Clips, Frames, calibration_clips, test_clips

import qrnn

LARGEST_LOSS = 0.2
"""Decibels that integers may lose of what float improves."""

CALIBRATION_CLIPS = 200
CALIBRATION_SEED = 1


def float_estimates(path: Path, clips: Clips) -> list[Frames]:
    """Return what ONNX Runtime makes of each noisy clip alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(None, {"x": clip[None]})[0][0] for clip in clips.noisy]


def stream_estimates(session: qrnn.Session, name: str, clips: Clips) -> list[Frames]:
    """Return what a stream for each clip gives for its frames, with what comes when the streams end."""
    found: list[Frames] = []
    for clip in clips.noisy:
        stream, rows = session.stream(), []
        for frame in clip:
            outputs = stream.step({"x": frame[None]})
            if stream.lengths[name][0]:
                rows.append(outputs[name][0])
        rest = stream.finish()
        found.append(np.array([*rows, *rest.outputs[name][0, : rest.lengths[name][0]]]))
    return found


def measure(path: Path, data: Path, backend: str) -> bool:
    """Print the figures of one model, and return whether they are as they should be."""
    clips = test_clips(data)
    model = qrnn.load_onnx(path)
    (name,) = (output.name for output in model.outputs)
    x, lengths = calibration_clips(data, CALIBRATION_CLIPS, CALIBRATION_SEED).padded()
    session = qrnn.Session(qrnn.quantize(model, {"x": x, "lengths": lengths}), backend=backend)
    x, lengths = clips.padded()
    y = session.run({"x": x}, lengths=lengths, real="float64").outputs[name]
    whole = [row[:length] for row, length in zip(y, lengths, strict=True)]
    frames = stream_estimates(session, name, clips)
    same = sum(np.array_equal(a, b) for a, b in zip(whole, frames, strict=True))
    real, integers = clips.improvement(float_estimates(path, clips)), clips.improvement(whole)
    print(
        f"{path.name}: float improves by {real:.2f} dB, integers by {integers:.2f} dB ({integers - real:+.2f}); "
        f"streams have the bits of whole clips in {same} of {len(whole)}",
        flush=True,
    )
    return same == len(whole) and integers >= real - LARGEST_LOSS


def main() -> int:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure the default conversion of band-wise mask networks.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--backend", default="cpu", help="backend that runs the integers (default: cpu)")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    options = parser.parse_args()
    results = [measure(path, options.shared / "data", options.backend) for path in options.models]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
