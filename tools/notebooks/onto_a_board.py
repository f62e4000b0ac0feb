# %% [markdown]
# # Onto a board
#
# A converted model becomes C99 for a microcontroller. Whether it fits is counted in an emulator, where a compiler and an emulator are
# installed, and every bit of the C is compared with the host.

# %%
import shutil
import tempfile
from pathlib import Path

import numpy as np

import qrnn
from qrnn.devices.fit import fit
from qrnn.examples import digits_calibration, digits_model

with np.load(digits_calibration()) as data:
    quantized = qrnn.quantize(qrnn.load_onnx(digits_model()), {"x": data["x"]})

# %%
targets = [qrnn.load_target(name) for name in ("stm32f407", "rp2040", "nrf52840")]
for found in fit(quantized, targets, steps=8, period=0.010):
    needs = found.needs
    print(f"{needs.target.name}: {found.flash_bytes:,} bytes of flash, {needs.ram_bytes:,} of RAM, fits: {found.fits}")

# %%
folder = Path(tempfile.mkdtemp()) / "digits"
qrnn.export_model(quantized, targets[0], folder, "digits")
header = (folder / "digits.h").read_text().splitlines()
print("\n".join(line for line in header if line.startswith(("#define DIGITS", "void digits"))))

# %% [markdown]
# The same sequences on the host and in the emulated device:

# %%
from qrnn.devices.verify import verify
from qrnn.export.expected import random_sequences
from qrnn.export.folder import read_folder

exported = read_folder(folder, targets[0])
if shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm"):
    done = verify(exported, targets[0], random_sequences(quantized, exported.exported, [8, 5, 3], seed=0))
    print(f"{done.sequences} sequences, {done.steps} steps: {done.difference or 'every output and state is equal'}")
else:
    print("to verify: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm")
