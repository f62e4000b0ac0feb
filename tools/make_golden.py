"""Write or check the golden vectors of the numeric contract: tests/golden/contract-1.0.json (docs/arithmetic.md).

The file holds integer inputs, weights and states with the outputs of the reference backend, for implementations in other languages
and for every backend here. Its layout is described in the file itself, under ``about``. The vectors of normalizations stand in a second file,
norms-1.0.json (tools/golden_norms.py), those of offsets in a third, offsets-1.1.json (tools/golden_offsets.py), those of sums and means in
a fourth, reductions-1.1.json (tools/golden_reductions.py), those of elementwise layers in a fifth, elementwise-1.1.json
(tools/golden_elementwise.py), those of attention pooling in a sixth, attention-1.1.json (tools/golden_attention.py), those of a
converter's codes in a seventh, codes-1.1.json (tools/golden_codes.py), and those of choices in an eighth, choices-1.1.json
(tools/golden_choices.py). Each file is named after the version of the contract since which its vectors hold; later versions keep them::

    python tools/make_golden.py            write the files
    python tools/make_golden.py --check    compare them with the reference backend; exit status 1 when they differ

Inputs come from fixed seeds and are part of the file: ``run_case`` computes from the file alone.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import golden_attention
import golden_choices
import golden_codes
import golden_elementwise
import golden_norms
import golden_offsets
import golden_reductions
import numpy as np
from golden_cases import (
    add_cases,
    align_cases,
    boundary_cases,
    dense_cases,
    make_recurrent,
    pointwise_cases,
    read_add,
    read_matrix,
    read_recurrent,
    softmax_cases,
)
from golden_primitives import gate_function_entries, gate_functions, primitive_cases, read_gate_function
from golden_specs import SPECS

from qrnn.arithmetic import gates
from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.backends import create_engine
from qrnn.model.boundary import quantize_array
from qrnn.model.float_model import GraphInput
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import ConcatPart, QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import CELL_MAX, STATE_MAX, Operand, TensorFormat, pack_gates
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.gate_tables import exp_table
from qrnn.system.atomic import write_atomically

FORMAT = "qrnn golden vectors"
FORMAT_VERSION = 1
SINCE = "1.0"
"""The version of the contract since which these vectors hold."""

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / f"contract-{SINCE}.json"
NORMS = GOLDEN.with_name(f"norms-{golden_norms.SINCE}.json")
OFFSETS = GOLDEN.with_name(f"offsets-{golden_offsets.SINCE}.json")
REDUCTIONS = GOLDEN.with_name(f"reductions-{golden_reductions.SINCE}.json")
CHOICES = GOLDEN.with_name(f"choices-{golden_choices.SINCE}.json")
ATTENTION = GOLDEN.with_name(f"attention-{golden_attention.SINCE}.json")
CODES = GOLDEN.with_name(f"codes-{golden_codes.SINCE}.json")
ELEMENTWISE = GOLDEN.with_name(f"elementwise-{golden_elementwise.SINCE}.json")

ABOUT = [
    "Every number is an integer, but for x and scale under 'boundary', which are float64 written so that they read back exactly.",
    "primitives: name -> arguments, and cases as [argument..., result]; equations in docs/arithmetic.md, section 2 to 4.",
    "gate_functions: name -> kind, in_frac, out_frac and the kind's parameters (0, odd: offset, segment_bits, cut, which is 0 where it is",
    "absent, and a table; 1, ramp: slope, intercept, shift, low, high; 2, table: lowest, segment_bits, highest and a table; 3, threshold:",
    "threshold, slope, intercept, high, below), some [x, y] samples, and all_inputs_sha256: the SHA-256 of y for x = -32768 ... 32767 in",
    "order, each y as a little-endian int32.",
    "recurrent: gate rows in the order lstm i f g o, gru r z n, rnn h; weights [rows][columns]; gates names one gate function per gate",
    "and, for lstm, the output activation; lengths [N]; x [N][T][I]; h_0, c_0, h_n, c_n [N][D][H]; y [N][T][D*H], zero past the length.",
    "h_n, c_n are the carried states, h_0, c_0 themselves for a sequence of length 0 (where the layer's tensors h_n and c_n are zero).",
    "Keys that only some have: forget (lstm: one, f = 1; coupled, f = 1 - i; there are then no rows and no gate function of f, and f is",
    "the gate's own where the key is absent); in a direction, peephole (weight, shift per row; zero shares of g's rows are not read), and",
    "projection (matrix p [P][H] with its pre_shift, operand and hidden_frac, in_frac, and function: a gate function's name, softmax, or",
    "empty for the identity): h_0, h_n are then [N][D][P] and y [N][T][D*P].",
    "dense, pointwise, softmax, align: x and y [M][F]; softmax uses exp_table. add: x and right are its operands.",
]


# --- running a case -------------------------------------------------------------------------------------------------------------

_PROVENANCE = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})


def _model(layer: QuantLayer, features: int, width: int, has_time: bool) -> QuantModel:
    """Return a model of one layer, from x (and its other inputs) [features] to y [width]."""

    def int16(frac: int, size: int, timed: bool, limit: int = STATE_MAX) -> TensorFormat:
        return TensorFormat(size, timed, 16, (2.0**-frac,), limit)

    reads, writes, limit = dict.fromkeys(layer.inputs, 0), 0, STATE_MAX
    match layer:
        case QuantRecurrent():
            writes = layer.h_frac
        case QuantPointwise():
            reads, writes, limit = {layer.input: layer.in_frac}, layer.out_frac, layer.limit
        case QuantSoftmax():
            reads, writes, limit = {layer.input: layer.in_frac}, PROBABILITY_FRAC, 1 << PROBABILITY_FRAC
        case QuantConcat():
            reads, writes = {part.tensor: part.in_frac for part in layer.parts}, layer.out_frac
        case QuantAdd():
            reads, writes = {layer.left: layer.left_frac, layer.right: layer.right_frac}, layer.out_frac
        case QuantDense():
            writes = layer.out_frac
    formats = {name: int16(frac, features, has_time) for name, frac in reads.items()}
    formats["y"] = int16(writes, width, has_time, limit)
    if isinstance(layer, QuantRecurrent):
        formats[layer.h_n] = int16(writes, width, False)
        if layer.c_n is not None:
            cells = layer.hidden_size * len(layer.directions)
            formats[layer.c_n] = TensorFormat(cells, False, 32, (2.0**-layer.c_frac,), CELL_MAX)
    inputs = tuple(GraphInput(name, "features", (features,), has_time) for name in layer.inputs)
    return QuantModel("golden", inputs, (layer,), (), formats, False, _PROVENANCE)


def run_case(kind: str, case: Mapping[str, Any], document: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """Return the results of one case of ``document[kind]``, by name, as ``backend`` computes them from the file's integers alone."""
    functions = {name: read_gate_function(name, entry) for name, entry in document["gate_functions"].items()}
    x = np.asarray(case["x"], np.int16)
    layer: QuantLayer
    states, lengths = {}, np.ones(len(x), np.int64)
    width = x.shape[-1]
    match kind:
        case "recurrent":
            layer = read_recurrent(case, functions, document["exp_table"])
            width = layer.output_size * len(layer.directions)
            states = {"rnn": (np.asarray(case["h_0"], np.int16), np.asarray(case["c_0"], np.int32))}
            lengths = np.asarray(case["lengths"], np.int64)
        case "dense":
            operand = Operand(**case["operand"])
            matrix = read_matrix(case, "w", operand.limit)
            layer = QuantDense(
                "dense", "x", "y", matrix, np.asarray(case["pre_shift"], np.int8), operand, case["out_frac"]
            )
            width = len(case["pre_shift"])
        case "pointwise":
            layer = QuantPointwise(
                "pointwise", "x", "y", functions[case["function"]], case["in_frac"], case["out_frac"]
            )
        case "softmax":
            layer = QuantSoftmax("softmax", "x", "y", np.asarray(document["exp_table"], np.int32), case["in_frac"])
        case "align":
            part = ConcatPart("x", np.arange(width), case["from_frac"])
            layer = QuantConcat("concat", "y", (part,), case["to_frac"])
        case "add":
            layer = read_add(case)
        case _:
            raise ValueError(f"kind {kind!r} is unknown")
    engine = create_engine(backend, _model(layer, x.shape[-1], width, kind == "recurrent"), 1)
    inputs = {name: np.asarray(case[name], np.int16) for name in layer.inputs}
    tensors, final, _ = engine.run(inputs, states, lengths)
    results = {"y": tensors["y"].tolist()}
    if kind == "recurrent":
        h_n, c_n = final["rnn"]
        results |= {"h_n": h_n.tolist(), "c_n": c_n.tolist()}
    return results


CASE_KINDS = ("recurrent", "dense", "pointwise", "softmax", "align", "add")


def make_document() -> dict[str, Any]:
    """Return the whole file, computed by the reference backend."""
    functions = gate_functions()
    primitives = primitive_cases(np.random.default_rng(1)).items()
    return with_results(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "contract_version": SINCE,
            "about": ABOUT,
            "primitives": {name: {"arguments": names, "cases": [[*c, 0] for c in cases]} for name, (_, names, cases) in primitives},
            "gate_functions": gate_function_entries(functions),
            "exp_table": exp_table().tolist(),
            "recurrent": [make_recurrent(s, functions, np.random.default_rng(100 + k)) for k, s in enumerate(SPECS)],
            "dense": dense_cases(np.random.default_rng(3)),
            "pointwise": pointwise_cases(np.random.default_rng(4)),
            "softmax": softmax_cases(np.random.default_rng(5)),
            "align": align_cases(np.random.default_rng(6)),
            "add": add_cases(np.random.default_rng(8)),
            "boundary": boundary_cases(np.random.default_rng(7)),
        }
    )  # fmt: skip


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    functions = {name: function for name, (function, _, _) in primitive_cases(np.random.default_rng(1)).items()}
    for name, entry in filled["primitives"].items():
        entry["cases"] = [[*case[:-1], int(functions[name](*case[:-1]))] for case in entry["cases"]]
    for name, entry in filled["gate_functions"].items():
        params, tables = (packed.tolist() for packed in pack_gates((read_gate_function(name, entry),)))
        every = [gates.evaluate(x, params, tables, 0) for x in range(-32768, 32768)]
        entry["samples"] = [[x, every[x + 32768]] for x, _ in entry["samples"]]
        entry["all_inputs_sha256"] = hashlib.sha256(np.asarray(every, "<i4").tobytes()).hexdigest()
    for kind in CASE_KINDS:
        for case in filled[kind]:
            case.update(run_case(kind, case, filled, "reference"))
    for case in filled["boundary"]:
        fmt = TensorFormat(1, False, 16, (case["scale"],), case["limit"])
        case["q"] = quantize_array(np.asarray(case["x"])[:, None], fmt)[:, 0].tolist()
    return filled


def to_text(document: Mapping[str, Any]) -> str:
    """Return JSON with one entry or case per line."""
    compact = {"separators": (",", ":"), "ensure_ascii": True}

    def block(value: Any) -> str:
        if isinstance(value, dict):
            return "{\n" + ",\n".join(f"{json.dumps(k)}:{json.dumps(v, **compact)}" for k, v in value.items()) + "\n}"  # type: ignore[arg-type]
        if isinstance(value, list) and value and not isinstance(value[0], int):
            return "[\n" + ",\n".join(json.dumps(v, **compact) for v in value) + "\n]"  # type: ignore[arg-type]
        return json.dumps(value, **compact)  # type: ignore[arg-type]

    return "{\n" + ",\n".join(f"{json.dumps(k)}:{block(v)}" for k, v in document.items()) + "\n}\n"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return where two documents differ, by section and entry."""
    found = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{key}: {name}" for name in sorted(set(a) | set(b)) if a.get(name) != b.get(name)]
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            found += [f"{key}: entry {k}" for k, (u, v) in enumerate(zip(a, b, strict=True)) if u != v]
        else:
            found.append(key)
    return found


def check(path: Path) -> int:
    """Compare the file with the reference backend's results for its inputs, and its gate functions with those made now."""

    def expected(committed: dict[str, Any]) -> dict[str, Any]:
        found = with_results(committed) | {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "contract_version": SINCE,
            "exp_table": exp_table().tolist(),
        }
        for name, entry in gate_function_entries(gate_functions()).items():
            made = {key: value for key, value in entry.items() if key not in ("samples", "all_inputs_sha256")}
            found["gate_functions"].setdefault(name, {}).update(made)
        return found

    return _compared(path, expected)


def check_norms(path: Path = NORMS) -> int:
    """Compare the vectors of normalizations with what the contract's functions make of their inputs."""
    head = _without(golden_norms.make_document(), "functions", "rows")
    return _compared(path, lambda committed: golden_norms.with_results(committed) | head)


def check_offsets(path: Path = OFFSETS) -> int:
    """Compare the vectors of offsets with what the boundary and the layers that carry offsets make of their inputs."""
    return _compared(path, lambda committed: golden_offsets.with_results(committed) | golden_offsets.HEAD)


def check_reductions(path: Path = REDUCTIONS) -> int:
    """Compare the vectors of sums and means with what the contract's functions make of their inputs."""
    return _compared(path, lambda committed: golden_reductions.with_results(committed) | golden_reductions.HEAD)


def check_attention(path: Path = ATTENTION) -> int:
    """Compare the vectors of attention pooling with what the contract's functions make of their inputs."""
    head = _without(golden_attention.make_document(), "functions", "sequences")
    return _compared(path, lambda committed: golden_attention.with_results(committed) | head)


def check_choices(path: Path = CHOICES) -> int:
    """Compare the vectors of choices with what the contract's functions make of their inputs."""
    head = _without(golden_choices.make_document(), "functions", "choices")
    return _compared(path, lambda committed: golden_choices.with_results(committed) | head)


def check_elementwise(path: Path = ELEMENTWISE) -> int:
    """Compare the vectors of elementwise layers with what the contract's functions make of their inputs."""
    head = _without(golden_elementwise.make_document(), "functions", "octaves")
    return _compared(path, lambda committed: golden_elementwise.with_results(committed) | head)


def check_codes(path: Path = CODES) -> int:
    """Compare the vectors of codes with what the contract's function makes of their inputs."""
    return _compared(path, lambda committed: golden_codes.with_results(committed) | golden_codes.HEAD)


def _without(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return a document without some of its entries."""
    return {key: value for key, value in document.items() if key not in keys}


def _compared(path: Path, expected: Callable[[dict[str, Any]], Mapping[str, Any]]) -> int:
    """Compare a file with what is ``expected`` of it, and say where it differs; the exit status."""
    if not path.is_file():
        print(f"{path} is missing; write it with: python tools/make_golden.py", file=sys.stderr)
        return 1
    committed = json.loads(path.read_text(encoding="utf-8"))
    found = differences(committed, expected(committed))
    for line in found:
        print(f"{path.name} differs: {line}", file=sys.stderr)
    if not found:
        print(f"{path.name}: equal to the reference backend")
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file and return the exit status."""
    parser = argparse.ArgumentParser(description="Write or check the golden vectors of the numeric contract.")
    parser.add_argument(
        "--check", action="store_true", help="compare the file with the reference backend, write nothing"
    )
    parser.add_argument("--path", type=Path, help=f"one file (default: {GOLDEN} and those beside it)")
    options = parser.parse_args(arguments)
    path: Path = options.path or GOLDEN
    if options.check:
        every = (
            check_norms,
            check_offsets,
            check_reductions,
            check_elementwise,
            check_attention,
            check_codes,
            check_choices,
        )
        others = every if options.path is None else ()
        return max([check(path), *(other() for other in others)])
    documents = {path: make_document()}
    if options.path is None:
        documents |= {NORMS: golden_norms.make_document(), OFFSETS: golden_offsets.make_document()}
        documents |= {REDUCTIONS: golden_reductions.make_document(), ELEMENTWISE: golden_elementwise.make_document()}
        documents |= {ATTENTION: golden_attention.make_document(), CODES: golden_codes.make_document()}
        documents |= {CHOICES: golden_choices.make_document()}
    for place, document in documents.items():
        text = to_text(document)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, text.encode())
        print(f"{place}: {len(text)} bytes, contract {document['contract_version']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
