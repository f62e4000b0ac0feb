"""The CPU backend: the contract's functions compiled by Numba, sequences spread over threads, long rows over a gang of threads."""

from qrnn.backends.cpu.engine import CpuEngine

ENGINE = CpuEngine
