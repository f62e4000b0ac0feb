"""The C of an embedding is a table of rows."""

from __future__ import annotations

from qrnn.export.c_text import WEIGHTS, array
from qrnn.export.code import c_function
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.embedding import QuantEmbedding


class EmbeddingCode(LayerCode[QuantEmbedding]):
    """The C of an embedding: the table and the function (token, y)."""

    def emit(self) -> None:
        """Add the table, and the function that copies one of its rows."""
        vocabulary, features = self.layer.table.shape
        table = self.code.names.new(f"{self.name}_table")
        self.code.define(array("int16_t", table, self.layer.table, place=WEIGHTS))
        body = [
            f"const uint32_t row = (token < {vocabulary}U) ? token : {vocabulary - 1}U; /* nothing beyond the table is read */",
            "",
            f"QRNN_COPY_CONSTANT(y, &{table}[{features}U * row], {features}U * sizeof(*y));",
        ]
        c_function(self.code, self.name, f"Row `token` of {vocabulary}.", "uint32_t token", body)

    def arguments(self) -> list[str]:
        """Return the token by its value."""
        return [f"*{place}" for place in super().arguments()]


LAYER_CODE = EmbeddingCode
