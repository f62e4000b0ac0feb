# %% [markdown]
# # Fine-tune
#
# Weights of four bits and gates without tables are small and quick, and may cost accuracy. Training through the integers wins it back: every
# output that the training sees is one that the device computes, bit for bit. This notebook trains a small GRU in PyTorch, converts it so
# that it loses some of its decisions, and trains it further as integers. It needs `pip install 'qrnn[cli,plot,ort,torch]'`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import qrnn

rng = np.random.default_rng(0)
torch.manual_seed(0)
CLASSES, STEPS = 4, 40


def waves(count):
    """Return waves [count, 40, 3] in noise, and which of four frequencies each has."""
    labels = rng.integers(0, CLASSES, count)
    phase = np.arange(STEPS)[None, :, None] * (0.15 + 0.1 * labels[:, None, None])
    x = np.sin(phase + rng.uniform(0, 6, (count, 1, 3))) + rng.normal(0, 1, (count, STEPS, 3))
    return {"x": x.astype(np.float32), "labels": labels}


train, test = waves(1000), waves(1000)

# %% [markdown]
# The network, trained in float as always:


# %%
class Net(torch.nn.Module):
    """A GRU, and scores at every step."""

    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(3, 24, batch_first=True)
        self.head = torch.nn.Linear(24, CLASSES)

    def forward(self, x):
        """Return scores [batch, steps, classes]."""
        return self.head(self.gru(x)[0])


net = Net()
optimizer = torch.optim.Adam(net.parameters(), 3e-3)
for _ in range(300):
    rows = rng.integers(0, 1000, 64)
    scores = net(torch.tensor(train["x"][rows]))[:, -1]
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(train["labels"][rows]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model = qrnn.from_torch(net, torch.zeros(1, STEPS, 3))
model

# %% [markdown]
# Converted with hard gates and weights of four bits, which is refined by default, and compared on data that neither has seen:

# %%
calibration = {"x": train["x"][:200]}
small = qrnn.Scheme(weights=4, gates="hard")
print(qrnn.compare(model, qrnn.quantize(model, calibration, small), test))

# %% [markdown]
# The same conversion, trained further for six epochs. A tenth of the training data is held out; the best epoch by it is kept, or none.

# %%
found = qrnn.finetune(model, calibration, train, scheme=small, training=qrnn.Training(epochs=6, learning_rate=2e-3))
print(found)

# %%
epochs = [0, *(epoch.number for epoch in found.history)]
held_out = [found.before.score.percent, *(epoch.score.percent for epoch in found.history)]
plt.figure(figsize=(6, 3.2))
plt.plot(epochs, held_out, marker="o", label="integers, after each epoch")
if found.real is not None:
    plt.axhline(found.real.percent, linestyle="--", color="gray", label="float")
plt.plot(
    found.best,
    held_out[found.best],
    marker="o",
    markersize=12,
    fillstyle="none",
    color="black",
    label="kept",
    linestyle="",
)
plt.xlabel("epochs")
plt.ylabel("right on held-out data, %")
plt.legend()
plt.tight_layout()
plt.show()

# %% [markdown]
# The third set, which chose no epoch, has the figures to believe:

# %%
report = qrnn.compare(model, found.model, test)
print(report)

# %% [markdown]
# The result is a model like any other: `qrnn.save` writes it, and the notebook *Onto a board* goes on from there. What else can be trained
# towards (labels at every step, CTC, targets, the float model itself) and when it pays stands in docs/training.md.
