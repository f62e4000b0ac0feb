"""The folder that ``qrnn export`` writes has C, self-test, build files, README and the model; it is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from qrnn.errors import DataError, ModelFileError
from qrnn.export import golden, selftest
from qrnn.export.bench import bench_files, bench_main
from qrnn.export.choices import Choices, read_choices
from qrnn.export.expected import host_results, integer_sequences, random_sequences
from qrnn.export.folder_files import (
    MANIFEST,
    MOST_BYTES,
    digest_of,
    files_in,
    is_as_exported,
    is_inner,
    place_of,
    write_text,
    written_whole,
)
from qrnn.export.generation import Generation
from qrnn.export.generation_golden import golden_arrays, selftest_function
from qrnn.export.generation_replay import cases_of, host_generated
from qrnn.export.info import Measured, info_header
from qrnn.export.names import model_identifier
from qrnn.export.packages import FOLDER, NAME, Layout, Package, load_package, readme_template, substituted
from qrnn.export.readme import readme_fields
from qrnn.export.real_functions import float_header
from qrnn.export.replay import Vectors
from qrnn.export.source import Exported, export_source
from qrnn.model.file import load, save
from qrnn.model.integers_only import check_integers
from qrnn.model.quant_model import QuantModel
from qrnn.system.files import read_regular
from qrnn.targets import Kernels, ListCosts, Target, chip_names, load_target, target_names, targets_folder

FORMAT = "qrnn-export-4"
MOST_GENERATED = 2
"""The golden sequences from which the self-test generates."""


@dataclass(frozen=True)
class ExportedFolder:
    """A folder that was exported: its model and its C. ``target`` is where it is to run, which need not be the export's own target.

    ``source`` is the path of the model's C, ``header`` that of its header, and ``model_sha256`` the digest of the model's file.
    """

    path: Path
    name: str
    target: Target
    model: QuantModel
    exported: Exported
    source: Path
    header: Path
    model_sha256: str = ""

    @property
    def include_dirs(self) -> list[Path]:
        """Return the folders of the headers."""
        return list(dict.fromkeys((self.header.parent, self.source.parent)))


def export_model(
    model: QuantModel,
    target: Target | str,
    folder: str | os.PathLike[str],
    name: str,
    data: Mapping[str, Any] | None = None,
    choices: Choices | None = None,
    package: str = FOLDER,
    measured: Measured | None = None,
    generation: Generation | None = None,
    bench: bool = False,
) -> Exported:
    """Write ``model`` as C for ``target`` to ``folder``, whole or not at all, and return what was written.

    Parameters
    ----------
    model: a quantized model; one with float parts is refused.
    target: the device, which `qrnn.load_target` gives, or its name.
    folder: a new or empty folder, or one that an earlier export made, of which only its own files are replaced.
    name: what all names in C begin with; it is made an identifier.
    data: arrays by graph input name, as for `qrnn.Session.run`. The golden vectors, which the self-test compares with, are of random numbers
        and of the first of these sequences.
    choices: what the C has beside the model's own functions, such as boundaries of real numbers; the least where it is None.
    package: the layout of the folder, one of `qrnn.export.packages.package_names`.
    measured: what is known of the model on the target, for the header NAME_info.h.
    generation: functions that feed an output back to an input (docs/decoding.md).
    bench: whether the folder has a measurement for a board (docs/firmware.md).

    Raises UnsupportedError for what C cannot hold, and DataError for a folder that holds something else or cannot be written, for data that
    do not fit, and for a model that does not generate.
    """
    check_integers(model, "export")
    target, folder = load_target(target) if isinstance(target, str) else target, Path(folder)
    place, chosen = place_of(folder), load_package(package)
    name = model_identifier(name)
    if len(name) > chosen.longest_name:
        raise DataError(
            f"the name {name!r} has {len(name)} characters, and package {package} takes {chosen.longest_name}; give a shorter one (--name)"
        )
    exported = export_source(
        model,
        name,
        target.core.kernels,
        [f"{name}: made by qrnn for {target.name}"],
        _purpose(target),
        choices,
        generation,
        target.lists,
    )
    sequences = _golden_sequences(model, exported, data)
    layout = _filled(chosen.layout, name)
    files = _c_files(model, exported, target, sequences, chosen, layout, bench)
    files["LICENSE"] = _licence()
    with written_whole(folder, place) as made:
        saved = made / _within(layout.model, f"{name}.qrnn")
        saved.parent.mkdir(parents=True, exist_ok=True)
        save(model, saved)
        digest = digest_of(saved)
        files[_within(layout.header, f"{name}_info.h")] = info_header(model, exported, target, digest, measured)
        values = readme_fields(model, exported, target, digest, chosen, layout, bench)
        files |= chosen.files(values, bench)
        files["README.md"] = substituted(readme_template(), values)
        for file, text in files.items():
            write_text(made / file, text)
        manifest = {
            "format": FORMAT,
            "name": name,
            "target": target.name,
            "kernels": exported.kernels,
            "lists": asdict(target.lists),
            "contract": model.contract,
            "package": package,
            "choices": exported.choices.to_dict(),
            **({} if generation is None else {"generate": generation.to_dict()}),
            "files": {file: digest_of(made / file) for file in files_in(made)},
        }
        write_text(made / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return exported


def _golden_sequences(model: QuantModel, exported: Exported, data: Mapping[str, Any] | None) -> list[Vectors]:
    """Return the sequences of the golden vectors: of random numbers, and the first ones of ``data`` where it is given."""
    lengths: tuple[int, ...] = golden.RANDOM_LENGTHS
    if golden.wants_long(exported):
        lengths += (golden.LONG,)
    apart = any(s.port.has_time for s in exported.given)  # NAME_run has no state for each row
    lengths = (1,) * len(lengths) if apart else lengths
    sequences = random_sequences(model, exported, lengths, golden.SEED)
    if data is None:
        return sequences
    most = golden.MOST_STEPS if model.rows else golden.MOST_SEQUENCES
    real = integer_sequences(model, exported, data, most)
    timed = {p.name for p in (*exported.inputs, *(s.port for s in exported.given)) if p.has_time}
    steps = 1 if apart else golden.MOST_STEPS
    return sequences + [{k: v[:steps] if k in timed else v for k, v in s.items()} for s in real]


def _c_files(
    model: QuantModel,
    exported: Exported,
    target: Target,
    sequences: Sequence[Vectors],
    package: Package,
    layout: Layout,
    bench: bool,
) -> dict[str, str]:
    """Return the texts of all C files but the info header, by their paths in the folder."""
    name, runtime = exported.name, targets_folder() / "runtime"
    results = host_results(model, exported, sequences, "reference")
    arrays, again = _generated(model, exported, sequences)
    tests = {
        f"{name}_golden.h": golden.golden_header(exported, sequences, results, arrays),
        f"{name}_selftest.h": selftest.selftest_header(name, package.prints),
        f"{name}_selftest.c": selftest.selftest_source(
            model, exported, sequences, _upwards(layout), package.prints, again, bench
        ),
        **({"main.c": selftest.main_source(name)} if layout.test_main else {}),
    }
    measured_by = bench_files(model, exported, target, sequences, _upwards(layout)) if bench else {}
    if bench and layout.test_main:
        measured_by["bench_main.c"] = bench_main(name)
    public = {
        f"{name}.h": exported.header,
        f"{name}_float.h": float_header(name, model, exported.inputs, exported.outputs, exported.given),
    }
    own = {f"{name}.c": exported.source}
    own |= {header: (runtime / header).read_text(encoding="utf-8") for header in exported.runtime}
    placed = [(layout.header, public), (layout.source, own), (layout.test, tests)]
    placed.append(
        (package.bench.replace(NAME, name), tests | measured_by)
        if bench and package.bench
        else (layout.test, measured_by)
    )
    return {_within(inner, file): text for inner, texts in placed for file, text in texts.items()}


def read_folder(folder: Path, target: Target | None = None) -> ExportedFolder:
    """Read an exported folder; ModelFileError names the file that is missing, damaged or changed. ``target`` replaces the export's own."""
    path = folder / MANIFEST
    if folder.is_file():
        raise ModelFileError(
            f"{folder}: is a file, expected a folder made by qrnn export; a converted model becomes one by: qrnn export MODEL.qrnn --target "
            "NAME -o FOLDER"
        )
    try:
        manifest = json.loads(read_regular(path, MOST_BYTES).decode())
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}; expected a folder made by qrnn export") from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: not JSON ({error}); export the model again") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise ModelFileError(f"{path}: format {found!r}, expected {FORMAT!r}; export the model again")
    name, kernels, files = (manifest.get(key) for key in ("name", "kernels", "files"))
    own: dict[str, Path] = {}
    if not (
        isinstance(name, str)
        and name == model_identifier(name)
        and kernels in get_args(Kernels)
        and isinstance(files, dict)
        and len(own := _of_model(name, files)) == len(OF_MODEL)
    ):
        raise ModelFileError(f"{path}: not a manifest of qrnn export; export the model again")
    for file, digest in files.items():
        if not is_inner(file) or not is_as_exported(folder / file, digest):
            raise ModelFileError(f"{folder / file}: missing or changed since the export; export the model again")
    model = load(folder / own[".qrnn"])
    choices = read_choices(manifest.get("choices"), model)
    if choices is None:
        raise ModelFileError(f"{path}: not a manifest of qrnn export; export the model again")
    generation = Generation.from_dict(manifest["generate"], str(path)) if "generate" in manifest else None
    return ExportedFolder(
        folder,
        name,
        target or _own_target(path, manifest),
        model,
        export_source(model, name, kernels, choices=choices, generation=generation, lists=_list_costs(path, manifest)),
        folder / own[".c"],
        folder / own[".h"],
        files[own[".qrnn"].as_posix()],
    )


def _list_costs(path: Path, manifest: dict[str, Any]) -> ListCosts:
    """Return the costs of lists that a folder was exported with; those of no target where it says none."""
    given = manifest.get("lists", {})
    try:
        found = ListCosts(**given)
        fits = all(isinstance(v, float) and 0 <= v < float("inf") for v in asdict(found).values())
    except TypeError:
        fits = False
    if not fits:
        raise ModelFileError(f"{path}: lists {given!r} are not costs of lists; export the model again")
    return found


OF_MODEL = (".c", ".h", ".qrnn")
"""The ends of the names of the files that a model's folder has in any layout."""


def _generated(model: QuantModel, exported: Exported, sequences: Sequence[Vectors]) -> tuple[list[str], list[str]]:
    """Return the arrays and the function of the self-test that generate, or nothing where the model's C does not."""
    if exported.generates is None:
        return [], []
    cases = cases_of(exported, sequences[:MOST_GENERATED])
    generated = host_generated(model, exported, cases, "reference")
    return golden_arrays(exported, cases, generated), selftest_function(exported, cases, generated)


def _of_model(name: str, files: Mapping[str, object]) -> dict[str, Path]:
    """Return the paths of a model's own files, by the ends of their names."""
    paths = {file: PurePosixPath(file) for file in files if isinstance(file, str) and is_inner(file)}
    return {end: Path(file) for end in OF_MODEL for file, path in paths.items() if path.name == f"{name}{end}"}


def _within(folder: str, file: str) -> str:
    """Return the path of a file in a folder of a layout, whose name may be empty."""
    return f"{folder}/{file}" if folder else file


def _filled(layout: Layout, name: str) -> Layout:
    """Return a layout for a model's name."""
    source, header, test, model = (
        folder.replace(NAME, name) for folder in (layout.source, layout.header, layout.test, layout.model)
    )
    return Layout(source, header, test, model, layout.test_main)


def _upwards(layout: Layout) -> str:
    """Return where the self-test finds the model's header: above it, or where a build file says."""
    return "../" if not layout.header and layout.test else ""


def _purpose(target: Target) -> str:
    """Return what C for ``target`` is for and how to compile it."""
    flags = " ".join(target.compiler_flags)
    return f"{target.name} (compile it with {flags})" if flags else target.name


def _licence() -> str:
    """Return the text of the licence of exported code: in a wheel beside the targets, in a checkout beside their folder."""
    places = (targets_folder() / "LICENSE", targets_folder().parent / "LICENSE")
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def _own_target(path: Path, manifest: dict[str, Any]) -> Target:
    """Return the target that a folder was exported for; one that is not among qrnn's must be given by its file."""
    name = manifest.get("target")
    if name not in (*target_names(), *chip_names()):
        raise ModelFileError(f"{path}: target {name!r} is none of qrnn's own; give its file (--target PATH.toml)")
    return load_target(name)
