"""Programs that call a library, which lie beside it: in C++, in Rust without its standard library, and in JavaScript.

Each feeds `STEPS` steps of integers that follow from a formula, and prints what comes out, a line for each output: its name and its integers.
"""

from __future__ import annotations

from collections.abc import Mapping

from qrnn.export.example_values import STEPS, room, span
from qrnn.export.library_rust import rust_files
from qrnn.export.library_source import LibrarySource
from qrnn.export.ports import Port
from qrnn.model.quant_model import QuantModel


def examples(model: QuantModel, source: LibrarySource) -> Mapping[str, str]:
    """Return the files of the folder ``examples``, by their names in it."""
    if source.model.kernels == "wasm":
        return {"node.mjs": _node(model, source), "index.html": _page(source)}
    return {
        "cpp/main.cpp": _cpp(model, source),
        **rust_files(model, source),
    }


def _cpp(model: QuantModel, source: LibrarySource) -> str:
    name, exported = source.name, source.model
    ins, outs = exported.inputs, exported.outputs
    lines = [
        f"// Calls the library of {name}; from the library's folder:",
        f"//   c++ -std=c++11 -Iinclude examples/cpp/main.cpp -Llib -lqrnn_{name} -Wl,-rpath,$PWD/lib -o example && ./example",
        f"// or with lib/libqrnn_{name}.a in place of -L, -l and -rpath, or with PKG_CONFIG_PATH=$PWD/lib/pkgconfig and what",
        f"// pkg-config --cflags --libs qrnn_{name} gives.",
        "#include <cstddef>",
        "#include <cstdint>",
        "#include <iostream>",
        "#include <vector>",
        "",
        f'#include "{name}.h"',
        "",
        "// Integers that follow from a formula; yours come from a sensor, or from real numbers as the README says.",
        "template <class T>",
        "static void fill(T *to, std::int64_t count, std::int64_t step, std::int64_t span, std::int64_t least)",
        "{",
        "    for (std::int64_t k = 0; k < count; k++) {",
        "        to[k] = static_cast<T>(37 * (k + 1) * (step + 1) % span + least);",
        "    }",
        "}",
        "",
        "template <class T>",
        "static void show(const char *name, const T *values, std::size_t count)",
        "{",
        "    std::cout << name;",
        "    for (std::size_t k = 0; k < count; k++) {",
        "        std::cout << ' ' << values[k];",
        "    }",
        "    std::cout << '\\n';",
        "}",
        "",
        "int main()",
        "{",
        "    // Room for a state, aligned for every type.",
        f"    std::vector<std::max_align_t> room({name}_state_size() / sizeof(std::max_align_t) + 1);",
        f"    {name}_state *const state = reinterpret_cast<{name}_state *>(room.data());",
    ]
    for ports, outputs in ((ins, False), (outs, True)):
        lines += [f"    std::vector<{p.kind}> {p.name}_values({room(source, p, outputs)});" for p in ports]
    pointers = [f"{p.name}_values.data()" for p in outs]

    def filled(port: Port, step: str, at: str = "") -> str:
        count, least = span(model, port)
        return f"fill({port.name}_values.data(){at}, {port.count}, {step}, {count}, {least});"

    def shown(port: Port, count: str) -> str:
        return f'show("{port.name}", {port.name}_values.data(), {count});'

    lines += ["", f"    {name}_init(state);", f"    std::cerr << \"kernels: \" << {name}_kernels(state) << '\\n';"]
    lines += [f"    {filled(p, '0')}" for p in ins if not p.has_time]
    rows = "std::size_t{rows} * "
    if exported.whole is None:
        lines += [f"    for (std::int64_t step = 0; step < {STEPS}; step++) {{"]
        lines += [f"        {filled(p, 'step')}" for p in ins if p.has_time]
        call = f"{name}_step({', '.join(['state', *(f'{p.name}_values.data()' for p in ins), *pointers])});"
        lines += [f"        {'const std::uint32_t rows = ' if exported.counts_rows else ''}{call}"]
        own = rows if exported.counts_rows else ""
        lines += [f"        {shown(p, f'{own}{p.count}')}" for p in outs if p.has_time]
        lines += ["    }"]
        if exported.finishes:
            lines += [f"    const std::uint32_t rows = {name}_finish({', '.join(['state', *pointers])});"]
            lines += [f"    {shown(p, f'{rows}{p.count}')}" for p in outs if p.has_time]
    else:
        lines += [f"    std::vector<std::int16_t> work({name}_work_size({STEPS}) / sizeof(std::int16_t));"]
        lines += [f"    for (std::int64_t step = 0; step < {STEPS}; step++) {{"]
        lines += [f"        {filled(p, 'step', f' + step * {p.count}')}" for p in ins if p.has_time]
        lines += ["    }"]
        values = [f"{p.name}_values.data()" for p in ins]
        call = f"{name}_run({', '.join(['state', *values, str(STEPS), *pointers, 'work.data()'])});"
        lines += [f"    {'const std::uint32_t rows = ' if exported.counts_rows else ''}{call}"]
        own = rows if exported.counts_rows else f"{STEPS} * "
        lines += [f"    {shown(p, f'{own}{p.count}')}" for p in outs if p.has_time]
    lines += [f"    {shown(p, str(p.count))}" for p in outs if not p.has_time]
    return "\n".join([*lines, "}", ""])


def _node(model: QuantModel, source: LibrarySource) -> str:
    spans = ", ".join(f"{p.name}: {list(span(model, p))}" for p in source.model.inputs)
    return f"""// Calls the model of {source.name} in Node.js, from any folder: node node.mjs
import {{ info, load }} from "../{source.name}.mjs";

const spans = {{ {spans} }};

// Integers that follow from a formula; yours come from a sensor, or from `quantize(info.inputs[0], real)`.
function numbers(port, step) {{
  const [count, least] = spans[port.name];
  return Array.from({{ length: port.size }}, (_, k) => ((37 * (k + 1) * (step + 1)) % count) + least);
}}

function show(outputs, time) {{
  for (const port of info.outputs.filter((p) => p.time === time)) {{
    console.log(`${{port.name}} ${{outputs[port.name].join(" ")}}`);
  }}
}}

const model = await load();
let last;
if (info.whole) {{
  const steps = (port) => Array.from({{ length: port.time ? {STEPS} : 1 }}, (_, step) => numbers(port, step)).flat();
  last = model.run(Object.fromEntries(info.inputs.map((port) => [port.name, steps(port)])), {STEPS});
  show(last, true);
}} else {{
  const stream = model.stream();
  for (let step = 0; step < {STEPS}; step++) {{
    last = stream.step(Object.fromEntries(info.inputs.map((port) => [port.name, numbers(port, port.time ? step : 0)])));
    show(last, true);
  }}
  if (info.finishes) {{
    last = stream.finish();
    show(last, true);
  }}
}}
show(last, false);
"""


def _page(source: LibrarySource) -> str:
    return f"""<!doctype html>
<!-- Calls the model of {source.name} in a browser. Serve the library's folder, since browsers load no module from a file:
     python3 -m http.server, then http://localhost:8000/examples/index.html -->
<meta charset="utf-8">
<title>{source.name}</title>
<pre id="out">loading</pre>
<script type="module">
  import {{ info, load }} from "../{source.name}.mjs";

  const model = await load();
  const zeros = (port) => new Array(port.size * (port.time && info.whole ? {STEPS} : 1)).fill(0);
  const inputs = Object.fromEntries(info.inputs.map((port) => [port.name, zeros(port)]));
  const outputs = info.whole ? model.run(inputs, {STEPS}) : model.stream().step(inputs);
  document.getElementById("out").textContent = info.outputs.map((p) => `${{p.name}} ${{outputs[p.name].join(" ")}}`).join("\\n");
</script>
"""
