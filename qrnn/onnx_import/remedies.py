"""What the user can do about an operator that is not supported, by the operator and by who wrote the file."""

from __future__ import annotations

KERAS = ("tf2onnx", "keras", "tensorflow")
"""Beginnings of the names of exporters that write Keras models."""

OUTSIDE = "cut this part off by --from and --to, or leave it in float by --float-parts auto"


def remedy(operator: str, standard: bool, producer: str) -> str:
    """Return what to do about an operator that is not supported, of ONNX's own or not, in a file of the exporter ``producer``.

    Whatever is named leaves the network the same: what changes its function is no remedy.
    """
    if operator.startswith("com.microsoft."):
        return "give the file with standard ONNX operators only, as it was before ONNX Runtime's optimizer or quantizer wrote its own into it"
    if not standard:
        return "re-export with standard ONNX operators only"
    if operator == "If":
        return "re-export without control flow: each branch as a model of its own, between which the caller chooses outside"
    if operator in ("Loop", "Scan"):
        return f"re-export without control flow: {_unrolled(producer.lower())}"
    if "Linear" in operator or "Integer" in operator:
        return "start from the float model, quantization is done here"
    return OUTSIDE


def _unrolled(producer: str) -> str:
    """Return how a loop over time is got rid of with an exporter."""
    if producer.startswith("pytorch"):
        return (
            "give torch.onnx.export the module itself, not torch.jit.script of it; nn.LSTM, nn.GRU and nn.RNN then are one node each, and a "
            "loop of Python is written out for the steps of the example"
        )
    if producer.startswith(KERAS):
        return (
            "build the Keras recurrent layers with unroll=True and a fixed number of steps, give them the same weights (get_weights, "
            "set_weights), and export again"
        )
    return "its recurrent layers as LSTM, GRU or RNN nodes, or written out for a fixed number of steps"
