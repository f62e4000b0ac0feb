"""Measure an epoch of training: float, with the integer forward of `qrnn.qat`, and with quantization that is faked step by step.

    python tools/bench_qat.py [--hidden 64] [--rounds 3] [--records FOLDER]

The three ways take turns, batch after batch of the same data, so that what else the machine does meets all of them alike. Written are the
medians of the epochs, what each needs of the float epoch, and the processor time. PyTorch's threads wait busily, which counts as processor
time too. ``--records`` keeps the figures as a file of FOLDER, which tools/measure_finetune.py shows on its page.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fake_quantization import FakeQuantizedLstm
from provenance import revision, when

import qrnn
from qrnn.running.bench import processor
from qrnn.system.atomic import write_atomically

CLASSES = 10


class FloatLstm(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not there for the type checker
    """A dense layer on the last h of an LSTM."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(features, hidden, batch_first=True)
        self.dense = torch.nn.Linear(hidden, CLASSES)

    def forward(self, x: Any) -> Any:
        """Return the output after the last step."""
        return self.dense(self.lstm(x)[1][0][0])


def trained(module: Any) -> Callable[[Any, Any], None]:
    """Return a function that takes one step of training on a batch."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def step(x: Any, labels: Any) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (
        ("clips", 2700),
        ("steps", 60),
        ("features", 40),
        ("hidden", 64),
        ("batch", 32),
        ("rounds", 3),
        ("weights", 8),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--records", type=Path, help="folder in which the figures are kept")
    given = parser.parse_args()
    torch.manual_seed(0)
    x, labels = torch.randn(given.clips, given.steps, given.features), torch.randint(0, CLASSES, (given.clips,))
    real, faked = FloatLstm(given.features, given.hidden), FakeQuantizedLstm(given.features, given.hidden, CLASSES)
    scheme = qrnn.Scheme(weights=given.weights)
    exact = qrnn.qat.prepare(real, {"x": x[:64]}, scheme, example=x[:2])
    ways = {"float": trained(real), "qrnn.qat": trained(exact), "faked step by step": trained(faked)}
    batches = [slice(k, k + given.batch) for k in range(0, given.clips, given.batch)]
    for step in ways.values():
        for rows in batches[:3]:
            step(x[rows], labels[rows])
    seconds = {name: np.zeros((given.rounds, 2)) for name in ways}
    for number in range(given.rounds):
        for rows in batches:
            for name, step in ways.items():
                begun = time.perf_counter(), time.process_time()
                step(x[rows], labels[rows])
                seconds[name][number] += time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(
        f"LSTM {given.hidden}, {given.clips} clips of {given.steps} steps of {given.features} features, batches of {given.batch}, "
        f"weights of {given.weights} bits, {torch.get_num_threads()} threads"
    )
    print(f"{'an epoch of':20} {'seconds':>8} {'of float':>9} {'processor s':>12} {'of float':>9}")
    base = np.median(seconds["float"], axis=0)
    for name, found in seconds.items():
        wall, cpu = np.median(found, axis=0)
        print(f"{name:20} {wall:8.2f} {wall / base[0]:9.2f} {cpu:12.2f} {cpu / base[1]:9.2f}")
    if given.records is not None:
        chosen = {name: value for name, value in vars(given).items() if name != "records"}
        record = {
            "variant": "speed",
            "revision": revision(),
            "when": when(),
            "machine": processor(),
            "threads": torch.get_num_threads(),
            "choices": chosen,
            "seconds": {name: float(np.median(found[:, 0])) for name, found in seconds.items()},
        }
        given.records.mkdir(parents=True, exist_ok=True)
        write_atomically(given.records / "speed.json", (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
