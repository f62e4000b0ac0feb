"""Calibration data are looked at before ranges are taken from them: rare outliers are left out, and what data cannot tell is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import FloatArray
from qrnn.quantization.calibrate import real_rows
from qrnn.quantization.outliers import Gap, find_gaps


class CalibrationWarning(UserWarning):
    """Calibration data that cannot tell a range, or of which something was left out."""


@dataclass(frozen=True)
class CheckedCalibration:
    """Calibration data from which ranges may be taken: ``batch`` with outliers clipped, and ``warnings``, one line each."""

    batch: Batch
    warnings: tuple[str, ...]


def checked_calibration(model: FloatModel, batch: Batch, calibrator: str) -> CheckedCalibration:
    """Return the data with rare outliers clipped where the calibrator is ``robust``, and what is to be said of them.

    Values outside the range of all others are clipped to it before anything is measured, so that the ranges inside the model, which follow from
    these values, withstand them too.
    """
    features: dict[str, FloatArray] = dict(batch.features)
    said = []
    for name, values in batch.features.items():
        rows = real_rows(model, batch, name)
        if not rows.size:
            continue
        said += _of_constants(name, rows)
        low, high = np.full(rows.shape[1], -np.inf), np.full(rows.shape[1], np.inf)
        found: dict[str, list[Gap]] = {}
        for gap in find_gaps(rows):
            if gap.rare and calibrator == "robust":
                low[gap.feature], high[gap.feature] = gap.low, gap.high
                done = "left out of the ranges: such values are clipped (--calibrator minmax keeps them)"
            elif gap.rare:
                done = f"kept by --calibrator {calibrator}; all other values have few steps left"
            else:
                done = "kept, since the data cannot tell whether they are outliers; remove them if the model will not see such values"
            found.setdefault(done, []).append(gap)
        said += [f"input {name!r}: {_listed([str(g) for g in gaps], '; ')}: {done}" for done, gaps in found.items()]
        if np.isfinite(low).any():
            features[name] = np.clip(values, low, high)
    return CheckedCalibration(replace(batch, features=features), tuple(said))


MOST_NAMED = 8
"""The most features that one warning names."""


def _of_constants(name: str, rows: FloatArray) -> list[str]:
    """Return what is said of features that have one value only."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    if not rows.any():
        return [f"input {name!r}: every calibration value is 0; its ranges are guesses, so convert with real data"]
    dead = np.nonzero(low == high)[0]
    if not len(dead) or len(rows) < 2:
        return []
    named = _listed([f"{feature} ({low[feature]:.6g})" for feature in dead], ", ")
    which = "feature" if len(dead) == 1 else "features"
    return [
        f"input {name!r}: {which} {named} always had one value in calibration; the range is a guess from the weights and that "
        "value, so calibrate on data in which it varies if it ever does"
    ]


def _listed(texts: list[str], separator: str) -> str:
    """Return the first `MOST_NAMED` of ``texts``, and how many more there are."""
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return separator.join(texts[:MOST_NAMED]) + more


CALIBRATION = "calibration: "
"""What a decision that was said as a warning too begins with."""


def decisions(warnings: tuple[str, ...]) -> list[str]:
    """Return the warnings as decisions of a conversion."""
    return [CALIBRATION + text for text in warnings]
