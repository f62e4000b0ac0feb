"""Proves and measures the CUDA backend on a machine with a GPU: one command, some minutes, one folder of results.

    python tools/gpu_check [--output FOLDER] [--parts device exactness …] [--dry-run]
    python tools/gpu_check --page FOLDER/gpu_check.json [--output docs/benchmarks/gpu-check.md]
    python tools/gpu_check --adopt FOLDER
    python tools/gpu_check --fit FOLDER

Each part runs in a process of its own and within a limit of its own; what it leaves of its time is added to the next one's. Its results are
written as they come, and a part that fails, crashes or hangs does not stop the next. ``--dry-run`` runs the smallest sizes in Numba's CUDA
simulator. ``--page`` makes the page that is kept in docs/ from a JSON file. The exit status is 0 where all went well, 1 where a part did not, 2
where there is no GPU or the command line is wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from provenance import revision

from gpu_check import adopt, fit
from gpu_check.frame import ROOT, CheckError, Options, Part, load_part, options_file, part_names, run_part, write_whole
from gpu_check.process import run_limited
from gpu_check.report import Record, Report, code_digest, page, read_results, with_revision

HERE = Path(__file__).resolve().parent
LOOK_SECONDS = 60.0
DRY_TIMES = 4.0
"""The factor by which a dry run extends a part's limit: its machine may be slow, and has other work."""

TOOLKITS = ("/usr/local/cuda",)
"""Where a CUDA toolkit lies when no variable names it and no `nvcc` is on the path."""

PAGE = Path("docs/benchmarks/gpu-check.md")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python tools/gpu_check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, help="folder of results, build/gpu_check unless given")
    parser.add_argument("--parts", nargs="+", choices=part_names(), default=part_names(), help="run only these")
    parser.add_argument("--dry-run", action="store_true", help="smallest sizes in Numba's simulator, without a GPU")
    parser.add_argument("--page", type=Path, metavar="JSON", help=f"make {PAGE} from a file of results")
    parser.add_argument(
        "--adopt", type=Path, metavar="FOLDER", help="record the kernels that were exact in these results"
    )
    parser.add_argument(
        "--fit", type=Path, metavar="FOLDER", help="fit the constants of the choice of kernels to these results"
    )
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=part_names(), help=argparse.SUPPRESS)
    parser.add_argument("--given", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--written", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit status; see the module."""
    options = parse(arguments)
    if options.look:
        return look()
    if options.part:
        return child(options)
    if options.adopt:
        return adopt.command(adopt.adopt, options.adopt)
    if options.fit:
        return adopt.command(fit.fit_folder, options.fit)
    if options.page:
        return make_page(options.page, options.output or PAGE)
    return check(options)


# --- in a process of a part ------------------------------------------------------------------------------------------------------------


def look() -> int:
    """Print the device's name, or one line that says why there is none."""
    from qrnn.backends.cuda.device import find_device
    from qrnn.errors import BackendError

    try:
        print(find_device().name)
    except BackendError as error:
        print(error)
        return 2
    return 0


def child(options: argparse.Namespace) -> int:
    """Run one part. Shortly before it is killed, the places where its threads are go to its output."""
    seconds = float(json.loads(options.given.read_text(encoding="utf-8"))["seconds"])
    faulthandler.enable()
    faulthandler.dump_traceback_later(max(0.5, seconds - 2.0))
    try:
        run_part(options.part, options.given, options.written)
    except CheckError as error:
        print(f"{options.part}: {error}", flush=True)
        return 1
    return 0


# --- in the process that all parts have in common --------------------------------------------------------------------------------------


def command_line(options: argparse.Namespace) -> str:
    """Return the command for the page's head, without the folder, which is a path of this machine."""
    some = [] if options.parts == part_names() else ["--parts", *options.parts]
    return shlex.join(["python", "tools/gpu_check", *some, *(["--dry-run"] if options.dry_run else [])])


def check(options: argparse.Namespace) -> int:
    """Run the parts, each in a process."""
    folder = options.output or ROOT / "build" / "gpu_check"
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # whoever ends this ends the part that runs
    environment = child_environment(options.dry_run)
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as name:
        work = Path(name)
        device, chosen = "Numba's CUDA simulator", list(options.parts)
        if not options.dry_run:
            found = run_limited([*_self(), "--look"], LOOK_SECONDS, work / "look.txt", environment)
            lines = found.said.strip().splitlines() or [f"the search for a device {found.state}"]
            device = lines[-1]
            if found.status != 0:
                print(f"no GPU to check: {device}", file=sys.stderr)
                if not has_driver():
                    return 2
                chosen = [part for part in chosen if part == "device"]  # it finds out what is wrong
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "log.txt").write_bytes(b"")
        except OSError as error:
            print(f"--output {folder}: {error.strerror}; name a folder that can be written", file=sys.stderr)
            return 2
        report = begin(chosen, command_line(options), device, options.dry_run)
        report.write(folder)
        spare = 0.0
        for part in sorted(report.pages.values(), key=lambda part: part.order):
            report.parts[part.name].limit += spare
            run(part, report, folder, work, environment)
            spare = max(0.0, report.parts[part.name].limit - report.parts[part.name].seconds)
        shutil.copy(folder / "gpu_check.md", work)  # a folder that has gone is an error here and not later
    if not options.dry_run and found.status != 0:
        return 2
    bad = [record.title for record in report.parts.values() if record.state != "ok"]
    print(f"{folder / 'gpu_check.md'}: {len(report.parts) - len(bad)} of {len(report.parts)} parts went well")
    return 1 if bad else 0


def begin(names: Sequence[str], command: str, device: str, dry_run: bool) -> Report:
    """Make the report as it is before the first part; a part that cannot be imported has failed already."""
    parts: dict[str, Part] = {}
    broken: dict[str, Record] = {}
    for name in names:
        try:
            parts[name] = load_part(name)
        except Exception as error:  # noqa: BLE001  (whatever it is, the other parts run)
            broken[name] = Record(name, 0.0, "failed", said=f"it cannot be imported: {type(error).__name__}: {error}")
    head = {
        "command": command,
        "date": str(datetime.now(UTC).date()),
        "revision": revision(),
        "code": code_digest(),
        "device": device,
        "dry_run": dry_run,
    }
    order = sorted(parts.values(), key=lambda part: part.order)
    limits = {part.name: part.seconds * (DRY_TIMES if dry_run else 1.0) for part in order}
    return Report(head, {p.name: Record(p.title, limits[p.name]) for p in order} | broken, parts)


def run(part: Part, report: Report, folder: Path, work: Path, environment: dict[str, str]) -> None:
    """Run one part and write what it writes, as it does."""
    record = report.parts[part.name]
    given, written, log = work / f"{part.name}.given.json", work / f"{part.name}.json", folder / "log.txt"
    results = {name: other.result for name, other in report.parts.items() if other.result}
    write_whole(given, options_file(Options(report.head["dry_run"], record.limit, results)))
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n=== {part.title}\n")
    print(f"{part.title} (at most {record.limit:.0f} s) … ", end="", flush=True)
    record.state, seen = "running", None
    report.write(folder)

    def poll() -> None:
        nonlocal seen
        now = written.stat().st_mtime_ns if written.exists() else None
        if now != seen:
            seen, record.result = now, json.loads(written.read_bytes())
            report.write(folder)

    command = [*_self(), "--part", part.name, "--given", str(given), "--written", str(written)]
    ended = run_limited(command, record.limit, log, environment, poll)
    record.state, record.seconds = ended.state, ended.seconds
    record.said = ended.said if record.state != "ok" else ""
    poll()
    report.write(folder)
    print(f"{record.state}, {record.seconds:.1f} s", flush=True)


def _self() -> list[str]:
    return [sys.executable, str(HERE)]


def has_driver() -> bool:
    """Tell whether the machine looks as though it had an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists()


def child_environment(dry_run: bool) -> dict[str, str]:
    """Return the environment of parts: this checkout first on the path, the simulator if asked for, and a CUDA toolkit if there is one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "tools"), kept.get("PYTHONPATH"))))
    # What no GPU has confirmed yet is what the parts are there to confirm.
    added = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "QRNN_CUDA_UNPROVED": "1"}
    if dry_run:
        added["NUMBA_ENABLE_CUDASIM"] = "1"
    if "CUDA_HOME" not in kept and "CUDA_PATH" not in kept and (toolkit := find_toolkit()) is not None:
        added |= {"CUDA_HOME": toolkit, "CUDA_PATH": toolkit}
    return kept | added


def find_toolkit() -> str | None:
    """Find a CUDA toolkit with NVVM: numba-cuda looks where CUDA_HOME says for libraries that are not installed from PyPI."""
    compiler = shutil.which("nvcc")
    places = [str(Path(compiler).resolve().parents[1])] if compiler else []
    return next((place for place in (*places, *TOOLKITS) if Path(place, "nvvm").is_dir()), None)


def make_page(source: Path, output: Path) -> int:
    """Write the page of a JSON file."""
    try:
        text = page(with_revision(read_results(source)), {name: load_part(name) for name in part_names()})
        write_whole(output, text.encode())
    except (OSError, ValueError, CheckError) as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 2
    print(output)
    return 0
