"""Accuracy won back without training: each means by its own name, on or off; see `qrnn.quantization.means.MEANS`."""
