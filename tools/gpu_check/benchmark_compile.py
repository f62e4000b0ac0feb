"""The columns of torch.compile in the benchmark: a cell's step compiled, called for every step, and the whole captured as a CUDA graph.

Compilation takes an unknown time, so it happens in a process of its own with a limit: `python -m gpu_check.benchmark_compile FOLDER` reads
``rows.json`` and each row's arrays there, and prints a line of JSON for each column that it has measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check.benchmark_timing import Runner, host_clock, take_samples, torch_clock, verified_sqnr
from qrnn.model.parts import FloatArray

TOOLS = Path(__file__).resolve().parents[1]
PRECISIONS = ("bf16", "fp32")


def name_of(precision: str) -> str:
    """Return the column's name."""
    return f"torch.compile {precision}, graph"


# --- in the process of the part --------------------------------------------------------------------------------------------------------


def save_row(folder: Path, number: int, arrays: Sequence[Any], x: Any, want: FloatArray, verified: Any) -> None:
    """Write what the other process needs of a row."""
    weights = {f"weight{k}": array for k, array in enumerate(arrays)}
    np.savez(folder / f"row{number}.npz", x=x, want=want, verified=verified, **weights)


def measured(
    folder: Path, rows: Sequence[dict[str, Any]], seconds: float, device: str = "cuda"
) -> Iterator[dict[str, Any]]:
    """Yield what the other process prints, as it comes; a last line ``{"ended": why}`` where it did not come to its end."""
    (folder / "rows.json").write_text(json.dumps(list(rows)), encoding="utf-8")
    command = [sys.executable, "-m", "gpu_check.benchmark_compile", str(folder), device]
    errors, ended, said = folder / "errors.txt", False, list[str]()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TOOLS.parent, TOOLS)))}
    with errors.open("wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment)
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + seconds
        try:
            while (line := lines.get(timeout=max(0.01, deadline - time.monotonic()))) is not None:
                if line.startswith("{"):
                    yield json.loads(line)
        except queue.Empty:
            ended = True
            yield {"ended": f"stopped after {seconds:.0f} s"}
        finally:
            if not ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=2.0)
            process.kill()
            status = process.wait()
            assert process.stdout is not None
            process.stdout.close()
    if not ended and status != 0:
        said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        yield {"ended": f"exit status {status}: {said[-1][:300] if said else 'it said nothing'}"}


# --- in the other process --------------------------------------------------------------------------------------------------------------


def lstm_step(sums: Any, h: Any, c: Any, weight: Any, _bias: Any) -> tuple[Any, Any]:
    """Return (h', c') from W·x + both biases [N, 4H]; gates i, f, g, o."""
    import torch

    i, f, g, o = (sums + torch.mm(h, weight)).chunk(4, 1)
    after = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(after), after


def gru_step(sums: Any, h: Any, c: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
    """Return (h', c) from W·x + bias_ih [N, 3H]; gates r, z, n; the reset gate is applied after the product, with bias_hh."""
    import torch

    a, b = sums.chunk(3, 1), torch.addmm(bias, h, weight).chunk(3, 1)
    r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
    n = torch.tanh(a[2] + r * b[2])
    return n + z * (h - n), c


def runner(
    row: dict[str, Any], arrays: dict[str, Any], precision: str, device: str, compiled: Callable[[Any], Any]
) -> Runner:
    """Return the runner of a column; ``compiled`` is `torch.compile`, or returns the function itself in tests of what is computed."""
    import torch

    from gpu_check.benchmark_peers import KINDS, capture, on, prepare
    from gpu_check.benchmark_peers import PRECISIONS as LEAST_DB

    prepare(precision)
    kind = getattr(torch, KINDS[precision])
    w_x, w_h, b_x, b_h = (torch.from_numpy(arrays[f"weight{k}"]).to(device, kind) for k in range(4))
    x, weight, is_lstm = on(device, arrays["x"], kind), w_h.t().contiguous(), row["cell"] == "lstm"
    bias = b_x + b_h if is_lstm else b_x
    step = compiled(lstm_step if is_lstm else gru_step)
    N, H = row["batch"], row["hidden"]
    y = torch.zeros((row["steps"], N, H), device=device, dtype=kind)

    def run() -> Any:
        sums = torch.nn.functional.linear(x, w_x, bias)
        h = torch.zeros((N, H), device=device, dtype=kind)
        c = torch.zeros((N, H), device=device, dtype=kind)
        for t in range(row["steps"]):
            h, c = step(sums[t], h, c, weight, b_h)
            y[t].copy_(h)
        return y

    verified = torch.from_numpy(arrays["verified"]).to(device)
    with torch.inference_mode():
        call = capture(run)[0] if device == "cuda" else run

    def output() -> FloatArray:
        with torch.inference_mode():
            call()
            found: FloatArray = y[:, verified].double().cpu().numpy().swapaxes(0, 1)
            return found

    return Runner(call, output, LEAST_DB[precision], torch_clock if device == "cuda" else host_clock)


def main(folder: Path, device: str, compiled: Callable[[Any], Any] | None = None) -> None:
    """Measure each column of each row and print it."""
    import torch

    for number, row in enumerate(json.loads((folder / "rows.json").read_text(encoding="utf-8"))):
        with np.load(folder / f"row{number}.npz") as file:
            arrays = dict(file)
        for precision in PRECISIONS:
            began, said = time.monotonic(), {"row": number, "column": name_of(precision)}
            try:
                made = runner(row, arrays, precision, device, compiled or (lambda f: torch.compile(f, dynamic=False)))
                found = verified_sqnr(arrays["want"], made)
                said |= {"ready_seconds": time.monotonic() - began, "sqnr_db": found}
                with torch.inference_mode():
                    said |= {"times": vars(take_samples({"": made}, row["steps"])[""])}
            except Exception as error:  # noqa: BLE001  (whatever the compiler meets, the other columns are measured)
                said |= {"left_out": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
