"""Write the inputs of the shared folder's whole models as windows of one length, for tools/bench_models.py.

    python tools/shared_windows.py DIR FOLDER [--steps 50]

For each model of DIR/models/whole whose data are known (tools/shared_cases.py), FOLDER/NAME.npz has its calibration sequences end to end, cut
into windows of so many steps; sequences of a model whose file fixes the number of steps stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from shared_cases import data_of

import qrnn
from qrnn.onnx_import.load import load_onnx


def windows(values: Any, lengths: Any, steps: int) -> Any:
    """Return sequences [N, T, F], of the given lengths, end to end and cut into [N', steps, F]."""
    joined = np.concatenate([row[:length] for row, length in zip(values, lengths, strict=True)])
    count = len(joined) // steps
    return joined[: count * steps].reshape(count, steps, *joined.shape[1:])


def inputs_of(path: Path, shared: Path, steps: int) -> Mapping[str, Any] | None:
    """Return the windows of a model's inputs by name; None for a model that is refused, or without known data."""
    try:
        model = load_onnx(path)
    except qrnn.QrnnError:
        return None
    halves = data_of(model, path, shared)
    if halves is None:
        return None
    calibration = dict(halves[0])
    lengths = calibration.pop("lengths", None)
    if lengths is None:
        return calibration
    return {name: windows(values, lengths, steps) for name, values in calibration.items()}


def main(arguments: list[str]) -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Cut the shared folder's data into windows.")
    parser.add_argument("shared", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((options.shared / "models" / "whole").glob("*.onnx")):
        found = inputs_of(path, options.shared, options.steps)
        if found is None:
            print(f"{path.stem}: left out")
            continue
        np.savez(
            options.folder / f"{path.stem}.npz", **{name: values.astype(np.float32) for name, values in found.items()}
        )
        print(f"{path.stem}: {', '.join(f'{name} {list(values.shape)}' for name, values in found.items())}")


if __name__ == "__main__":
    main(sys.argv[1:])
