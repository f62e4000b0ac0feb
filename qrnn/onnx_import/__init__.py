"""Import ONNX models as `FloatModel`.

The graph is interpreted once on abstract values (`values.py`); each ONNX operator is one function in `operators/`.
"""

from qrnn.onnx_import.graph import import_model
from qrnn.onnx_import.load import load_onnx
from qrnn.onnx_import.parts.cut import cut_onnx

__all__ = ["cut_onnx", "import_model", "load_onnx"]
