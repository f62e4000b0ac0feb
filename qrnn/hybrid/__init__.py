"""Models of which parts stay in float, run by ONNX Runtime, beside parts of integers (docs/float_parts.md)."""
