"""Pools are computed by targets/runtime/qrnn_max_pool.h."""

from __future__ import annotations

from qrnn.export.c_text import CONSTANT
from qrnn.export.layer_code import AnyCode
from qrnn.export.windows import WindowCode, window_fields
from qrnn.model.kinds.max_pool import QuantMaxPool


class MaxPoolCode(WindowCode[QuantMaxPool]):
    """The C of a pool: its window."""

    @classmethod
    def of(cls, layer: QuantMaxPool) -> type[AnyCode]:
        """Return the class that counts rows for a layer that skips or delays some."""
        return MaxPoolCode if layer.step_for_step else CountingMaxPoolCode

    def constants(self) -> tuple[str, list[str], list[str]]:
        """Add the window."""
        self.code.headers.add("qrnn_max_pool.h")
        self.code.define(f"{CONSTANT} qrnn_window {self.name}_window = {window_fields(self.layer)};")
        return "qrnn_max_pool", [], []


class CountingMaxPoolCode(MaxPoolCode):
    """The C of a pool that may give no row for a step, or rows past the end of a sequence."""

    counts_rows = True


LAYER_CODE = MaxPoolCode
