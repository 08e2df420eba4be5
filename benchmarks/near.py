"""Does the near-duplicate search find what comparing all pairs finds, and what does it cost?

    python benchmarks/near.py DATASET [--documents 8000] [--copies 0.2]

Documents are plain training rows of a dataset, and whole files of it, each with changed copies of some: up to half of a
copy's tokens or words are replaced, singly or in one run. The truth is the exact Jaccard similarity of all pairs, by
counting shared shingles. One JSON line for both kinds and each threshold:

- `recall`: share of the similar pairs that `find_similar_pairs` connects, directly or by way of others;
- `precision`: share of the pairs it gives that are similar;
- `extra`, `missed`: documents that `find_keepers` drops or keeps and a plain walk over all pairs does not.
"""

from __future__ import annotations

import argparse
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents as texts_of
from git_starcoder.hashing.bands import band_shape
from git_starcoder.hashing.near_duplicates import find_keepers, find_similar_pairs
from git_starcoder.hashing.texts import Shingles, TextShingles, WindowShingles
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable

THRESHOLDS = {"rows": (0.5, 0.7, 0.85, 0.95), "files": (0.5, 0.9)}


def rows_of(dataset: Dataset, count: int, copies: float, chance: random.Random) -> WindowShingles:
    """Rows of a dataset and changed copies of them, shuffled."""
    rows = [
        np.array(row.tokens[: row.metadata["length"]], dtype=np.uint32)
        for row in dataset.rows("train")
        if "hole" not in row.metadata
    ]
    rows = with_copies(rows, count, copies, chance, lambda: chance.randrange(8192))
    length = np.array([len(row) for row in rows], dtype=np.int64)
    first = np.cumsum(length) - length
    return WindowShingles(np.concatenate(rows), first, length, np.zeros(len(rows), dtype=np.uint64))


def files_of(dataset: Dataset, count: int, copies: float, chance: random.Random) -> TextShingles:
    """Files of a dataset and changed copies of them, shuffled."""
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    texts = [tokenizer.decode(each.tokens) for each in texts_of(dataset, "train")]
    words = [np.array(text.split() or [b""], dtype=object) for text in texts]
    files = with_copies(words, count, copies, chance, lambda: b"w%d" % chance.randrange(8192))
    return TextShingles.from_texts(b" ".join(file) for file in files)


def with_copies(
    originals: list[np.ndarray], count: int, copies: float, chance: random.Random, new: Callable[[], Any]
) -> list[np.ndarray]:
    """Some of the originals and changed copies of some of those, shuffled."""
    some = chance.sample(originals, min(len(originals), round(count * (1 - copies))))
    for original in chance.sample(some, min(len(some), count - len(some))):
        copy = original.copy()
        changed = int(len(copy) * chance.random() ** 2 / 2)
        at = chance.sample(range(len(copy)), changed)
        if chance.random() < 0.5:
            at = np.arange(changed) + chance.randrange(len(copy) - changed + 1)
        copy[at] = [new() for _ in range(changed)]
        some.append(copy)
    chance.shuffle(some)
    return some


def all_pairs(documents: Shingles, least: float) -> list[tuple[int, int, float]]:
    """Every pair (later, earlier, similarity) of documents that are at least so similar."""
    flat, offsets = documents.gather(np.arange(len(documents.shingle_counts())))
    sets = [np.unique(flat[start:stop]) for start, stop in pairwise(offsets)]
    sizes = np.array([len(one) for one in sets])
    owner = np.repeat(np.arange(len(sets)), sizes)
    number = np.unique(np.concatenate(sets), return_inverse=True)[1]
    order = np.argsort(number, kind="stable")
    owner_of, begin = owner[order], np.searchsorted(number[order], np.arange(int(number.max()) + 2))
    bounds = np.concatenate(([0], np.cumsum(sizes)))
    pairs = []
    for later in range(len(sets)):
        own = number[bounds[later] : bounds[later + 1]]
        counts = begin[own + 1] - begin[own]
        at = np.repeat(begin[own] - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        shared = np.bincount(owner_of[at], minlength=later)[:later]
        similarity = shared / (sizes[:later] + sizes[later] - shared)
        pairs += [(later, earlier, similarity[earlier]) for earlier in np.flatnonzero(similarity >= least).tolist()]
    return pairs


def components(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """For each document the name of the component that pairs put it in."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for left, right in pairs:
        parent[root(left)] = root(right)
    return [root(at) for at in range(count)]


def walk(count: int, pairs: list[tuple[int, int]]) -> set[int]:
    """The documents that a plain walk drops: those similar to one kept before them."""
    before: dict[int, list[int]] = {}
    for later, earlier in pairs:
        before.setdefault(later, []).append(earlier)
    dropped: set[int] = set()
    for document in range(count):
        if any(earlier not in dropped for earlier in before.get(document, ())):
            dropped.add(document)
    return dropped


def compare(kind: str, documents: Shingles) -> None:
    """Print what the search finds at each threshold, and what there is."""
    count = len(documents.shingle_counts())
    truth = all_pairs(documents, min(THRESHOLDS[kind]))
    for threshold in THRESHOLDS[kind]:
        similar = [(later, earlier) for later, earlier, similarity in truth if similarity >= threshold]
        begun = time.perf_counter()
        found = find_similar_pairs(documents, threshold)
        linked = time.perf_counter()
        kept = find_keepers(documents, threshold, lambda left, _: np.zeros(len(left), dtype=bool))
        walked = time.perf_counter()
        pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
        name = components(count, pairs)
        known = {(earlier, later) for later, earlier in similar}
        expected, dropped = walk(count, similar), set(np.flatnonzero(kept.keeper >= 0).tolist())
        print(orjson.dumps({
            "of": kind, "threshold": threshold, "bands": band_shape(threshold)[0], "rows": band_shape(threshold)[1], "documents": count,
            "similar": len(similar), "recall": sum(name[a] == name[b] for a, b in similar) / max(1, len(similar)),
            "precision": sum(pair in known for pair in pairs) / max(1, len(pairs)),
            "dropped": len(dropped), "extra": len(dropped - expected), "missed": len(expected - dropped),
            "compared": kept.compared, "limited": kept.limited,
            "links_s": round(linked - begun, 2), "keepers_s": round(walked - linked, 2),
        }).decode(), flush=True)  # fmt: skip


def main() -> None:
    """Compare the search with the truth at several thresholds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--documents", type=int, default=8000)
    parser.add_argument("--copies", type=float, default=0.2, help="share of the documents that are changed copies")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.dataset)
    for kind, make in (("rows", rows_of), ("files", files_of)):
        chance = random.Random(arguments.seed)
        compare(kind, make(dataset, arguments.documents, arguments.copies, chance))


if __name__ == "__main__":
    main()
