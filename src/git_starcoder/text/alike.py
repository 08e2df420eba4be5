"""Which texts are alike: near-duplicates, texts that stand in others, and copies with something added to every line.

Three searches find the links, because no single measure sees every copy:

1. Jaccard similarity of five-token shingles (`near`): files of about the same length.
2. Containment of five-token shingles (`contained`): a chapter in its book.
3. Containment of the words of lines (`lines`, `contained`): a notebook's code, a patch, a numbered or commented-out
   listing, a table of strings. Nothing of their signs or line ends need be the same.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.text.contained import contained
from git_starcoder.text.near import links

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.text.lines import Lines
    from git_starcoder.text.shingles import TextShingles

RATE = 8
"""One five-token shingle in so many is looked at for containment: texts of some 130 tokens or more are compared."""
REWRAPPED = 0.6
"""Share of its line shingles from which a text stands in another, at least. Copies with the same something added to
every line keep nearly all of theirs; two such copies, each with two words of its own, share 0.6 of lines of five words.
Below it, files that only use the same interface come together."""


class Alike(NamedTuple):
    """Pairs of texts that are alike. The arrays have shape (pairs,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    share: NDArray[np.float64]
    """Similarity or share, 0 to 1, by whichever measure found the pair."""
    found: dict[str, int]
    """How many pairs each search found."""
    exact: bool
    """Whether all pairs were compared exactly (see `near.Links`)."""


def alike(shingles: TextShingles, lines: Lines, threshold: float, threads: int = 1) -> Alike:
    """Pairs that connect all texts which are alike. `shingles` and `lines` are those of the same texts."""
    with ThreadPoolExecutor(threads) as pool:  # numpy lets them run at the same time
        search_near = pool.submit(links, shingles, threshold)
        search_rewrapped = pool.submit(lambda: contained(lines.shingles(), max(threshold, REWRAPPED), rate=1))
        search_inside = pool.submit(contained, shingles, threshold, RATE)
        near, rewrapped, inside = search_near.result(), search_rewrapped.result(), search_inside.result()
    return Alike(
        np.concatenate((near.left, inside.part, rewrapped.part)),
        np.concatenate((near.right, inside.whole, rewrapped.whole)),
        np.concatenate((near.similarity, inside.share, rewrapped.share)),
        {"near_duplicate": len(near.left), "contained": len(inside.part), "rewrapped": len(rewrapped.part)},
        near.exact,
    )
