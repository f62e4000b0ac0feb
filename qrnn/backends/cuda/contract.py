"""The contract's own functions are compiled for the device: there is no second arithmetic.

`device(f)` is f of `qrnn.arithmetic.CONTRACT` as a device function. Integers are Numba's: every operation of two is done in 64 bits, which
hold every intermediate value of the contract (docs/arithmetic.md, section 9).
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any, cast

from numba import cuda

from qrnn.arithmetic import CONTRACT
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.simulated import as_integers, on_integers
from qrnn.model import boundary


def _compiled() -> dict[Callable[..., Any], Any]:
    """Return each function's code among the compiled ones that it calls: `CONTRACT` names callees first."""
    space: dict[str, Any] = {}
    made = {}
    for function in CONTRACT:
        plain = cast(FunctionType, function)
        own = FunctionType(plain.__code__, {**plain.__globals__, **space}, plain.__name__, plain.__defaults__)
        made[function] = space[plain.__name__] = cuda.jit(device=True)(own)
    return made


_DEVICE: dict[Callable[..., Any], Any] = {} if SIMULATED else _compiled()


def device(function: Callable[..., Any]) -> Any:
    """Return a function of the contract for the device; in the simulator it is the function itself, of unbounded integers."""
    return as_integers(function) if SIMULATED else _DEVICE[function]


def compiled_loop(loop: Callable[..., Any]) -> Any:
    """Return a loop or a step that a layer defines, as a device function; in the simulator it works on unbounded integers."""
    return on_integers(loop) if SIMULATED else cuda.jit(device=True)(loop)


def _dot(weight: Any, r: Any, x: Any, n: Any) -> Any:
    """Return the sum of weight[r, k] · x[n, k] over k."""
    total = 0
    for k in range(weight.shape[1]):
        total += weight[r, k] * x[n, k]
    return total


LOOP_FUNCTIONS = SimpleNamespace(
    dot=_dot if SIMULATED else cuda.jit(device=True)(_dot),
    **{function.__name__: device(function) for function in CONTRACT},
)
"""What the loops of layers call (`qrnn.model.layer_facts.RowLoop`, `StepLoop`): the functions of the contract, and ``dot``."""


if SIMULATED:
    to_integers: Any = boundary.to_integers
    to_reals: Any = boundary.to_reals
else:
    from numba.cuda import libdevice

    @cuda.jit(device=True)
    def to_integers(value: Any, scale: Any, limit: Any, offset: Any) -> Any:
        """Return `qrnn.model.boundary.to_integers` of one float64: NumPy's floor does not exist on the device, its IEEE operations do."""
        return min(max(libdevice.floor(value / scale + 0.5) - offset, -limit), limit)

    to_reals = cuda.jit(device=True)(boundary.to_reals)
