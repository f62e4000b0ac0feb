"""Refuse a model with float parts where only integers make sense."""

from __future__ import annotations

from qrnn.errors import DataError, UnsupportedError
from qrnn.model.quant_graph import QuantGraph


def check_integers(model: object, what: str) -> None:
    """Raise UnsupportedError for a model with float parts, and DataError for what is no model; ``what`` names the caller."""
    if isinstance(model, QuantGraph):
        return
    refusal = getattr(model, "refusal", None)
    if callable(refusal):
        raise UnsupportedError(refusal(what))
    raise DataError(f"{what}: {type(model).__name__}, expected a QuantModel, as qrnn.quantize and qrnn.load give it")
