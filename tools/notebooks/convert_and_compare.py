# %% [markdown]
# # Convert and compare
#
# A GRU that reads handwritten digits row by row becomes a model of integers, and is compared with float: outputs, gates, decisions, accuracy.
# The model comes with the package, so this notebook needs `pip install 'qrnn[cli,plot,ort]'` and nothing else.

# %%
import numpy as np

import qrnn
from qrnn.examples import digits_calibration, digits_model, digits_test

model = qrnn.load_onnx(digits_model())
model

# %% [markdown]
# Calibration data set the ranges of the integers. They are typical inputs, batch first.

# %%
with np.load(digits_calibration()) as data:
    calibration = {"x": data["x"]}
quantized = qrnn.quantize(model, calibration)
quantized

# %% [markdown]
# The comparison runs the float64 equations, ONNX Runtime and the integers on data that the conversion has not seen.

# %%
with np.load(digits_test()) as data:
    test = {"x": data["x"], "labels": data["labels"]}
report = qrnn.compare(model, quantized, test)
print(report)

# %%
report.plot()

# %% [markdown]
# Which part costs how much, and what would change it? Four bits for the weights, and the same question again:

# %%
four_bits = qrnn.quantize(model, calibration, qrnn.Scheme(weights=4))
print(qrnn.explain(model, four_bits, test))

# %%
print(qrnn.diff(quantized, four_bits, test))
