"""What a machine without a GPU, a driver or the package says; and that nothing of CUDA is imported unasked."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from models import Shape

from backends.generators import Case
from qrnn.backends import available_backends, backend_names, create_engine
from qrnn.backends.cuda import device
from qrnn.errors import BackendError
from qrnn.model.file import save

HAS_PACKAGE = importlib.util.find_spec("numba_cuda") is not None
HAS_GPU = "cuda" in available_backends()
MODEL = Case(Shape("lstm", 3, 4), lengths=(5, 5)).quantized()


def test_it_is_a_backend() -> None:
    assert "cuda" in backend_names()


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
def test_no_gpu_is_one_clear_error() -> None:
    with pytest.raises(BackendError, match=r"backend 'cuda': .*(driver|device|package).*use backend 'cpu'") as error:
        create_engine("cuda", MODEL)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
def test_the_command_line_exits_with_2(tmp_path: Path) -> None:
    import numpy as np

    save(MODEL, tmp_path / "m.qrnn")
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2, 3)))
    command = [sys.executable, "-m", "qrnn", "run", "m.qrnn", "--input", "x.npz", "-o", "y.npz", "--backend", "cuda"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "backend 'cuda'" in done.stderr
    assert not (tmp_path / "y.npz").exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"numba-cuda is not installed; pip install 'qrnn\[cuda13\]'"):
        device.find_device()


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("\nCUDA driver library cannot be found.\nEnsure that", "no NVIDIA driver is found"),
        ("Error at driver init: CUDA_ERROR_NO_DEVICE (100)", "no CUDA device is found"),
        ("", "no CUDA device is found"),
        (
            "Error at driver init: CUDA_ERROR_UNKNOWN (999)",
            r"driver does not start \(Error at driver init: CUDA_ERROR_UNKNOWN \(999\)\); see that nvidia-smi works",
        ),
    ],
)
def test_messages_of_the_driver(message: str, says: str) -> None:
    assert re.search(says, str(device.explained(message)))


class _Fake:
    """A device as numba.cuda describes it."""

    name = b"Old"
    compute_capability = (7, 0)
    MULTIPROCESSOR_COUNT, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 80, 98304
    MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, COOPERATIVE_LAUNCH = 98304, 1


@pytest.mark.skipif(not HAS_PACKAGE, reason="numba-cuda is not installed (pip install -e '.[dev]')")
def test_an_old_device_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba import cuda

    monkeypatch.setattr(cuda, "get_current_device", _Fake)
    monkeypatch.setattr(device, "missing_library", lambda: None)
    with pytest.raises(BackendError, match=r"Old has compute capability 7\.0, at least 7\.5 is needed"):
        device.find_device()
    monkeypatch.setattr(_Fake, "compute_capability", (8, 6))
    assert device.find_device() == device.Device("Old", (8, 6), 80, 98304 - 1024, 98304, cooperative=True)


@pytest.mark.skipif(not HAS_PACKAGE, reason="numba-cuda is not installed (pip install -e '.[dev]')")
@pytest.mark.parametrize("name", ["cudart", "nvvm", "nvrtc"])
def test_a_missing_library_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of numba.cuda is imported before they are looked for: without cudart that import fails."""
    from cuda import pathfinder

    def load(wanted: str) -> None:
        if wanted == name:
            raise pathfinder.DynamicLibNotFoundError(wanted)

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", load)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)  # an import of it fails
    with pytest.raises(BackendError, match=rf"CUDA's library {name} is not found; pip install 'qrnn\[cuda13\]'"):
        device.find_device()


@pytest.mark.skipif(not HAS_PACKAGE, reason="numba-cuda is not installed (pip install -e '.[dev]')")
def test_small_grids_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba would warn of them; it still does of the user's own."""
    from numba.cuda.core.errors import NumbaPerformanceWarning
    from numba.cuda.cudadrv import driver

    from qrnn.backends.cuda import elements, launch

    monkeypatch.setattr(driver, "_to_core_stream", lambda stream: stream)
    assert launch.configured(elements.fill_zero, 3, 32, 16).griddim == (3, 1, 1)
    with pytest.warns(NumbaPerformanceWarning, match="Grid size 5"):
        elements.fill_zero[5, 32]


def loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_nothing_of_cuda_is_imported_unasked() -> None:
    code = "import qrnn, qrnn.running.session, qrnn.backends.cuda, qrnn.backends.cpu.engine, qrnn.backends\nqrnn.backends.backend_names()"
    modules: Any = loaded(code)
    assert "qrnn.backends.cuda" in modules
    assert not {m for m in modules if m.startswith(("numba_cuda", "numba.cuda", "cuda."))}
