"""What no layer can read: the kinds of tensors that stand for something else than features, and what may be done with them."""

from __future__ import annotations

NOT_COMPUTABLE = {
    "state": "reads the state input '{name}', which may only be an initial state",
    "c_n": "reads the cell state '{name}' of a graph of one step per call, which may only be a graph output",
    "constant": "reads constants other than zero that are expanded to the batch ('{name}'), which may only be an initial state",
    "padded": "reads zeros that are padded to the batch or time axis ('{name}'), which only Conv may read, over time as they were padded",
    "filled": "reads steps that a convolution makes of padded zeros ('{name}'), which only operators by element and another Conv may read",
    "cache": "reads the cache '{name}' of a graph of several steps per call, which only Conv may read, joined to the newest steps",
    "tail": "reads the last steps of a cache and the newest ones ('{name}'), which only a graph output may give on to the next call",
    "reversed": "reads '{name}', steps in reverse; only recurrent layers, and what computes each step by itself before or behind them, can",
    "moment": "reads '{name}', what the steps differ from their mean over time, of which only the mean of the squares over time is supported",
    "folded": "reads '{name}', groups of channels put together with time, which only InstanceNormalization may read, and Reshape to the shape "
    "before",
    "tokens": "reads the token input '{name}', which may only be looked up in an embedding table (Gather)",
    "lengths": "reads the sequence lengths '{name}', which may only be sequence_lens, end a mask of steps, or divide a sum over time",
    "steps": "reads the numbers of the steps ('{name}'), which may only be compared to sequence lengths",
    "mask": "reads a mask of steps ('{name}'), which may only mask features over time, or be summed over time",
    "weights": "reads a softmax over time ('{name}'), of which only the sum over time of its product with values at the same steps is "
    "supported",
    "scores": "reads products at all pairs of steps ('{name}'), of which only the product of their softmax and values is supported, with a "
    "scale and a mask of steps before the softmax",
    "fills": "reads numbers for the steps that pad a sequence ('{name}'), which may only be added to scores before a softmax over time",
    "index": "reads the numbers of steps '{name}', which may only say which step of each sequence is taken",
    "integers": "reads '{name}', integers of a quantized graph, which only operators that take their scale too may read",
}
"""Kind of tensor (`qrnn.onnx_import.values.TensorKind`) → what a message says of a node that reads one of this ``name``."""
