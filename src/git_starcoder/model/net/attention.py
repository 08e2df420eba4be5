"""Attention within segments: packed rows lie one after another, and no row sees another or costs time for it."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.model.data.packing import TILE_TOKENS

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

ATTENTION_NAME = "git_starcoder_rows"
"""The name of our attention function in transformers."""
MIN_SEGMENT_SLOTS = 64
"""Segments that a fixed shape has room for at least; more segments take the next power of two."""


class Segments(NamedTuple):
    """Where the segments of packed rows lie."""

    bounds: Any
    """A tensor on the device: segment i is `bounds[i]:bounds[i + 1]`, int32, shape (segments + 1,)."""
    lengths: tuple[int, ...] | None
    """Tokens of each segment; None if only the device may know, so that one compiled graph serves all packed rows."""
    max_length: int
    """Upper bound on the tokens of a segment."""


def build_segments(torch: Any, bounds: NDArray[Any], device: str, fixed_length: int = 0) -> Segments:
    """Put segment bounds on the device.

    With `fixed_length`, the longest segment possible, nothing but the content of the tensor depends on the segments.
    """
    lengths = np.diff(bounds)
    if not fixed_length:
        return Segments(torch.from_numpy(bounds).to(device), tuple(lengths.tolist()), int(lengths.max(initial=0)))
    # Empty segments at the end, up to a power of two, so that there are few shapes.
    count = max(MIN_SEGMENT_SLOTS, 1 << (len(bounds) - 1).bit_length())
    filled = np.full(count + 1, bounds[-1], dtype=np.int32)
    filled[: len(bounds)] = bounds
    return Segments(torch.from_numpy(filled).to(device, non_blocking=True), None, fixed_length)


def register_attention() -> None:
    """Register `attend` with transformers. It has no mask function of this name, so no mask is made."""
    interface: Any = import_module("transformers").AttentionInterface
    interface.register(ATTENTION_NAME, attend)


@contextmanager
def segment_attention(model: Any) -> Generator[None]:
    """Let a model of transformers use `attend`, which needs the argument `segments`, until the context ends.

    Raises:
        NotImplementedError: Its architecture does not let the attention function be chosen.

    """
    before = _current_attention(model)
    model.set_attn_implementation(ATTENTION_NAME)
    try:
        if _current_attention(model) != ATTENTION_NAME:
            raise NotImplementedError(ATTENTION_NAME)
        yield
    finally:
        model.set_attn_implementation(before)


def _current_attention(model: Any) -> str:
    return model.config._attn_implementation  # noqa: SLF001


def attend(
    module: Any,  # noqa: ARG001
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    *,
    segments: Segments,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention within segments: a query of (1, heads, tokens, width) gives (1, tokens, heads, width).

    Raises:
        NotImplementedError: The architecture needs more than plain causal attention.

    """
    import torch

    if mask is not None or softcap is not None:
        raise NotImplementedError("attention with a mask or a soft cap")
    window = sliding_window if sliding_window and sliding_window < segments.max_length else None
    # The CUDA kernel takes no float32 and has no dropout.
    if query.device.type == "cuda" and value.dtype != torch.float32 and not dropout:
        return _attend_on_cuda(query, key, value, segments, scaling, window), None
    return _attend_by_segment(query, key, value, segments, scaling, window, dropout), None


def _attend_on_cuda(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None
) -> Any:
    from torch.nn.attention import varlen

    # Under autocast, rotary positions turn queries and keys into float32; values stay in the kernel's precision.
    parts = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    bounds = segments.bounds, segments.bounds, segments.max_length, segments.max_length
    window_size = (-1 if window is None else window - 1, 0)
    is_grouped = query.shape[1] != key.shape[1]
    kernel: Any = varlen.varlen_attn
    return kernel(*parts, *bounds, scale=scaling, window_size=window_size, enable_gqa=is_grouped)[None]


def _attend_by_segment(
    query: Any,
    key: Any,
    value: Any,
    segments: Segments,
    scaling: float | None,
    window: int | None,
    dropout: float,
) -> Any:
    import torch

    lengths = list(segments.lengths or np.diff(segments.bounds.cpu().numpy()).tolist())
    # Split, not sliced: the gradient of a slice is as long as all packed rows, once per segment. In a loop, because on
    # a CPU a batch of segments of one length is not faster from 128 tokens on, and padding to one length is slower.
    # Segments are padded to whole tiles, so that there are few shapes: tokens do not see what comes after them.
    outputs: list[Any] = []
    for parts in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        length = parts[0].shape[2]
        padding = -length % TILE_TOKENS
        padded = [torch.nn.functional.pad(part, (0, 0, 0, padding)) if padding else part for part in parts]
        size = length + padding
        window_mask = None
        if window is not None and size > window:
            window_mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril().triu(1 - window)
        output = torch.nn.functional.scaled_dot_product_attention(
            *padded,
            attn_mask=window_mask,
            dropout_p=dropout,
            is_causal=window_mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(output.transpose(1, 2)[:, :length])
    return torch.cat(outputs, 1)
