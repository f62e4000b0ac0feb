"""What the compiled loop of backpropagation through time (`qrnn.qat.kernels`) reads and makes."""

from __future__ import annotations

from typing import Any, NamedTuple

from qrnn.qat.numbers import Functions


class States(NamedTuple):
    """A state after every step, [N, T, W], and before the first, [N, W]: integers in units of ``unit`` [1], or real numbers.

    Its gradient is 0 where its magnitude is not below ``most``.
    """

    after: Any
    before: Any
    unit: Any
    most: float


class Operand(NamedTuple):
    """How a matrix reads a state: see `qrnn.qat.lookups.read_number`, in units of ``unit`` [1]; ``step`` is that unit, or 0 of real numbers."""

    shift: int
    limit: int
    unit: Any
    step: float


class Projection(NamedTuple):
    """The matrix that makes h of the cell's own state, [P, H] or [0, H] without one.

    That state is rounded to ``unit`` within ±``most`` of it, and to ``step`` within ±``limit`` of it for the matrix; both are 0 of real
    numbers.
    """

    weight: Any
    unit: float
    most: float
    step: float
    limit: float


class Cell(NamedTuple):
    """What kind of cell it is.

    ``family`` is one of `qrnn.qat.chunk_loops`: ``LSTM``, whose rows are the blocks i, f (with ``own_forget``), g, o; ``GRU``, whose rows are
    r (with ``resets``), z, n, and h' = z·h + (1 - z)·n; or ``RNN``. ``coupled``: f is 1 - i. ``after``: r multiplies R·h + b, and not h.
    Without ``memory`` every step begins anew.
    """

    family: int
    own_forget: bool
    coupled: bool
    resets: bool
    after: bool
    memory: bool


class Given(NamedTuple):
    """What the loop reads.

    ``H`` units, and the row of `qrnn.qat.chunk_loops.VALUES` for each gate in ``places``; ``gates`` and ``output``, the function of c, whose
    argument has ``shift`` fraction bits less than c; the states ``h`` and ``c``; x [N, T, I] as the matrix reads it; ``weight_ih`` [G·H, I],
    empty where nobody wants the gradient of x; R [G·H, P], empty where there is none; ``turned`` [P, H] and ``bias`` [H], the rows of n of a
    GRU with ``after``, transposed; ``diagonal`` [H or 0]; ``peephole`` [G·H or 0]; ``of_h`` [N, T, P], the gradient of h that comes from
    outside.
    """

    cell: Cell
    H: int
    places: Any
    lengths: Any
    gates: Functions
    output: Functions
    shift: int
    h: States
    c: States
    operand: Operand
    x: Any
    weight_ih: Any
    R: Any
    turned: Any
    bias: Any
    diagonal: Any
    peephole: Any
    projection: Projection
    of_h: Any


class Wanted(NamedTuple):
    """What the loop makes.

    ``h`` [N, P] and ``c`` [N, H] go from the gradients of the last states to those of the first ones; ``begun_h`` and ``begun_c``, of a
    cell without memory, sum those of the states before every step. ``x`` [N, T, I] or empty. Sums over the rows: of matrices and biases, of
    the diagonal, the peephole and the projection; those of R·h + b, or of R·(r ⊙ h) + b in the rows of n, are ``weight_hh`` and ``bias_hh``.
    """

    h: Any
    c: Any
    begun_h: Any
    begun_c: Any
    x: Any
    weight_ih: Any
    bias_ih: Any
    weight_hh: Any
    bias_hh: Any
    diagonal: Any
    peephole: Any
    projection: Any
    projection_bias: Any


class Work(NamedTuple):
    """The loop's own arrays, for the B sequences of a block that go back together.

    Of a chunk of units: ``w`` (`qrnn.qat.chunk_loops`), and ``coupled`` [1], which is 1 where f is 1 - i. Of the step at hand: ``of`` [B, P],
    the gradient of h after it; ``dh`` [B, P] and ``dc`` [B, H], those that go on to the step before; ``total`` [B, P], what R gives for the
    state that it reads; ``of_own`` [B, H], the gradient of what a projection reads, and ``own_live`` [2, H], 0 where rounding that clamps it;
    ``read_live`` [B, P], 0 where the operand of R is clamped; ``of_n`` [B, P], R·h + b in the rows of n; ``before``, ``reset_value`` and
    ``reset_live`` [B, P], h before it, r, and 0 where r ⊙ h is clamped. Of every step: ``dz`` and ``products`` [B, T, G·H], the gradients of
    the gates' arguments and of R's products, which are one array where these are equal; ``read`` and ``reset`` [B, T, P], h as R reads it and r
    ⊙ h; ``own`` [B, T, H] and ``of_state`` [B, T, P], what a projection reads and the gradient of what it gives.
    """

    w: Any
    coupled: Any
    of: Any
    dh: Any
    dc: Any
    total: Any
    of_own: Any
    own_live: Any
    read_live: Any
    of_n: Any
    before: Any
    reset_value: Any
    reset_live: Any
    dz: Any
    products: Any
    read: Any
    reset: Any
    own: Any
    of_state: Any
