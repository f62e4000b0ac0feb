"""Import PyTorch modules as `FloatModel`: they are exported to ONNX in memory, and imported from there.

PyTorch is imported only here and only when `from_torch` is called.
"""

from qrnn.torch_import.door import from_torch

__all__ = ["from_torch"]
