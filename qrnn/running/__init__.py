"""A quantized model is run here, by sessions and streams, and its runs are timed."""
