"""Count published recurrent networks that are said not to fit microcontrollers, and write docs/benchmarks/claims.md.

    python tools/bench_claims.py [--output docs/benchmarks/claims.md]

The layers have the published sizes and random weights, on which time and memory do not depend. Each model is exported, compared with the host
in the emulator bit for bit, and counted over one whole inference. Needs the compiler and the emulator of Cortex-M4 and M7. Takes some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from device_page import table
from provenance import when

import qrnn
from qrnn import layers
from qrnn.devices.measure import layer_work, measure
from qrnn.devices.verify import verify
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.readme import OPTIMIZATION
from qrnn.model.float_model import FloatModel
from qrnn.model.window import Window
from qrnn.system.atomic import write_atomically
from qrnn.targets import Target, load_target

SPEECH = ("stm32f407", "stm32f746")
"""The boards of the keyword spotters: a Cortex-M4, and the chip of the paper's board, a Cortex-M7."""

SENSORS = ("nrf52840", "stm32f407")
"""The boards of the sensor models, whose publication names its board in parts that were not read."""

CEPSTRA, WORDS = 10, 12
SIGNALS, WINDOW = 9, 128
"""The windows of UCI HAR, the usual set of human activities: 128 readings of 9 signals."""

CLAIMED_MS = 2038


@dataclass(frozen=True)
class Net:
    """A published network: its name, the steps of an inference, and the model with random weights."""

    name: str
    sizes: str
    steps: int
    features: int
    build: Callable[[layers.Tensor, Callable[..., np.ndarray]], layers.Tensor]

    def model(self) -> FloatModel:
        """Return the network with random weights of the usual size."""
        rng = np.random.default_rng(7)

        def weights(*shape: int) -> np.ndarray:
            return np.asarray(rng.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[1:])))

        x = layers.input("x", features=self.features)
        return layers.model("net", outputs={"scores": self.build(x, weights)})


def lstm(units: int, classes: int) -> Callable[..., layers.Tensor]:
    """Return how an LSTM layer with a dense layer on its last step is built."""

    def build(x: layers.Tensor, w: Callable[..., np.ndarray]) -> layers.Tensor:
        h = layers.lstm(x, w(4 * units, x.features), w(4 * units, units)).output
        return layers.dense(layers.last_step(h), w(classes, units))

    return build


def projected_lstm(units: int, projection: int) -> Callable[..., layers.Tensor]:
    """Return how an LSTM layer with peepholes and a projection is built."""

    def build(x: layers.Tensor, w: Callable[..., np.ndarray]) -> layers.Tensor:
        peephole = {gate: w(units, 1)[:, 0] for gate in ("i", "f", "o")}
        cell = layers.lstm(
            x,
            w(4 * units, x.features),
            w(4 * units, projection),
            peephole=peephole,
            projection=layers.projection(w(projection, units)),
        )
        return layers.dense(layers.last_step(cell.output), w(WORDS, projection))

    return build


def gru(x: layers.Tensor, w: Callable[..., np.ndarray], units: int) -> layers.Tensor:
    """Return a GRU layer as TensorFlow 1 has it: the reset gate multiplies the state before the product."""
    return layers.gru(x, w(3 * units, x.features), w(3 * units, units), linear_before_reset=False).output


def one_gru(units: int) -> Callable[..., layers.Tensor]:
    """Return how a GRU layer with a dense layer on its last step is built."""
    return lambda x, w: layers.dense(layers.last_step(gru(x, w, units)), w(WORDS, units))


def crnn(channels: int, stride: int, units: int, hidden: int) -> Callable[..., layers.Tensor]:
    """Return how a convolution over time and frequency, two GRU layers and two dense layers are built."""

    def build(x: layers.Tensor, w: Callable[..., np.ndarray]) -> layers.Tensor:
        window = Window(4, stride=stride)
        kernel = w(channels, 1, 10, 4)
        c = layers.conv(x, kernel, stride=2, padding=(0, 0), bands=CEPSTRA, band=window)
        h = gru(gru(layers.activation(c, "relu"), w, units), w, units)
        h = layers.activation(layers.dense(layers.last_step(h), w(hidden, units)), "relu")
        return layers.dense(h, w(WORDS, hidden))

    return build


KEYWORDS = (
    Net("basic LSTM, small", "118 units", 49, CEPSTRA, lstm(118, WORDS)),
    Net("basic LSTM, medium", "214 units", 49, CEPSTRA, lstm(214, WORDS)),
    Net("basic LSTM, large", "344 units", 49, CEPSTRA, lstm(344, WORDS)),
    Net("LSTM, small", "144 units, projected to 98, peepholes", 25, CEPSTRA, projected_lstm(144, 98)),
    Net("LSTM, medium", "280 units, projected to 130, peepholes", 49, CEPSTRA, projected_lstm(280, 130)),
    Net("LSTM, large", "500 units, projected to 188, peepholes", 49, CEPSTRA, projected_lstm(500, 188)),
    Net("GRU, small", "154 units", 25, CEPSTRA, one_gru(154)),
    Net("GRU, medium", "250 units", 49, CEPSTRA, one_gru(250)),
    Net("GRU, large", "400 units", 49, CEPSTRA, one_gru(400)),
    Net("CRNN, small", "48 channels 10×4, strides 2×2, 2 × 60 units, 84", 49, CEPSTRA, crnn(48, 2, 60, 84)),
    Net("CRNN, medium", "128 channels 10×4, strides 2×2, 2 × 76 units, 164", 49, CEPSTRA, crnn(128, 2, 76, 164)),
    Net("CRNN, large", "100 channels 10×4, strides 2×1, 2 × 136 units, 188", 49, CEPSTRA, crnn(100, 1, 136, 188)),
)

ACTIVITIES = tuple(
    Net(f"LSTM {units}", f"{units} units", WINDOW, SIGNALS, lstm(units, 6)) for units in (32, 64, 100, 128, 256)
)


@dataclass(frozen=True)
class Counted:
    """What one inference takes on one board."""

    net: Net
    target: Target
    multiply_adds: float
    flash_bytes: int
    ram_bytes: int
    instructions: float
    milliseconds: float
    compiler: str
    kind: str


def count(net: Net, name: str) -> Counted:
    """Convert, export, verify and count one network; a difference of bits ends the tool."""
    target = load_target(name)
    model = net.model()
    data = np.random.default_rng(1).normal(size=(4, net.steps, net.features))
    quantized = qrnn.quantize(model, {"x": data}, qrnn.Scheme(activations=8, input="8"))
    with tempfile.TemporaryDirectory() as temporary:
        export_model(quantized, target, Path(temporary) / "net", "net")
        folder = read_folder(Path(temporary) / "net", target)
        needs = measure(folder, target, net.steps, phases=False)
        done = verify(folder, target, random_sequences(quantized, folder.exported, [net.steps], seed=3))
    if done.difference is not None or needs.flash_bytes is None or needs.seconds is None or not needs.instructions:
        raise SystemExit(f"{net.name} on {name}: {done.difference or needs.problem}")
    seconds = done.counts.instructions * needs.seconds / needs.instructions
    multiply_adds = net.steps * sum(layer_work(quantized).values())
    return Counted(
        net,
        target,
        multiply_adds,
        needs.flash_bytes,
        needs.ram_bytes,
        done.counts.instructions,
        1e3 * seconds,
        done.compiler,
        needs.cycles_kind or "guessed",
    )


def rows(found: list[Counted]) -> list[list[str]]:
    """Return the rows of a table: a network with its figures on every board. Flash, RAM and instructions are those of the first board."""
    made = []
    for net in dict.fromkeys(one.net for one in found):
        own = [one for one in found if one.net is net]
        first = own[0]
        made.append(
            [
                net.name,
                net.sizes,
                str(net.steps),
                f"{first.multiply_adds / 1e6:.2f}",
                f"{first.flash_bytes / 1000:.1f}",
                f"{first.ram_bytes / 1000:.1f}",
                f"{first.instructions / 1e6:.2f}",
                *(f"{one.milliseconds:.1f}" for one in own),
            ]
        )
    return made


def heads(boards: tuple[str, ...]) -> tuple[str, ...]:
    """Return the headings of a table."""
    own = []
    for name in boards:
        target = load_target(name)
        assert target.memory.clock_hz is not None
        own.append(f"ms on {name} ({core(target)}, {target.memory.clock_hz / 1e6:.0f} MHz)")
    return ("network", "sizes", "steps", "million multiply-adds", "flash, kB", "RAM, kB", "million instructions", *own)


def page(command: str, began: str, keywords: list[Counted], activities: list[Counted]) -> str:
    """Return the whole page."""
    every = (*keywords, *activities)
    compilers = "; ".join(sorted({one.compiler for one in every}))
    kinds = {core(one.target): f"{one.kind} on {core(one.target)}" for one in every}
    slowest = max(activities, key=lambda one: one.milliseconds)
    times = CLAIMED_MS / slowest.milliseconds
    return "\n".join(
        [
            "# Published recurrent networks that do not fit",
            "",
            f"Made by `{command}` on {began}; {compilers}, {OPTIMIZATION}, QEMU.",
            "",
            paragraph(HEAD.format(kinds=", ".join(kinds.values()))),
            "## Keyword spotters",
            "",
            paragraph(OF_KEYWORDS),
            *table(heads(SPEECH), rows(keywords)),
            "## Human activities",
            "",
            paragraph(OF_ACTIVITIES),
            *table(heads(SENSORS), rows(activities)),
            paragraph(
                f"The largest of them takes {slowest.milliseconds:,.0f} ms on {slowest.target.name}, {times:.1f} times less than the published "
                f"{CLAIMED_MS:,} ms. In a stream a window is not computed anew: each reading takes 1/{WINDOW} of that."
            ),
        ]
    )


HEAD = """
Publications report recurrent networks as too slow or too large for microcontrollers. Here are networks of the sizes that they name, converted,
exported and run in an emulator, bit for bit as on the host. Weights are random: time and memory do not depend on them, and nothing is said of
accuracy. Weights and operands have 8 bits, states 16. Instructions are counted, those of a whole inference from the first step to the scores.
Milliseconds are cycles over the clock: those of a step ({kinds}; docs/devices.md says what that is), scaled to the instructions of the
inference, without wait states. RAM is state, stack, inputs and outputs of a step; flash is code, weights and tables.
"""

OF_KEYWORDS = """
“Hello Edge: Keyword Spotting on Microcontrollers” (Zhang, Suda, Lai, Chandra, [arXiv 1711.07128](https://arxiv.org/abs/1711.07128)). Sizes are
those of the authors' training commands,
[train_commands.txt](https://github.com/ARM-software/ML-KWS-for-MCU/blob/master/train_commands.txt) at e9cf319, and the layers those of their
models.py at ae31ce1: 10 cepstra a frame, frames of 40 ms every 20 or 40 ms for one second, 12 classes. A step is a frame, so a stream takes one
step's share of an inference every 20 or 40 ms, in place of a whole inference for every answer.
"""

OF_ACTIVITIES = """
“Rethinking Temporal Models for TinyML: LSTM versus 1D-CNN in Resource-Constrained Devices” (Saha, Samanta,
[arXiv 2603.04860](https://arxiv.org/abs/2603.04860)) calls LSTMs impractical on microcontrollers: 2,038 ms an inference, where a 1D-CNN takes
27.6 ms (abstract). Only the abstract was read: the LSTM's size and the board are **assumed** here. The windows are those of UCI HAR, 128
readings of 9 signals, read by one LSTM layer of usual sizes, with 6 classes on its last state.
"""


def paragraph(text: str) -> str:
    """Return a paragraph in lines that a page may have, with an empty line behind it."""
    return fill(" ".join(text.split()), 140, break_long_words=False, break_on_hyphens=False) + "\n"


def core(target: Target) -> str:
    """Return the core of a board."""
    return target.emulation.core if target.emulation is not None else target.name


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/claims.md"))
    arguments = parser.parse_args()
    began = when()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(count, net, name) for net in KEYWORDS for name in SPEECH]
        more = [pool.submit(count, net, name) for net in ACTIVITIES for name in SENSORS]
        keywords, activities = ([job.result() for job in some] for some in (jobs, more))
    text = page("python tools/bench_claims.py", began, keywords, activities)
    write_atomically(arguments.output, text.encode())


if __name__ == "__main__":
    main()
