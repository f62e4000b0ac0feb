"""From the float model and its calibrated ranges to formats and integers, layer by layer; `qrnn.conversion` puts the steps together."""
