"""`python tools/gpu_check`: proves and measures the CUDA backend on a machine with a GPU (docs/cuda.md)."""
