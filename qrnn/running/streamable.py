"""Whether a model can be streamed, and its steps be those of arrays on a device: DataError says why not."""

from __future__ import annotations

from qrnn.errors import DataError
from qrnn.model.lateness import needs_whole
from qrnn.model.quant_model import QuantModel


def check_streamable(model: QuantModel) -> None:
    """Raise DataError where a layer needs the end of a sequence to begin, or joins steps that do not come at the same time."""
    if (why := needs_whole(model)) is not None:
        instead = ", or pad the windows before each sequence alone" if model.uneven is not None else ""
        if model.waits is not None and any(layer.is_started for layer in model.recurrent_layers):
            instead = ", or give the sequences that come before whole, by inputs= of Session.stream"
        raise DataError(f"{why} and cannot be streamed; use run with whole sequences{instead}")


def check_one_row(model: QuantModel) -> None:
    """Raise DataError where several steps of an output may come out of one step, for which arrays on a device have no axis."""
    for name, rows in model.step_rows.items():
        if rows > 1:
            raise DataError(
                f"up to {rows} steps of output {name!r} come out of one step, which arrays on a device do not hold; step arrays of the host"
            )


def check_remembers(model: QuantModel) -> None:
    """Raise DataError where nothing is kept from step to step, so that there is nothing to stream."""
    if model.rows:
        raise DataError(
            f"model {model.name!r} keeps nothing from step to step and cannot be streamed: use run with rows [N, …], or convert with "
            "--stream for a model that remembers"
        )
