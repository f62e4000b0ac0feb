"""The refinement methods (``--refine``), which win accuracy back without training, and the text that chooses among them."""

from __future__ import annotations

from collections.abc import Mapping

from qrnn.errors import QuantizationError

METHODS: Mapping[str, str] = {
    "equalize": "channels between dense layers brought to equal ranges, exactly (`qrnn.refinement.equalize`)",
    "channels": "channels between convolutions brought to equal ranges, exactly (`qrnn.refinement.channels`)",
    "gates": "weights of smooth gates that run as ramps fitted again (`qrnn.refinement.gates`)",
    "rounding": "second-order rounding of weights (`qrnn.refinement.rounding`)",
    "bias": "mean errors of rounded rows taken out of their biases (`qrnn.refinement.rows`)",
}
"""What each method does, by name, in the order in which they are applied. Each works without the others."""


DEFAULT = "default"
"""The text for what suits the weights' width: nothing for eight bits, `OF_WIDTH` for others."""

OF_WIDTH: Mapping[int, str] = {4: "rounding,bias", 16: "channels,rounding,bias"}
"""The methods that weights of a width have where none are named."""


def parse_refine(text: str) -> tuple[str, ...]:
    """Return the methods that ``text`` names, in the order of `METHODS`: names separated by commas, ``all``, or ``none``.

    ``default`` names none yet: a conversion puts others in its place (`qrnn.quantization.choices.resolved`).
    """
    names = [name.strip() for name in text.split(",")]
    if names in (["none"], [DEFAULT]):
        return ()
    if names == ["all"]:
        return tuple(METHODS)
    for name in names:
        if name not in METHODS:
            raise QuantizationError(
                f"refine={text!r}: {name!r} is unknown; expected some of {', '.join(METHODS)}, separated by commas, or all, none or default"
            )
        if names.count(name) > 1:
            raise QuantizationError(f"refine={text!r}: {name!r} twice; give it once")
    return tuple(name for name in METHODS if name in names)
