"""What a float model has to choose among widths, and whether widths that were given fit it (`qrnn.Scheme.widths`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from qrnn.errors import QuantizationError
from qrnn.model.float_model import FloatModel
from qrnn.quantization.inputs import source_tensors
from qrnn.quantization.methods import DEFAULT, OF_WIDTH
from qrnn.quantization.scheme import AUTO, InputScheme, Scheme
from qrnn.quantization.widths import check_operand

PART_WIDTHS: Mapping[str, tuple[str, ...]] = {
    "x": ("8", "8-per-feature", "16"),
    "h": ("8", "16"),
    "W": ("4", "8"),
    "R": ("4", "8"),
}
"""The widths that each part of a layer can have, by the last part of its key, from the least to the greatest."""

SMALL_SHARE = 0.15
"""The share of a layer's recurrent weights, W and R together, under which its W keeps eight bits where the others have four by default."""

SHOWN_KEYS = 12
"""The most keys that an error lists."""


@dataclass(frozen=True)
class Choice:
    """What can be chosen for one part of a float model.

    Attributes
    ----------
    key: the key of `qrnn.Scheme.widths`.
    values: the widths that it can have.
    products: multiply-adds a time step of the matrices that the choice is about.
    read: values that are read, or weights that are kept, at that width.
    part: the part of the layer, as `Layer.width_parts` names it; empty for a source.
    """

    key: str
    values: tuple[str, ...]
    products: int
    read: int
    part: str = ""

    def general(self, scheme: Scheme) -> str:
        """Return the width that ``scheme`` gives where ``scheme.widths`` does not name the key; ``auto`` where the conversion chooses."""
        if not self.part:
            return scheme.input
        return str(scheme.matrix_bits if self.part in ("W", "R") else scheme.activations)


def choices(model: FloatModel) -> tuple[Choice, ...]:
    """Return all that can be chosen for a model: its sources, then the parts of each layer, in the model's order.

    A source that no matrix reads has nothing to choose, and nor has the input of a layer that reads a source: the key of the source says it.
    """
    found = []
    sources = source_tensors(model)
    for name in sources:
        readers = [layer for layer in model.layers if name in layer.inputs and "x" in layer.width_parts()]
        if readers:
            products = sum(layer.width_parts()["x"].products for layer in readers)
            values = _values(get_args(InputScheme), all(layer.multiplies(name) for layer in readers))
            found.append(Choice(name, values, products, model.tensors[name].features))
    for layer in model.layers:
        for part, size in layer.width_parts().items():
            if part != "x" or layer.input not in sources:
                values = _values(PART_WIDTHS[part], bool(layer.input_weights) or part != "x")
                found.append(Choice(f"{layer.name}.{part}", values, size.products, size.read, part))
    return tuple(found)


def _values(values: tuple[str, ...], by_feature: bool) -> tuple[str, ...]:
    """Return those of ``values`` that are left where scales for each feature do not fold into weights, unless ``by_feature`` says they do."""
    return values if by_feature else tuple(value for value in values if not value.endswith("-per-feature"))


def check_widths(model: FloatModel, scheme: Scheme, target: str) -> None:
    """Raise QuantizationError for widths that do not fit the model or the target.

    These are a key that names nothing in ``model``, or two things; a value that its key cannot have; and an operand that is wider than
    ``scheme.widest_operand``, whether ``scheme.widths`` names it or ``scheme.input`` and ``scheme.activations`` say so for all.
    """
    widths = scheme.widths
    known: dict[str, list[Choice]] = {}
    for choice in choices(model):
        known.setdefault(choice.key, []).append(choice)
    for key, value in widths:
        if key not in known:
            listed = ", ".join(list(known)[:SHOWN_KEYS]) + (", …" if len(known) > SHOWN_KEYS else "")
            raise QuantizationError(f"widths: {key!r} is no choice of model {model.name!r}; expected {listed}")
        if len(known[key]) > 1:
            raise QuantizationError(f"widths: {key!r} names a tensor and a part of a layer; rename one of them")
        if value not in (allowed := known[key][0].values):
            raise QuantizationError(f"widths: {key}={value}, expected {' or '.join(allowed)}")
    given = dict(widths)
    for choice in choices(model):
        width = given.get(choice.key, choice.general(scheme))
        if width != AUTO and choice.part not in ("W", "R"):
            check_operand(target, choice.key, width, scheme.widest_operand)


def resolved(model: FloatModel, scheme: Scheme) -> tuple[Scheme, list[str]]:
    """Return what a scheme means for ``model`` where its ``refine`` is ``default``, and what was chosen, in words.

    Weights of four and of 16 bits are then refined; and with four, a layer's W that no width names keeps eight bits where it is under
    `SMALL_SHARE` of the layer's recurrent weights: it costs few bytes there, and multiplies what comes from outside.
    """
    if scheme.refine != DEFAULT or not isinstance(scheme.weights, int) or scheme.weights not in OF_WIDTH:
        return scheme, []
    scheme = replace(scheme, refine=OF_WIDTH[scheme.weights])
    if scheme.weights != 4:
        return scheme, []
    widths, notes = dict(scheme.widths), []
    for layer in model.layers:
        parts = layer.width_parts()
        key = f"{layer.name}.W"
        if "W" not in parts or key in widths:
            continue
        share = parts["W"].read / (parts["W"].read + (parts["R"].read if "R" in parts else 0))
        if share < SMALL_SHARE:
            widths[key] = "8"
            notes.append(f"{key}: eight bits, since W is {100 * share:.0f} % of the layer's recurrent weights")
    return replace(scheme, widths=tuple(sorted(widths.items()))), notes
