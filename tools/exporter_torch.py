"""Ordinary PyTorch models around recurrent layers, small and untrained, for tools/exporters.py.

Each builder returns a module and its example inputs. Batch and time are dynamic in what the classic exporter writes, and fixed in what the
newer one does, as each does when a user says nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

BATCH, STEPS, FEATURES, UNITS = 2, 12, 5, 8


class Pattern(NamedTuple):
    """A module with ``call`` as its forward function, and its example inputs."""

    call: Callable[..., Any]
    modules: dict[str, nn.Module]
    inputs: tuple[torch.Tensor, ...]
    fixed_steps: bool = False


class Called(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
    """A module whose forward is a function of it and the inputs."""

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        for name, module in pattern.modules.items():
            setattr(self, name, module)
        self._call = pattern.call

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return what the pattern computes."""
        return self._call(self, *inputs)


def sequence(features: int = FEATURES) -> torch.Tensor:
    """Return a batch of sequences, [N, T, F]."""
    return torch.randn(BATCH, STEPS, features)


def tokens() -> torch.Tensor:
    """Return a batch of token sequences, [N, T]."""
    return torch.randint(0, 9, (BATCH, STEPS))


def lstm(features: int = FEATURES, units: int = UNITS, **options: Any) -> nn.LSTM:
    """Return an LSTM that takes batches first."""
    return nn.LSTM(features, units, batch_first=True, **options)


def gru(features: int = FEATURES, units: int = UNITS, **options: Any) -> nn.GRU:
    """Return a GRU that takes batches first."""
    return nn.GRU(features, units, batch_first=True, **options)


class Normalized(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
    """Features less their mean over their deviation, as buffers hold them."""

    def __init__(self, features: int = FEATURES) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(features))
        self.register_buffer("deviation", torch.rand(features) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (x - mean) / (deviation + 1e-3)."""
        return (x - self.mean) / (self.deviation + 1e-3)


class LearnedStates(nn.Module):  # type: ignore[misc]  # PyTorch is not followed by the type checker
    """Initial states that are parameters, repeated for each sequence."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.h, self.c = (nn.Parameter(0.3 * torch.randn(layers, 1, UNITS)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return h_0 and c_0 for the batch of ``x``."""
        return self.h.repeat(1, x.size(0), 1), self.c.expand(-1, x.size(0), -1).contiguous()


def _attention(m: Any, x: torch.Tensor) -> torch.Tensor:
    y, _ = m.rnn(x)
    weights = torch.softmax(m.score(torch.tanh(m.hidden(y))), dim=1)
    return m.head((weights * y).sum(dim=1))


def _both_ends(m: Any, x: torch.Tensor) -> torch.Tensor:
    y, _ = m.rnn(x)
    return m.head(torch.cat([y[:, -1, :UNITS], y[:, 0, UNITS:]], dim=-1))


def _flipped(m: Any, x: torch.Tensor) -> torch.Tensor:
    backwards, _ = m.back(torch.flip(x, [1]))
    return m.head(torch.cat([m.rnn(x)[0], torch.flip(backwards, [1])], dim=2))


def _unrolled_lstm(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = c = torch.zeros(x.size(0), UNITS)
    for t in range(STEPS):
        h, c = m.cell(x[:, t], (h, c))
    return m.head(h)


def _unrolled_gru(m: Any, x: torch.Tensor) -> torch.Tensor:
    h, found = torch.zeros(x.size(0), UNITS), []
    for t in range(STEPS):
        h = m.cell(x[:, t], h)
        found.append(h)
    return m.head(torch.stack(found, dim=1))


def _by_hand(m: Any, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
    i, f, g, o = (m.ih(x) + m.hh(h)).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return m.head(h), h, c


def _repeated(m: Any, x: torch.Tensor) -> torch.Tensor:
    _, (h, _) = m.encoder(x)
    return m.head(m.decoder(h[-1].unsqueeze(1).repeat(1, x.size(1), 1))[0])


def _context(m: Any, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return m.head(m.rnn(torch.cat([x, z.unsqueeze(1).expand(-1, x.size(1), -1)], dim=2))[0])


def _masked_mean(m: Any, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    y, _ = m.rnn(x)
    mask = (torch.arange(x.size(1))[None, :] < lengths[:, None]).unsqueeze(2).to(y.dtype)
    return m.head((y * mask).sum(1) / lengths[:, None].to(y.dtype))


def _stack_of_norms(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = x + m.a(m.norm(x))[0]
    return m.head(y + m.b(m.norm2(y))[0])


def _merged(m: Any, x: torch.Tensor) -> torch.Tensor:
    y, _ = m.rnn(x)
    n, t, h = y.shape
    return m.head(y.reshape(n * t, h)).view(n, t, -1)


def _step(m: Any, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y, (h, c) = m.rnn(x, (h, c))
    return m.head(y), h, c


def patterns() -> dict[str, Pattern]:
    """Return the models by what is special about them."""
    x, head, head2 = sequence(), nn.Linear(UNITS, 3), nn.Linear(2 * UNITS, 3)
    states = (torch.zeros(1, 1, UNITS), torch.zeros(1, 1, UNITS))

    def last(m: Any, y: torch.Tensor) -> torch.Tensor:
        return m.head(m.rnn(y)[0][:, -1])

    def every(m: Any, y: torch.Tensor) -> torch.Tensor:
        return m.head(m.rnn(y)[0])

    return {
        "LSTM, every step": Pattern(every, {"rnn": lstm(), "head": head}, (x,)),
        "GRU, last step": Pattern(last, {"rnn": gru(), "head": head}, (x,)),
        "RNN with ReLU": Pattern(
            every, {"rnn": nn.RNN(FEATURES, UNITS, nonlinearity="relu", batch_first=True), "head": head}, (x,)
        ),
        "two layers, h_n of the last": Pattern(
            lambda m, y: m.head(m.rnn(y)[1][0][-1]), {"rnn": lstm(num_layers=2), "head": head}, (x,)
        ),
        "bidirectional, both h_n": Pattern(
            lambda m, y: m.head(torch.cat([m.rnn(y)[1][0], m.rnn(y)[1][1]], dim=1)),
            {"rnn": gru(bidirectional=True), "head": head2},
            (x,),
        ),
        "bidirectional, both ends by slices": Pattern(
            _both_ends, {"rnn": lstm(bidirectional=True), "head": head2}, (x,)
        ),
        "projection": Pattern(every, {"rnn": lstm(units=16, proj_size=UNITS), "head": head}, (x,)),
        "time first": Pattern(every, {"rnn": nn.GRU(FEATURES, UNITS), "head": head}, (x.transpose(0, 1).contiguous(),)),
        "one step a call, states in and out": Pattern(
            _step, {"rnn": nn.LSTM(FEATURES, UNITS), "head": head}, (torch.randn(1, 1, FEATURES), *states)
        ),
        "learned initial states": Pattern(
            lambda m, y: m.head(m.rnn(y, m.states(y))[0]),
            {"rnn": lstm(num_layers=2), "states": LearnedStates(2), "head": head},
            (x,),
        ),
        "normalized input": Pattern(
            lambda m, y: last(m, m.norm(y)), {"norm": Normalized(), "rnn": lstm(), "head": head}, (x,)
        ),
        "output scaled back": Pattern(lambda m, y: 12.5 * last(m, y) + 100.0, {"rnn": lstm(), "head": head}, (x,)),
        "BatchNorm at the input": Pattern(
            lambda m, y: last(m, m.norm(y.transpose(1, 2)).transpose(1, 2)),
            {"norm": nn.BatchNorm1d(FEATURES), "rnn": gru(), "head": head},
            (x,),
        ),
        "BatchNorm behind the last step": Pattern(
            lambda m, y: m.head(m.norm(m.rnn(y)[0][:, -1])),
            {"rnn": gru(), "norm": nn.BatchNorm1d(UNITS), "head": head},
            (x,),
        ),
        "LayerNorm, residuals, two layers": Pattern(
            _stack_of_norms,
            {
                "a": lstm(UNITS),
                "b": lstm(UNITS),
                "norm": nn.LayerNorm(UNITS),
                "norm2": nn.LayerNorm(UNITS),
                "head": head,
            },
            (sequence(UNITS),),
        ),
        "Conv1d, BatchNorm, ReLU, MaxPool, GRU": Pattern(
            lambda m, y: last(m, m.front(y.transpose(1, 2)).transpose(1, 2)),
            {
                "front": nn.Sequential(
                    nn.Conv1d(FEATURES, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2)
                ),
                "rnn": gru(6),
                "head": head,
            },
            (x,),
        ),
        "Conv2d over time and bands, GRU": Pattern(
            lambda m, y: every(m, m.front(y.unsqueeze(1)).transpose(1, 2).flatten(2)),
            {"front": nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()), "rnn": gru(4 * FEATURES), "head": head},
            (x,),
        ),
        "mean over time": Pattern(lambda m, y: m.head(m.rnn(y)[0].mean(1)), {"rnn": gru(), "head": head}, (x,)),
        "largest over time": Pattern(lambda m, y: m.head(m.rnn(y)[0].max(1)[0]), {"rnn": gru(), "head": head}, (x,)),
        "mean over time by lengths": Pattern(
            _masked_mean, {"rnn": gru(), "head": head}, (x, torch.tensor([STEPS, STEPS - 4]))
        ),
        "attention over time": Pattern(
            _attention, {"rnn": gru(), "hidden": nn.Linear(UNITS, 4), "score": nn.Linear(4, 1), "head": head}, (x,)
        ),
        "reversed copy, concatenated": Pattern(_flipped, {"rnn": lstm(), "back": lstm(), "head": head2}, (x,)),
        "differences of steps": Pattern(lambda m, y: last(m, y[:, 1:] - y[:, :-1]), {"rnn": gru(), "head": head}, (x,)),
        "last three steps": Pattern(lambda m, y: m.head(m.rnn(y)[0][:, -3:]), {"rnn": gru(), "head": head}, (x,)),
        "every second step": Pattern(lambda m, y: every(m, y[:, ::2]), {"rnn": gru(), "head": head}, (x,)),
        "all steps flattened into a Linear": Pattern(
            lambda m, y: m.head(m.rnn(y)[0].flatten(1)), {"rnn": gru(), "head": nn.Linear(STEPS * UNITS, 3)}, (x,), True
        ),
        "autoencoder, last state repeated": Pattern(
            _repeated, {"encoder": lstm(), "decoder": lstm(UNITS), "head": head}, (x,)
        ),
        "static features at every step": Pattern(
            _context, {"rnn": gru(FEATURES + 3), "head": head}, (x, torch.randn(BATCH, 3))
        ),
        "static features behind the last step": Pattern(
            lambda m, y, z: m.head(torch.cat([m.rnn(y)[0][:, -1], z], dim=1)),
            {"rnn": gru(), "head": nn.Linear(UNITS + 3, 3)},
            (x, torch.randn(BATCH, 3)),
        ),
        "nn.LSTMCell, unrolled": Pattern(
            _unrolled_lstm, {"cell": nn.LSTMCell(FEATURES, UNITS), "head": head}, (x,), True
        ),
        "nn.GRUCell, unrolled, every step": Pattern(
            _unrolled_gru, {"cell": nn.GRUCell(FEATURES, UNITS), "head": head}, (x,), True
        ),
        "LSTM step by hand": Pattern(
            _by_hand,
            {"ih": nn.Linear(FEATURES, 4 * UNITS), "hh": nn.Linear(UNITS, 4 * UNITS), "head": head},
            (torch.randn(1, FEATURES), torch.zeros(1, UNITS), torch.zeros(1, UNITS)),
        ),
        "batch and time merged around a Linear": Pattern(_merged, {"rnn": lstm(), "head": head}, (x,)),
        "batch and time merged at the output": Pattern(
            lambda m, y: m.head(m.rnn(y)[0].reshape(-1, UNITS)), {"rnn": lstm(), "head": head}, (x,)
        ),
        "embedding and language-model head": Pattern(
            lambda m, i: functional.log_softmax(m.head(m.rnn(m.table(i))[0]), dim=-1),
            {"table": nn.Embedding(9, 6), "rnn": lstm(6), "head": nn.Linear(UNITS, 9)},
            (tokens(),),
        ),
        "one value a step": Pattern(
            lambda m, y: last(m, y.unsqueeze(-1)).squeeze(-1),
            {"rnn": lstm(1), "head": nn.Linear(UNITS, 1)},
            (torch.randn(BATCH, STEPS),),
        ),
        "gate times the input": Pattern(
            lambda m, y: y * torch.sigmoid(every(m, y)), {"rnn": gru(), "head": nn.Linear(UNITS, FEATURES)}, (x,)
        ),
        "GELU, SiLU, PReLU, ELU head": Pattern(
            lambda m, y: m.c(functional.elu(m.p(m.b(functional.silu(m.a(functional.gelu(every(m, y)))))))),
            {
                "rnn": gru(),
                "head": head,
                "a": nn.Linear(3, 4),
                "b": nn.Linear(4, 4),
                "p": nn.PReLU(),
                "c": nn.Linear(4, 2),
            },
            (x,),
        ),
        "mean and softplus of the deviation": Pattern(
            lambda m, y: (last(m, y), functional.softplus(m.wide(m.rnn(y)[0][:, -1])) + 1e-3),
            {"rnn": lstm(), "head": head, "wide": nn.Linear(UNITS, 3)},
            (x,),
        ),
        "half precision": Pattern(last, {"rnn": lstm().half(), "head": nn.Linear(UNITS, 3).half()}, (x.half(),)),
        "packed sequence": Pattern(
            lambda m, y, lengths: m.head(
                nn.utils.rnn.pad_packed_sequence(
                    m.rnn(nn.utils.rnn.pack_padded_sequence(y, lengths, batch_first=True))[0], batch_first=True
                )[0]
            ),
            {"rnn": gru(bidirectional=True), "head": head2},
            (x, torch.tensor([STEPS, STEPS - 4])),
        ),
        "groups of features, each by a layer": Pattern(
            lambda m, y: m.head(torch.cat([m.a(y[..., :2])[0], m.b(y[..., 2:])[0]], dim=-1)),
            {"a": gru(2), "b": lstm(FEATURES - 2), "head": head2},
            (x,),
        ),
        "halves of a bidirectional layer added": Pattern(
            lambda m, y: m.head(m.rnn(y)[0][..., :UNITS] + m.rnn(y)[0][..., UNITS:]),
            {"rnn": gru(bidirectional=True), "head": head},
            (x,),
        ),
        "several steps forecast at once": Pattern(
            lambda m, y: last(m, y).view(-1, 3, 2), {"rnn": gru(), "head": nn.Linear(UNITS, 6)}, (x,)
        ),
        "images, rows as steps": Pattern(
            lambda m, y: last(m, y.squeeze(1)),
            {"rnn": gru(FEATURES), "head": head},
            (torch.randn(BATCH, 1, STEPS, FEATURES),),
        ),
    }
