"""The backward pass of a model: gradients of weights, biases, initial states and inputs from those of its outputs (docs/training_equations.md).

The layers are walked from the last to the first. A recurrent layer's gradient goes back through time (`qrnn.qat.recurrent`); that of any
other layer is the derivative of its float64 equation (`qrnn.qat.tape`). Both are taken at the numbers of the forward pass
(`qrnn.qat.values`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray
from qrnn.qat.arrays import layer_arrays, with_arrays
from qrnn.qat.equation_run import EquationRun, scattered, summed
from qrnn.qat.recurrent import recurrent_gradients
from qrnn.qat.tape import Traced
from qrnn.qat.tape_rules import new_tape
from qrnn.qat.values import Values


@dataclass
class Gradients:
    """Gradients of one backward pass.

    ``arrays`` has those of the arrays of each layer, by its name and their paths (`qrnn.qat.arrays`); ``inputs`` those of the graph inputs
    of features, [N, T, F] or [N, F]; ``states`` those of the graph state inputs that were given, [N, F].
    """

    arrays: dict[str, dict[str, FloatArray]] = field(default_factory=dict)
    inputs: dict[str, FloatArray] = field(default_factory=dict)
    states: dict[str, FloatArray] = field(default_factory=dict)


def backward(values: Values, outputs: Mapping[str, FloatArray]) -> Gradients:
    """Return the gradients of everything for gradients of graph outputs, by name, of the shapes of `Session.run`'s outputs."""
    model, found = values.model, Gradients()
    tensors = _of_tensors(values, outputs)
    for layer in reversed(model.layers):
        own = {name: tensors.pop(name) for name in layer.outputs if name in tensors}
        if not own:
            continue
        if isinstance(layer, Recurrent):
            arrays, inputs = recurrent_gradients(values, layer, own, found.states)
        else:
            arrays, inputs = _equation_gradients(values, layer, own)
        if arrays:
            found.arrays[layer.name] = arrays
        for name, gradient in inputs.items():
            tensors[name] = summed(tensors.get(name), gradient)
    for name in values.batch.features:
        if name in tensors and values.wants(name):
            found.inputs[name] = tensors[name] * values.written(name)
    return found


def _of_tensors(values: Values, outputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the gradients of tensors that graph outputs read; steps past a sequence's end have none."""
    model, found = values.model, dict[str, FloatArray]()
    for output in model.outputs:
        if output.name not in outputs:
            continue
        given = np.asarray(outputs[output.name], np.float64)
        lead = given.shape[: 2 if output.has_time else 1]
        given = given.reshape(*lead, output.features)
        for name, indices, positions in output.parts:
            own = scattered(given[..., positions], indices, model.tensors[name].features)
            if output.has_time:
                axis = values.batch.along(model.length_rules[name])
                own = own[:, : axis.steps]
                own[~axis.mask[:, : own.shape[1]]] = 0.0
            found[name] = summed(found.get(name), own)
    return found


def _equation_gradients(
    values: Values, layer: Layer, outputs: Mapping[str, FloatArray]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the gradients of a layer's arrays and of its inputs: the derivative of its equation."""
    tape = new_tape()
    variables = {path: tape.variable(array) for path, array in layer_arrays(layer).items()}
    run = EquationRun(tape, values, layer)
    try:
        with_arrays(layer, variables).equation(run)
    except NotImplementedError as error:
        raise UnsupportedError(
            f"layer {layer.name!r} ({layer.title}): its equation has no derivative: {error}"
        ) from None
    seeds = []
    for name, gradient in outputs.items():
        if not isinstance(run.outputs[name], Traced):
            raise UnsupportedError(
                f"layer {layer.name!r} ({layer.title}) has no derivative, so that no gradient goes through it; train the model without it"
            )
        passed = gradient * values.written(name)
        shape = run.outputs[name].shape
        if passed.shape != shape:
            passed = summed(np.zeros(shape), passed)[:, : shape[1]]
        seeds.append((run.outputs[name], passed))
    tape.backward(seeds)
    arrays = {path: tape.gradient(variable) for path, variable in variables.items()}
    inputs = {
        name: tape.gradient(variable) * values.reads(layer, layer.inputs.index(name))
        for name, variable in run.inputs.items()
    }
    return arrays, inputs
