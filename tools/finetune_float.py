"""Train a float model further as PyTorch does, as what fine-tuned integers are compared with: same data, loss, order, steps and epochs.

A chain of recurrent, dense and sigmoid layers with the last step in between is computed by PyTorch's own LSTM, GRU and RNN, so that nothing
of qrnn's arithmetic takes part; cells with hard gates are written out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import qrnn
from qrnn.errors import UnsupportedError
from qrnn.finetuning.examples import Examples
from qrnn.finetuning.trainer import TorchTrainer
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent

SMOOTH = {"gate": "sigmoid", "candidate": "tanh", "output": "tanh"}
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class FloatNet(nn.Module):  # type: ignore[misc]  # PyTorch is not there for the type checker
    """The float model as a module that is called as `qrnn.qat.prepare`'s is; UnsupportedError for layers that it does not know."""

    def __init__(self, model: qrnn.FloatModel) -> None:
        super().__init__()
        self.model = model
        self.parts = nn.ModuleList([_part(layer) for layer in model.layers])

    def forward(self, x: dict[str, torch.Tensor], lengths: Any, states: Any = None) -> dict[str, torch.Tensor]:
        """Return the outputs by name; states start at zero."""
        values, counts = {name: array.float() for name, array in x.items()}, torch.as_tensor(np.asarray(lengths))
        for layer, part in zip(self.model.layers, self.parts, strict=True):
            values[layer.outputs[0]] = part(values[layer.inputs[0]], counts)
        found = {}
        for output in self.model.outputs:
            name = output.parts[0][0]
            if name in values:
                found[output.name] = values[name].reshape(
                    *values[name].shape[: 2 if output.has_time else 1], *output.shape
                )
        return found

    @property
    def float_model(self) -> qrnn.FloatModel:
        """Return the model with the weights as they are now."""
        layers = tuple(part.layer_of(layer) for layer, part in zip(self.model.layers, self.parts, strict=True))
        return replace(self.model, layers=layers, source_sha256="")


def trained(examples: Examples, training: qrnn.Training) -> qrnn.FloatModel:
    """Return the float model of the examples after all epochs of a training; none is chosen."""
    trainer = TorchTrainer(FloatNet(examples.model), examples, training, {})
    for number in range(1, training.epochs + 1):
        trainer.epoch(number, lambda _: None)
    model: qrnn.FloatModel = trainer.module.float_model
    return model


def _part(layer: Any) -> nn.Module:
    if isinstance(layer, Recurrent):
        kinds = {role: activation.kind for role, activation in layer.directions[0].activations.items()}
        plain = all(SMOOTH[role] == kind for role, kind in kinds.items()) and layer.cell in CELLS
        if plain and (layer.cell != "gru" or layer.linear_before_reset):
            return _Recurrent(layer)
        if layer.cell == "lstm" and len(layer.directions) == 1:
            return _WrittenOut(layer)
    elif isinstance(layer, Dense):
        return _Dense(layer)
    elif isinstance(layer, LastStep):
        return _Last()
    elif isinstance(layer, Pointwise) and layer.activation.kind == "sigmoid":
        return _Sigmoid()
    raise UnsupportedError(f"layer {layer.name!r}: the float training of this tool does not know it")


def _given(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _array(values: torch.Tensor) -> Any:
    return values.detach().numpy().astype(np.float64)


class _Recurrent(nn.Module):  # type: ignore[misc]
    """PyTorch's own layer; its gates have the order of qrnn's."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        first = layer.directions[0]
        self.reverse = [d.reverse for d in layer.directions]
        both = self.reverse == [False, True]
        self.own = CELLS[layer.cell](first.weight_ih.shape[1], layer.hidden_size, batch_first=True, bidirectional=both)
        for number, d in enumerate(layer.directions):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                self._parameter(name, number).data = _given(getattr(d, name))

    def _parameter(self, name: str, number: int) -> Any:
        return getattr(self.own, f"{name}_l0{'_reverse' if number else ''}")

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.own(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def layer_of(self, layer: Recurrent) -> Recurrent:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        directions = tuple(
            replace(d, **{name: _array(self._parameter(name, k)) for name in names})
            for k, d in enumerate(layer.directions)
        )
        return replace(layer, directions=directions)


class _WrittenOut(nn.Module):  # type: ignore[misc]
    """An LSTM with hard gates, step by step."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        (d,) = layer.directions
        self.functions = dict(d.activations)
        self.weight_ih, self.weight_hh = (nn.Parameter(_given(w)) for w in (d.weight_ih, d.weight_hh))
        self.bias = nn.Parameter(_given(d.bias_ih + d.bias_hh))

    def _function(self, role: str, values: torch.Tensor) -> torch.Tensor:
        chosen = self.functions[role]
        if chosen.kind == "hard_sigmoid":
            return torch.clamp(chosen.alpha * values + chosen.beta, 0, 1)
        return {"tanh": torch.tanh, "sigmoid": torch.sigmoid}[chosen.kind](values)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        read = x @ self.weight_ih.T + self.bias
        h = c = x.new_zeros(len(x), self.weight_hh.shape[1])
        found = []
        for t in range(x.shape[1]):
            i, f, g, o = (read[:, t] + h @ self.weight_hh.T).chunk(4, dim=1)
            c = self._function("gate", f) * c + self._function("gate", i) * self._function("candidate", g)
            h = self._function("gate", o) * self._function("output", c)
            found.append(h)
        return torch.stack(found, dim=1)

    def layer_of(self, layer: Recurrent) -> Recurrent:
        (d,) = layer.directions
        bias = _array(self.bias)
        made = replace(
            d,
            weight_ih=_array(self.weight_ih),
            weight_hh=_array(self.weight_hh),
            bias_ih=bias,
            bias_hh=np.zeros_like(bias),
        )
        return replace(layer, directions=(made,))


class _Dense(nn.Module):  # type: ignore[misc]
    def __init__(self, layer: Dense) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(_given(layer.weight)), nn.Parameter(_given(layer.bias))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def layer_of(self, layer: Dense) -> Dense:
        return replace(layer, weight=_array(self.weight), bias=_array(self.bias))


class _Same(nn.Module):  # type: ignore[misc]
    """A layer without weights."""

    def layer_of(self, layer: Any) -> Any:
        return layer


class _Last(_Same):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return x[torch.arange(len(x)), lengths - 1]


class _Sigmoid(_Same):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)
