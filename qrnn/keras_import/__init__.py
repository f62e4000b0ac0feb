"""Import Keras models: their layers become an ONNX graph in memory, which the ONNX importer takes."""

from qrnn.keras_import.load import load_keras

__all__ = ["load_keras"]
