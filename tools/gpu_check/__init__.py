"""Prove and measure the CUDA backend on a machine with a GPU, by `python tools/gpu_check` (docs/cuda.md)."""
