"""Schemes that leave nothing to the search for widths, which takes most of the time of a conversion and is no matter of most tests."""

from __future__ import annotations

from qrnn.quantization.scheme import Scheme

BYTES = Scheme(activations=8, input="8")
SHORTS = Scheme(activations=16, input="16")
