"""What is changed about a module and PyTorch while a module is exported, and put back afterwards."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from qrnn.errors import UnsupportedError


@contextlib.contextmanager
def evaluation(module: Any) -> Iterator[None]:
    """Switch to evaluation mode, and afterwards return every submodule to its own mode; hide PyTorch's warnings from the caller."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with warnings.catch_warnings():
            # PyTorch warns of the exporter's future, of every size that Python compares, and of a batch that may be baked in; the check
            # finds what matters.
            warnings.simplefilter("ignore")
            yield
    finally:
        for m, training in modes:
            m.training = training


@contextlib.contextmanager
def exportable(module: Any, name: str) -> Iterator[None]:
    """Make what the exporters cannot write something that they can: fused attention, projections, a cell alone, packing in another order."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operators have no form in ONNX
    try:
        with _projections(module, name), _one_step(module), _packing():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _projections(module: Any, name: str) -> Iterator[None]:
    """Let every LSTM with proj_size inside ``module`` compute as one without, whose recurrent matrix is W_hh · W_hr, and W_hr behind it."""
    import torch

    changed = [
        (path, m) for path, m in module.named_modules() if path and isinstance(m, torch.nn.LSTM) and m.proj_size > 0
    ]
    try:
        for path, m in changed:
            m.forward = _without_projection(m, f"submodule '{path}' of '{name}'")
        yield
    finally:
        for _, m in changed:
            del m.forward


def _without_projection(lstm: Any, where: str) -> Any:
    """Return a forward for an LSTM with proj_size: the same function of its input, from states of zeros."""
    import torch

    directions = 2 if lstm.bidirectional else 1
    rows = []
    for level in range(lstm.num_layers):
        row = []
        for suffix in ("", "_reverse")[:directions]:
            W, R, P = (
                getattr(lstm, f"{key}_l{level}{suffix}").detach() for key in ("weight_ih", "weight_hh", "weight_hr")
            )
            plain = torch.nn.LSTM(
                W.shape[1],
                lstm.hidden_size,
                bias=lstm.bias,
                batch_first=lstm.batch_first,
                dtype=W.dtype,
                device=W.device,
            )
            with torch.no_grad():
                plain.weight_ih_l0.copy_(W)
                plain.weight_hh_l0.copy_(R @ P)
                for key in ("bias_ih", "bias_hh") if lstm.bias else ():
                    getattr(plain, f"{key}_l0").copy_(getattr(lstm, f"{key}_l{level}{suffix}"))
            row.append((plain.eval().requires_grad_(False), P.t().contiguous()))
        rows.append(row)

    def forward(x: Any, hx: Any = None) -> Any:
        if hx is not None or isinstance(x, torch.nn.utils.rnn.PackedSequence):
            raise UnsupportedError(
                f"{where} is an LSTM with proj_size that is given states or a packed sequence; give that LSTM alone to from_torch, or "
                "write the model with qrnn.layers (lstm(…, projection=weight_hr))"
            )
        time = 1 if lstm.batch_first and x.dim() == 3 else 0
        finals, cells = [], []
        for row in rows:
            outputs = []
            for backwards, (plain, projection) in enumerate(row):
                y, (h, c) = plain(x.flip(time) if backwards else x)
                outputs.append((y.flip(time) if backwards else y) @ projection)
                finals.append(h @ projection)
                cells.append(c)
            x = torch.cat(outputs, -1)
        return x, (torch.cat(finals, 0), torch.cat(cells, 0))

    return forward


@contextlib.contextmanager
def _one_step(module: Any) -> Iterator[None]:
    """Let a module that is a cell alone, such as torch.nn.LSTMCell, compute as a layer of one step, which needs no given states."""
    import torch

    kinds = {torch.nn.LSTMCell: torch.nn.LSTM, torch.nn.GRUCell: torch.nn.GRU, torch.nn.RNNCell: torch.nn.RNN}
    kind = next((layer for cell, layer in kinds.items() if isinstance(module, cell)), None)
    if kind is None:
        yield
        return
    more = {"nonlinearity": module.nonlinearity} if kind is torch.nn.RNN else {}
    dtype, device = module.weight_ih.dtype, module.weight_ih.device
    layer = kind(
        module.input_size, module.hidden_size, bias=module.bias, batch_first=True, dtype=dtype, device=device, **more
    )
    with torch.no_grad():
        for key in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ())):
            getattr(layer, f"{key}_l0").copy_(getattr(module, key))
    layer.eval().requires_grad_(False)

    def forward(x: Any, hx: Any = None) -> Any:
        given = (
            hx
            if hx is None
            else tuple(s.unsqueeze(0) for s in hx)
            if isinstance(hx, (tuple, list))
            else hx.unsqueeze(0)
        )
        _, state = layer(x.unsqueeze(-2), given)
        return tuple(s.squeeze(0) for s in state) if isinstance(state, tuple) else state.squeeze(0)

    module.forward = forward
    try:
        yield
    finally:
        del module.forward


@contextlib.contextmanager
def _packing() -> Iterator[None]:
    """Let pack_padded_sequence leave the sequences in their order, also with enforce_sorted=False.

    The order in which PyTorch computes sequences changes nothing of what it computes, and ONNX knows none. The function's code is replaced,
    and not its name, since modules import it by name.
    """
    from torch.nn.utils import rnn

    function = rnn.pack_padded_sequence
    before = function.__code__

    def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
        lengths = torch.as_tensor(lengths, dtype=torch.int64)  # type: ignore[name-defined]  # noqa: F821
        data, sizes = _VF._pack_padded_sequence(input, lengths, batch_first)  # type: ignore[name-defined]  # noqa: F821
        return _packed_sequence_init(data, sizes, None, None)  # type: ignore[name-defined]  # noqa: F821

    try:
        function.__code__ = pack_padded_sequence.__code__
        yield
    finally:
        function.__code__ = before
