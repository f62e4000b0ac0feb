"""Measure how long the first calls of a model wait for compiled code, with an empty cache and with what an earlier process kept.

    python tools/compile_times.py [MODEL.qrnn] [--rounds 5] [--kernels]

Each round is two processes with a folder of their own: in the first it is empty, in the second it is what the first one left. The figures
of a call are the least of all rounds: its wall time, and its processor time beside it, since other work on the machine stretches the one
and hardly the other; then come the kernels that were compiled for it. The bundled example is converted where no model is given. All calls
are the public ones, so the tool runs with older revisions too, by ``PYTHONPATH``. ``--kernels`` prints what each kernel takes instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

IMPORTED = time.perf_counter(), time.process_time()


def measure(model: Path) -> None:
    """Print each call's wall time, processor time and new files in the cache, as JSON; this runs in a process of its own."""
    folder, found = Path(os.environ["QRNN_CACHE_DIR"]), []
    import numpy as np

    import qrnn

    session = qrnn.Session(qrnn.load(model))
    rng = np.random.default_rng(0)
    shapes = {i.name: i.shape for i in session.model.inputs}

    def data(size: int, steps: int | None = 8, kind: Any = np.float32) -> dict[str, Any]:
        lead = (size,) if steps is None else (size, steps)
        return {name: rng.normal(size=(*lead, *shape)).astype(kind) for name, shape in shapes.items()}

    def files() -> int:
        return sum(path.is_file() for path in folder.rglob("*"))

    def note(name: str, call: Callable[[], Any], began: tuple[float, float] | None = None) -> None:
        before = files()
        start = began or (time.perf_counter(), time.process_time())
        call()
        took = time.perf_counter() - start[0], time.process_time() - start[1]
        found.append((name, *took, files() - before))

    def twice(call: Callable[[Any], Any], given: Any) -> None:
        call(given)
        call(given)

    def pool_step() -> None:
        pool = session.pool()
        pool.step([pool.open() for _ in range(8)], data(8, None))

    note("first result, with imports", lambda: session.run(data(1)), IMPORTED)
    note("second", lambda: session.run(data(1)))
    note("third", lambda: session.run(data(1)))
    for name, size, steps, kind in (
        ("float64", 1, 8, np.float64),
        ("batch 2", 2, 8, np.float32),
        ("batch 8", 8, 8, np.float32),
        ("batch 256", 256, 8, np.float32),
        ("500 steps", 1, 500, np.float32),
    ):
        note(name, partial(twice, session.run, data(size, steps, kind)))
    note("padded", lambda: session.run(data(8), lengths=np.arange(1, 9)))
    note("step", partial(twice, session.step, data(1, None)))
    note("stream", lambda: session.stream().step(data(1, None, np.float64)))
    note("pool", pool_step)
    print(json.dumps(found))


def rounds(model: Path, count: int) -> None:
    """Measure in fresh processes and print the least of each figure."""
    tables: list[list[list[Any]]] = [[], []]
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"QRNN_CACHE_DIR": str(Path(folder) / "cache")}
            for table in tables:
                command = [sys.executable, __file__, str(model), "--one"]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                table.append(json.loads(done.stdout))
    print(f"{'call':28} {'empty cache':>20} {'compiled':>8}   {'as kept':>20}")
    for row in zip(*tables[0], *tables[1], strict=True):
        cold, kept = row[:count], row[count:]
        figures = [f"{min(r[1] for r in part):7.3f} s {min(r[2] for r in part):7.3f} s" for part in (cold, kept)]
        print(f"{row[0][0]:28} {figures[0]:>20} {cold[0][3]:8}   {figures[1]:>20}")


def kernels(model: Path) -> None:
    """Print what each kernel of the model takes: Numba, which holds the GIL, and LLVM, which does not; and the size of its code."""
    from qrnn.backends.cpu import jit, native
    from qrnn.backends.cpu.engine import CpuEngine
    from qrnn.backends.cpu.warm_up import wanted_by
    from qrnn.model.file import load

    print(f"{'kernel':20} {'Numba':>8} {'LLVM':>8} {'bitcode':>9} {'object':>8}")
    for wanted in wanted_by(CpuEngine(load(model))):
        start = time.thread_time()
        unit = jit.unit_of(wanted)
        between = time.thread_time()
        content = native.emit(unit, wanted.target)
        end = time.thread_time()
        name = wanted.kernel.variant[0] if wanted.kernel.variant else wanted.kernel.name
        sizes = f"{len(unit.bitcode):9} {len(content):8}"
        print(f"{name:20} {between - start:6.3f} s {end - between:6.3f} s {sizes}")


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            from qrnn.examples import digits_calibration, digits_model

            model = Path(folder) / "digits_gru.qrnn"
            command = [sys.executable, "-m", "qrnn", "convert", str(digits_model()), "-o", str(model), "--calibration"]
            subprocess.run([*command, str(digits_calibration())], check=True, stdout=subprocess.DEVNULL)
        if options.kernels:
            kernels(model)
        else:
            rounds(model, options.rounds)


if __name__ == "__main__":
    main()
