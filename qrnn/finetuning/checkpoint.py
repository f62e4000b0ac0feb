"""Checkpoints: all that a training needs to go on where it was interrupted, in a safetensors file that holds numbers and JSON, no code.

A file is written whole or not at all, after every epoch. It says what it belongs to: digests of the model and the data, the scheme, the
choices of the training. A run that differs in one of these is refused by its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.finetuning.scores import Score
from qrnn.model.digest import array_digest
from qrnn.system.atomic import destination, write_atomically
from qrnn.system.files import read_regular, reason

FORMAT = "qrnn-finetune-1"

LARGEST = 1 << 34
"""The most bytes of a checkpoint that are read."""

DAMAGED = "not a checkpoint of this version of qrnn finetune, or a damaged one; delete it, and training begins anew"

Arrays = dict[str, npt.NDArray[Any]]

NOW, BEST = "now.", "best."
"""What the names of arrays begin with: of the last epoch, and of the best one where that is another."""


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 1 on, the mean loss while training, the score on the validation data, and how long it took."""

    number: int
    training_loss: float
    score: Score
    seconds: float


@dataclass(frozen=True)
class Saved:
    """Where a training stands: all epochs so far, its arrays, and those of the best epoch; ``best`` is 0 where none is better than before."""

    history: tuple[Epoch, ...] = ()
    best: int = 0
    arrays: Arrays = field(default_factory=dict)
    best_arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """The file ``path`` of a training; ``identity`` is what it belongs to, texts by what they say."""

    path: Path
    identity: Mapping[str, str]

    def write(self, saved: Saved) -> None:
        """Write where the training stands."""
        import safetensors.numpy

        arrays = {f"{NOW}{name}": array for name, array in saved.arrays.items()}
        if saved.best != len(saved.history):
            arrays |= {f"{BEST}{name}": array for name, array in saved.best_arrays.items()}
        structure = json.dumps(
            {
                "identity": dict(self.identity),
                "history": [asdict(epoch) for epoch in saved.history],
                "best": saved.best,
            },
            sort_keys=True,
        )
        metadata = {"format": FORMAT, "training": structure, "sha256": array_digest(arrays, structure)}
        ordered = {name: np.array(array, order="C") for name, array in arrays.items()}  # keeps arrays without axes so
        write_atomically(self.path, safetensors.numpy.save(ordered, metadata))

    def read(self) -> Saved | None:
        """Return where the training stands, or None where there is no file; DataError for a damaged file, and for another training's."""
        try:
            content = read_regular(self.path, LARGEST)
        except FileNotFoundError:
            destination(self.path)  # which names what keeps it from being written
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: {reason(error)}; expected a checkpoint of qrnn finetune") from None
        try:
            return self._parsed(content)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _parsed(self, content: bytes) -> Saved:
        """Return what the bytes of a file say; everything in them may be wrong."""
        try:
            structure, arrays = _opened(content)
            identity, best = dict(structure["identity"]), int(structure["best"])
            history = tuple(_epoch(number, entry) for number, entry in enumerate(structure["history"], 1))
        except Exception:  # noqa: BLE001  # whatever readers of JSON and of safetensors raise on other files
            raise DataError(DAMAGED) from None
        for name in sorted(self.identity.keys() | identity.keys()):
            if identity.get(name) != self.identity.get(name):
                raise DataError(
                    f"is of a training with another {name}: {identity.get(name, 'none')}, here {self.identity.get(name, 'none')}; "
                    "give another file, or delete it, and training begins anew"
                )
        if not 0 <= best <= len(history):
            raise DataError(DAMAGED)
        now = {name.removeprefix(NOW): a for name, a in arrays.items() if name.startswith(NOW)}
        kept = {name.removeprefix(BEST): a for name, a in arrays.items() if name.startswith(BEST)}
        return Saved(history, best, now, now if best == len(history) else kept)


def _opened(content: bytes) -> tuple[dict[str, Any], Arrays]:
    """Return the structure and the arrays of a file; an error of any kind for one that `Checkpoint.write` did not write."""
    import safetensors.numpy

    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    arrays = safetensors.numpy.load(content)
    if metadata["format"] != FORMAT or metadata["sha256"] != array_digest(arrays, metadata["training"]):
        raise ValueError(metadata["format"])
    return json.loads(metadata["training"]), arrays


def _epoch(number: int, entry: Mapping[str, Any]) -> Epoch:
    """Return an epoch of a file's JSON; ValueError for numbers that no training writes."""
    score = Score(**entry["score"])
    numbers = [float(entry["training_loss"]), float(entry["seconds"]), float(score.loss)]
    if entry["number"] != number or not all(map(math.isfinite, numbers)):
        raise ValueError(number)
    return Epoch(number, numbers[0], score, numbers[1])
