"""Run configurations in this process, in several, or on other machines, behind `concurrent.futures.Executor`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from qrnn.errors import BackendError
from qrnn.lab.evaluate import Record, Setting, evaluate
from qrnn.quantization.scheme import Scheme

Done = tuple[int, Record, bytes | None]


@contextmanager
def process_pool(jobs: int) -> Iterator[Executor]:
    """Start ``jobs`` fresh processes, which end with this one however it ends."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:  # what is being measured is of no use any more
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def dask_client(address: str) -> Iterator[Any]:
    """Connect to the Dask scheduler at ``address``; BackendError where Dask is not installed, or nothing answers there."""
    try:
        from distributed import Client
    except ImportError:
        raise BackendError("--dask needs Dask; install it with: pip install 'qrnn[dask]'") from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackendError(f"no Dask scheduler answers at {address!r} ({reason}); expected HOST:PORT") from None
    try:
        yield client
    finally:
        client.close()


def run_all(setting: Setting, schemes: Sequence[Scheme], executor: Any) -> Iterator[Done]:
    """Yield (index, record, model) of every configuration as they are done.

    ``executor`` is None for this process, an executor of concurrent.futures, or a `distributed.Client`. The setting reaches threads as it
    is, processes of this machine through a file that they read once, Dask's workers by being scattered once, and others with every task.
    """
    if executor is None:
        for index, scheme in enumerate(schemes):
            yield index, *evaluate(setting, scheme)
    elif hasattr(executor, "scatter"):
        shared = executor.scatter(setting, broadcast=True, hash=False)
        pool = executor.get_executor(pure=False)
        yield from _collect(pool, evaluate, shared, schemes)
    elif isinstance(executor, ThreadPoolExecutor):
        yield from _collect(executor, evaluate, setting, schemes)
    elif isinstance(executor, ProcessPoolExecutor):
        with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
            path = Path(temporary) / "setting.pickle"
            path.write_bytes(pickle.dumps(setting, pickle.HIGHEST_PROTOCOL))
            yield from _collect(executor, _from_file, str(path), schemes)
    else:
        yield from _collect(executor, evaluate, setting, schemes)


def _collect(
    pool: Executor, work: Callable[[Any, Scheme], tuple[Record, bytes | None]], shared: Any, schemes: Sequence[Scheme]
) -> Iterator[Done]:
    futures: dict[Future[tuple[Record, bytes | None]], int] = {
        pool.submit(work, shared, scheme): index for index, scheme in enumerate(schemes)
    }
    try:
        for future in as_completed(futures):
            yield futures[future], *future.result()
    except BrokenExecutor:
        raise BackendError(
            "a process that measured configurations ended abruptly, as the system ends one for lack of memory; give fewer jobs"
        ) from None
    finally:
        for future in futures:
            future.cancel()


def _from_file(path: str, scheme: Scheme) -> tuple[Record, bytes | None]:
    return evaluate(_setting(path), scheme)


@cache
def _setting(path: str) -> Setting:
    """Return the setting from a file that the parent wrote into a folder which only its user may read."""
    found: Setting = pickle.loads(Path(path).read_bytes())
    return found


def _end_with_parent() -> None:
    """End this worker when its parent is killed, so that it does not wait for work for ever; leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
