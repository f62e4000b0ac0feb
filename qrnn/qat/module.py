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
from qrnn.qat.arrays import layer_arrays
from qrnn.qat.backward import backward
from qrnn.qat.range_state import ranges_of, ranges_state
from qrnn.qat.scales import clamped_rows, has_scales, largest_of_rows, scale_gradients
from qrnn.qat.trained import TrainedModel
from qrnn.qat.values import IntegerValues
from qrnn.quantization.scheme import Scheme


class QatModule(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not there for the type checker
    """See `qrnn.qat.prepare`.

    Its parameters are the arrays of the float model, float32: ``weights`` by names such as ``lstm/directions/0/weight_ih``, and ``scales``
    where these are learned. Constant initial states that are zero are parameters too, which ask for gradients only where they are told to
    (``requires_grad_``). ``state_dict`` and ``load_state_dict`` are PyTorch's; they hold the formats as well.
    """

    def __init__(self, trained: TrainedModel, learned_scales: bool = False) -> None:
        super().__init__()
        self._trained = trained
        self.weights, self.scales = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        self._places: dict[str, tuple[str, str]] = {}
        for layer, arrays in trained.arrays.items():
            for path, array in arrays.items():
                name = f"{layer}/{path}".replace(".", "/")
                while name in self._places:
                    name += "'"
                self._places[name] = layer, path
                learned = not path.endswith("_0.value") or bool(array.any())
                self.weights[name] = torch.nn.Parameter(torch.tensor(array, dtype=torch.float32), learned)
                if learned_scales and has_scales(path, array):
                    self.scales[name] = torch.nn.Parameter(torch.tensor(largest_of_rows(array), dtype=torch.float32))
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
        wanted = {n: t for n, t in given.items() if isinstance(t, torch.Tensor) and t.requires_grad}
        arrays = {name: _array(value) for name, value in given.items()}
        call = _Call(self._trained, arrays, _lengths(lengths), list(wanted))
        inputs = [*self.weights.values(), *self.scales.values(), *wanted.values()]
        outputs = _Run.apply(self, call, torch.is_grad_enabled() and any(t.requires_grad for t in inputs), *inputs)
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
        own = [*self.weights.values(), *self.scales.values()]
        seen = tuple((p.data_ptr(), p._version) for p in own)
        if seen == self._seen:
            return
        arrays: dict[str, dict[str, Any]] = {}
        for name, parameter in self.weights.items():
            layer, path = self._places[name]
            array = _real(parameter)
            if name in self.scales:
                array = clamped_rows(array, _real(self.scales[name]))
            arrays.setdefault(layer, {})[path] = array
        self._trained.set_arrays(arrays)
        self._seen = seen

    def gradients(self, call: _Call, outputs: Sequence[Any]) -> list[Any]:
        """Return the gradients of all weights, of all scales, and of the inputs that ``call`` wants, for those of its outputs."""
        found, worth = call.back(outputs)
        weights: dict[str, Any] = {name: found.get(place) for name, place in self._places.items()}
        scales: list[Any] = []
        for name, parameter in self.scales.items():
            if weights[name] is None:
                scales.append(None)
                continue
            layer, path = self._places[name]
            real = layer_arrays(worth[layer])[path]
            made = scale_gradients(_real(self.weights[name]), _real(parameter), real, weights[name])
            weights[name] = made.weight
            scales.append(made.largest)
        return [*weights.values(), *scales, *(found.get(("", name)) for name in call.wanted)]

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

        ``data`` has arrays or tensors by graph input, batch first, optionally with ``lengths``. Widths stay as they are.
        """
        self._take_weights()
        self._trained.recalibrate({name: _array(value) for name, value in data.items()})

    def get_extra_state(self) -> dict[str, Any]:
        """Return the formats, as `torch.nn.Module.state_dict` keeps them: widths, and the ranges that say the rest."""
        return {"widths": self._trained.widths, "ranges": _mapped(ranges_state(self._trained.ranges), _tensor)}

    def set_extra_state(self, state: Any) -> None:
        """Take the formats of a checkpoint; DataError for one of another model."""
        self._trained.ranges = ranges_of(self._trained.float_model, _mapped(state["ranges"], _array))
        self._trained.widths = state["widths"]
        self._seen = ()


class _Call:
    """One forward pass, and the backward passes through it; ``wanted`` names the inputs whose gradients are."""

    def __init__(self, trained: TrainedModel, arrays: Mapping[str, Any], lengths: Any, wanted: Sequence[str]) -> None:
        self._trained, self._lengths, self.wanted = trained, lengths, wanted
        self._arrays, self._rows = with_time_axis(trained.inputs, arrays)
        self._shapes = {name: np.shape(arrays[name]) for name in wanted}
        self._values: IntegerValues | None = None
        self.names: list[str] = []

    def forward(self, traced: bool) -> list[Any]:
        """Return the outputs, in the order of ``names``; ``traced`` keeps what `back` needs."""
        batch = make_batch(self._trained.inputs, self._arrays, self._lengths, keep_float32=True)
        values = self._trained.run(batch, traced)
        values.unwanted = frozenset(batch.features) - set(self.wanted)
        self._values = values if traced else None
        outputs = values.result.outputs
        if self._rows:
            outputs = without_time_axis(self._trained.quantized.outputs, outputs)
        self.names = list(outputs)
        return list(outputs.values())

    def back(self, outputs: Sequence[Any]) -> tuple[dict[tuple[str, str], Any], dict[str, Any]]:
        """Return gradients by layer and path, or by an empty text and a wanted input; and the layers whose weights are what integers are worth.

        ``outputs`` are the gradients of the outputs, each an array or None.
        """
        assert self._values is not None, "the forward pass kept nothing"
        timed = {o.name for o in self._trained.quantized.outputs if o.has_time and self._rows}
        given = {
            name: g[:, None] if name in timed else g
            for name, g in zip(self.names, outputs, strict=True)
            if g is not None
        }
        gradients = backward(self._values, given)
        found = {(layer, path): g for layer, own in gradients.arrays.items() for path, g in own.items()}
        for name, gradient in {**gradients.inputs, **gradients.states}.items():
            if name in self._shapes:
                found["", name] = gradient.reshape(self._shapes[name])
        return found, {layer.name: layer for layer in self._values.model.layers}


class _Run(torch.autograd.Function):  # type: ignore[misc]
    """The forward pass and its straight-through backward, as PyTorch's autograd calls them."""

    @staticmethod
    def forward(
        ctx: Any, module: QatModule, call: _Call, traced: bool, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run the integer model."""
        ctx.module, ctx.call, ctx.kinds = module, call, [(t.shape, t.dtype, t.device) for t in tensors]
        ctx.set_materialize_grads(False)
        device = tensors[0].device if tensors else "cpu"
        return tuple(torch.from_numpy(y.astype(np.float32)).to(device) for y in call.forward(traced))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[Any, ...]:
        """Go back through the integer model."""
        given = [None if g is None else g.detach().cpu().double().numpy() for g in gradients]
        found = ctx.module.gradients(ctx.call, given)
        made = [
            None if g is None or not needed else _tensor(g).to(device=device, dtype=dtype).reshape(shape)
            for g, needed, (shape, dtype, device) in zip(found, ctx.needs_input_grad[3:], ctx.kinds, strict=True)
        ]
        return None, None, None, *made


def _array(value: Any) -> Any:
    """Return a tensor as an array of NumPy, and anything else as it is."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _real(parameter: Any) -> Any:
    """Return a parameter as an array of float64."""
    return _array(parameter).astype(np.float64)


def _lengths(value: Any) -> Any:
    return {name: _array(own) for name, own in value.items()} if isinstance(value, Mapping) else _array(value)


def _tensor(value: Any) -> Any:
    """Return an array as a tensor, and anything else as it is."""
    return torch.from_numpy(np.require(value, requirements=["C", "W"])) if isinstance(value, np.ndarray) else value


def _mapped(value: Any, function: Any) -> Any:
    """Return nested dicts with a function of what they hold."""
    return {key: _mapped(own, function) for key, own in value.items()} if isinstance(value, dict) else function(value)


def prepared(
    model: Any,
    calibration: Any,
    scheme: Scheme | None,
    target: str,
    learned_scales: bool = False,
    **options: Any,
) -> QatModule:
    """Return the module of `qrnn.qat.prepare`."""
    if isinstance(model, torch.nn.Module):
        if "example" not in options:
            raise DataError("example: missing; give what the module is called with, as for qrnn.from_torch")
        from qrnn.torch_import import from_torch  # the importers need libraries that a FloatModel does without

        model = from_torch(model, options.pop("example"), **options)
    elif options:
        raise DataError(f"{', '.join(options)}: not known, or for a torch.nn.Module alone")
    if isinstance(model, (str, os.PathLike)):
        from qrnn.trained_files import load_trained

        model = load_trained(model)
    if not isinstance(model, FloatModel):
        check_integers(model, "qrnn.qat.prepare")
        raise DataError(
            f"model: {type(model).__name__}, expected a FloatModel, the path of a trained model or a torch.nn.Module"
        )
    if isinstance(calibration, Mapping):
        calibration = {name: _array(value) for name, value in calibration.items()}
    return QatModule(TrainedModel(model, calibration, scheme, target), learned_scales)
