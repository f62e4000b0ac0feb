"""The C of a whole model is a header (`qrnn.export.header`) and a source, which is put together here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qrnn.errors import UnsupportedError
from qrnn.export.boundary import code_functions
from qrnn.export.c_text import LICENCE, comment
from qrnn.export.choices import Choices
from qrnn.export.code import Code
from qrnn.export.counted_flow import CountedFlow
from qrnn.export.flow import Flow, code_of
from qrnn.export.generation import Generation, PlannedGeneration
from qrnn.export.generation_code import GenerationCode
from qrnn.export.given_states import StatePort
from qrnn.export.given_states import functions as state_functions
from qrnn.export.header import header_text
from qrnn.export.layout import BLOCK_LOOPS, VECTORS
from qrnn.export.names import model_identifier
from qrnn.export.ports import Port, StateField
from qrnn.export.scratch import Scratch, moved
from qrnn.export.trace import trace_macro
from qrnn.export.whole import Whole
from qrnn.export.whole_flow import WholeFlow, why_whole
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Kernels, ListCosts

RUNTIME_BASE = ("qrnn_types.h", "qrnn_arithmetic.h", "qrnn_contract.h")
INNER = ("qrnn_dot_lanes.h", "qrnn_lanes_vector.h")
"""Files of the runtime that others include, in a place or under a condition of their own."""

CORES = {
    "qrnn_dot_dsp.h": (
        "!defined(__ARM_FEATURE_SIMD32) || ((__ARM_ARCH_ISA_THUMB == 1) && defined(__thumb__))",
        "Arm's DSP extension",
    ),
    "qrnn_dot_mve.h": ("!defined(__ARM_FEATURE_MVE)", "Arm Helium"),
    "qrnn_dot_avr.h": ("!defined(__AVR__)", "the AVR's instructions"),
    "qrnn_dot_avx2.h": ("!defined(__AVX2__)", "AVX2"),
    "qrnn_dot_vnni.h": ("!defined(__AVX512VNNI__) || !defined(__AVX512BW__)", "AVX-512 with VNNI"),
    "qrnn_dot_neon.h": ("!defined(__aarch64__) || !defined(__ARM_FEATURE_DOTPROD)", "the dot products of Armv8.2-A"),
    "qrnn_dot_wasm.h": ("!defined(__wasm_simd128__)", "the vectors of WebAssembly (simd128)"),
    "qrnn_dot_rvv.h": (
        "!defined(__riscv_v_intrinsic) || (__riscv_v_intrinsic < 11000)",
        "the vectors of RISC-V and their intrinsics (clang 16 or GCC 14)",
    ),
}
"""For each header of dot products, the condition under which a compiler cannot make them, and the instructions that they are made of."""

VERBS = ("step", "run", "finish")
"""What comes after NAME_ in the names of the functions that compute."""

MOST_FEATURES = 0xFFFF
"""The most features of a tensor: indices of features are 16 bits wide in C."""


MOST_AVR_BYTES = 64_000
"""The most bytes of constants for an AVR: they lie behind the interrupts' vectors in the first 64 KiB, which 16 bits address."""

_ARRAY = re.compile(r"^static const QRNN_FLASH u?int(8|16|32|64)_t \w+\[(\d+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Exported:
    """A model's C: it has a step function, or, with ``whole``, reads whole sequences alone."""

    name: str
    kernels: Kernels
    header: str
    source: str
    runtime: tuple[str, ...]
    """The files of targets/runtime that the C includes."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    given: tuple[StatePort, ...]
    """The states that callers may give."""
    state: tuple[StateField, ...]
    weight_bytes: int
    whole: Whole | None = None
    rows: bool = False
    """Whether every step is a row by itself: nothing is carried from one to the next."""
    counts_rows: bool = False
    """Whether the functions return how many steps of the outputs over time came out, which may be none, or several, for a step."""
    step_rows: int = 1
    """The most rows that come out in a step."""
    fewer_bytes: int = 0
    """How many bytes of weights lists of tiles save (`qrnn.export.lists`)."""
    finish_rows: int = 0
    """The most rows that come out past the end of a sequence."""
    finishes: bool = False
    """Whether there is a function for the end of a sequence."""
    lengths: tuple[str, ...] = ("length",)
    """The parameters of NAME_run that say how many steps there are, one for each time axis."""
    choices: Choices = field(default_factory=Choices)
    scratch: Scratch | None = None
    """The room that functions take from their caller; None where they work on the stack."""
    generates: GenerationCode | None = None
    """The functions that feed an output back, if they were asked for."""
    layers: Mapping[str, str] = field(default_factory=dict)
    """What the names of each layer's functions begin with, by the layer's name."""

    @property
    def last_arguments(self) -> list[str]:
        """Return the arguments of functions that compute behind all others: room for their work, in a variable ``scratch``."""
        return [] if self.scratch is None else ["&scratch"]

    @property
    def scratch_variable(self) -> list[str]:
        """Return the declaration of that variable."""
        return [] if self.scratch is None else [f"static {self.name}_scratch scratch;"]

    @property
    def streams(self) -> bool:
        """Return whether there is a function of a time step."""
        return self.whole is None

    def rows_of(self, length: int) -> int:
        """Return the most rows of outputs over time that a sequence of ``length`` steps gives."""
        if self.whole is not None:
            return self.whole.rows.of(length)
        return length * self.step_rows + self.finish_rows

    @property
    def most_rows(self) -> int:
        """Return the most steps of outputs over time that one call writes, of a model that streams."""
        return max(1, self.step_rows, self.finish_rows)

    @property
    def compared_state(self) -> tuple[StateField, ...]:
        """Return the members of the state that are arrays of layers, which engines have, too."""
        return tuple(f for f in self.state if f.array is not None)


def export_source(
    model: QuantModel,
    name: str,
    kernels: Kernels,
    remarks: Sequence[str] = (),
    target: str = "",
    choices: Choices | None = None,
    generation: Generation | None = None,
    lists: ListCosts | None = None,
) -> Exported:
    """Return the C of ``model``, whose functions and types begin with ``name``; ``remarks`` go to the top of both files.

    ``target`` says in words what the C is for and how to compile it. A compiler for a core without the kernels' instructions prints it.
    ``choices`` are what there is beside the model's own functions, ``generation`` asks for functions that feed an output back, and ``lists``
    are the target's costs of block-sparse weights. Raises UnsupportedError for what C cannot hold, and DataError where the model does not
    generate.
    """
    _check(model)
    if generation is not None and choices is not None and choices.scratch:
        raise UnsupportedError("functions that generate work on the stack; leave out --scratch argument, or --generate")
    plan = None if generation is None else PlannedGeneration(model, generation)
    name, code = model_identifier(name), Code(kernels, lists or ListCosts())
    chosen = choices or Choices()
    flow = _flow(model, name, code)
    functions, reset = flow.functions(), flow.initial()
    generates = None if plan is None else _generation(flow, code, plan)
    functions += [] if generates is None else generates.functions()
    beside = [*state_functions(name, code, flow.fields, flow.given), *code_functions(name, flow.inputs, chosen)]
    room = None
    if chosen.scratch:
        known, four = [*code.functions, *functions], "QRNN_USE_FOUR" in code.all_features
        known, room = moved(name, known, [f"{name}_{verb}" for verb in VERBS], kernels, four)
        code.functions, functions = known[: len(code.functions)], known[len(code.functions) :]
        code.functions[:0] = room.checks(name, code.names)
    runtime = _runtime(code)
    top = [*LICENCE, *(comment(line) for line in remarks)]
    source = _source(name, code, runtime, reset, [*beside, *functions])
    source = [*_flash_check(name, kernels, constant_bytes("\n".join(source))), *source]
    return Exported(
        name=name,
        kernels=kernels,
        header="\n".join([*top, *header_text(model, flow, chosen, room, generates)]) + "\n",
        source="\n".join([*top, *_core_check(name, runtime, target), *source]) + "\n",
        runtime=runtime,
        inputs=flow.inputs,
        outputs=flow.outputs,
        given=flow.given,
        state=tuple(flow.fields),
        weight_bytes=code.weight_bytes,
        fewer_bytes=code.fewer_bytes,
        whole=flow.whole if isinstance(flow, WholeFlow) else None,
        rows=model.rows,
        counts_rows=flow.counts_rows,
        step_rows=flow.step_rows,
        finish_rows=flow.finish_rows,
        finishes=flow.streams and any(layer.steps_past_end > 0 for layer in flow.layers),
        choices=chosen,
        scratch=room,
        generates=generates,
        lengths=tuple(flow.lengths.values()),
        layers={layer.layer.name: layer.name for layer in flow.layers},
    )


def _generation(flow: Flow, code: Code, plan: PlannedGeneration) -> GenerationCode:
    """Return the functions that feed an output back."""
    if type(flow) is not Flow:
        raise UnsupportedError(
            f"output {plan.feedback.output.name} is fed back, and other outputs of the model do not come out of every step; export a model "
            "without these"
        )
    return GenerationCode(flow, code, plan)


def constant_bytes(source: str) -> int:
    """Return the bytes of the constant arrays in a model's source."""
    return sum(int(bits) // 8 * int(count) for bits, count in _ARRAY.findall(source))


def _flash_check(name: str, kernels: Kernels, size: int) -> list[str]:
    """Return lines that stop an AVR's compiler where its pointers, of 16 bits, do not reach ``size`` bytes of constants in flash.

    Raises UnsupportedError for C that is for an AVR alone.
    """
    if size <= MOST_AVR_BYTES or kernels not in ("plain", "avr"):
        return []
    text = f"{name}: {size:,} bytes of weights and tables, and an AVR reaches the first {MOST_AVR_BYTES:,} of its flash"
    if kernels == "avr":
        raise UnsupportedError(f"{text}; make the layers smaller, or convert with --weights 4")
    return ["#if defined(__AVR__) && defined(__FLASH)", f'#error "{text}."', "#endif", ""]


def _flow(model: QuantModel, name: str, code: Code) -> Flow:
    """Return the functions of a model: of steps where it can, else of whole sequences."""
    counting = [layer.name for layer in model.layers if code_of(model, layer).counts_rows]
    if model.rows and counting:
        raise UnsupportedError(
            f"layer {counting[0]} goes on from step to step, and every row of the model is one by itself; give the inputs a time axis"
        )
    if (why := why_whole(model)) is not None:
        return WholeFlow(model, name, code, why)
    return CountedFlow(model, name, code) if counting else Flow(model, name, code)


def _core_check(name: str, runtime: Sequence[str], target: str) -> list[str]:
    """Return lines that stop a compiler that is told of another core, before it meets the first instruction that the core lacks."""
    for header, (condition, what) in CORES.items():
        if header in runtime:
            purpose = re.sub(r"[^A-Za-z0-9 ,.=+_()-]", "?", target) or what
            text = f"{name}: exported for {purpose}; this compiler is told of a core without {what}."
            return [
                f"#if ({condition}) && !defined(QRNN_ANY_CORE)",
                f'#error "{text} Name the core to it (-mcpu=...), or export the model for your core (qrnn export --target)."',
                "#endif",
                "",
            ]
    return []


def _check(model: QuantModel) -> None:
    """Raise UnsupportedError for what the C cannot index."""
    for name, fmt in model.tensors.items():
        if fmt.features > MOST_FEATURES:
            raise UnsupportedError(
                f"tensor {name}: {fmt.features} features, an export takes at most {MOST_FEATURES}; make the layer smaller"
            )


def _runtime(code: Code) -> tuple[str, ...]:
    """Return the runtime's files, each after those it includes."""
    found = code.headers
    kernels = [f"qrnn_dot_{code.kernels}.h"]
    kernels += ["qrnn_dot_plain.h"] if code.kernels == "mla" else []
    kernels += [f"qrnn_blocks_{code.kernels}.h"] if code.kernels in BLOCK_LOOPS else []
    first = ["qrnn_contract_lanes.h", "qrnn_matrix.h"]
    lists = [header for header in ("qrnn_lists.h", f"qrnn_lists_{code.kernels}.h") if header in found]
    lists += ["qrnn_lists_plain.h"] if "qrnn_lists_mla.h" in lists else []
    rest = sorted(found - {*first, *kernels, *lists})
    lanes = ["qrnn_lanes.h"] if found & set(first) else []
    lanes += ["qrnn_gates_dsp.h"] if "QRNN_GATE_SIGNED" in code.features else []
    products = kernels if found & {"qrnn_matrix.h", *kernels} else []
    if code.kernels in VECTORS:  # lanes are vectors of the header of products
        vectors = ["qrnn_dot_lanes.h", kernels[0]] if lanes or products or "qrnn_channels_lanes.h" in found else []
        products, lanes = [], [*vectors, *(["qrnn_lanes_vector.h", *lanes] if lanes else [])]
    return (*RUNTIME_BASE, *lanes, *products, *lists, *(h for h in first if h in found), *rest)


def _source(name: str, code: Code, runtime: Sequence[str], reset: Sequence[str], functions: Sequence[str]) -> list[str]:
    lines = [f'#include "{name}.h"', ""]
    lines += [f"#define {feature}" for feature in sorted(code.all_features)]
    lines += ["", *(f'#include "{header}"' for header in runtime if header not in INNER), ""]
    lines += trace_macro(name)
    lines += [part for text in (*code.definitions, *code.functions) for part in (text, "")]
    lines += [f"void {name}_init({name}_state *state)", "{", f"    {name}_reset(state);", "}", ""]
    lines += [f"void {name}_reset({name}_state *state)", "{", "    QRNN_CLEAR(state, sizeof(*state));"]
    lines += [*(f"    {line}" for line in reset), "}"]
    return [*lines, *(part for text in functions for part in ("", text))]
