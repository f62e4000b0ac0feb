"""Integer-only recurrent networks, from a trained ONNX model to the same bits on every device."""
