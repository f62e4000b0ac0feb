"""The CPU backend: the contract's functions compiled by Numba, sequences spread over threads, long rows over the workers of a thread team."""

from qrnn.backends.cpu.engine import CpuEngine

ENGINE = CpuEngine
