# %% [markdown]
# # Sweep and tune
#
# Many configurations of one model, measured: accuracy against flash, RAM and instructions on a Cortex-M4. Then a search for the cheapest one
# that keeps the accuracy. Where a compiler and an emulator for the device are missing, instructions and flash are the cost model's.

# %%
import tempfile
from pathlib import Path

import numpy as np

import qrnn
from qrnn.examples import digits_calibration, digits_model, digits_test

with np.load(digits_calibration()) as data:
    calibration = {"x": data["x"]}
with np.load(digits_test()) as data:
    test = {"x": data["x"][:120], "labels": data["labels"][:120]}
folder = Path(tempfile.mkdtemp())

# %%
swept = qrnn.sweep(
    digits_model(),
    calibration,
    test,
    folder / "sweep",
    vary={"weights": [8, 4], "activations": [8, 16]},
    latency=False,
)
print(swept)

# %%
swept.plot("sqnr", "flash")

# %% [markdown]
# `tune` looks for the least flash at which no more than two percentage points of accuracy are lost.

# %%
tuned = qrnn.tune(digits_model(), calibration, test, qrnn.Budgets(max_accuracy_drop=2.0), cheapest="flash", most=6)
print(tuned)
