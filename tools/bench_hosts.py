"""Measure a step of exported C on this machine beside the compiled step of the Python engine, and write docs/benchmarks/hosts.md.

    python tools/bench_hosts.py [--cells lstm gru] [--hidden 64 128 256] [--rounds 200] [--output docs/benchmarks/hosts.md]

One stream takes a step with one thread, from integers to integers: the engine by the compiled calls of its layers, made by a loop in C without
Python between, the C by the libraries of `qrnn export --library`, called by the same loop, and WebAssembly by a loop in Node.js. All of them
are compared with the reference, bit for bit, before anything is timed. Rounds alternate between all of them, each with a sample of less
than a millisecond, and the medians count, so that disturbances of the machine meet all alike.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np
from bench_workloads import GATES, Cell, inputs, network
from provenance import when

import qrnn
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.isa import available_isas
from qrnn.devices.hosts import OPTIMIZATION, find_host_compiler, host_of, runs_here
from qrnn.devices.library import export_library
from qrnn.errors import MissingToolError
from qrnn.running.bench import Others, processor
from qrnn.system.atomic import write_atomically

VERIFIED_STEPS = 30

SAMPLE_SECONDS = 0.0004
"""So short that the system seldom takes the core away within a sample."""

WARM_UPS = 20
"""How often an engine of WebAssembly is given steps and time to compile."""

NATIVE, WASM = "x86-64", "wasm32-simd128"

PAIRS = (("avx512vnni", "vnni"), ("avx2", "avx2"))
"""An instruction set of the engine, and the kernels of C with the same instructions."""

TIMER = """
#include <stdint.h>
#include <time.h>

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ns of so many rounds through calls, each a function and its argument */
int64_t time_calls(const int64_t *calls, int64_t number, int64_t count)
{
    const int64_t begin = now();
    for (int64_t k = 0; k < count; k++) {
        for (int64_t i = 0; i < number; i++) {
            ((void (*)(int64_t))(intptr_t)calls[2 * i])(calls[2 * i + 1]);
        }
    }
    return now() - begin;
}

/* ns of so many steps of a library */
int64_t time_step(void (*step)(void *, const int16_t *, int16_t *), void *state, const int16_t *x, int16_t *y, int64_t count)
{
    const int64_t begin = now();
    for (int64_t k = 0; k < count; k++) {
        step(state, x, y);
    }
    return now() - begin;
}
"""


@dataclass(frozen=True)
class Row:
    """The medians of a step in ns, by who takes it."""

    cell: Cell
    hidden: int
    nanoseconds: Mapping[str, float]

    def ratio(self, one: str, other: str) -> float | None:
        """Return how many times as long ``one`` takes; None where one of them is not here."""
        if one not in self.nanoseconds or other not in self.nanoseconds:
            return None
        return self.nanoseconds[one] / self.nanoseconds[other]


def pointer(array: Any) -> ctypes.c_void_p:
    """Return the address of an array for ctypes."""
    return ctypes.c_void_p(array.ctypes.data)


def timer(folder: Path) -> ctypes.CDLL:
    """Return the functions that time."""
    source = folder / "timer.c"
    source.write_text(TIMER, encoding="utf-8")
    cc = find_host_compiler(qrnn.load_target(NATIVE)).path
    subprocess.run([cc, "-O2", "-shared", "-fPIC", str(source), "-o", str(folder / "timer.so")], check=True)
    found = ctypes.CDLL(str(folder / "timer.so"))
    found.time_calls.restype = found.time_step.restype = ctypes.c_int64
    return found


def engines(model: Any, x: Any, want: Any, clock: ctypes.CDLL) -> dict[str, Callable[[int], int]]:
    """Return what times the engine's steps, by instruction set, after their outputs were compared."""
    found: dict[str, Callable[[int], int]] = {}
    for isa, _ in PAIRS:
        if isa not in available_isas():
            continue
        session = qrnn.Session(model, threads=1, isa=isa)
        stream = session.stream(integers=True)
        agree(isa, np.array([stream.step({"x": values[None]})["y"][0] for values in x]), want)
        engine = session.engine
        assert isinstance(engine, CpuEngine)
        rows = engine.streams(1)
        assert rows is not None
        calls = rows.layer_calls()
        calls.run(0, 1)
        addresses = np.ascontiguousarray(calls.addresses)
        kept = (session, rows, calls)  # as long as their addresses are called

        def run(count: int, addresses: Any = addresses, kept: Any = kept) -> int:
            return int(clock.time_calls(pointer(addresses), ctypes.c_int64(len(addresses)), ctypes.c_int64(count)))

        found[f"engine {isa}"] = run
    return found


def libraries(model: Any, x: Any, want: Any, clock: ctypes.CDLL, folder: Path) -> dict[str, Callable[[int], int]]:
    """Return what times the steps of C, by kernels, after their outputs were compared."""
    found: dict[str, Callable[[int], int]] = {}
    source = export_library(model, qrnn.load_target(NATIVE), folder / "native", "net")
    library = ctypes.CDLL(str(folder / "native" / "lib" / "libqrnn_net.so"))
    library.net_state_size.restype = ctypes.c_size_t
    for kernels in (v.kernels for v in source.variants if runs_here(host_of(v.target))):
        state = np.zeros(library.net_state_size() // 8 + 1, np.uint64)
        library.net_init(pointer(state))
        assert library.net_use_kernels(pointer(state), kernels.encode()) == 0
        frame, y = np.array(x[0]), np.zeros(want.shape[1], np.int16)
        got = np.zeros_like(want)
        for step, values in enumerate(x):
            frame[...] = values
            library.net_step(pointer(state), pointer(frame), pointer(y))
            got[step] = y
        agree(kernels, got, want)

        def run(count: int, state: Any = state, frame: Any = frame, y: Any = y) -> int:
            step = ctypes.cast(library.net_step, ctypes.c_void_p)
            return int(clock.time_step(step, pointer(state), pointer(frame), pointer(y), ctypes.c_int64(count)))

        found[f"C {kernels}"] = run
    return found


class Wasm:
    """The model as WebAssembly in a process of Node.js that takes steps when it is asked to."""

    def __init__(self, model: Any, folder: Path) -> None:
        export_library(model, qrnn.load_target(WASM), folder / "wasm", "net")
        program = Path(__file__).with_name("bench_hosts.mjs")
        command = [str(shutil.which("node")), str(program), str(folder / "wasm" / "net.mjs")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, word: str, what: Any) -> Any:
        """Return the answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word} {json.dumps(what)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


def agree(who: str, got: Any, want: Any) -> None:
    """End the program where outputs are not the reference's."""
    if not np.array_equal(got, want):
        raise SystemExit(f"{who}: its outputs differ from the reference; nothing was timed")


def measure(cell: Cell, hidden: int, rounds: int, clock: ctypes.CDLL, folder: Path) -> Row:
    """Compare and time everything that is here for one layer."""
    model = network(cell, hidden).quantized
    session = qrnn.Session(model, "reference")
    real = inputs(hidden, 1, VERIFIED_STEPS, seed=3)
    x = qrnn.Session(model).engine.quantize(np.asarray(real, np.float64), model.tensors["x"])[0]
    want = session.run({"x": x[None]}, integers=True).outputs["y"][0].astype(np.int16)
    own = folder / f"{cell}{hidden}"
    own.mkdir()
    timed = engines(model, x, want, clock) | libraries(model, x, want, clock, own)
    wasm = None
    if has_wasm():
        wasm = Wasm(model, own)
        agree(WASM, np.array(wasm.ask("verify", x.tolist())), want)
        timed["wasm"] = lambda count: int(wasm.ask("time", count))
    counts = {}
    for name, call in timed.items():
        call(2000)
        if name == "wasm":  # its engine compiles once more, in a thread of its own, what is called often
            for _ in range(WARM_UPS):
                call(2000)
                time.sleep(0.1)
        counts[name] = max(3, int(SAMPLE_SECONDS * 1e9 * 200 / max(call(200), 1)))
    samples: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            timed[name](max(1, counts[name] // 10))
            samples[name].append(timed[name](counts[name]) / counts[name])
    if wasm is not None:
        wasm.close()
    return Row(cell, hidden, {name: median(values) for name, values in samples.items()})


def has_wasm() -> bool:
    """Return whether WebAssembly can be built and run here."""
    try:
        find_host_compiler(qrnn.load_target(WASM))
    except MissingToolError:
        return False
    return shutil.which("wasm-ld") is not None and shutil.which("node") is not None


PAGE = """# Steps on desktops and in WebAssembly

Made by `{command}` on {date}: {processor}, one thread, Python {python}, Numba {numba}; C by {compiler} with {optimization}{node}.

A step of one stream, from integers to integers, in ns: medians of {rounds} rounds that alternate between all columns. Inputs are as many as
units. The engine is the compiled calls of backend cpu, made by a loop in C with no Python between; C is the library that
`qrnn export --library` builds for target `x86-64`, with the kernels named; WebAssembly is the module for `wasm32-simd128`, with the call
from JavaScript in its time. Outputs of {steps} steps of each were equal to the reference's before anything was timed.{others}

{tables}
Ratios are of C to the engine with the same instructions, and of WebAssembly to C with AVX2. Weights and operands have 8 bits. *C plain*
is the C of any core, for processors without either. AArch64 and RISC-V run in emulators here, which tell nothing of time; tests compare
their bits.
"""


def _cell(value: float | None, form: str = "{:,.0f}") -> str:
    return "–" if value is None else form.format(value)


def table(rows: list[Row]) -> str:
    """Return the table of the page."""
    head = "| cell, H | engine avx512vnni | C vnni | ratio | engine avx2 | C avx2 | ratio | C plain | WebAssembly | ratio |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        ns = row.nanoseconds
        cells = [f"{row.cell.upper()} {row.hidden}"]
        for isa, kernels in PAIRS:
            ratio = row.ratio(f"C {kernels}", f"engine {isa}")
            cells += [_cell(ns.get(f"engine {isa}")), _cell(ns.get(f"C {kernels}")), _cell(ratio, "{:.2f}")]
        cells += [_cell(ns.get("C plain")), _cell(ns.get("wasm")), _cell(row.ratio("wasm", "C avx2"), "{:.2f}")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Time steps of exported C beside the engine's.")
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/hosts.md"))
    options = parser.parse_args()
    if not runs_here(host_of(qrnn.load_target(NATIVE))):
        raise SystemExit("this page is measured on Linux on x86-64")
    others, rows = Others(), []
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        folder = Path(temporary)
        clock = timer(folder)
        for cell in options.cells:
            for hidden in options.hidden:
                rows.append(measure(cell, hidden, options.rounds, clock, folder))
                print(rows[-1], flush=True)
    node = (
        subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if has_wasm()
        else ""
    )
    busy = others.cores()
    page = PAGE.format(
        command=shlex.join(["python", "tools/bench_hosts.py", *sys.argv[1:]]),
        date=when(),
        processor=processor(),
        python=platform.python_version(),
        numba=numba.__version__,
        compiler=find_host_compiler(qrnn.load_target(NATIVE)).version(),
        optimization=OPTIMIZATION,
        node=f", Node.js {node}" if node else "",
        rounds=options.rounds,
        steps=VERIFIED_STEPS,
        others="" if busy is None else f"\nOther programs used {busy:.1f} cores meanwhile.",
        tables=table(rows),
    )
    write_atomically(options.output, page.encode())


if __name__ == "__main__":
    main()
