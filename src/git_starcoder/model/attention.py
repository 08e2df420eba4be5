"""Attention within the segments of packed rows: a function of ours that transformers calls.

Rows lie one after another in one sequence. No row sees another or costs time for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.model.packing import TILE_TOKENS

if TYPE_CHECKING:
    from numpy.typing import NDArray

ATTENTION_NAME = "git_starcoder_rows"
"""The name of our attention function in transformers."""
MAX_STORED_SCORES_TOKENS = 1024
"""Longest segment whose attention weights are stored on a CPU. Beyond it, a kernel that computes them again is used."""
QUERY_BLOCK_BYTES = 512
"""The bytes of the scores of one key that are computed at once on a CPU, for one head: those of 256 queries in
bfloat16, and of 128 in float32. Then the scores fit into its cache, and few that are masked later are computed."""


class Segments(NamedTuple):
    """Where the segments of packed rows lie."""

    bounds: Any
    """A tensor on the device: segment i is `bounds[i]:bounds[i + 1]`, int32, shape (segments + 1,)."""
    lengths: tuple[int, ...] | None
    """Tokens of each segment; None if only the device may know, so that one compiled graph serves all packed rows."""
    longest: Any
    """An empty tensor with a row for each token of the longest segment, shape (tokens, 0). Each value of a number would
    be compiled on its own, and the dimension of a tensor may vary."""
    has_kernel: bool = False
    """Whether the device has the kernel for segments of different lengths."""
    stand_for: int = 0
    """The length of the rows that these stand for, if they are measured in place of longer ones."""


def build_segments(
    torch: Any, bounds: NDArray[Any], device: str, *, padding: int | None = None, has_kernel: bool = False
) -> Segments:
    """Put segment bounds on the device.

    With `padding`, the tokens of the last segment that are only padding, the segments are for a compiled graph: their
    number and the longest one may change without another compilation. The padding is cut, so that it is never the
    longest segment, by which kernels are launched.
    """
    if padding is None:
        lengths = np.diff(bounds)
        longest = torch.empty(int(lengths.max(initial=0)), 0)
        return Segments(torch.from_numpy(bounds).to(device), tuple(lengths.tolist()), longest, has_kernel)
    rows = bounds[:-1] if padding else bounds
    length = int(np.diff(rows).max(initial=1))
    if padding:
        cuts = np.arange(rows[-1] + length, bounds[-1], length, dtype=bounds.dtype)
        bounds = np.concatenate((rows, cuts, bounds[-1:]))
    segments = torch.from_numpy(bounds).to(device, non_blocking=True)
    longest = torch.empty(length, 0)
    for tensor in (segments, longest):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)  # noqa: SLF001
    return Segments(segments, None, longest, has_kernel)


def attend(
    _: Any, query: Any, key: Any, value: Any, mask: Any, *, segments: Segments, dropout: float = 0.0, **options: Any
) -> tuple[Any, None]:
    """Causal attention within segments: a query of (1, heads, tokens, width) gives (1, tokens, heads, width)."""
    import torch

    if mask is not None or options.get("softcap") is not None:
        raise NotImplementedError("attention with a mask or a soft cap")
    scaling, window = options.get("scaling"), options.get("sliding_window")
    longest = segments.longest.shape[0]
    # In a compiled graph, the comparison would be a reason to compile again.
    window = window if window and (segments.lengths is None or window < longest) else None
    # The kernel takes no float32 and has no dropout.
    if segments.has_kernel and value.dtype != torch.float32 and not dropout:
        return _attend_on_cuda(query, key, value, segments, scaling, window), None
    if segments.lengths is None:
        return _attend_with_mask(query, key, value, segments, scaling, window, dropout), None
    return _attend_by_segment(query, key, value, segments, scaling, window, dropout), None


def _attend_on_cuda(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None
) -> Any:
    from torch.nn.attention import varlen

    # Under autocast, rotary positions turn queries and keys into float32; values stay in the kernel's precision.
    parts = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    longest = segments.longest.shape[0]
    bounds = segments.bounds, segments.bounds, longest, longest
    window_size = (-1 if window is None else window - 1, 0)
    is_grouped = query.shape[1] != key.shape[1]
    kernel: Any = varlen.varlen_attn
    return kernel(*parts, *bounds, scale=scaling, window_size=window_size, enable_gqa=is_grouped)[None]


def _attend_with_mask(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None, dropout: float
) -> Any:
    """Attention of all packed rows at once: one compiled graph whatever their lengths, in quadratic time."""
    import torch

    place = torch.arange(query.shape[2], dtype=torch.int32, device=query.device)
    segment = torch.searchsorted(segments.bounds, place, right=True)
    distance = place[:, None] - place
    mask = (segment[:, None] == segment) & (distance >= 0)
    if window is not None:
        mask &= distance < window
    options = {"attn_mask": mask, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    kernel: Any = torch.nn.functional.scaled_dot_product_attention
    return kernel(query, key, value, scale=scaling, **options).transpose(1, 2)


def _attend_by_segment(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None, dropout: float
) -> Any:
    import torch

    lengths = list(segments.lengths or ())
    # Split, not sliced: the gradient of a slice is as long as all packed rows, once per segment. In a loop, because on
    # a CPU a batch of segments of one length is not faster from 128 tokens on, and padding to one length is slower.
    # Segments are padded to whole tiles, so that there are few shapes: tokens do not see what comes after them.
    attention: Any = torch.nn.functional.scaled_dot_product_attention
    pad = torch.nn.functional.pad
    is_grouped = query.shape[1] != key.shape[1]
    outputs: list[Any] = []
    for parts in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        length = parts[0].shape[2]
        padding = -length % TILE_TOKENS
        queries, keys, values = (pad(part, (0, 0, 0, padding)) if padding else part for part in parts)
        size = length + padding
        output: Any
        is_short = max(size, segments.stand_for) <= MAX_STORED_SCORES_TOKENS
        if query.device.type == "cpu" and (dropout or is_short):
            output = _attend_by_query_block(queries, keys, values, scaling, window, dropout)
        else:
            window_mask = None
            if window is not None and size > window:
                window_mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril().triu(1 - window)
            options = {"attn_mask": window_mask, "is_causal": window_mask is None, "enable_gqa": is_grouped}
            output = attention(queries, keys, values, dropout_p=dropout, scale=scaling, **options)
        outputs.append(output.transpose(1, 2)[:, :length])
    return torch.cat(outputs, 1)


def _attend_by_query_block(
    query: Any, key: Any, value: Any, scaling: float | None, window: int | None, dropout: float
) -> Any:
    """Causal attention of one segment on a CPU, (1, heads, tokens, width)."""
    from git_starcoder.model.cpu_operations import BlockAttention

    groups = query.shape[1] // key.shape[1]
    # Under autocast, rotary positions turn queries and keys into float32; values stay in the precision of products.
    query, key, value = (part[0].to(value.dtype) for part in (query, key, value))
    if groups > 1:
        key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    scale = float(query.shape[2] ** -0.5) if scaling is None else scaling
    attention: Any = BlockAttention
    return attention.apply(query, key, value, scale, window, dropout)[None]
