"""Random combinations of functions, attributes, inputs and lengths: refused by name, or run as docs/conformance.md has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance_cases import DIRECTIONS, OPERATORS, PARAMETERS, ROLES, Case, Shape, T, own_case

pytest.importorskip("onnxruntime")
from conformance_measure import measure
from conformance_tool import OWN_DIFFERENCE, reason, within_bound


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    op, direction = str(rng.choice(OPERATORS)), str(rng.choice(DIRECTIONS))
    attributes: dict[str, Any] = {}
    if op == "GRU":
        attributes["linear_before_reset"] = int(rng.random() < 0.5)
    if op == "LSTM" and rng.random() < 0.4:
        attributes["input_forget"] = 1
    if rng.random() < 0.4:
        attributes["clip"] = float(np.float32(rng.choice([0.2, 0.5, 1.0, 3.0, 30.0])))
    if rng.random() < 0.7:
        attributes |= random_functions(rng, op, 2 if direction == "bidirectional" else 1)
    slots = [s for s in ("B", "initial_h", "initial_c", "P") if rng.random() < 0.5]
    if op != "LSTM":
        slots = [s for s in slots if s in ("B", "initial_h")]
    lengths = tuple(int(v) for v in rng.integers(0, T + 1, 3)) if rng.random() < 0.5 else None
    shape = Shape(attributes, tuple(slots), lengths, x_scale=float(rng.choice([0.5, 1.0, 4.0])))
    return own_case(op, f"random {seed}", direction, shape)


def random_functions(rng: np.random.Generator, op: str, directions: int) -> dict[str, Any]:
    """Draw any function for each direction and role, with any alpha and beta that it takes."""
    names, alphas, betas = [], [], []
    for _ in ROLES[op] * directions:
        name = str(rng.choice(list(PARAMETERS)))
        names.append(name)
        alphas.extend(float(np.float32(rng.uniform(0.05, 1.0))) for _ in PARAMETERS[name][0])
        betas.extend(float(np.float32(rng.uniform(0.05, 1.0))) for _ in PARAMETERS[name][1])
    lists = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return {key: values for key, values in lists.items() if values}


def check(seed: int) -> None:
    result = measure(random_case(seed))
    assert not result.refused
    assert result.difference <= 2 * OWN_DIFFERENCE  # some leave float32's range on the way
    if result.not_quantized:
        assert any(text in result.not_quantized for text in ("fraction bits are left", "bits hold"))
        return
    assert result.equal
    assert within_bound(result), (result.outputs, reason(result))


@pytest.mark.shard_by("seed")
@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(30))
def test_random(seed: int) -> None:
    check(seed)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(30, 2000))
def test_more_random(seed: int) -> None:
    check(seed)
