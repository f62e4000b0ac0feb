"""What sessions generate: equal on every backend, equal to the teacher-forced run, independent of the batch, and refused by name."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest
from decoding_models import VOCABULARY, Head, forecaster, language_model, one_hot_model, transducer
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

import qrnn
from qrnn.model.choosing import ChoiceNumbers, choice_loop, choice_numbers, words_of
from qrnn.model.definitions import PLAIN, plain
from qrnn.model.quant_model import QuantModel

BACKENDS = ("reference", "cpu")


samplings = st.none() | st.builds(
    qrnn.Sampling,
    st.floats(0.05, 20.0),
    st.none() | st.integers(1, VOCABULARY + 2),
    st.none() | st.floats(0.01, 1.0),
)


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
    """Philox4x32-10 as Salmon et al. 2011 write it."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def test_the_known_answers_of_philox() -> None:
    """Those of the authors' Random123, kat_vectors."""
    assert philox((0,) * 4, (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert philox((ones,) * 4, (ones, ones)) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox(pi, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def chosen(scores: Any, seed: int, number: int, numbers: ChoiceNumbers, probabilities: bool = False) -> int:
    loop = choice_loop(numbers, probabilities)
    out = np.zeros((1, 1), object)
    words = words_of(np.array([[seed, number]], np.uint64))
    rows, parameters = loop.make(PLAIN), [plain(p) for p in loop.parameters]
    rows(0, 1, *parameters, plain(np.array([scores])), plain(words), out)
    return int(out[0, 0])


def expected(scores: list[int], seed: int, number: int, numbers: ChoiceNumbers, probabilities: bool) -> int:
    """The choice, by sorting: see docs/arithmetic.md, section 12."""
    loop = choice_loop(numbers, probabilities)
    powers, logs = loop.parameters[-2:]
    best = max(range(len(scores)), key=lambda k: (scores[k], -k))
    if numbers.greedy:
        return best
    distances = [PLAIN.choice_distance(scores[best], s, int(probabilities), plain(logs)) for s in scores]
    weights = [PLAIN.choice_weight(d, numbers.multiplier, numbers.shift, plain(powers)) for d in distances]
    order = sorted(range(len(scores)), key=lambda k: (-scores[k], k))[: numbers.top_k or len(scores)]
    if numbers.top_p:
        target, kept, summed = ceil(sum(weights[k] for k in order) * numbers.top_p / 65536), [], 0
        for k in order:
            if summed >= target and kept:
                break
            kept.append(k)
            summed += weights[k]
        order = kept
    word = philox((number & 0xFFFFFFFF, number >> 32, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))[0]
    point = sum(weights[k] for k in order) * word >> 32
    for k in sorted(order):
        point -= weights[k]
        if point < 0:
            return k
    return best


@given(
    st.lists(st.integers(-32768, 32767) | st.integers(-3, 3), min_size=1, max_size=12),
    st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), samplings, st.booleans(), st.integers(0, 15),
)  # fmt: skip
def test_the_choice_is_that_of_a_sort(
    scores: list[int], seed: int, number: int, sampling: Any, probabilities: bool, frac: int
) -> None:
    if probabilities:
        scores = [abs(s) % 16385 for s in scores]
    numbers = choice_numbers(sampling, 2.0**-frac, probabilities)
    assert chosen(scores, seed, number, numbers, probabilities) == expected(
        scores, seed, number, numbers, probabilities
    )


def test_draws_have_the_distribution_of_the_softmax() -> None:
    scores, N = [0, 2048, 4096, 1000, -40000 // 2], 3000
    for temperature in (0.5, 1.0, 3.0):
        numbers = choice_numbers(qrnn.Sampling(temperature), 2.0**-11, False)
        counts = np.bincount([chosen(scores, 7, n, numbers) for n in range(N)], minlength=5)
        p = np.exp(np.array(scores) / 2048 / temperature)
        p /= p.sum()
        assert (np.abs(counts / N - p) < 5 * np.sqrt(p * (1 - p) / N) + 1e-9).all()


def teacher_forced(model: QuantModel, inputs: dict[str, Any], fed: str, generated: Any, output: str) -> Any:
    """The output of each step where what was generated is given as a sequence."""
    prompt = np.asarray(inputs[fed])
    whole = np.concatenate([prompt, generated[:, :-1]], 1)
    steps = whole.shape[1]
    others = {k: v[:, :steps] if v.ndim == 3 else v for k, v in inputs.items() if k != fed}
    return qrnn.Session(model).run({fed: whole, **others}).outputs[output][:, prompt.shape[1] - 1 :]


@pytest.mark.parametrize("head", ["logits", "softmax", "log_softmax", "argmax"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_tokens_are_the_largest_of_the_teacher_forced_scores(head: Head, cell: str) -> None:
    model, rng = language_model(head, cell), np.random.default_rng(3)
    prompt = rng.integers(0, VOCABULARY, (3, 4))
    found = [qrnn.Session(model, backend).generate({"tokens": prompt}, steps=15) for backend in BACKENDS]
    np.testing.assert_array_equal(found[0].tokens, found[1].tokens)
    scores = teacher_forced(model, {"tokens": prompt}, "tokens", found[0].tokens, "scores")
    want = scores[..., 0] if head == "argmax" else scores.argmax(-1)
    np.testing.assert_array_equal(found[0].tokens, want)
    assert len(np.unique(want)) > 2


@settings(max_examples=25)
@given(st.data())
def test_every_backend_and_every_batch_gives_the_same(data: st.DataObject) -> None:
    """Ragged prompts, seeds and stops: what a sequence generates, it generates alone, and in pieces."""
    head: Head = data.draw(st.sampled_from(["logits", "softmax"]))
    model = language_model(head, conditioned=True, seed=data.draw(st.integers(0, 1)))
    sampling, N, P = data.draw(samplings), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    steps, stop = data.draw(st.integers(1, 9)), data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=2))
    lengths = data.draw(st.lists(st.integers(1, P), min_size=N, max_size=N))
    seeds = np.array(data.draw(st.lists(st.integers(0, (1 << 64) - 1), min_size=N, max_size=N)), np.uint64)
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    inputs = {
        "tokens": rng.integers(0, VOCABULARY, (N, P)),
        "step": rng.normal(size=(N, P + steps, 3)),
        "voice": rng.normal(size=(N, 2)),
    }
    wanted = {"steps": steps, "sampling": sampling, "stop": stop}
    one, other = (qrnn.Session(model, backend).generate(inputs, lengths, seed=seeds, **wanted) for backend in BACKENDS)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    session = qrnn.Session(model)
    for n in range(N):
        alone = {k: v[n : n + 1] for k, v in inputs.items()}
        alone["tokens"] = alone["tokens"][:, : lengths[n]]
        found = session.generate(alone, seed=int(seeds[n]), **wanted)
        count = int(one.lengths[n])
        assert found.tokens[0].tolist() == one.tokens[n, :count].tolist()
        assert not one.tokens[n, count:].any()
        assert one.stopped[n] == found.stopped[0] == (int(found.tokens[0, -1]) in stop)
        for name, arrays in found.state.layers.items():
            for a, b in zip(arrays, one.state.layers[name], strict=True):
                np.testing.assert_array_equal(a[0], b[n])
        # in pieces: the first token, then the rest from the state
        first = session.generate(alone, seed=int(seeds[n]), **{**wanted, "steps": 1})
        if count > 1:
            rest = {**alone, **first.next_inputs, "step": alone["step"][:, lengths[n] :]}
            more = session.generate(
                rest, seed=int(seeds[n]), drawn=first.drawn, state=first.state, **{**wanted, "steps": steps - 1}
            )
            assert [*first.tokens[0], *more.tokens[0]] == found.tokens[0].tolist()


def test_a_result_says_what_it_is_in_a_few_lines() -> None:
    session = qrnn.Session(language_model())
    found = session.generate({"tokens": np.array([[1], [2]])}, steps=25, scores=True)
    lines = repr(found).splitlines()
    assert lines[0] == "Generated of 2 sequences: 50 tokens"
    assert lines[1:3] == ["  tokens int64[2, 25]", "  scores float64[2, 25]"]
    assert lines[3] == f"  the first sequence: {' '.join(map(str, found.tokens[0, :20]))} …"
    assert lines[4] == "  0 ended by a stop token; State of 2 streams"


def test_seeds_of_a_batch_count_up_from_the_first() -> None:
    session, sampling = qrnn.Session(language_model()), qrnn.Sampling(2.0)
    prompt = np.zeros((3, 1), int)
    together = session.generate({"tokens": prompt}, steps=8, sampling=sampling, seed=5)
    alone = session.generate({"tokens": prompt[:1]}, steps=8, sampling=sampling, seed=7)
    assert together.tokens[2].tolist() == alone.tokens[0].tolist()
    assert len({tuple(row) for row in together.tokens.tolist()}) == 3
    np.testing.assert_array_equal(together.drawn, [8, 8, 8])


@pytest.mark.parametrize("scheme", ["8", "8-per-feature", "16-per-feature"])
@pytest.mark.parametrize("last", [False, True])
def test_values_are_fed_back(scheme: str, last: bool) -> None:
    """What is generated, given as a sequence, gives the same integers; so do integers in and out."""
    model = forecaster(scheme=scheme, last=last)
    x = np.random.default_rng(0).normal(size=(3, 4, 3)) * [1.0, 10.0, 0.3] + [3.0, -20.0, 0.0]
    found = [qrnn.Session(model, backend).generate({"x": x}, [4, 2, 1], steps=7) for backend in BACKENDS]
    assert found[0].values is not None
    np.testing.assert_array_equal(found[0].values, found[1].values)
    session = qrnn.Session(model)
    for n, length in enumerate((4, 2, 1)):
        whole = np.concatenate([x[n : n + 1, :length], found[0].values[n : n + 1, :-1]], 1)
        for t in range(7) if last else (6,):
            run = session.run({"x": whole[:, : length + t]}).outputs["y"]
            got = run if last else run[:, length - 1 :]
            want = found[0].values[n, t] if last else found[0].values[n]
            np.testing.assert_array_equal(got[0], want)
    from qrnn.model.boundary import quantize_array

    integers = session.generate({"x": quantize_array(x, model.tensors["x"])}, [4, 2, 1], steps=7, integers=True)
    assert integers.values is not None
    assert integers.values.dtype == np.int16
    scales, offsets = model.scales_and_offsets(model.outputs[0])
    np.testing.assert_array_equal((integers.values + offsets) * scales, found[0].values)
    more = session.generate(integers.next_inputs, steps=2, state=integers.state, integers=True)
    both = session.generate({"x": x}, [4, 2, 1], steps=9).values
    np.testing.assert_array_equal((more.values + offsets) * scales, both[:, 7:])  # type: ignore[operator,index]


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["lstm", "gru", "rnn"]), st.integers(1, 2), st.booleans(), st.integers(0, 3), st.booleans(), st.integers(1, 3), st.data()
)  # fmt: skip
def test_drawn_models_go_on_as_their_teacher_forced_runs(
    cell: Any, depth: int, linear_before_reset: bool, projection: int, residual: bool, N: int, data: st.DataObject
) -> None:
    """Stacks of every cell, with projections and residual sums: every backend, and the run of what was generated."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 16)))
    shape = Shape(
        cell, layers=depth, linear_before_reset=linear_before_reset, head=3, projection=projection if cell == "lstm" else 0, residual=residual
    )  # fmt: skip
    scheme = qrnn.Scheme(
        activations=data.draw(st.sampled_from([8, 16])), input=data.draw(st.sampled_from(["8", "16-per-feature"]))
    )
    model = qrnn.quantize(make_model(shape, rng), {"x": rng.normal(size=(4, 12, 3))}, scheme)
    x, steps = rng.normal(size=(N, 3, 3)), data.draw(st.integers(1, 8))
    lengths = data.draw(st.lists(st.integers(1, 3), min_size=N, max_size=N))
    one, other = (qrnn.Session(model, b).generate({"x": x}, lengths, steps=steps, feed={"x": "y"}) for b in BACKENDS)
    assert one.values is not None
    np.testing.assert_array_equal(one.values, other.values)
    for n, length in enumerate(lengths):
        whole = np.concatenate([x[n : n + 1, :length], one.values[n : n + 1, :-1]], 1)
        np.testing.assert_array_equal(
            qrnn.Session(model).run({"x": whole}).outputs["y"][0, length - 1 :], one.values[n]
        )


def test_one_hot_tokens() -> None:
    """A prompt of tokens is one of their one-hot vectors, and chosen tokens are fed as such."""
    model = one_hot_model()
    prompt = np.array([[1, 2], [5, 0]])
    found = [
        qrnn.Session(model, backend).generate({"x": given}, steps=9, sampling=sampling)
        for backend, given, sampling in (
            ("cpu", prompt, None), ("reference", np.eye(7)[prompt], None),
            ("cpu", prompt, qrnn.Sampling(2.0)), ("reference", prompt, qrnn.Sampling(2.0)),
        )
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0].tokens, found[1].tokens)
    np.testing.assert_array_equal(found[2].tokens, found[3].tokens)
    scores = teacher_forced(model, {"x": np.eye(7)[prompt]}, "x", np.eye(7)[found[0].tokens], "p")
    np.testing.assert_array_equal(found[0].tokens, scores.argmax(-1))


def rnnt(model: QuantModel, frames: Any, blank: int, most: int) -> tuple[list[int], list[int]]:
    """Greedy decoding of a transducer, spelled out with steps and states."""
    session = qrnn.Session(model)
    state, token, tokens, places = session.initial_state(1), 0, [], []
    for t, frame in enumerate(frames):
        for _ in range(most):
            step = session.step({"tokens": np.array([token]), "frames": frame[None]}, state)
            best = int(step.outputs["joint"][0].argmax())
            if best == blank:
                break
            state, token = step.state, best
            tokens.append(best)
            places.append(t)
    return tokens, places


@pytest.mark.parametrize("most", [1, 3])
def test_transducers(most: int) -> None:
    model, rng = transducer(), np.random.default_rng(5)
    frames, lengths = rng.normal(size=(4, 15, 5)), [15, 0, 7, 15]
    inputs = {"tokens": np.zeros((4, 1), int), "frames": frames}
    found = [
        qrnn.Session(model, b).generate(inputs, lengths, blank=6, most_symbols=most, scores=True) for b in BACKENDS
    ]
    np.testing.assert_array_equal(found[0].tokens, found[1].tokens)
    for n, length in enumerate(lengths):
        tokens, places = rnnt(model, frames[n, :length], 6, most)
        count = int(found[0].lengths[n])
        assert found[0].tokens[n, :count].tolist() == tokens
        assert found[0].frames is not None
        assert found[0].frames[n, :count].tolist() == places
    assert 0 < len(tokens) < 15 * most
    # frames in two pieces: the state and the last token go on
    first = qrnn.Session(model).generate({**inputs, "frames": frames[:, :6]}, blank=6, most_symbols=most)
    rest = {**first.next_inputs, "frames": frames[:, 6:]}
    second = qrnn.Session(model).generate(rest, blank=6, most_symbols=most, state=first.state)
    for n in (0, 3):
        pieces = [*first.tokens[n, : first.lengths[n]], *second.tokens[n, : second.lengths[n]]]
        assert pieces == found[0].tokens[n, : found[0].lengths[n]].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pool_chooses_as_a_session(backend: str) -> None:
    """Streams that open and close at different times draw what they draw alone, also after the pool has grown."""
    session, sampling = qrnn.Session(language_model(), backend), qrnn.Sampling(2.0, top_k=6)
    want = session.generate({"tokens": np.array([[1], [2], [3]])}, steps=10, sampling=sampling, seed=40).tokens
    pool = session.pool(capacity=1)
    streams: dict[int, int] = {}
    got: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for t in range(14):
        if t % 2 == 0 and t < 6:
            streams[t // 2] = pool.open(seed=40 + t // 2)
        for n in [n for n in streams if len(got[n]) == 10]:
            assert pool.drawn(streams[n]) == 10
            pool.close(streams.pop(n))
        fed = np.array([got[n][-1] if got[n] else n + 1 for n in streams])
        for n, token in zip(streams, pool.choose(list(streams.values()), {"tokens": fed}, sampling), strict=True):
            got[n].append(int(token))
    assert [got[n][:10] for n in range(3)] == want.tolist()


def test_a_pool_of_transducers_keeps_the_state_at_the_blank() -> None:
    model, frames = transducer(), np.random.default_rng(5).normal(size=(15, 5))
    pool, tokens, token = qrnn.Session(model).pool(), [], 0
    stream = pool.open()
    for frame in frames:
        for _ in range(3):
            inputs = {"tokens": np.array([token]), "frames": frame[None]}
            best = int(pool.choose([stream], inputs, blank=6)[0])
            if best == 6:
                break
            token = best
            tokens.append(best)
    assert tokens == rnnt(model, frames, 6, 3)[0]


def test_scores_are_log_probabilities() -> None:
    prompt = np.array([[1], [4]])
    for head in ("logits", "softmax", "log_softmax"):
        model = language_model(head)  # type: ignore[arg-type]
        found = qrnn.Session(model).generate({"tokens": prompt}, steps=6, scores=True)
        scores = teacher_forced(model, {"tokens": prompt}, "tokens", found.tokens, "scores")
        p = scores if head == "softmax" else np.exp(scores - scores.max(-1, keepdims=True))
        want = np.log(np.take_along_axis(p, found.tokens[..., None], 2)[..., 0] / p.sum(-1))
        np.testing.assert_allclose(found.scores, want, rtol=1e-9, atol=1e-12)  # type: ignore[arg-type]
