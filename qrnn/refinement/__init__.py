"""Refinement methods, which win accuracy back without training; each is switched by its name in `qrnn.quantization.methods.METHODS`."""
