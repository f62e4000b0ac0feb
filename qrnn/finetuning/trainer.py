"""The trainer in PyTorch: Adam over the parameters of a module whose outputs are the deployed integers'."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from qrnn.accuracy.parts import Integers, model_parts
from qrnn.errors import DataError
from qrnn.finetuning.checkpoint import Arrays
from qrnn.finetuning.examples import Examples
from qrnn.finetuning.losses import loss_of, powers
from qrnn.finetuning.training import Training
from qrnn.model.quant_model import QuantModel
from qrnn.qat.arrays import model_arrays
from qrnn.qat.scales import largest_of_rows

MODULE, OPTIMIZER = "module.", "optimizer."
"""What the names of arrays in a trainer's state begin with."""

FORMATS = "formats"
"""The array of what the module keeps beside tensors, which are its formats: the bytes of a file that PyTorch reads without running code."""


class TorchTrainer:
    """Trains ``module``, as `qrnn.qat.prepare` returns it, on ``examples``.

    The order of an epoch's sequences follows from the seed and the epoch's number alone, so that a training that was interrupted goes on as
    it would have. Nothing else is drawn.
    """

    def __init__(
        self,
        module: Any,
        examples: Examples,
        training: Training,
        calibration: Mapping[str, Any],
    ) -> None:
        self.module, self.examples, self.training, self.calibration = module, examples, training, calibration
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=training.learning_rate)
        self.power = powers(examples)
        self.steps = math.ceil(examples.size / training.batch)

    def epoch(self, number: int, report: Callable[[float], None]) -> float:
        """Go through the examples once and return the mean loss; formats are estimated anew before, where that is this epoch's turn.

        PyTorch gets one thread meanwhile: its part is small, and its threads would wait for each other where others use the cores.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._epoch(number, report)
        finally:
            torch.set_num_threads(threads)

    def _epoch(self, number: int, report: Callable[[float], None]) -> float:
        every = self.training.recalibrate
        if every and number > 1 and (number - 1) % every == 0:
            self.module.recalibrate(self.calibration)
        order = np.random.default_rng([self.training.seed, 2, number]).permutation(self.examples.size)
        total = 0.0
        for step in range(self.steps):
            rows = order[step * self.training.batch : (step + 1) * self.training.batch]
            done = (number - 1 + step / self.steps) / self.training.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.training.learning_rate * (1 + math.cos(math.pi * done)) / 2
            loss = self.step(self.examples.take(np.sort(rows)))
            if not math.isfinite(loss):
                return loss
            total += loss * len(rows)
            report((step + 1) / self.steps)
        return total / self.examples.size

    def step(self, piece: Examples) -> float:
        """Take one step of the optimizer and return the loss before it; a loss that is no number leaves everything as it was."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.outputs(piece), piece, self.power, self.training.distill)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.training.clip))
        if not math.isfinite(norm):
            return norm
        self.optimizer.step()
        return value

    def outputs(self, piece: Examples) -> Mapping[str, torch.Tensor]:
        """Return the module's outputs by name."""
        starts = {i.name for i in piece.model.inputs if i.kind == "state"}
        given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in piece.arrays().items()}
        states = {name: given.pop(name) for name in starts & given.keys()}
        found = self.module(given, lengths=piece.batch.given_lengths, states=states or None)
        return found if isinstance(found, Mapping) else {piece.model.outputs[0].name: found}

    def deploy(self) -> QuantModel:
        """Return the integer model with the weights as they are now."""
        model: QuantModel = self.module.deploy()
        return model

    def state(self) -> Arrays:
        """Return copies of the module's and the optimizer's tensors."""
        whole = self.module.state_dict()
        tensors = {name: value for name, value in whole.items() if isinstance(value, torch.Tensor)}
        arrays = {f"{MODULE}{name}": tensor.detach().numpy().copy() for name, tensor in tensors.items()}
        if others := {name: value for name, value in whole.items() if name not in tensors}:
            content = io.BytesIO()
            torch.save(others, content)
            arrays[FORMATS] = np.frombuffer(content.getvalue(), np.uint8)
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                arrays[f"{OPTIMIZER}{name}.{key}"] = value.detach().numpy().copy()
        return arrays

    def load(self, state: Arrays) -> None:
        """Set the module's tensors and formats and the optimizer's tensors; DataError where they are not this model's."""
        known = self.module.state_dict()
        given: dict[str, Any] = {
            name.removeprefix(MODULE): torch.from_numpy(array.copy())
            for name, array in state.items()
            if name.startswith(MODULE)
        }
        if FORMATS in state:
            given |= torch.load(
                io.BytesIO(state[FORMATS].tobytes()), weights_only=True
            )  # which runs no code of the file's
        for name in sorted(known.keys() | given.keys()):
            have, want = given.get(name), known.get(name)
            if have is None or want is None or getattr(have, "shape", None) != getattr(want, "shape", None):
                raise DataError(
                    f"checkpoint: the tensor {name!r} does not fit the model; delete the file, and training begins anew"
                )
        self.module.load_state_dict(given)
        self.optimizer.state.clear()
        for name, parameter in self.parameters.items():
            start = f"{OPTIMIZER}{name}."
            own = {n.removeprefix(start): torch.from_numpy(a.copy()) for n, a in state.items() if n.startswith(start)}
            if own:
                self.optimizer.state[parameter] = own


def begin_with(module: Any, untrained: QuantModel) -> None:
    """Set the parameters of a module to what the integers of ``untrained`` are worth, which were rounded with more care than to the nearest.

    The module has the same float model, scheme and formats. Its rows have the steps of their largest weights, so that rounding to the
    nearest gives these integers again, but for a few of rows whose largest weight moved. Learned scales begin with the largest weights of
    these rows: with those of the rows before, refined weights beyond them would be clamped.
    """
    worth = Integers(untrained, model_parts(untrained)).weights(module.float_model)
    arrays = [array for own in model_arrays(worth).values() for array in own.values()]
    with torch.no_grad():
        for parameter, array in zip(module.weights.values(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
        for name, scale in module.scales.items():
            scale.copy_(torch.from_numpy(largest_of_rows(module.weights[name].double().numpy())))
