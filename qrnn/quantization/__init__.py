"""Quantization of a float model, layer by layer: calibrated ranges become formats and integers. `qrnn.conversion` puts the steps together."""
