"""``qrnn export --library`` builds a model as a static and a shared library, or as a WebAssembly module.

Its folder is written whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version as own_version
from pathlib import Path

from qrnn.devices.hosts import OPTIMIZATION, HostCompiler, find_host_compiler, host_of
from qrnn.devices.toolchain import run_tool
from qrnn.errors import DataError, MissingToolError
from qrnn.export.library_examples import examples
from qrnn.export.library_source import LibrarySource, Variant, library_source, library_version
from qrnn.export.ports import Port
from qrnn.export.readme import calling_fields
from qrnn.export.real_values import port_values
from qrnn.model.file import save
from qrnn.model.quant_model import QuantModel
from qrnn.system.files import reason
from qrnn.targets import Target, load_target, target_names, targets_folder

MANIFEST = "manifest.json"
FORMAT = "qrnn-library-1"

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
_COMPILE = ("-std=c99", OPTIMIZATION, *WARNINGS)
_STACK_BYTES = 1 << 20
"""The bytes of stack of a WebAssembly module; a step's operands lie there."""


def export_library(model: QuantModel, target: Target, folder: Path, name: str, version: str = "1.0.0") -> LibrarySource:
    """Write ``model`` as a library for ``target`` to ``folder``, which must be new, empty, or made by an earlier call.

    Raises DataError for a folder that holds something else and for a version that is none, DeviceError for a target without an operating
    system, and MissingToolError where its compiler is not installed.
    """
    version = library_version(version)
    if target.host is None:
        hosts = ", ".join(other for other in target_names() if load_target(other).host is not None)
        raise DataError(f"target {target.name} has no operating system that loads libraries; expected one of {hosts}")
    source = library_source(model, target, name, version)
    place = _place(folder)
    try:
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".qrnn.") as temporary:
            made = Path(temporary) / "made"
            _write(model, target, source, made)
            if place.exists():
                place.rename(Path(temporary) / "before")
            made.rename(place)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {reason(error)}; give another folder") from None
    return source


def _place(folder: Path) -> Path:
    """Return where ``folder`` lies; DataError where something that is no library of qrnn's would be lost."""
    place = folder.resolve()
    if not place.parent.is_dir():
        raise DataError(f"cannot write {folder}: no folder {place.parent}; make it first")
    if place.exists() and not place.is_dir():
        raise DataError(f"cannot write {folder}: it is a file; give the name of a folder")
    if place.is_dir() and any(place.iterdir()):
        try:
            found = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["format"]
        except (OSError, ValueError, KeyError, TypeError):
            found = None
        if not str(found).startswith("qrnn-library-"):
            raise DataError(
                f"cannot write {folder}: it is not empty, and not from an earlier export; give another folder"
            )
    return place


def _write(model: QuantModel, target: Target, source: LibrarySource, made: Path) -> None:
    """Write the folder ``made``."""
    name, template = source.name, targets_folder() / "templates" / "library"
    runtime = sorted({header for v in source.variants for header in v.exported.runtime})
    runtime += ["qrnn_x86.h"] if len(source.variants) > 1 else []
    files = {f"include/{name}.h": source.header, f"src/{name}_library.c": source.source}
    for variant in source.variants:
        files[f"src/{variant.exported.name}.h"] = variant.exported.header
        files[f"src/{variant.exported.name}.c"] = variant.exported.source
    for header in runtime:
        files[f"src/{header}"] = (targets_folder() / "runtime" / header).read_text(encoding="utf-8")
    files |= {f"examples/{file}": text for file, text in examples(model, source).items()}
    words = {"NAME": name, "VERSION": source.version}
    if target.core.kernels == "wasm":
        info = json.dumps(_info(model, source), indent=2)
        files[f"{name}.mjs"] = _filled((template / "module.mjs").read_text(encoding="utf-8"), words | {"INFO": info})
    else:
        files[f"lib/pkgconfig/qrnn_{name}.pc"] = _filled((template / "package.pc").read_text(encoding="utf-8"), words)
    for file, text in files.items():
        (made / file).parent.mkdir(parents=True, exist_ok=True)
        (made / file).write_text(text, encoding="utf-8", newline="\n")
    save(model, made / f"{name}.qrnn")
    shutil.copyfile(_licence(), made / "LICENSE")
    compiler = _module(target, source, made) if target.core.kernels == "wasm" else _libraries(target, source, made)
    values = _readme_values(model, target, source, compiler)
    (made / "README.md").write_text(_filled((template / "README.md").read_text(encoding="utf-8"), words | values))
    manifest = {
        "format": FORMAT,
        "name": name,
        "version": source.version,
        "target": target.name,
        "kernels": [v.kernels for v in source.variants],
        "contract": model.contract,
        "compiler": compiler.version(),
        "symbols": list(source.symbols),
    }
    (made / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _objects(source: LibrarySource, made: Path, place: Path, compilers: Sequence[tuple[Variant, HostCompiler]], own: HostCompiler,
             flags: Sequence[str]) -> list[str]:  # fmt: skip
    """Compile the C of the library, each variant with its flags, and return the paths of the objects in ``place``."""
    found = []
    for variant, compiler in compilers:
        found.append(str(place / f"{variant.exported.name}.o"))
        file = made / "src" / f"{variant.exported.name}.c"
        run_tool(
            (compiler.path, *compiler.flags, *_COMPILE, *flags, f"-I{made / 'src'}", "-c", str(file), "-o", found[-1])
        )
    found.append(str(place / "library.o"))
    include = [f"-I{made / 'include'}", f"-I{made / 'src'}"]
    file = made / "src" / f"{source.name}_library.c"
    run_tool((own.path, *own.flags, *_COMPILE, *flags, *include, "-c", str(file), "-o", found[-1]))
    return found


def _libraries(target: Target, source: LibrarySource, made: Path) -> HostCompiler:
    """Build the static and the shared library; return the compiler."""
    own, prefix, name = find_host_compiler(target), host_of(target).binutils or "", source.name
    compilers = [(v, find_host_compiler(v.target)) for v in source.variants]
    tools = {tool: shutil.which(prefix + tool) or shutil.which(tool) for tool in ("objcopy", "ar")}
    for tool, path in tools.items():
        if path is None:
            raise MissingToolError(f"target {target.name}: {prefix}{tool} is not installed; apt-get install binutils")
    lib, soname = made / "lib", f"libqrnn_{name}.so.{source.version.partition('.')[0]}"
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        place = Path(temporary)
        objects = _objects(source, made, place, compilers, own, ("-fPIC", "-fvisibility=hidden"))
        shared = lib / f"libqrnn_{name}.so.{source.version}"
        link = ("-shared", f"-Wl,-soname,{soname}", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-s")
        run_tool((own.path, *own.flags, *link, *objects, "-o", str(shared)))
        whole = str(place / f"{name}.o")
        run_tool((own.path, *own.flags, "-r", "-nostdlib", *objects, "-o", whole))
        run_tool((str(tools["objcopy"]), "--localize-hidden", whole))
        run_tool((str(tools["ar"]), "rcsD", str(lib / f"libqrnn_{name}.a"), whole))
    os.symlink(shared.name, lib / soname)
    os.symlink(soname, lib / f"libqrnn_{name}.so")
    return own


def _module(target: Target, source: LibrarySource, made: Path) -> HostCompiler:
    """Build the WebAssembly module; return the compiler."""
    own = find_host_compiler(target)
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        compilers = [(v, own) for v in source.variants]
        objects = _objects(source, made, Path(temporary), compilers, own, ("-ffreestanding", "-fvisibility=hidden"))
        exported = [f"-Wl,--export={symbol}" for symbol in (*source.symbols, "__heap_base")]
        link = (
            "-nostdlib",
            "-Wl,--no-entry",
            "-Wl,--stack-first",
            f"-Wl,-z,stack-size={_STACK_BYTES}",
            "-Wl,--strip-all",
        )
        run_tool((own.path, *own.flags, *link, *exported, *objects, "-o", str(made / f"{source.name}.wasm")))
    return own


def _info(model: QuantModel, source: LibrarySource) -> dict[str, object]:
    """Return what the JavaScript module says of the model."""
    exported = source.model

    def port(p: Port) -> dict[str, object]:
        values = port_values(model, p)
        found: dict[str, object] = {"name": p.name, "type": p.kind, "size": p.count, "time": p.has_time}
        if values is not None:
            found |= {"scale": list(values.scales), "offset": list(values.offsets), "limit": values.limit}
        return found

    rows = exported.whole.rows if exported.whole is not None else None
    return {
        "name": source.name,
        "version": source.version,
        "inputs": [port(p) for p in exported.inputs],
        "outputs": [port(p) for p in exported.outputs],
        "whole": exported.whole is not None,
        "countsRows": exported.counts_rows,
        "finishes": exported.finishes,
        "stepRows": exported.step_rows,
        "finishRows": exported.finish_rows,
        "rows": [rows.per_step, rows.fixed, rows.over] if rows is not None else [1, 0, 1],
    }


def _readme_values(model: QuantModel, target: Target, source: LibrarySource, compiler: HostCompiler) -> dict[str, str]:
    """Return what the README says of this library."""
    name, major = source.name, source.version.partition(".")[0]
    fields = calling_fields(model, source.model)
    built = f"Built by {compiler.version()} with {' '.join([*compiler.flags, OPTIMIZATION])}"
    if target.core.kernels == "wasm":
        lines = [f'| `{name}.mjs` | the ES module, for browsers and Node.js: `import {{ load }} from "./{name}.mjs"` |']
        lines += [f"| `{name}.wasm` | the model, which it loads from beside it |"]
        lines += [f"| `include/{name}.h` | the functions of the `.wasm` |"]
        calling = f"`examples/node.mjs` is a whole program, `examples/index.html` a page. {fields['calling']}"
    else:
        lines = [f"| `include/{name}.h` | what you call, from C and from C++ |"]
        lines += [f"| `lib/libqrnn_{name}.a` | the static library; it needs nothing but `memcpy` and `memset` |"]
        lines += [f"| `lib/libqrnn_{name}.so` | the shared library, with the soname `libqrnn_{name}.so.{major}` |"]
        lines += [
            f"| `lib/pkgconfig/qrnn_{name}.pc` | for pkg-config; it finds the library wherever this folder lies |"
        ]
        calling = f"`examples/cpp/main.cpp` is a whole program, `examples/rust` a crate. {fields['calling']}"
        if len(source.variants) > 1:
            lines[1] = lines[1].replace("memset", "memset`, and `strcmp")
    kernels = ", ".join(f"`{v.kernels}`" for v in source.variants)
    text = f"Its kernels are {kernels}."
    if len(source.variants) > 1:
        text = (
            f"The library has kernels {kernels}: `{name}_init` chooses the first that the processor has, `{name}_kernels` says which, and "
            f"`{name}_use_kernels` chooses others, with the same outputs."
        )
    return {
        "QRNN": own_version("qrnn"),
        "TARGET": target.name,
        "CONTRACT": model.contract,
        "FILES": "\n".join(lines),
        "BUILT": f"{built}.",
        "CALLING": calling,
        "KERNELS": text,
        "FORMATS": fields["formats"],
    }


def _filled(text: str, words: dict[str, str]) -> str:
    """Return a template with its words in place of their names between two @."""
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    return text


def _licence() -> Path:
    """Return the licence of exported code: in a wheel beside the targets, in a checkout beside their folder."""
    places = (targets_folder() / "LICENSE", targets_folder().parent / "LICENSE")
    return next(place for place in places if place.is_file())
