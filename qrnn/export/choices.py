"""What a user chooses of the C around a model is kept in the exported folder's manifest, so that the folder is read as it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qrnn.errors import DataError, QrnnError
from qrnn.model.codes import CodeFormat, code_format
from qrnn.model.quant_model import QuantModel

MOST_NAME = 255
"""The most characters of a feature's name."""


@dataclass(frozen=True)
class Choices:
    """What an export has beside the model's own functions.

    ``codes`` are converters whose integers inputs take, by the input's name in the graph; ``names`` those of features and classes, by that
    of the input or output; with ``scratch``, functions take room for their work as an argument in place of the stack.
    """

    codes: Mapping[str, CodeFormat] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scratch: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the manifest."""
        return {
            "codes": {name: codes.to_dict() for name, codes in self.codes.items()},
            "names": {name: list(values) for name, values in self.names.items()},
            "scratch": self.scratch,
        }


def read_choices(found: Any, model: QuantModel) -> Choices | None:
    """Return the choices of a manifest, with codes for ``model``; None where it is not what `Choices.to_dict` gives."""
    if not isinstance(found, dict) or found.keys() != Choices().to_dict().keys():
        return None
    codes, names, scratch = found["codes"], found["names"], found["scratch"]
    if not (isinstance(codes, dict) and isinstance(names, dict) and isinstance(scratch, bool)):
        return None
    try:
        formats = {name: code_format(model, name, **values) for name, values in codes.items()}
        return Choices(formats, {name: checked_names(model, name, values) for name, values in names.items()}, scratch)
    except (QrnnError, TypeError, ValueError):
        return None


def checked_names(model: QuantModel, port: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features of an input or output; DataError where there are not as many, or one is no line of text."""
    sizes = {i.name: i.features for i in model.inputs} | {o.name: o.features for o in model.outputs}
    if port not in sizes:
        raise DataError(f"names of {port!r}: no input or output has this name; expected one of {', '.join(sizes)}")
    if len(names) != sizes[port]:
        raise DataError(f"names of {port!r}: {len(names)} of them, expected {sizes[port]}, one for each feature")
    for name in names:
        if not isinstance(name, str) or not name or len(name) > MOST_NAME or not name.isprintable():
            raise DataError(
                f"names of {port!r}: {name!r}, expected 1 to {MOST_NAME} printable characters in each (a comma parts them)"
            )
    return tuple(names)
