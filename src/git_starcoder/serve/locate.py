"""Finds the file of a repository that is being edited, for clients that do not say which it is.

llama.vim and most plugins for the OpenAI interface send text around the cursor without a path. The contexts of this
text are looked up in the memory; the file that holds most of them is the one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.memory.sorting import MAX_ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.memory.contexts import ContextIndex
    from git_starcoder.serve.follow import KnownText

    Tokens = Any

WINDOW_TOKENS = 192
"""Tokens before and after the cursor that are looked up."""
MIN_SHARE = 0.4
"""The share of the contexts that a file must hold. Where somebody is just typing, some are new."""
MIN_CONTEXTS = 4
"""Fewer contexts are not looked up: they may be the same in many files."""
STEP_TOKENS = 4
MAX_PLACES = 4
"""Places of a context that are looked at: one that occurs more often says nothing."""


def find_document(
    index: ContextIndex, paths: Mapping[bytes, str], edited: KnownText | None, before: Tokens, after: Tokens
) -> str:
    """Find the path of the file that most of the tokens around a cursor are from; empty if there is none.

    `paths` has the path of each document of the index by its digest. `edited` is a file that the index leaves out.
    """
    parts = [np.concatenate(([index.end_token], part)) for part in (before[-WINDOW_TOKENS:], after[:WINDOW_TOKENS])]
    # Contexts of MAX_ORDER tokens that do not reach into the other part.
    places = [np.arange(MAX_ORDER + 1, len(part) + 1, STEP_TOKENS) for part in parts]
    count = sum(map(len, places))
    if count < MIN_CONTEXTS:
        return ""
    votes = Counter[str]()
    if edited is not None:
        known = _contexts(np.concatenate(([index.end_token], edited.tokens)), step=1)
        shared = sum(context in known for part in parts for context in _contexts(part, step=STEP_TOKENS))
        votes[edited.path] = shared
    starts = np.cumsum(index.lengths + 1) - index.lengths - 1
    for part, at in zip(parts, places, strict=True):
        low, high = (edges[:, MAX_ORDER] for edges in index.intervals(part, at))
        for first, stop in zip(low.tolist(), high.tolist(), strict=True):
            if 0 < stop - first <= MAX_PLACES:
                found = np.searchsorted(starts, index.places[first:stop], side="right") - 1
                votes.update({paths.get(index.digests[document].tobytes(), "") for document in found.tolist()})
    del votes[""]
    path, most = max(votes.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    return path if most >= MIN_SHARE * count else ""


def _contexts(tokens: Tokens, step: int) -> set[bytes]:
    whole = tokens.astype(np.int64)
    return {whole[end - MAX_ORDER : end].tobytes() for end in range(MAX_ORDER + 1, len(whole) + 1, step)}
