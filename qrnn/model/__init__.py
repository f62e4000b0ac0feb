"""The float model, the quantized model, the kinds of layers and the model file."""
