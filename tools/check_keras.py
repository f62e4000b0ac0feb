"""Make small Keras models of every supported layer with an installed Keras, and compare what qrnn imports of their files with Keras's outputs.

    python tools/check_keras.py make DIR      # with Keras: models as .keras and .h5, each with the outputs of Keras
    python tools/check_keras.py compare DIR   # with qrnn: imports them all and prints the table of docs/keras.md
    python tools/check_keras.py golden DIR    # with h5py: writes tests/golden/keras.npz, from which tests make the same files

Both may be one environment or two; ``python tools/check_keras.py all DIR`` does one after the other. KERAS_BACKEND chooses what Keras
computes by.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from keras_cases import CASES, STEPS, VOCABULARY

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "keras.npz"


def inputs_of(model: Any, name: str, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Draw arrays for a model's inputs; those of cases with a mask are padded at their ends."""
    found = {}
    value = next((layer.mask_value for layer in model.layers if type(layer).__name__ == "Masking"), 0.0)
    for given in model.inputs:
        shape = [3, *(STEPS if size is None else size for size in given.shape[1:])]
        masked = "mask" in name.lower()
        if "Embedding" in name:
            array: np.ndarray[Any, Any] = rng.integers(1 if masked else 0, VOCABULARY, shape)
        else:
            array = rng.normal(size=shape).astype(np.float32)
        if masked:
            for row, length in enumerate((STEPS, 4, 1)):
                array[row, length:] = 0 if "Embedding" in name else value
        found[given.name] = array
    return found


def make(folder: Path) -> None:
    """Write every model as .keras and .h5, and an .npz of its inputs and outputs."""
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    index = {"keras": keras.__version__, "backend": keras.backend.backend(), "cases": []}
    for number, (name, build) in enumerate(CASES.items()):
        keras.utils.set_random_seed(number + 1)
        rng = np.random.default_rng(number)
        model = build(keras, keras.layers)
        for weight in model.weights:
            drawn = np.round(rng.normal(size=weight.shape) * 26) / 64 if weight.shape else np.asarray(0.75)
            last = weight.path.split("/")[-1]
            if (
                "int" not in str(weight.dtype)
                and "seed" not in weight.path
                and last not in ("mean", "variance", "count")
            ):
                weight.assign(np.abs(drawn) + 0.3 if "variance" in weight.path else drawn)
        data = inputs_of(model, name, rng)
        outputs = model(data if len(data) > 1 else next(iter(data.values())))
        if hasattr(model, "reset_states"):
            model.reset_states()
        named = (
            outputs
            if isinstance(outputs, dict)
            else dict(enumerate(outputs if isinstance(outputs, (list, tuple)) else [outputs]))
        )
        arrays = {f"out.{k}": keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")) for k, v in named.items()}
        given: dict[str, Any] = {f"in.{k}": v for k, v in data.items()} | arrays
        np.savez(folder / f"{number}.npz", **given)
        model.save(folder / f"{number}.keras")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(folder / f"{number}.h5")
        index["cases"].append(name)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def error_of(path: Path, arrays: Any) -> str:
    """Return the largest difference of what qrnn imports, or that it is refused; stderr says why."""
    import qrnn

    try:
        model = qrnn.load_keras(path)
        data = {key[3:]: arrays[key] for key in arrays if key.startswith("in.")}
        own = {i.name: i for i in model.inputs}
        got = qrnn.run_oracle(model, {name: data[name] for name in own}).outputs
    except qrnn.QrnnError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return "refused"
    want = {key[4:]: arrays[key] for key in arrays if key.startswith("out.")}
    pairs = (
        [(got[key], value) for key, value in want.items()]
        if set(want) == set(got)
        else list(zip(got.values(), want.values(), strict=True))
    )
    return f"{max(float(np.abs(a - b).max()) for a, b in pairs):.1e}"


def compare(folder: Path) -> None:
    """Print the table: one row for each case, one column for each file format."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    print(f"Keras {index['keras']}, backend {index['backend']}\n")
    print("| case | .keras | .h5 |\n|---|---|---|")
    for number, name in enumerate(index["cases"]):
        with np.load(folder / f"{number}.npz") as arrays:
            found = [error_of(folder / f"{number}.{suffix}", dict(arrays)) for suffix in ("keras", "h5")]
        print(f"| {name} | {' | '.join(found)} |")


def golden(folder: Path, to: Path) -> None:
    """Write configs, weights, inputs and outputs of all cases in one file; the weights of an .h5 file are named by those of the .keras file."""
    import h5py

    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    facts: dict[str, Any] = {"keras": index["keras"], "cases": []}
    for number, name in enumerate(index["cases"]):
        weights: dict[str, np.ndarray[Any, Any]] = {}
        with zipfile.ZipFile(folder / f"{number}.keras") as archive:
            config = json.loads(archive.read("config.json"))
            with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
                paths: list[str] = []
                file.visit(paths.append)
                weights |= {path: file[path][()] for path in paths if isinstance(file[path], h5py.Dataset)}
        with h5py.File(folder / f"{number}.h5") as file:
            own = json.loads(file.attrs["model_config"])
            groups = file["model_weights"]
            layers = {
                layer: {w: _same(groups[layer][w][()], weights) for w in groups[layer].attrs["weight_names"].tolist()}
                for layer in groups
                if layer != "top_level_model_weights"
            }
        facts["cases"].append({"name": name, "config": config, "h5_config": own, "h5_layers": layers})
        with np.load(folder / f"{number}.npz") as arrays:
            found |= {f"{number}/{key}": arrays[key] for key in arrays.files}
        found |= {f"{number}/weights/{path}": array for path, array in weights.items()}
    np.savez_compressed(to, facts=np.frombuffer(lzma.compress(json.dumps(facts).encode()), np.uint8), **found)


def _same(array: np.ndarray[Any, Any], weights: dict[str, np.ndarray[Any, Any]]) -> str:
    """Return the path of the weight that an array is."""
    return next(path for path, other in weights.items() if np.array_equal(array, other))


def main(arguments: list[str]) -> int:
    """Run the command."""
    if len(arguments) != 2 or arguments[0] not in ("make", "compare", "golden", "all"):
        print(__doc__, file=sys.stderr)
        return 2
    command, folder = arguments[0], Path(arguments[1])
    if command in ("make", "all"):
        make(folder)
    if command in ("compare", "all"):
        compare(folder)
    if command == "golden":
        golden(folder, GOLDEN)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
