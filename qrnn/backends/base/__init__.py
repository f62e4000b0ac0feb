"""What all backends share: the engine that they subclass, what its runs take and give, and buffers for many runs of one shape."""

from qrnn.backends.base.buffers import DeviceRows, ModelRows, SequenceRows, StreamRows, steps_of_tensors
from qrnn.backends.base.engine import Choose, Engine
from qrnn.backends.base.runs import DeviceResult, LayerState, Ran, Trace, every_length, given_lengths

__all__ = [
    "Choose",
    "DeviceResult",
    "DeviceRows",
    "Engine",
    "LayerState",
    "ModelRows",
    "Ran",
    "SequenceRows",
    "StreamRows",
    "Trace",
    "every_length",
    "given_lengths",
    "steps_of_tensors",
]
