"""The trials of a search in a folder, so that a search that was interrupted, or gets other budgets, does not measure them again.

    DIR/results/KEY.json   a trial: figures of accuracy, what the target needs by its cost model, and, where that was found, as it was built
    DIR/models/KEY.qrnn    its model
    DIR/trials.json        the result of the last search

Keys depend on all that may change a figure, as those of a sweep do (`qrnn.lab.results`). Refused configurations are not kept: to refuse them
again takes no time.
"""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

from qrnn.devices.measure import Needs
from qrnn.lab.axes import label
from qrnn.lab.evaluate import COSTS, Record, Setting
from qrnn.lab.results import Results, json_bytes
from qrnn.lab.trial import Trial
from qrnn.model.file import load, save
from qrnn.quantization.scheme import Scheme
from qrnn.system.atomic import write_atomically

FORMAT = "qrnn-tune-1"
RESULT = "trials.json"

_NOT_KEPT = ("target", "traced")
"""Fields of `Needs` that every trial has in common, or none has."""


class KeptTrials:
    """The trials of one setting in a folder, which is made; DataError where it is something else, or cannot be written."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.setting, self.results = setting, Results(folder, setting, FORMAT)

    def read(self, scheme: Scheme) -> Trial | None:
        """Return a trial, or None where there is none; DataError for a damaged file, which searches never write."""
        key = self.results.key(scheme)
        record, model = self.results.read(key), self.results.model_path(key)
        if record is None or not model.is_file():
            return None
        try:
            built = record["built"]
            return Trial(
                scheme,
                load(model),
                dict(record["figures"]),
                needs=self._needs(record["estimate"]),
                training=record["training"],
                built=built is not None,
                built_needs=self._needs(built["needs"]) if built is not None else None,
                earlier=True,
            )
        except (LookupError, TypeError, ValueError):
            raise self.results.damaged(key) from None

    def write(self, trial: Trial, model: bool = True) -> None:
        """Write a trial, with its ``model`` where it is new."""
        record = {
            "label": label(trial.scheme),
            "figures": {key: value for key, value in trial.figures.items() if key not in COSTS},
            "training": trial.training,
            "estimate": _plain(trial.estimate),
            "built": {"needs": _plain(trial.built_needs)} if trial.built else None,
        }
        self.results.write(self.results.key(trial.scheme), record, _bytes(trial) if model else None)

    def write_result(self, result: Record) -> None:
        """Write what a search has found."""
        write_atomically(self.results.folder / RESULT, json_bytes(result))

    def _needs(self, kept: Record | None) -> Needs | None:
        return None if kept is None else Needs(target=self.setting.target, **kept)


def _plain(needs: Needs | None) -> Record | None:
    """Return needs as plain values."""
    if needs is None:
        return None
    kept: dict[str, Any] = {f.name: getattr(needs, f.name) for f in fields(Needs) if f.name not in _NOT_KEPT}
    return kept


def _bytes(trial: Trial) -> bytes:
    """Return the trial's model file."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        path = Path(temporary) / "model.qrnn"
        save(trial.quantized, path)
        return path.read_bytes()
