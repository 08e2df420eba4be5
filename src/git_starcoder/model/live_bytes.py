"""Counts the bytes of the tensors that exist at once while a model runs, on any device."""

# pyright: basic

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: TID253 - this module is imported where it is used
from torch.utils._pytree import tree_iter  # noqa: TID253


class LiveBytes(TorchDispatchMode):
    """While this context is entered, counts the bytes of all tensors that are made in it, and remembers the peak.

    Tensors that existed before do not count, and tensors that share memory count once. What an operation needs for
    itself while it runs is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        """The most bytes that existed at once."""
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it makes."""
        kwargs = kwargs or {}
        self._add((args, kwargs), is_new=False)
        result = function(*args, **kwargs)
        self._add(result, is_new=True)
        return result

    def _add(self, values: Any, *, is_new: bool) -> None:
        for tensor in tree_iter(values):
            if not hasattr(tensor, "untyped_storage") or hasattr(tensor, "to_local"):
                continue  # of a tensor that is divided among processes, the parts are seen
            storage = tensor.untyped_storage()
            key = storage._cdata  # noqa: SLF001 - its address, which is kept while the storage exists
            if key in self._known:
                continue
            size = storage.nbytes() if is_new else 0
            self._known.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, partial(self._remove, key, size))

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
