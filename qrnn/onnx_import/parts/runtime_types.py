"""Ask ONNX Runtime for the type and shape of tensors that ONNX's own shape inference does not know, behind operators of other domains."""

from __future__ import annotations

import onnx
from onnx import helper

_TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(double)": onnx.TensorProto.DOUBLE,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(bool)": onnx.TensorProto.BOOL,
    "tensor(uint8)": onnx.TensorProto.UINT8,
    "tensor(int8)": onnx.TensorProto.INT8,
}


def runtime_type(model: onnx.ModelProto, tensor: str) -> onnx.ValueInfoProto | None:
    """Return the type of a tensor of a model's top level as ONNX Runtime finds it; None where it is not installed or does not know it."""
    try:
        import onnxruntime as ort
    except ImportError:
        return None
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    asked.graph.output.append(onnx.ValueInfoProto(name=tensor))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  # its errors have no common base but Exception; then the type stays unknown
        return None
    (output,) = session.get_outputs()
    if output.type not in _TYPES or not output.shape:  # an unknown rank looks like a number without axes
        return None
    return helper.make_tensor_value_info(tensor, _TYPES[output.type], output.shape)
