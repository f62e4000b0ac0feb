"""Dense layers are computed by targets/runtime/qrnn_dense.h."""

from __future__ import annotations

from qrnn.export.c_text import CONSTANT
from qrnn.export.code import c_function, operand_format, operand_words
from qrnn.export.layer_code import LayerCode
from qrnn.export.matrices import c_matrix, plain_rows
from qrnn.model.kinds.dense import QuantDense


class DenseCode(LayerCode[QuantDense]):
    """The C of a dense layer: a matrix and the function (x, y)."""

    def emit(self) -> None:
        """Add the matrix, and the function that multiplies by it."""
        layer, name, code = self.layer, self.name, self.code
        rows, columns = layer.matrix.weight.shape
        place = plain_rows(rows, code.kernels)
        matrix = c_matrix(f"{name}_matrix", layer.matrix, layer.pre_shift, place, code.kernels, code.lists)
        code.matrix(matrix)
        code.define(f"{CONSTANT} qrnn_matrix {name}_matrix = {matrix.initializer};")
        code.headers |= {"qrnn_dense.h", "qrnn_matrix.h"}
        body = [
            f"const qrnn_operand_format format = {operand_format(layer.operand, matrix)};",
            f"uint32_t operand[{operand_words(matrix, code.kernels)}];",
            "",
            f"qrnn_to_operands(x, {columns}U, format, operand);",
            f"qrnn_dense(&{name}_matrix, operand, {rows}U, y);",
        ]
        what = f"{columns} features to {rows}, with {layer.out_frac} fraction bits."
        c_function(code, name, what, "const int16_t *x", body)


LAYER_CODE = DenseCode
