"""Measure the memory that ``qrnn run`` and ``qrnn compare`` hold at most on files of several sizes, and write the section of a page.

    python tools/measure_memory.py [--sizes 100,1000,4000] [--features 64] [--folder DIR] [--output docs/large_data.md]

Each file is an .npz archive of random sequences, and each command a process of its own, whose peak is VmHWM of /proc, so Linux alone.
The compiler takes memory too, once on a machine. A command that compiled is therefore run again, and what it held the first time is named by
itself. ``--sizes`` are in MB. The model is the bundled digits' GRU with ``--features`` inputs in the place of its 8, whose weights are shared
out over them: most of the time of ``compare`` goes into the float64 equations of every step, of which a megabyte then has fewer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from page_section import MEMORY, with_section
from provenance import when

import qrnn
from qrnn.data_files.sinks import open_sink
from qrnn.examples import digits_model

SEQUENCES, STEPS, OWN_FEATURES = 1024, 100, 8
"""Sequences that are written at a time, the steps of each, and the features of the bundled model."""
SMALL = "1"
"""The size in MB of the file with which the others are compared."""

CHILD = """
import sys
from qrnn.cli import main
sys.argv = ["qrnn", *sys.argv[1:]]
try:
    main()
except SystemExit as done:
    if done.code:
        raise
found = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print("peak", found[0].split()[1], file=sys.stderr)
"""


def sequences(features: int) -> npt.NDArray[np.float32]:
    """Return random sequences about as large as the digits' values."""
    drawn = np.random.default_rng(0).normal(5.0, 6.0, (SEQUENCES, STEPS, features))
    return drawn.astype(np.float32)


def write_model(path: Path, features: int) -> None:
    """Write the bundled model with so many features, a multiple of its own: each of its weights of the input is shared out over them."""
    model, copies = onnx.load(digits_model()), features // OWN_FEATURES
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = features
    (node,) = (node for node in model.graph.node if node.op_type == "GRU")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    shared = np.tile(numpy_helper.to_array(weight) / copies, (1, 1, copies))
    weight.CopyFrom(numpy_helper.from_array(shared, weight.name))
    onnx.save(model, path)


def write_data(path: Path, megabytes: float, features: int) -> None:
    """Write an .npz file of about so many megabytes of float32, which is not compressed."""
    size = max(1, int(megabytes * 1e6 / (4 * STEPS * features)))
    piece = sequences(features)
    plain = path.with_suffix(".npy")
    with open_sink(plain, size) as sink:
        for start in range(0, size, SEQUENCES):
            sink.write({"x": piece[: min(SEQUENCES, size - start)]})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(plain, "x.npy")
    plain.unlink()


class Peaks:
    """The most memory in bytes that commands held, and that those held which compiled."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        cache.mkdir(mode=0o700)
        self.compiling = 0

    def peak(self, *arguments: str) -> int:
        """Return the most memory in bytes that a command held once its code was compiled."""
        while True:
            kept = self._kept()
            held = self._once(*arguments)
            if self._kept() == kept:
                return held
            self.compiling = max(self.compiling, held)

    def _once(self, *arguments: str) -> int:
        command, where = [sys.executable, "-c", CHILD, *arguments], os.environ | {"QRNN_CACHE_DIR": str(self._cache)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=where)
        return 1024 * int(done.stderr.rsplit("peak", 1)[1])

    def _kept(self) -> int:
        return sum(1 for _ in self._cache.rglob("*.o"))


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,1000")
    parser.add_argument("--features", type=int, default=OWN_FEATURES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.features < OWN_FEATURES or given.features % OWN_FEATURES:
        parser.error(f"--features {given.features}: expected a multiple of {OWN_FEATURES}")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        text = _measured(Path(name), given.sizes.split(","), given.features)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(with_section(given.output.read_text("utf-8"), MEMORY, text), "utf-8")


def _measured(folder: Path, sizes: list[str], features: int) -> str:
    source, model, data, out = (folder / name for name in ("m.onnx", "m.qrnn", "x.npz", "y.npy"))
    write_model(source, features)
    qrnn.save(qrnn.quantize(qrnn.load_onnx(source), {"x": sequences(features)[:64]}), model)
    run = ("run", str(model), "--input", str(data), "-o", str(out), "--quiet")
    compare = ("compare", str(source), str(model), "--data", str(data), "--quiet")
    peaks, rows = Peaks(folder / "cache"), []
    for size in sorted({SMALL, *sizes}, key=float):
        write_data(data, float(size), features)
        ran = peaks.peak(*run)
        out.unlink()
        rows.append(f"| {float(size):,.0f} MB | {_megabytes(ran)} | {_megabytes(peaks.peak(*compare))} |")
        print(rows[-1], file=sys.stderr, flush=True)
    command = f"python tools/measure_memory.py --sizes {','.join(sizes)} --features {features}"
    return "\n".join(
        [
            MEMORY,
            "",
            f"Made by `{command}` on {when()}: the most memory that each",
            f"command held (VmHWM), with all libraries and compiled code, on .npz files of sequences [{STEPS}, {features}] for the bundled",
            f"digits' GRU of 32 units, with {features} inputs; outputs went to an .npy file.",
            "",
            "| data | `qrnn run` | `qrnn compare` |",
            "|---|---|---|",
            *rows,
            "",
            f"A file of {SMALL} MB is one piece; from some 4 MB on the pieces are as large as they get. A command that has to compile",
            f"holds more once: here up to {_megabytes(peaks.compiling)}, whatever the size of the data.",
        ]
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
