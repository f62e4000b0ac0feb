"""Libraries that the core does without, and the extra of the package that installs each."""

from __future__ import annotations

from qrnn.errors import MissingLibraryError

EXTRAS = {
    "onnx": "onnx",
    "typer": "cli",
    "rich": "cli",
    "elftools": "cli",
    "serial": "serial",
    "torch": "torch",
    "zarr": "data",
    "pyarrow": "data",
    "dask": "dask",
}
"""The extra that brings a library, by the name under which the library is imported."""


def missing_library(error: ModuleNotFoundError, what: str) -> Exception:
    """Return the error for ``what`` needs a library that is not installed; the same error where the library is none of `EXTRAS`."""
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return error
    return MissingLibraryError(f"{what} needs {library}, which is not installed: pip install 'qrnn[{EXTRAS[library]}]'")
