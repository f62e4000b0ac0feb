"""The header of a model's C says what its inputs and outputs mean, and declares its state and its functions."""

from __future__ import annotations

from collections.abc import Sequence

from qrnn.export.boundary import argmax_lines, code_lines, name_lines
from qrnn.export.c_text import BEGIN_C, END_C
from qrnn.export.choices import Choices
from qrnn.export.counted_flow import CountedFlow
from qrnn.export.flow import Flow
from qrnn.export.generation_code import GenerationCode
from qrnn.export.given_states import header_lines, macro_lines
from qrnn.export.ports import Port
from qrnn.export.real_values import port_values
from qrnn.export.scratch import Scratch, with_argument
from qrnn.export.whole_flow import WholeFlow
from qrnn.model.quant_model import QuantModel


def header_text(
    model: QuantModel, flow: Flow, choices: Choices, room: Scratch | None, generates: GenerationCode | None
) -> list[str]:
    """Return the lines of a model's header: what its inputs and outputs mean, its state, and its functions."""
    name, guard = flow.name, f"{flow.name.upper()}_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "", *BEGIN_C]
    for title, ports in (("Inputs", flow.inputs), ("Outputs", flow.outputs)):
        lines.append(f"/* {title}:")
        lines += [
            f" *   {line}"
            for port in ports
            for line in _port_lines(model, port, "rows" if flow.counts_rows and ports is flow.outputs else port.steps)
        ]
        lines[-1] += " */"
    lines.append("")
    for port in (*flow.inputs, *flow.outputs):
        prefix = f"{name.upper()}_{port.name.upper()}"
        lines.append(f"#define {prefix}_SIZE {port.count}")
        if (values := port_values(model, port)) is not None:
            lines += [*values.macros(prefix), *values.limit_macro(prefix)]
    lines += macro_lines(name, flow.given)
    kept = "What the model remembers from step to step."
    if model.rows:
        kept = (
            "What every step begins with: 0, or what was set."
            if flow.fields
            else "The model remembers nothing from step to step."
        )
    lines += ["", f"/* {kept} */", "typedef struct {"]
    lines += [f"    {f.kind} {f.name}[{f.count}];" for f in flow.fields] or ["    uint8_t nothing;"]
    lines += [
        f"}} {name}_state;",
        "",
        *([] if room is None else room.struct(name)),
        "/* Before anything else, once. */",
        f"void {name}_init({name}_state *state);",
        "",
    ]
    when = "As init; no step changes the state." if model.rows else "Before each new sequence."
    lines += [f"/* {when} */", f"void {name}_reset({name}_state *state);", ""]
    lines += header_lines(name, flow.given, model.rows)
    lines += code_lines(name, flow.inputs, choices)
    lines += argmax_lines(name, model, flow.outputs)
    lines += name_lines(name, (*flow.inputs, *flow.outputs), choices)
    heads = flow.prototypes() if room is None else [with_argument(p, name) for p in flow.prototypes()]
    prototypes = [f"{p};" for p in heads]
    unwanted = "An output that is not wanted may be NULL; what only serves it is then not computed."
    if isinstance(flow, CountedFlow):
        lines += _counted_prototypes(flow, prototypes, unwanted)
    elif flow.streams:
        step = "One time step. Outputs without a time axis are those of a sequence that ends here."
        steps = "`length` steps, one after the other; the state is carried on."
        if model.rows:
            step = "One row. Its outputs depend on nothing that was computed before."
            steps = "`length` rows, each by itself. Outputs without a time axis are the last row's."
        lines += [f"/* {step}", f" * {unwanted} */", prototypes[0], "", f"/* {steps} */", prototypes[1]]
    elif isinstance(flow, WholeFlow):
        lines += _whole_prototypes(model, flow, prototypes, unwanted)
    lines += [] if generates is None else generates.header()
    return [*lines, "", *END_C, "#endif"]


def _counted_prototypes(flow: CountedFlow, prototypes: Sequence[str], unwanted: str) -> list[str]:
    """Return the declarations of functions that return how many steps came out."""
    name, rows = flow.name.upper(), "steps of the outputs over time"
    lines = [
        f"/* The most {rows} that one call of {flow.name}_step writes. */",
        f"#define {name}_STEP_ROWS {flow.step_rows}",
    ]
    if len(prototypes) > 2:
        lines += [f"/* The same for {flow.name}_finish. */", f"#define {name}_FINISH_ROWS {flow.finish_rows}"]
    lines += [
        "",
        f"/* One time step. Returns how many {rows} came out, which may be none.",
        " * Outputs without a time axis are those of a sequence that ends here.",
        f" * {unwanted} */",
        prototypes[0],
        "",
        f"/* `length` steps, one after the other; the state is carried on. Returns how many {rows} came out. */",
        prototypes[1],
    ]
    if len(prototypes) > 2:
        what = f"The end of a sequence: the {rows} that layers still hold back. Returns how many came out."
        lines += ["", f"/* {what}", " * Call reset before the next step. */", prototypes[2]]
    return lines


def _whole_prototypes(model: QuantModel, flow: WholeFlow, prototypes: Sequence[str], unwanted: str) -> list[str]:
    """Return the declaration of the function of whole sequences."""
    lines = ["/* int16_t of room that a sequence of `length` steps needs. */"]
    if len(flow.lengths) > 1:
        lines = ["/* int16_t of room that sequences of at most `length` steps need. */"]
    lines += [f"#define {flow.name.upper()}_WORK(length) ({flow.whole.work.text('(length)')})", ""]
    what = ["A whole sequence: a layer that runs backwards begins at its end."]
    if model.rows:
        what = ["`length` rows, each by itself."]
    elif len(flow.lengths) > 1:
        what = ["A whole sequence of each time axis, from its first step to its last; one of no steps has no rows."]
        what.append("Call reset before the next ones.")
    elif any(layer.counts_rows for layer in flow.layers):
        what = ["A whole sequence, from its first step to its last. Call reset before the next one."]
    if flow.counts_rows:
        lines += ["/* The most steps of the outputs over time that a sequence of `length` steps gives. */"]
        lines += [f"#define {flow.name.upper()}_ROWS(length) ({flow.whole.rows.text('(length)')})", ""]
        what.append("Returns how many steps of the outputs over time came out.")
    *first, last = [*what, unwanted]
    if not first[1:]:
        return [*lines, f"/* {first[0]} {last} */", *prototypes]
    return [*lines, f"/* {first[0]}", *(f" * {line}" for line in first[1:]), f" * {last} */", *prototypes]


def _port_lines(model: QuantModel, port: Port, steps: str) -> list[str]:
    """Return what the values of a port mean; ``steps`` is the length of its time axis."""
    shape = f"[{f'{steps}][' if port.has_time else ''}{port.count}]"
    values = port_values(model, port)
    if values is None:
        vocabulary = next(i.vocabulary for i in model.inputs if i.name == port.graph_name)
        return [f"{port.kind} {port.name}{shape}: tokens below {vocabulary}"]
    return [f"{port.kind} {port.name}{shape}: real value = {values.formula}, |q| <= {values.limit}"]
