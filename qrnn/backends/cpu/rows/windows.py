"""What layers with windows over time have in common: how many windows end in some steps, and the state after them."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.jit import jit


@jit
def windows_in(steps: int, wait: int, stride: int) -> int:
    """Return how many windows end in so many steps, the first after ``wait`` of them and one every ``stride`` steps from then on."""
    return 0 if steps <= wait else (steps - wait - 1) // stride + 1


@jit
def wait_after(steps: int, wait: int, stride: int) -> int:
    """Return how many steps pass before the next window ends, after so many steps, of which ``wait`` were to pass first."""
    return wait - steps if steps <= wait else stride - 1 - (steps - wait - 1) % stride


@jit
def slot_of(at: Any, n: int, step: int, span: int) -> Any:
    """Return the place in the ring of a step, counted from the next one to come."""
    return (at[n, 0] + step) % span
