"""The cells as their papers write them: one sequence, one step and one unit at a time, in Python floats.

Nothing of the package is used here. A sequence is a list of vectors, a vector a list of floats, a matrix a list of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Vector = list[float]
Matrix = list[Vector]
Function = Callable[[float], float]


def sigmoid(v: float) -> float:
    return 1.0 / (1.0 + math.exp(-v)) if v >= 0 else math.exp(v) / (1.0 + math.exp(v))


def step(v: float) -> float:
    return 1.0 if v >= 0 else 0.0


def relu(v: float) -> float:
    return v if v > 0 else 0.0


def two_sigmoid_minus_one(v: float) -> float:
    return 2.0 * sigmoid(v) - 1.0


def four_sigmoid_minus_two(v: float) -> float:
    return 4.0 * sigmoid(v) - 2.0


def linear(v: float) -> float:
    return v


FUNCTIONS: dict[str, Function] = {
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "relu": relu,
    "step": step,
    "linear": linear,
    "two_sigmoid_minus_one": two_sigmoid_minus_one,
    "four_sigmoid_minus_two": four_sigmoid_minus_two,
}


def dot(row: Vector, v: Vector) -> float:
    """Return the sum of the products."""
    assert len(row) == len(v)
    return sum(a * b for a, b in zip(row, v, strict=True))


def softmax(v: Vector) -> Vector:
    """Compute e^(v_k) / Σ_j e^(v_j)."""
    e = [math.exp(a - max(v)) for a in v]
    return [a / sum(e) for a in e]


def clamp(v: float, clip: float) -> float:
    """Clamp v to ±clip."""
    return max(-clip, min(clip, v))


def apply(name: str, v: Vector) -> Vector:
    """Apply a function by its name to every element, or softmax to all of them."""
    return softmax(v) if name == "softmax" else [FUNCTIONS[name](a) for a in v]


def lstm(
    xs: list[Vector],
    h: Vector,
    c: Vector,
    W: dict[str, Matrix],
    U: dict[str, Matrix],
    b: dict[str, Vector],
    *,
    forget: str = "gate",
    gate: str = "sigmoid",
    candidate: str = "tanh",
    output: str = "tanh",
    p: dict[str, Vector] | None = None,
    P: Matrix | None = None,
    clip: float = math.inf,
) -> tuple[list[Vector], Vector, Vector]:
    """Compute an LSTM of one of the papers, gate by gate: W["i"] is [H][I], and so on.

    These are Hochreiter, Schmidhuber 1997 (forget "one"), Gers et al. 2000 (forget "gate", peepholes p), Greff et al. 2017 (forget
    "coupled") and Sak et al. 2014 (projection P, without bias).
    """
    sigma, gamma, eta = FUNCTIONS[gate], FUNCTIONS[candidate], FUNCTIONS[output]
    H = len(c)
    zero = [0.0] * H
    p = p or {"i": zero, "f": zero, "o": zero}
    ys = []
    for x in xs:
        m, new_c = zero.copy(), zero.copy()
        for j in range(H):
            i = sigma(clamp(dot(W["i"][j], x) + dot(U["i"][j], h) + b["i"][j] + p["i"][j] * c[j], clip))
            g = gamma(clamp(dot(W["g"][j], x) + dot(U["g"][j], h) + b["g"][j], clip))
            if forget == "one":
                f = 1.0
            elif forget == "coupled":
                f = 1.0 - i
            else:
                f = sigma(clamp(dot(W["f"][j], x) + dot(U["f"][j], h) + b["f"][j] + p["f"][j] * c[j], clip))
            new_c[j] = f * c[j] + i * g
            o = sigma(clamp(dot(W["o"][j], x) + dot(U["o"][j], h) + b["o"][j] + p["o"][j] * new_c[j], clip))
            m[j] = o * eta(new_c[j])
        h = m if P is None else [dot(row, m) for row in P]
        c = new_c
        ys.append(h)
    return ys, h, c


def gru(
    xs: list[Vector],
    h: Vector,
    W: dict[str, Matrix],
    U: dict[str, Matrix],
    b: dict[str, Vector],
    b_hh: dict[str, Vector],
    *,
    reset_after: bool,
    keeps: bool,
    gate: str = "sigmoid",
    clip: float = math.inf,
) -> tuple[list[Vector], Vector]:
    """Compute the GRU of Cho et al. 2014 (not reset_after, keeps), Chung et al. 2014 (neither) or PyTorch (reset_after, keeps)."""
    sigma = FUNCTIONS[gate]
    H = len(h)
    ys = []
    for x in xs:
        r = [sigma(clamp(dot(W["r"][j], x) + dot(U["r"][j], h) + b["r"][j] + b_hh["r"][j], clip)) for j in range(H)]
        new = []
        for j in range(H):
            z = sigma(clamp(dot(W["z"][j], x) + dot(U["z"][j], h) + b["z"][j] + b_hh["z"][j], clip))
            if reset_after:
                recurrent = r[j] * (dot(U["n"][j], h) + b_hh["n"][j])
            else:
                recurrent = dot(U["n"][j], [r[k] * h[k] for k in range(H)]) + b_hh["n"][j]
            n = math.tanh(clamp(dot(W["n"][j], x) + b["n"][j] + recurrent, clip))
            new.append(z * h[j] + (1.0 - z) * n if keeps else (1.0 - z) * h[j] + z * n)
        h = new
        ys.append(h)
    return ys, h


def layer_norm(v: Vector, gain: Vector, bias: Vector, epsilon: float) -> Vector:
    """Ba, Kiros, Hinton 2016, equation 4, with an epsilon."""
    mean = sum(v) / len(v)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in v) / len(v) + epsilon)
    return [g / deviation * (a - mean) + b for a, g, b in zip(v, gain, bias, strict=True)]


def normalized(
    by_gate: dict[str, Vector], norm: dict[str, Vector], together: list[str], epsilon: float
) -> dict[str, Vector]:
    """Normalize the numbers of the gates that each text of ``together`` names, side by side; ``norm`` has "gain_i", "bias_i" and so on."""
    found = {}
    for gates in together:
        side_by_side = [
            [a for gate in gates for a in of[prefix + gate]]
            for of, prefix in ((by_gate, ""), (norm, "gain_"), (norm, "bias_"))
        ]
        values = layer_norm(*side_by_side, epsilon)
        H = len(values) // len(gates)
        found |= {gate: values[k * H : (k + 1) * H] for k, gate in enumerate(gates)}
    return found


def layer_norm_lstm(
    xs: list[Vector],
    h: Vector,
    c: Vector,
    W: dict[str, Matrix],
    U: dict[str, Matrix],
    b: dict[str, Vector],
    norms: dict[str, dict[str, Vector]],
    *,
    together: list[str],
    epsilon: float,
    clip: float = math.inf,
) -> tuple[list[Vector], Vector, Vector]:
    """Ba, Kiros, Hinton 2016, supplement, equations 20 to 22, or with norms["sum"] the norm of W x + U h + b."""
    H, ys = len(h), []
    for x in xs:
        a = {gate: [dot(row, x) for row in W[gate]] for gate in "ifgo"}
        r = {gate: [dot(row, h) for row in U[gate]] for gate in "ifgo"}
        if "sum" in norms:
            both = {gate: [a[gate][j] + r[gate][j] + b[gate][j] for j in range(H)] for gate in "ifgo"}
            z = normalized(both, norms["sum"], together, epsilon)
        else:
            a, r = normalized(a, norms["x"], together, epsilon), normalized(r, norms["h"], together, epsilon)
            z = {gate: [a[gate][j] + r[gate][j] + b[gate][j] for j in range(H)] for gate in "ifgo"}
        z = {gate: [clamp(v, clip) for v in z[gate]] for gate in "ifgo"}
        c = [sigmoid(z["f"][j]) * c[j] + sigmoid(z["i"][j]) * math.tanh(z["g"][j]) for j in range(H)]
        shown = layer_norm(c, norms["c"]["gain"], norms["c"]["bias"], epsilon) if "c" in norms else c
        h = [sigmoid(z["o"][j]) * math.tanh(shown[j]) for j in range(H)]
        ys.append(h)
    return ys, h, c


def layer_norm_gru(
    xs: list[Vector],
    h: Vector,
    W: dict[str, Matrix],
    U: dict[str, Matrix],
    b: dict[str, Vector],
    b_hh: dict[str, Vector],
    norms: dict[str, dict[str, Vector]],
    *,
    together: list[str],
    epsilon: float,
    reset_after: bool,
    keeps: bool,
) -> tuple[list[Vector], Vector]:
    """Ba, Kiros, Hinton 2016, supplement (reset_after); else U_n reads r h. norms["sum"]: of each gate's whole argument."""
    H, ys = len(h), []
    gates_of_n = [gates for gates in together if "n" in gates]
    for x in xs:
        a = {gate: [dot(row, x) for row in W[gate]] for gate in "rzn"}
        u = {gate: [dot(row, h) for row in U[gate]] for gate in "rzn"}
        if "sum" in norms:
            a = {gate: [v + w for v, w in zip(a[gate], b[gate], strict=True)] for gate in "rzn"}
            u = {gate: [v + w for v, w in zip(u[gate], b_hh[gate], strict=True)] for gate in "rzn"}
            first = [gates for gates in together if "n" not in gates]
            z_of = normalized({g: [a[g][j] + u[g][j] for j in range(H)] for g in "rz"}, norms["sum"], first, epsilon)
        else:
            a, u = normalized(a, norms["x"], together, epsilon), normalized(u, norms["h"], together, epsilon)
            a = {gate: [v + w for v, w in zip(a[gate], b[gate], strict=True)] for gate in "rzn"}
            u = {gate: [v + w for v, w in zip(u[gate], b_hh[gate], strict=True)] for gate in "rzn"}
            z_of = {gate: [a[gate][j] + u[gate][j] for j in range(H)] for gate in "rz"}
        r, z = ([sigmoid(v) for v in z_of[gate]] for gate in "rz")
        if reset_after:
            of_h = [r[j] * u["n"][j] for j in range(H)]
        else:
            of_h = [dot(row, [r[j] * h[j] for j in range(H)]) for row in U["n"]]
            if "h" in norms:
                of_h = normalized({"n": of_h}, norms["h"], gates_of_n, epsilon)["n"]
            of_h = [of_h[j] + b_hh["n"][j] for j in range(H)]
        before = [a["n"][j] + of_h[j] for j in range(H)]
        if "sum" in norms:
            before = normalized({"n": before}, norms["sum"], gates_of_n, epsilon)["n"]
        n = [math.tanh(v) for v in before]
        h = [z[j] * h[j] + (1 - z[j]) * n[j] if keeps else (1 - z[j]) * h[j] + z[j] * n[j] for j in range(H)]
        ys.append(h)
    return ys, h


def min_gru(
    xs: list[Vector],
    h: Vector,
    W: dict[str, Matrix],
    b: dict[str, Vector],
    *,
    keeps: bool,
    candidate: str = "linear",
    clip: float = math.inf,
) -> tuple[list[Vector], Vector]:
    """Feng et al. 2024 (not keeps): z_t = σ(W_z x_t + b_z), h_t = (1 - z_t) h_{t-1} + z_t g(W_n x_t + b_n)."""
    ys = []
    for x in xs:
        z = [sigmoid(clamp(dot(W["z"][j], x) + b["z"][j], clip)) for j in range(len(h))]
        n = [FUNCTIONS[candidate](clamp(dot(W["n"][j], x) + b["n"][j], clip)) for j in range(len(h))]
        share = [1.0 - v for v in z] if keeps else z  # of what is new
        h = [h[j] + share[j] * (n[j] - h[j]) for j in range(len(h))]
        ys.append(h)
    return ys, h


def indrnn(
    xs: list[Vector], h: Vector, W: Matrix, u: Vector, b: Vector, f: str, clip: float = math.inf
) -> tuple[list[Vector], Vector]:
    """Li et al. 2018: h_t = f(W x_t + u ⊙ h_{t-1} + b)."""
    ys = []
    for x in xs:
        h = [FUNCTIONS[f](clamp(dot(W[j], x) + u[j] * h[j] + b[j], clip)) for j in range(len(h))]
        ys.append(h)
    return ys, h


def rnn(
    xs: list[Vector], h: Vector, W: Matrix, U: Matrix, b: Vector, f: str, clip: float = math.inf
) -> tuple[list[Vector], Vector]:
    """Compute h_t = f(W x_t + U h_{t-1} + b)."""
    ys = []
    for x in xs:
        h = [FUNCTIONS[f](clamp(dot(W[j], x) + dot(U[j], h) + b[j], clip)) for j in range(len(h))]
        ys.append(h)
    return ys, h


def elman(
    xs: list[Vector], h: Vector, W: Matrix, U: Matrix, b: Vector, V: Matrix, c: Vector, f: str, g: str
) -> tuple[list[Vector], Vector]:
    """Compute Elman's network of 1990, y_t = g(V h_t + c), and return the ys and the last h."""
    hs, last = rnn(xs, h, W, U, b, f)
    return [apply(g, [dot(V[k], h) + c[k] for k in range(len(V))]) for h in hs], last


def jordan(
    xs: list[Vector], y: Vector, W: Matrix, U: Matrix, b: Vector, V: Matrix, c: Vector, f: str, g: str
) -> tuple[list[Vector], Vector]:
    """Compute Jordan's network of 1986, h_t = f(W x_t + U y_{t-1} + b), y_t = g(V h_t + c), and return the ys and the last y."""
    ys = []
    for x in xs:
        h = [FUNCTIONS[f](dot(W[j], x) + dot(U[j], y) + b[j]) for j in range(len(W))]
        y = apply(g, [dot(V[k], h) + c[k] for k in range(len(V))])
        ys.append(y)
    return ys, y
