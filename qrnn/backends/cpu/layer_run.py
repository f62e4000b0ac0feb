"""What the CPU does for one layer. `qrnn.backends.cpu.kinds` has a `LayerRun` for each kind that it has loops of its own for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from qrnn.backends.base import LayerState, Trace
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls, SequenceCalls, StreamCalls
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.parts import IndexArray, Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


class LayerRun:
    """One layer of a model, with what is packed once for it, and the calls that run it.

    A kind's loops over rows are a module of `qrnn.backends.cpu.rows`, compiled by Numba. A `LayerRun` names them and does not import them,
    for Numba's import takes longer than everything else together, and a process that finds its code in the cache does without it.
    """

    def __init__(self, layer: Any, model: QuantModel, tasks: Tasks) -> None:
        self.model, self.tasks = model, tasks

    @property
    def has_calls(self) -> bool:
        """Whether `stream_calls` and `sequence_calls` compute its output; a model with a layer without is run from tensor to tensor.

        Those of the other layers then still say what has to be compiled ahead.
        """
        return True

    @property
    def step_macs(self) -> int:
        """Multiply-adds of a time step of each sequence, for a layer that is worth spreading over threads."""
        return 0

    @property
    def most_macs(self) -> int:
        """Those of its part that has the most of them."""
        return self.step_macs

    @property
    def plain_directions(self) -> tuple[str, ...]:
        """The directions, ``layer[number]``, of a recurrent layer whose steps are not fused."""
        return ()

    in_place: ClassVar[bool] = False
    """Whether the calls may write the output where the one input lies, which then nobody else reads."""

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute its output in ``walk``, where streams and whole sequences do not differ."""
        raise NotImplementedError(f"{type(self).__name__} has no calls for streams and whole sequences alike")

    def stream_calls(self, walk: StreamCalls) -> list[Call]:
        """Return the calls of one step of streams."""
        return self.calls(walk)

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences."""
        return self.calls(walk)

    def share_tensors(self, tensors: dict[str, Any]) -> None:
        """Let tensors of streams, [streams, F] by name, be the same array where one step makes them the same."""
        return

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the output, for a layer with `by_rows`; see `Engine.rows`."""
        raise NotImplementedError(f"{type(self).__name__} does not run by rows")

    def recurrent(
        self, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run a recurrent layer over a padded batch; see `Engine.recurrent`."""
        raise NotImplementedError(f"{type(self).__name__} is not recurrent")

    def steps(
        self, inputs: Sequence[Int16Array], states: Sequence[Any], lengths: IndexArray, out_rows: int, past: int
    ) -> tuple[Int16Array, Int64Array]:
        """Run a layer with a `step_loop` over a padded batch; see `CpuEngine.steps`."""
        raise NotImplementedError(f"{type(self).__name__} has no steps")

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield calls that ``runs`` of sequences and ``stepped`` streams may make.

        Those of `stream_calls` and `sequence_calls` are not among them.
        """
        yield from ()


class LayerRunner(Protocol):
    """The engine, as far as streams and whole sequences know it."""

    model: QuantModel
    tasks: Tasks
    code: Code
    layer_runs: Mapping[str, LayerRun]
