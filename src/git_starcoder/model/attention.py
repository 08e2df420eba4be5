"""Attention within the rows of a flat piece: rows lie behind one another, and none sees another or costs for it."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.model.pack import TILE

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

NAME = "git_starcoder_rows"
"""By which transformers knows it."""


class Rows(NamedTuple):
    """Where the rows of a piece lie."""

    bounds: Any
    """On the device: row i is `bounds[i]:bounds[i + 1]`, int32, shape (rows + 1,)."""
    lengths: tuple[int, ...] | None
    """Tokens of each row; None where only the device is to know, so that one compiled graph serves every piece."""
    longest: int
    """No row has more tokens."""


def rows_of(torch: Any, bounds: NDArray[Any], device: str, fixed: int = 0) -> Rows:
    """`fixed`, if any: the most tokens that a row can have, where nothing may depend on which rows these are."""
    lengths = np.diff(bounds)
    if not fixed:
        return Rows(torch.from_numpy(bounds).to(device), tuple(lengths.tolist()), int(lengths.max(initial=0)))
    # Empty rows up to a power of two, so that there are few shapes.
    count = 1 << max(6, (len(bounds) - 1).bit_length())
    filled = np.full(count + 1, bounds[-1], dtype=np.int32)
    filled[: len(bounds)] = bounds
    return Rows(torch.from_numpy(filled).to(device, non_blocking=True), None, fixed)


def register() -> None:
    """Make the function known to transformers. There is no mask function of this name, so that no mask is made."""
    interface: Any = import_module("transformers").AttentionInterface
    interface.register(NAME, attend)


@contextmanager
def within_rows(model: Any) -> Generator[None]:
    """Within it a model of transformers attends by `attend`, which wants `rows`; after it as before.

    Raises:
        NotImplementedError: its architecture attends in one way only.

    """
    before = _used(model)
    model.set_attn_implementation(NAME)
    try:
        if _used(model) != NAME:
            raise NotImplementedError(NAME)
        yield
    finally:
        model.set_attn_implementation(before)


def _used(model: Any) -> str:
    return model.config._attn_implementation  # noqa: SLF001


def attend(
    module: Any,  # noqa: ARG001
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    *,
    rows: Rows,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention within rows: query (1, heads, tokens, width) gives (1, tokens, heads, width).

    Raises:
        NotImplementedError: the architecture wants something else than plain causal attention.

    """
    import torch

    if mask is not None or softcap is not None:
        raise NotImplementedError("a mask or a soft cap of attention")
    window = sliding_window if sliding_window and sliding_window < rows.longest else None
    # The kernel takes no float32, and has no dropout.
    if query.device.type == "cuda" and value.dtype != torch.float32 and not dropout:
        return _on_cuda(query, key, value, rows, scaling, window), None
    return _row_by_row(query, key, value, rows, scaling, window, dropout), None


def _on_cuda(query: Any, key: Any, value: Any, rows: Rows, scaling: float | None, window: int | None) -> Any:
    from torch.nn.attention import varlen

    # Rotary positions make float32 of queries and keys under autocast, values stay what the kernel takes.
    parts = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    ends = rows.bounds, rows.bounds, rows.longest, rows.longest
    near = (-1 if window is None else window - 1, 0)
    grouped = query.shape[1] != key.shape[1]
    kernel: Any = varlen.varlen_attn
    return kernel(*parts, *ends, scale=scaling, window_size=near, enable_gqa=grouped)[None]


def _row_by_row(
    query: Any, key: Any, value: Any, rows: Rows, scaling: float | None, window: int | None, dropout: float
) -> Any:
    import torch

    lengths = list(rows.lengths or np.diff(rows.bounds.cpu().numpy()).tolist())
    # Split, not sliced: the gradient of a slice is as long as the piece, once per row. A loop, because on a CPU rows of
    # one length in a batch are no faster from 128 tokens on, and padding them to one length is slower. Whole tiles,
    # so that there are few shapes: what is behind a row's end it does not see.
    attended: list[Any] = []
    for parts in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        length = parts[0].shape[2]
        more = -length % TILE
        filled = [torch.nn.functional.pad(part, (0, 0, 0, more)) if more else part for part in parts]
        size = length + more
        near = None
        if window is not None and size > window:
            near = torch.ones(size, size, dtype=torch.bool, device=query.device).tril().triu(1 - window)
        found = torch.nn.functional.scaled_dot_product_attention(
            *filled,
            attn_mask=near,
            dropout_p=dropout,
            is_causal=near is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        attended.append(found.transpose(1, 2)[:, :length])
    return torch.cat(attended, 1)
