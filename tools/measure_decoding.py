"""Measure decoding by integers of the character model that ``tools/train_char_model.py`` writes, and print docs/decoding.md's figures.

    python tools/measure_decoding.py FOLDER [--device cortex-m4] [--prompts 64] [--tokens 200] [--times]

It converts both ONNX files with the defaults, calibrated on a part of the text to train, and measures on the text that was held out:

- bits per character by float, of ONNX Runtime, and by integers;
- that generated tokens, given as a sequence, have the same scores bit for bit, of which each next token is the largest;
- how many tokens greedy decoding by integers has in common with float, before the first that differs, and how far apart the two best scores
  of float are there;
- that the graph of one step per call generates what the graph of whole sequences does;
- that the exported C generates the same tokens on this machine and on a device in its emulator, greedily and drawn;
- microseconds for each character, which ``--times`` measures alone.

The command fails where something that has to be equal is not. It needs ONNX Runtime, a C compiler and the device's compiler and emulator.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import qrnn
from qrnn.devices.verify import verify
from qrnn.export.expected import integer_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.generation import Generation
from qrnn.model.quant_model import QuantModel
from qrnn.running.bench import seconds
from qrnn.targets import load_target

CALIBRATION = 40
"""Blocks of text for calibration."""
PROMPT = 20
SAMPLING = qrnn.Sampling(0.8, top_k=20)
TIMED, RUNS = 500, 40
"""Steps of a run that is timed, and how many runs there are."""

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def bits(logits: Floats, tokens: Tokens) -> float:
    """Return the bits per character of ``tokens`` by the scores before them."""
    top = logits.max(-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return float(-np.take_along_axis(log_p, tokens[..., None], -1).mean() / np.log(2))


class Float:
    """The float model in ONNX Runtime: whole sequences, and greedy decoding with a state."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])

        self._whole, self._step = session("char_model.onnx"), session("char_model_stream.onnx")
        self._hidden = self._step.get_inputs()[1].shape[-1]

    def logits(self, tokens: Tokens) -> Floats:
        """Return the scores after each character of sequences."""
        found: Floats = self._whole.run(None, {"tokens": tokens})[0].astype(np.float64)
        return found

    def greedy(self, prompt: Tokens, steps: int) -> tuple[Tokens, Floats]:
        """Return the tokens that follow a prompt [P], and by how much the best score was above the second, [steps] each."""
        h = c = np.zeros((1, 1, self._hidden), np.float32)
        for token in prompt:
            y, h, c = self._step.run(None, {"tokens": np.array([[token]]), "h": h, "c": c})
        tokens, margins = [], []
        for _ in range(steps):
            order = np.sort(y[0, 0])
            tokens.append(int(y[0, 0].argmax()))
            margins.append(float(order[-1] - order[-2]))
            y, h, c = self._step.run(None, {"tokens": np.array([[tokens[-1]]]), "h": h, "c": c})
        return np.array(tokens), np.array(margins)


def is_teacher_forced(model: QuantModel, prompts: Tokens, tokens: Tokens) -> bool:
    """Return whether tokens, given as a sequence, have scores of which each next token is the largest, the same as step by step."""
    session = qrnn.Session(model)
    whole = np.concatenate([prompts, tokens[:, :-1]], 1)
    scores = session.run({"tokens": whole}, integers=True).outputs["logits"]
    steps, state = [], session.initial_state(len(whole))
    for t in range(whole.shape[1]):
        result = session.step({"tokens": whole[:, t]}, state, integers=True)
        steps.append(result.outputs["logits"])
        state = result.state
    return bool((np.stack(steps, 1) == scores).all() and (scores[:, PROMPT - 1 :].argmax(-1) == tokens).all())


def first_differences(real: Float, prompts: Tokens, tokens: Tokens) -> None:
    """Print where greedy decoding by float and by integers part."""
    shared, margins, others = [], [], []
    for prompt, own in zip(prompts, tokens, strict=True):
        want, margin = real.greedy(prompt, len(own))
        differ = np.flatnonzero(want != own)
        shared.append(int(differ[0]) if len(differ) else len(own))
        if len(differ):
            margins.append(float(margin[differ[0]]))
            others += margin[: differ[0]].tolist()
    equal = sum(n == tokens.shape[1] for n in shared)
    print(
        f"| continuations of {tokens.shape[1]} characters with not one that differs from float's | {equal} of {len(shared)} |"
    )
    print(
        f"| characters before the first that differs, median and mean | {np.median(shared):.0f}, {np.mean(shared):.1f} |"
    )
    if margins:
        print(
            f"| float's best score above its second there, median; elsewhere | {np.median(margins):.3f}; {np.median(others):.3f} |"
        )


def on_devices(model: QuantModel, prompts: Tokens, device: str) -> bool:
    """Print whether the exported C generates the same on this machine and on a device, and return it."""
    right = True
    for name, emulated in (("generic", False), (device, True)):
        with tempfile.TemporaryDirectory() as place:
            target = load_target(name)
            export_model(model, target, Path(place) / "char", "char", generation=Generation(SAMPLING))
            folder = read_folder(Path(place) / "char")
            sequences = integer_sequences(model, folder.exported, {"tokens": prompts[:8]})
            found = verify(folder, target if emulated else load_target("host-cpu"), sequences)
        right &= found.difference is None
        words = "equal" if found.difference is None else found.difference
        where = f"{name}, emulated" if emulated else "this machine"
        print(f"| exported C, {where}: {found.generated} generated characters, greedy and drawn | {words} |")
    return right


def print_times(session: qrnn.Session) -> None:
    """Print the time of a step of one stream, and of a token of one sequence: the best of short runs, which others disturb least."""
    prompt, stream = {"tokens": np.zeros((1, 1), np.int64)}, session.stream()

    def steps() -> None:
        for _ in range(TIMED):
            stream.advance()

    calls: dict[str, Callable[[], Any]] = {"a step of a stream, alone": steps}
    for name, sampling in (("greedy", None), ("drawn, top-k 20", SAMPLING)):
        calls[f"a character of one sequence, {name}"] = partial(
            session.generate, prompt, steps=TIMED, sampling=sampling
        )
    for name, call in calls.items():
        call()
        print(f"| µs for {name} | {1e6 * min(seconds(call) for _ in range(RUNS)) / TIMED:.1f} |")


def main() -> int:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure decoding by integers of the character model.")
    parser.add_argument("folder", type=Path, help="what tools/train_char_model.py wrote")
    parser.add_argument("--device", default="cortex-m4", help="the device that is emulated (default: cortex-m4)")
    parser.add_argument("--prompts", type=int, default=64, help="prompts of held out text (default: 64)")
    parser.add_argument("--tokens", type=int, default=200, help="characters that follow each (default: 200)")
    parser.add_argument("--times", action="store_true", help="measure times alone")
    options = parser.parse_args()
    with np.load(options.folder / "char_model.npz") as data:
        training, test, characters = data["train"], data["test"], data["characters"]
    calibration = {"tokens": training[np.linspace(0, len(training) - 1, CALIBRATION).astype(int)]}
    model = qrnn.quantize(qrnn.load_onnx(options.folder / "char_model.onnx"), calibration)
    session = qrnn.Session(model)
    if options.times:
        print_times(session)
        return 0
    real = Float(options.folder)
    print("| what | figure |\n|---|---|")
    whole = test[:, :-1]
    logits = session.run({"tokens": whole}).outputs["logits"]
    by_float, by_integers = bits(real.logits(whole), test[:, 1:]), bits(logits, test[:, 1:])
    print(f"| bits per character of {test.size:,} that were held out, float | {by_float:.4f} |")
    print(f"| the same by integers | {by_integers:.4f} |")
    prompts = test[:, : PROMPT * (options.prompts // len(test) + 1)].reshape(-1, PROMPT)[: options.prompts]
    generated = session.generate({"tokens": prompts}, steps=options.tokens)
    forced = is_teacher_forced(model, prompts, generated.tokens)
    all_or_not = "all" if forced else "NOT all"
    print(
        f"| generated characters are the largest of the teacher-forced scores | {all_or_not} of {generated.tokens.size:,} |"
    )
    first_differences(real, prompts, generated.tokens)
    step = qrnn.quantize(qrnn.load_onnx(options.folder / "char_model_stream.onnx"), calibration)
    streamed = qrnn.Session(step).generate({"tokens": prompts}, steps=options.tokens, feed={"tokens": "logits"})
    same = bool((streamed.tokens == generated.tokens).all())
    print(f"| the graph of one step per call generates the same | {'all' if same else 'NOT all'} |")
    right = on_devices(model, prompts, options.device)
    print_times(session)
    example = session.generate({"tokens": prompts[:1]}, steps=options.tokens, sampling=SAMPLING, seed=1).tokens[0]
    print(
        f"\n{''.join(characters[prompts[0]])!r} goes on, drawn at temperature {SAMPLING.temperature}:\n{''.join(characters[example])!r}"
    )
    return 0 if forced and same and right else 1


if __name__ == "__main__":
    sys.exit(main())
