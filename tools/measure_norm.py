"""Measure layer and RMS normalization in integers against float64: the figures of docs/arithmetic.md, section 5.

    python tools/measure_norm.py

``exact input`` compares with float64 of the same integers, so the difference is that of the arithmetic and the output's int16 alone; ``with
input`` compares with float64 of the real numbers before they became int16. SQNR in dB over all elements; random gains in 0.25…2 and biases
within ±1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from qrnn.arithmetic.norms import norm_exponent, norm_scale, norm_variance, normalize
from qrnn.arithmetic.reals import round_half_up
from qrnn.model.formats import fraction_bits
from qrnn.model.norm_parameters import NormParameters, norm_parameters
from qrnn.model.parts import FloatArray, Int16Array

SIZES = (4, 16, 64, 256, 1024)
EPSILON = 1e-5
Draw = Callable[[np.random.Generator, int, int], FloatArray]


def random(rng: np.random.Generator, rows: int, count: int) -> FloatArray:
    """Normal, of deviation 1."""
    return rng.normal(size=(rows, count))


def tiny(rng: np.random.Generator, rows: int, count: int) -> FloatArray:
    """One row in eight of deviation 1, which sets the format; the rest of 1/1000."""
    return rng.normal(size=(rows, count)) * np.where(np.arange(rows) % 8, 1e-3, 1.0)[:, None]


def offset(rng: np.random.Generator, rows: int, count: int) -> FloatArray:
    """A mean of 100 deviations."""
    return 100.0 + rng.normal(size=(rows, count))


def outliers(rng: np.random.Generator, rows: int, count: int) -> FloatArray:
    """One feature in each row 50 times as large as the others."""
    x = rng.normal(size=(rows, count))
    x[np.arange(rows), rng.integers(count, size=rows)] *= 50.0
    return x


CASES: dict[str, Draw] = {"random": random, "tiny variance": tiny, "large mean": offset, "outliers": outliers}


def reference(x: FloatArray, gain: FloatArray, bias: FloatArray, centred: bool) -> FloatArray:
    """The equation in float64."""
    mean = x.mean(axis=1, keepdims=True) if centred else 0.0
    result: FloatArray = gain * (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + EPSILON) + bias
    return result


def integers(q: Int16Array, p: NormParameters, centred: bool) -> FloatArray:
    """The contract's rows."""
    out = np.zeros(q.shape)
    parameters = list(zip(p.gain.tolist(), p.gain_shift.tolist(), p.bias.tolist(), strict=True))
    for m, row in enumerate(q.tolist()):
        total = sum(row) if centred else 0
        variance = norm_variance(len(row), total, sum(v * v for v in row), p.variance_shift, p.epsilon)
        exponent = norm_exponent(variance)
        scale = norm_scale(variance, exponent)
        out[m] = [normalize(v, len(row), total, scale, exponent, *own) for v, own in zip(row, parameters, strict=True)]
    return out


def sqnr(want: FloatArray, got: FloatArray) -> float:
    """In dB, over all elements."""
    return float(10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()))


def measured(x: FloatArray, centred: bool, seed: int) -> tuple[float, float, float]:
    """SQNR against float64 of the integers and of the real numbers; the largest error of the former in units of the output."""
    rng = np.random.default_rng(seed)
    gain: FloatArray = rng.uniform(0.25, 2.0, (x.shape[1],))
    bias: FloatArray = rng.uniform(-1.0, 1.0, (x.shape[1],))
    in_frac = fraction_bits(float(np.abs(x).max()), headroom=1.0)
    q = np.clip(round_half_up(x * 2.0**in_frac), -32768, 32767).astype(np.int16)
    real, same = reference(x, gain, bias, centred), reference(q / 2.0**in_frac, gain, bias, centred)
    out_frac = fraction_bits(float(np.abs(real).max()))
    p = norm_parameters("row", gain, bias, EPSILON, in_frac, out_frac)
    got = integers(q, p, centred) / 2.0**out_frac
    return sqnr(same, got), sqnr(real, got), float(np.abs(same - got).max() * 2.0**out_frac)


def wide_sums(count: int, rows: int) -> tuple[float, float, float]:
    """SQNR of int32 sums of deviation 2^20 brought to int16: by 16 bits, which no int32 saturates; by what calibration shows; not at all."""
    rng = np.random.default_rng(count)
    x = round_half_up(rng.normal(size=(rows, count)) * 2.0**20)
    gain, bias = np.ones(count), np.zeros(count)
    frac = 17  # a deviation of 8
    real = reference(x / 2.0**frac, gain, bias, True)
    found = []
    calibrated = max(0, int(np.ceil(np.log2(2 * np.abs(x).max()))) - 15)  # leaves twice the largest within int16
    for shift in (16, calibrated):
        q = np.clip((x.astype(np.int64) + (1 << (shift - 1))) >> shift, -32768, 32767).astype(np.int16)
        p = norm_parameters("row", gain, bias, EPSILON, frac - shift, 12)
        found.append(sqnr(real, integers(q, p, True) / 2.0**12))
    return found[0], found[1], sqnr(real, round_half_up(real * 2.0**12) / 2.0**12)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status."""
    parser = argparse.ArgumentParser(description="Measure integer normalization against float64.")
    parser.add_argument("--rows", type=int, default=64, help="rows of each case (default: %(default)s)")
    rows: int = parser.parse_args(arguments).rows
    for centred, title in ((True, "layer normalization"), (False, "RMS normalization")):
        print(f"{title}: SQNR in dB, exact input / with input, and the largest error of the former in output units")
        print(f"  {'F':>5}" + "".join(f"{name:>24}" for name in CASES))
        for count in SIZES:
            cells = [
                measured(draw(np.random.default_rng(count), rows, count), centred, count) for draw in CASES.values()
            ]
            print(f"  {count:>5}" + "".join(f"{own:10.1f} / {real:4.1f} ({error:4.2f})" for own, real, error in cells))
    print(
        "int32 sums of deviation 2^20 brought to int16: SQNR in dB by 16 bits, by calibration, of an exact result in int16"
    )
    for count in SIZES:
        proved, calibrated, exact = wide_sums(count, rows)
        print(f"  {count:>5}{proved:10.1f}{calibrated:10.1f}{exact:10.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
