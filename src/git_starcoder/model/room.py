"""Makes room for the keys and values of more tokens."""

from __future__ import annotations

from typing import Any


def make_room(old: Any, kept: int, needed: int) -> Any:
    """A tensor with room for `needed` tokens and a quarter more, which begins with the first `kept` tokens of `old`.

    Both are of shape (..., tokens, width).
    """
    larger = old.new_empty((*old.shape[:-2], needed * 5 // 4, old.shape[-1]))
    larger[..., :kept, :] = old[..., :kept, :]
    return larger
