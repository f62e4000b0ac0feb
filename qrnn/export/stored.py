"""How the matrices of a model are stored in the C that its target gets, in words."""

from __future__ import annotations

from qrnn.errors import UnsupportedError
from qrnn.export.lists import Lists
from qrnn.export.matrices import c_matrix, plain_rows, unit_rows
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer_facts import LayerMatrix
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, chip_names, load_target, target_names

WORDS = {Lists.NONE: "", Lists.TILES: "lists of tiles, ", Lists.ROWS: "lists of rows, "}


def stored_in_c(model: QuantModel) -> dict[str, str]:
    """Return, for each matrix of recurrent and dense layers, which lists (`qrnn.export.lists`) it has in C, and its bytes.

    It is empty where the model's target is none of qrnn's, and leaves out what C has no blocks of rows for.
    """
    name = model.provenance.target
    if name not in (*target_names(), *chip_names()):
        return {}
    target, found = load_target(name), {}
    for layer in model.layers:
        for matrix in layer.matrices() if isinstance(layer, QuantRecurrent | QuantDense) else ():
            try:
                found[matrix.name] = _words(matrix, target)
            except UnsupportedError:
                continue
    return found


def _words(found: LayerMatrix, target: Target) -> str:
    rows, gates = len(found.matrix.bias), len(found.gates)
    kernels = target.core.kernels
    order = unit_rows(rows // gates, gates, kernels) if gates else plain_rows(rows, kernels)
    stored = c_matrix("matrix", found.matrix, None, order, kernels, target.lists)
    return f"{WORDS[stored.lists]}{stored.weight_bytes:,} bytes"
