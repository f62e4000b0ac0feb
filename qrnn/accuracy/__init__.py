"""Measures of how well a quantized model reproduces its float model: comparison, explanation, difference, and their pictures."""
