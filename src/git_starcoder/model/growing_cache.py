"""Keeps keys and values of tokens that were read. This module imports transformers: import it where that is loaded."""

# pyright: basic, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer  # noqa: TID253


class GrowingLayer(DynamicLayer):
    """The keys and values of a layer, at the beginning of tensors that have room for more.

    The one of transformers copies all of them to append one token: at a thousand tokens, that takes a third of the time
    of a pass of a small network. What `update` returns is a view, which the next `update` may overwrite after a `crop`.
    """

    _key_room: Any = None
    _value_room: Any = None

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:  # noqa: ARG002
        """Append keys and values of shape (texts, heads, tokens, width), and return all that there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._key_room is None or end > self._key_room.shape[-2]:
            self._key_room = _make_room(self.keys if start else key_states, start, end)
            self._value_room = _make_room(self.values if start else value_states, start, end)
        self._key_room[..., start:end, :] = key_states
        self._value_room[..., start:end, :] = value_states
        self.keys, self.values = self._key_room[..., :end, :], self._value_room[..., :end, :]
        return self.keys, self.values


def _make_room(old: Any, kept: int, needed: int) -> Any:
    """A tensor with room for `needed` tokens and a quarter more, which begins with the first `kept` tokens of `old`.

    Both are of shape (..., tokens, width).
    """
    larger = old.new_empty((*old.shape[:-2], needed * 5 // 4, old.shape[-1]))
    larger[..., :kept, :] = old[..., :kept, :]
    return larger


def make_cache(config: Any) -> DynamicCache:
    """A cache for a model with this configuration. Layers of another kind than the plain one stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
