"""The example of a library in Rust is a crate without Rust's standard library, with a safe interface, and a program that uses it."""

from __future__ import annotations

from collections.abc import Mapping

from qrnn.export.example_values import STEPS, room, span
from qrnn.export.library_source import Function, LibrarySource
from qrnn.export.ports import Port, state_bytes
from qrnn.model.quant_model import QuantModel

RUST = {"int16_t": "i16", "int32_t": "i32", "uint16_t": "u16", "uint32_t": "u32", "int": "i32"}


def rust_files(model: QuantModel, source: LibrarySource) -> Mapping[str, str]:
    """Return the files of the crate, by their names in the folder of examples."""
    return {
        "rust/Cargo.toml": _cargo(source),
        "rust/build.rs": _build_rs(source),
        "rust/src/lib.rs": _rust_library(source),
        "rust/src/main.rs": _rust_program(model, source),
    }


def _cargo(source: LibrarySource) -> str:
    package = f"qrnn-{source.name.lower().replace('_', '-')}"
    return (
        f'[package]\nname = "{package}"\nversion = "{source.version}"\nedition = "2021"\nrust-version = "1.63"\n'
        'license = "Apache-2.0"\n\n[lib]\nname = "model"\n\n[[bin]]\nname = "example"\npath = "src/main.rs"\n\n[workspace]\n'
    )


def _build_rs(source: LibrarySource) -> str:
    return f"""// Says where the library lies: beside this folder, or where the environment's QRNN_LIBRARY_FOLDER says.
use std::path::PathBuf;

fn main() {{
    println!("cargo:rerun-if-env-changed=QRNN_LIBRARY_FOLDER");
    let beside = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../lib");
    let folder = std::env::var("QRNN_LIBRARY_FOLDER").map_or(beside, PathBuf::from);
    println!("cargo:rerun-if-changed={{}}", folder.join("libqrnn_{source.name}.a").display());
    println!("cargo:rustc-link-search=native={{}}", folder.display());
    println!("cargo:rustc-link-lib=static=qrnn_{source.name}");
}}
"""


def _rust_name(name: str) -> str:
    """Return a parameter's name in Rust, which is none of its keywords."""
    return name if name in ("length", "work") else f"{name}_values"


def _rust_extern(source: LibrarySource, function: Function) -> str:
    """Return the declaration of a function of the library."""
    given = []
    for parameter, name in zip(function.parameters[1:], function.arguments[1:], strict=True):
        words = parameter.replace("*", " ").split()
        kind = RUST[words[1] if words[0] == "const" else words[0]]
        pointer = "" if "*" not in parameter and "[" not in parameter else "*const " if words[0] == "const" else "*mut "
        given.append(f"{_rust_name(name)}: {pointer}{kind}")
    state = "*const State" if function.parameters[0].startswith("const") else "*mut State"
    result = "" if function.kind == "void" else f" -> {RUST[function.kind]}"
    return f"    fn {source.name}_{function.name}({', '.join([f'state: {state}', *given])}){result};"


def _rust_library(source: LibrarySource) -> str:
    name, exported = source.name, source.model
    words = state_bytes(exported.state) // 8 + 4
    sizes = [f"pub const {p.name.upper()}_SIZE: usize = {p.count};" for p in (*exported.inputs, *exported.outputs)]
    sizes += (
        [f"pub const STEP_ROWS: usize = {exported.most_rows};"] if exported.counts_rows and exported.streams else []
    )
    methods: list[str] = []
    for function in source.functions:
        if function.name != "init":
            methods += _rust_method(source, function)
    lines = [
        f"//! The library of {name} {source.version}, without Rust's standard library and without allocation.",
        "//! Its integers are explained in the README of the library's folder.",
        "#![no_std]",
        "",
        "/// What the model remembers; only its address is known.",
        "#[repr(C)]",
        "struct State {",
        "    opaque: [u8; 0],",
        "}",
        "",
        'extern "C" {',
        f"    fn {name}_state_size() -> usize;",
        *([f"    fn {name}_work_size(length: u32) -> usize;"] if exported.whole is not None else []),
        *(_rust_extern(source, f) for f in source.functions),
        "}",
        "",
        "/// Words of memory that are enough for a state.",
        f"pub const STATE_WORDS: usize = {words};",
        *sizes,
        "",
        *(
            [
                "/// `i16` of room that a sequence of `length` steps needs.",
                "pub fn work_size(length: u32) -> usize {",
                f"    unsafe {{ {name}_work_size(length) / 2 }}",
                "}",
                "",
            ]
            if exported.whole is not None
            else []
        ),
        "/// A stream, in memory that the caller gives.",
        "pub struct Stream<'a> {",
        "    memory: &'a mut [u64],",
        "}",
        "",
        "impl<'a> Stream<'a> {",
        "    /// Begin a stream; None where the memory is too small.",
        "    pub fn new(memory: &'a mut [u64]) -> Option<Self> {",
        f"        if memory.len() * 8 < unsafe {{ {name}_state_size() }} {{",
        "            return None;",
        "        }",
        f"        unsafe {{ {name}_init(memory.as_mut_ptr() as *mut State) }};",
        "        Some(Stream { memory })",
        "    }",
        *methods,
        "}",
        "",
    ]
    return "\n".join(lines)


def _rust_method(source: LibrarySource, function: Function) -> list[str]:
    """Return a safe method: slices whose lengths are checked."""
    exported = source.model
    ports = {p.name: p for p in (*exported.inputs, *exported.outputs)}
    ports |= {s.port.name: s.port for s in exported.given}
    outputs = {p.name for p in exported.outputs}
    parameters, checks, arguments = [], [], []
    for parameter, name in zip(function.parameters[1:], function.arguments[1:], strict=True):
        if name == "length":
            parameters.append("length: u32")
            arguments.append("length")
            continue
        own = _rust_name(name)
        words = parameter.replace("*", " ").split()
        const = words[0] == "const"
        kind = RUST[words[1] if const else words[0]]
        parameters.append(f"{own}: &{'' if const else 'mut '}[{kind}]")
        arguments.append(f"{own}.{'as_ptr' if const else 'as_mut_ptr'}()")
        checks.append(
            f"        assert!({own}.len() >= {_rust_least(source, function, ports.get(name), name in outputs)});"
        )
    result = "" if function.kind == "void" else f" -> {RUST[function.kind]}"
    state = (
        "self.memory.as_ptr() as *const State"
        if function.parameters[0].startswith("const")
        else "self.memory.as_mut_ptr() as *mut State"
    )
    receiver = "&self" if function.parameters[0].startswith("const") else "&mut self"
    return [
        "",
        f"    /// `{source.name}_{function.name}` of the header; panics where an array is too short.",
        f"    pub fn {function.name}({', '.join([receiver, *parameters])}){result} {{",
        *checks,
        f"        unsafe {{ {source.name}_{function.name}({', '.join([state, *arguments])}) }}",
        "    }",
    ]


def _rust_least(source: LibrarySource, function: Function, port: Port | None, output: bool) -> str:
    """Return how many elements an array must have at least, as an expression."""
    exported = source.model
    if port is None:
        return "work_size(length)"
    if not port.has_time or function.name[:4] in ("set_", "get_"):
        return str(port.count)
    if function.name != "run":
        return str(port.count * (exported.most_rows if output else 1))
    if not output:
        return f"{port.count} * length as usize"
    if exported.whole is not None:
        rows = exported.whole.rows
        return f"{port.count} * (({rows.per_step} * length as usize + {rows.fixed}) / {rows.over})"
    return f"{port.count} * {exported.step_rows} * length as usize"


def _rust_program(model: QuantModel, source: LibrarySource) -> str:
    exported = source.model
    ins, outs = exported.inputs, exported.outputs
    lines = [
        f"//! Calls the library of {source.name}: `cargo run --release` in this folder.",
        "use model::{Stream, STATE_WORDS};",
        "",
        "// Integers that follow from a formula; yours come from a sensor, or from real numbers as the README says.",
        "fn number(k: usize, step: usize, span: i64, least: i64) -> i64 {",
        "    37 * (k as i64 + 1) * (step as i64 + 1) % span + least",
        "}",
        "",
        "fn show<T: std::fmt::Display>(name: &str, values: &[T]) {",
        '    print!("{name}");',
        "    for value in values {",
        '        print!(" {value}");',
        "    }",
        "    println!();",
        "}",
        "",
        "fn main() {",
        "    let mut memory = [0u64; STATE_WORDS];",
        '    let mut stream = Stream::new(&mut memory).expect("the memory is as large as the library says");',
    ]
    for ports, outputs in ((ins, False), (outs, True)):
        lines += [f"    let mut {p.name}_values = vec![0{RUST[p.kind]}; {room(source, p, outputs)}];" for p in ports]

    def filled(port: Port, step: str, begin: str = "0") -> list[str]:
        count, least = span(model, port)
        place = f"{begin} + k" if begin != "0" else "k"
        value = f"number(k, {step}, {count}, {least}) as {RUST[port.kind]}"
        return [f"for k in 0..{port.count} {{", f"    {port.name}_values[{place}] = {value};", "}"]

    given = [f"&{p.name}_values" for p in ins]
    taken = [f"&mut {p.name}_values" for p in outs]
    lines += [f"    {line}" for p in ins if not p.has_time for line in filled(p, "0")]
    lines += [f"    for step in 0..{STEPS} {{"]
    own = "rows as usize * " if exported.counts_rows else ""
    rows = "let rows = " if exported.counts_rows else ""
    if exported.whole is None:
        lines += [f"        {line}" for p in ins if p.has_time for line in filled(p, "step")]
        lines += [f"        {rows}stream.step({', '.join([*given, *taken])});"]
        lines += [f'        show("{p.name}", &{p.name}_values[..{own}{p.count}]);' for p in outs if p.has_time]
        lines += ["    }"]
        if exported.finishes:
            lines += [f"    let rows = stream.finish({', '.join(taken)});"]
            lines += [f'    show("{p.name}", &{p.name}_values[..{own}{p.count}]);' for p in outs if p.has_time]
    else:
        lines += [f"        {line}" for p in ins if p.has_time for line in filled(p, "step", f"step * {p.count}")]
        lines += ["    }", f"    let mut work = vec![0i16; model::work_size({STEPS})];"]
        lines += [f"    {rows}stream.run({', '.join([*given, str(STEPS), *taken, '&mut work'])});"]
        own = own or f"{STEPS} * "
        lines += [f'    show("{p.name}", &{p.name}_values[..{own}{p.count}]);' for p in outs if p.has_time]
    lines += [f'    show("{p.name}", &{p.name}_values);' for p in outs if not p.has_time]
    return "\n".join([*lines, "}", ""])
