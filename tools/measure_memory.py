"""Measure the memory that ``qrnn run`` and ``qrnn compare`` hold at most on files of several sizes, and write the section of a page.

    python tools/measure_memory.py [--sizes 100,1000,4000] [--compare 100,1000] [--folder DIR] [--output docs/large_data.md]

Each file is an .npz archive of random sequences of the bundled digits' shape, and each command a process of its own, whose peak (VmHWM of
/proc, so Linux alone) is what it held beyond the same command on one megabyte. ``--sizes`` and ``--compare`` are in MB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from page_section import MEMORY, with_section
from provenance import when

import qrnn
from qrnn.data_files.sinks import open_sink
from qrnn.examples import digits_model

SEQUENCES, STEPS, FEATURES = 1024, 100, 8
"""Sequences that are written at a time, and the shape of each."""
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


def sequences() -> npt.NDArray[np.float32]:
    """Return random sequences about as large as the digits' values."""
    drawn = np.random.default_rng(0).normal(5.0, 6.0, (SEQUENCES, STEPS, FEATURES))
    return drawn.astype(np.float32)


def write_data(path: Path, megabytes: float) -> None:
    """Write an .npz file of about so many megabytes of float32, which is not compressed."""
    size = max(1, int(megabytes * 1e6 / (4 * STEPS * FEATURES)))
    piece = sequences()
    plain = path.with_suffix(".npy")
    with open_sink(plain, size) as sink:
        for start in range(0, size, SEQUENCES):
            sink.write({"x": piece[: min(SEQUENCES, size - start)]})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(plain, "x.npy")
    plain.unlink()


def peak(*arguments: str) -> int:
    """Return the most memory in bytes that a command held."""
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True)
    return 1024 * int(done.stderr.rsplit("peak", 1)[1])


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,1000")
    parser.add_argument("--compare", default="100")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        text = _measured(Path(name), given.sizes.split(","), given.compare.split(","))
    if given.output is None:
        print(text)
    else:
        given.output.write_text(with_section(given.output.read_text("utf-8"), MEMORY, text), "utf-8")


def _measured(folder: Path, sizes: list[str], compared: list[str]) -> str:
    source, model, data, out = digits_model(), folder / "m.qrnn", folder / "x.npz", folder / "y.npy"
    qrnn.save(qrnn.quantize(qrnn.load_onnx(source), {"x": sequences()[:64]}), model)
    write_data(data, float(SMALL))
    peak(
        "run", str(model), "--input", str(data), "-o", str(out), "--quiet"
    )  # code is compiled once, and counts in no row
    peak("compare", str(source), str(model), "--data", str(data), "--quiet")
    rows = []
    for size in sorted({SMALL, *sizes, *compared}, key=float):
        write_data(data, float(size))
        ran = held = 0
        if size in (SMALL, *sizes):
            ran = peak("run", str(model), "--input", str(data), "-o", str(out), "--quiet")
            out.unlink()
        if size in (SMALL, *compared):
            held = peak("compare", str(source), str(model), "--data", str(data), "--quiet")
        rows.append(f"| {float(size):,.0f} MB | {_megabytes(ran)} | {_megabytes(held)} |")
        print(rows[-1], file=sys.stderr, flush=True)
    command = f"python tools/measure_memory.py --sizes {','.join(sizes)} --compare {','.join(compared)}"
    return "\n".join(
        [
            MEMORY,
            "",
            f"Made by `{command}` on {when()}: the most memory that each",
            f"command held (VmHWM), with all libraries and compiled code, on .npz files of sequences [{STEPS}, {FEATURES}] for the bundled",
            "digits' GRU; outputs went to an .npy file.",
            "",
            "| data | `qrnn run` | `qrnn compare` |",
            "|---|---|---|",
            *rows,
        ]
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count else "not measured"


if __name__ == "__main__":
    main()
