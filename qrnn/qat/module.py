"""The PyTorch module: parameters of the float model, a forward of integers, and a backward of straight-through gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qrnn.errors import DataError
from qrnn.model.batch import make_batch, with_time_axis, without_time_axis
from qrnn.model.float_model import FloatModel
from qrnn.model.integers_only import check_integers
from qrnn.model.quant_model import QuantModel
from qrnn.qat.backward import Gradients, backward
from qrnn.qat.trained import TrainedModel
from qrnn.qat.values import IntegerValues
from qrnn.quantization.scheme import Scheme
from qrnn.torch_import import from_torch
from qrnn.trained_files import load_trained


class QatModule(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not there for the type checker
    """See `qrnn.qat.prepare`.

    Its parameters are the arrays of the float model, float32: ``weights`` by names such as ``lstm/directions/0/weight_ih``. Constant initial states
    that are zero are parameters too, which do not ask for gradients unless they are told to. ``state_dict`` and ``load_state_dict`` are PyTorch's.
    """

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self._trained = trained
        self.weights = torch.nn.ParameterDict()
        self._places: dict[str, tuple[str, str]] = {}
        for layer, arrays in trained.arrays.items():
            for path, array in arrays.items():
                name = f"{layer}/{path}".replace(".", "/")
                while name in self._places:
                    name += "'"
                self._places[name] = layer, path
                learned = not path.endswith("_0.value") or bool(array.any())
                self.weights[name] = torch.nn.Parameter(torch.tensor(array, dtype=torch.float32), requires_grad=learned)
        self._seen: tuple[Any, ...] = ()

    def forward(
        self, x: Any, lengths: Any = None, states: Mapping[str, Any] | None = None
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return what ``Session.run`` of `deploy` gives for a batch, in real units, as float32 tensors.

        ``x``: a tensor for a model with one input of features or tokens, or a dict of tensors by graph input. ``lengths`` [N] are those of
        `Session.run`; ``states`` gives graph state inputs by name, [N, F] or [N, *shape] each. A model with one output gives a tensor,
        others a dict of tensors by the outputs' names; outputs over time are [N, T, …], zero past a sequence's end.
        """
        self._take_weights()
        given = {**self._by_input(x), **(states or {})}
        tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        wanted = [name for name, tensor in tensors.items() if tensor.requires_grad]
        call = _Call(
            self._trained, self._places, {name: _array(value) for name, value in given.items()}, _array(lengths), wanted
        )
        inputs = [*self.weights.values(), *(tensors[name] for name in wanted)]
        outputs = _Run.apply(call, torch.is_grad_enabled() and any(p.requires_grad for p in inputs), *inputs)
        named = dict(zip(call.names, outputs, strict=True))
        return next(iter(named.values())) if len(named) == 1 else named

    def _by_input(self, x: Any) -> dict[str, Any]:
        if isinstance(x, Mapping):
            return dict(x)
        own = [i.name for i in self._trained.inputs if i.kind in ("features", "tokens")]
        if len(own) != 1:
            raise DataError(f"x is one array, but the model reads {', '.join(own)}; give a dict with one for each")
        return {own[0]: x}

    def _take_weights(self) -> None:
        """Give the parameters as they are now to the model in training, where any of them has changed."""
        seen = tuple((p.data_ptr(), p._version) for p in self.weights.values())
        if seen == self._seen:
            return
        arrays: dict[str, dict[str, Any]] = {}
        for name, parameter in self.weights.items():
            layer, path = self._places[name]
            arrays.setdefault(layer, {})[path] = parameter.detach().cpu().numpy().astype(np.float64)
        self._trained.set_arrays(arrays)
        self._seen = seen

    @property
    def float_model(self) -> FloatModel:
        """Return the float model with the weights as they are now."""
        self._take_weights()
        return self._trained.float_model

    def deploy(self) -> QuantModel:
        """Return the integer model that `forward` computes with the weights as they are now."""
        self._take_weights()
        return self._trained.quantized

    def recalibrate(self, data: Mapping[str, Any]) -> None:
        """Choose the formats again, by the ranges that the float model with the weights as they are now has on ``data``.

        ``data`` has arrays or tensors by graph input, batch first, optionally with ``lengths``.
        """
        self._take_weights()
        self._trained.recalibrate({name: _array(value) for name, value in data.items()})


class _Call:
    """One forward pass, and the backward passes through it."""

    def __init__(
        self,
        trained: TrainedModel,
        places: Mapping[str, tuple[str, str]],
        arrays: Mapping[str, Any],
        lengths: Any,
        wanted: Sequence[str],
    ) -> None:
        self._trained, self._places, self._lengths, self.wanted = trained, places, lengths, wanted
        self._arrays, self._rows = with_time_axis(trained.inputs, arrays)
        self._shapes = {name: np.shape(arrays[name]) for name in wanted}
        self._values: IntegerValues | None = None
        self.names: list[str] = []

    def forward(self, traced: bool) -> list[Any]:
        """Return the outputs, in the order of ``names``."""
        batch = make_batch(self._trained.inputs, self._arrays, self._lengths, keep_float32=True)
        values = self._trained.run(batch, traced)
        if traced:
            self._values = values
        outputs = values.result.outputs
        if self._rows:
            outputs = without_time_axis(self._trained.quantized.outputs, outputs)
        self.names = list(outputs)
        return list(outputs.values())

    def back(self, gradients: Sequence[Any]) -> list[Any]:
        """Return the gradients of the weights and of the inputs that are wanted, for those of the outputs, each an array or None."""
        assert self._values is not None, "the forward pass kept nothing"
        given = {
            n: g if not self._rows else _with_step(g)
            for n, g in zip(self.names, gradients, strict=True)
            if g is not None
        }
        found: Gradients = backward(self._values, given)
        weights = [found.arrays.get(layer, {}).get(path) for layer, path in self._places.values()]
        own = {**found.inputs, **found.states}
        inputs = [own[name].reshape(self._shapes[name]) if name in own else None for name in self.wanted]
        return [*weights, *inputs]


def _with_step(gradient: Any) -> Any:
    return gradient[:, None]


class _Run(torch.autograd.Function):  # type: ignore[misc]
    """The forward pass and its straight-through backward, as PyTorch's autograd calls them."""

    @staticmethod
    def forward(ctx: Any, call: _Call, traced: bool, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the integer model."""
        ctx.call, ctx.tensors = call, [(t.shape, t.dtype, t.device) for t in tensors]
        ctx.set_materialize_grads(False)
        device = tensors[0].device if tensors else "cpu"
        return tuple(torch.from_numpy(y.astype(np.float32)).to(device) for y in call.forward(traced))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[Any, ...]:
        """Go back through the integer model."""
        given = [None if g is None else g.detach().cpu().double().numpy() for g in gradients]
        found = ctx.call.back(given)
        made = [
            None
            if g is None or not need
            else torch.from_numpy(np.require(g, requirements="CW")).to(device=device, dtype=dtype).reshape(shape)
            for g, need, (shape, dtype, device) in zip(found, ctx.needs_input_grad[2:], ctx.tensors, strict=True)
        ]
        return None, None, *made


def _array(value: Any) -> Any:
    """Return a tensor as an array of NumPy, and anything else as it is."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def prepared(
    model: Any, calibration: Mapping[str, Any], scheme: Scheme | None, target: str, **choices: Any
) -> QatModule:
    """Return the module of `qrnn.qat.prepare`."""
    if isinstance(model, torch.nn.Module):
        if "example" not in choices:
            raise DataError("example: missing; give what the module is called with, as for qrnn.from_torch")
        model = from_torch(model, choices.pop("example"), **choices)
    elif choices:
        raise DataError(f"{', '.join(choices)}: for a torch.nn.Module alone")
    if isinstance(model, (str, os.PathLike)):
        model = load_trained(model)
    if not isinstance(model, FloatModel):
        check_integers(model, "qrnn.qat.prepare")
        raise DataError(
            f"model: {type(model).__name__}, expected a FloatModel, the path of a trained model or a torch.nn.Module"
        )
    arrays = (
        {name: _array(value) for name, value in calibration.items()}
        if isinstance(calibration, Mapping)
        else calibration
    )
    return QatModule(TrainedModel(model, arrays, scheme, target))
