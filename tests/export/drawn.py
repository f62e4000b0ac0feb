"""Drawn models as exported C, on this machine under sanitizers and on emulated cores, beside the reference."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from export.building import check, compiler
from export.test_devices import usable
from qrnn.devices.verify import verify
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Kernels


def check_on_host(model: QuantModel, kernels: Kernels, cc: str = "gcc", *, lengths: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        check(model, Path(folder), compiler(cc), kernels, lengths=lengths)


def check_on_core(
    model: QuantModel, name: str, data: dict[str, Any] | None = None, *, lengths: tuple[int, ...]
) -> None:
    """Random sequences on an emulated core; the folder is exported with ``data``."""
    target = usable(name)
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        export_model(model, target, Path(temporary) / "net", "net", data)
        folder = read_folder(Path(temporary) / "net")
        done = verify(folder, target, random_sequences(model, folder.exported, lengths, seed=4))
    assert done.difference is None
    assert done.steps == sum(lengths)
