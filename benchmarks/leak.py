"""Judge a dataset from its files alone: does what is held out also stand in what is learned from?

    python benchmarks/leak.py DATASET... [--seeds 20] [--table]

Reads `training_data_{train,val,test}.jsonl` and knows nothing of how they were made. One JSON line per dataset:

- `copies`: held-out rows whose tokens are those of a training row;
- `unique`: share of all rows that are unlike every other;
- `files`, `groups`: source files and leak groups that have rows in more than one split;
- `runs`: share of the runs of 32 tokens in held-out `base` rows that occur in a training row as well.

Some runs occur twice in any code base, and that is no leak. Two more figures say how many to expect, both from the same
rows: `floor` gives whole files to the splits at random, with the same shares of rows (mean and standard deviation over
several seeds); `by_row` gives single rows to the splits at random, as is often done.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

SPLITS = ("train", "val", "test")
HELD = ("val", "test")
RUN = 32
BASE = 0x9E3779B97F4A7C15
CHUNK = 1 << 21


@dataclass
class Rows:
    """All rows of a dataset: tokens without padding behind one another, and one entry per row of all else."""

    tokens: array = field(default_factory=lambda: array("I"))
    length: list[int] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    file: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    is_base: list[bool] = field(default_factory=list)
    digest: list[bytes] = field(default_factory=list)


def read(folder: Path) -> Rows:
    """The rows of a dataset."""
    rows = Rows()
    for split in SPLITS:
        with (folder / f"training_data_{split}.jsonl").open("rb") as lines:
            for line in lines:
                row = json.loads(line)
                metadata = row["metadata"]
                tokens = array("I", row["tokens"][: metadata["length"]])
                rows.tokens.extend(tokens)
                rows.length.append(len(tokens))
                rows.split.append(split)
                rows.file.append(metadata["source_file"])
                rows.group.append(metadata.get("group", metadata["source_file"]))
                rows.is_base.append(metadata["augmentation_type"] == "base")
                rows.digest.append(blake2b(tokens.tobytes(), digest_size=16).digest())
    return rows


class Runs:
    """The hashes of the runs of rows."""

    def __init__(self, rows: Rows) -> None:
        self.tokens = np.frombuffer(rows.tokens, dtype=np.uint32)
        self.length = np.array(rows.length, dtype=np.int64)
        self.first = np.concatenate(([0], np.cumsum(self.length)))[:-1]
        most = max(CHUNK, int(self.length.max(initial=0)))
        self.powers = powers(BASE, most)
        self.inverse = powers(pow(BASE, -1, 1 << 64), most)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Hashes of all runs of some rows, repetitions and all, from a polynomial of their tokens modulo 2^64."""
        return np.concatenate([np.empty(0, np.uint64), *map(self._of_chunk, self._chunks(rows))])

    def distinct(self, rows: np.ndarray) -> np.ndarray:
        """The different hashes of the runs of some rows, sorted."""
        parts = [unique(self._of_chunk(chunk)) for chunk in self._chunks(rows)]
        return unique(np.concatenate([np.empty(0, np.uint64), *parts]))

    def _chunks(self, rows: np.ndarray):
        ends = np.cumsum(self.length[rows])
        start = 0
        while start < len(rows):
            stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + CHUNK, side="right"))
            yield rows[start : max(stop, start + 1)]
            start = max(stop, start + 1)

    def _of_chunk(self, rows: np.ndarray) -> np.ndarray:
        length = self.length[rows]
        begin = np.concatenate(([0], np.cumsum(length)))
        at = np.repeat(self.first[rows] - begin[:-1], length) + np.arange(begin[-1])
        mixed = (self.tokens[at].astype(np.uint64) + np.uint64(1)) * np.uint64(0xD1342543DE82EF95)
        mixed ^= mixed >> np.uint64(32)
        prefix = np.zeros(len(at) + 1, dtype=np.uint64)
        np.cumsum(mixed * self.powers[: len(at)], out=prefix[1:])
        starts = np.maximum(length - RUN + 1, 0)
        offset = np.concatenate(([0], np.cumsum(starts)))
        where = np.repeat(begin[:-1] - offset[:-1], starts) + np.arange(offset[-1])
        return (prefix[where + RUN] - prefix[where]) * self.inverse[where]


def unique(values: np.ndarray) -> np.ndarray:
    """The different values, sorted. NumPy's own goes through a hash table, many times slower on millions."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=~ordered[:1]) != 0]


def powers(base: int, count: int) -> np.ndarray:
    """base^0, base^1, … modulo 2^64."""
    result = np.full(count, base, dtype=np.uint64)
    result[0] = 1
    return np.multiply.accumulate(result)


@dataclass
class Piece:
    """What one file has in one split."""

    file: str
    split: str
    rows: int
    base_runs: int
    shared: np.ndarray
    """Numbers of those of its runs that another piece has as well."""
    base_shared: np.ndarray
    """The same for its base rows …"""
    base_counts: np.ndarray
    """… and how often they hold each."""


def pieces(rows: Rows, runs: Runs) -> list[Piece]:
    """The dataset by file and split, with the runs that occur in more than one piece."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, key in enumerate(zip(rows.file, rows.split, strict=True)):
        members[key].append(number)
    is_base = np.array(rows.is_base, dtype=bool)
    found = []
    for (file, split), numbers in members.items():
        own = np.array(numbers)
        base, counts = np.unique(runs.of(own[is_base[own]]), return_counts=True)
        found.append(
            (file, split, own, unique(np.concatenate((base, runs.distinct(own[~is_base[own]])))), base, counts)
        )
    every = np.sort(np.concatenate([np.empty(0, np.uint64), *(entry[3] for entry in found)]))
    shared = unique(every[1:][every[1:] == every[:-1]])

    def numbers_of(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.minimum(np.searchsorted(shared, hashes), max(0, len(shared) - 1))
        known = shared[at] == hashes if len(shared) else np.zeros(len(hashes), dtype=bool)
        return at[known], known

    result = []
    for file, split, own, distinct, base, counts in found:
        base_shared, known = numbers_of(base)
        result.append(
            Piece(file, split, len(own), int(counts.sum()), numbers_of(distinct)[0], base_shared, counts[known])
        )
    return result


def overlap(parts: list[Piece], split_of) -> dict[str, float]:
    """For val and test, the share of the runs of base rows that occur in training. `split_of(piece)` is its split."""
    size = max((int(part.shared.max(initial=-1)) for part in parts), default=-1) + 1
    learned = np.zeros(size, dtype=bool)
    for part in parts:
        if split_of(part) == "train":
            learned[part.shared] = True
    hits, runs = dict.fromkeys(HELD, 0), dict.fromkeys(HELD, 0)
    for part in parts:
        split = split_of(part)
        if split != "train":
            hits[split] += int(part.base_counts[learned[part.base_shared]].sum())
            runs[split] += part.base_runs
    return {split: hits[split] / runs[split] if runs[split] else 0.0 for split in HELD}


def deal(sizes: dict[str, int], wanted: dict[str, int], seed: int) -> dict[str, str]:
    """Things of some sizes to splits at random: test and val are filled with what fits, the rest is train."""
    names = sorted(sizes)
    random.Random(seed).shuffle(names)
    room = {"test": wanted["test"], "val": wanted["val"]}
    dealt = {}
    for name in names:
        dealt[name] = next((split for split, left in room.items() if sizes[name] <= left), "train")
        if dealt[name] != "train":
            room[dealt[name]] -= sizes[name]
    return dealt


def by_row(rows: Rows, runs: Runs, wanted: dict[str, int], seed: int) -> dict[str, float]:
    """The same figure for the same rows, dealt to the splits one by one."""
    dealt = deal(dict.fromkeys(range(len(rows.split)), 1), wanted, seed)
    split = np.array([dealt[number] for number in range(len(dealt))])
    learned = runs.distinct(np.flatnonzero(split == "train"))
    is_base = np.array(rows.is_base, dtype=bool)
    shares = {}
    for name in HELD:
        hashes, counts = np.unique(runs.of(np.flatnonzero(is_base & (split == name))), return_counts=True)
        at = np.minimum(np.searchsorted(learned, hashes), max(0, len(learned) - 1))
        hits = counts[learned[at] == hashes].sum() if len(learned) else 0
        shares[name] = float(hits / counts.sum()) if len(counts) else 0.0
    return shares


def judge(folder: Path, seeds: int) -> dict:
    """All figures of one dataset."""
    begun = time.perf_counter()
    rows = read(folder)
    runs = Runs(rows)
    parts = pieces(rows, runs)
    wanted = {split: rows.split.count(split) for split in SPLITS}
    learned = {digest for digest, split in zip(rows.digest, rows.split, strict=True) if split == "train"}
    held = [digest for digest, split in zip(rows.digest, rows.split, strict=True) if split != "train"]
    splits_of = {"files": defaultdict(set), "groups": defaultdict(set)}
    sizes: dict[str, int] = defaultdict(int)
    for file, group, split in zip(rows.file, rows.group, rows.split, strict=True):
        splits_of["files"][file].add(split)
        splits_of["groups"][group].add(split)
        sizes[file] += 1
    floors = []
    for seed in range(seeds):
        dealt = deal(sizes, wanted, seed)
        floors.append(overlap(parts, lambda part, dealt=dealt: dealt[part.file]))
    return {
        "dataset": folder.resolve().name,
        "rows": wanted,
        "source_files": len(sizes),
        "copies": sum(digest in learned for digest in held),
        "unique": round(len(set(rows.digest)) / max(1, len(rows.digest)), 6),
        "files": sum(len(splits) > 1 for splits in splits_of["files"].values()),
        "groups": sum(len(splits) > 1 for splits in splits_of["groups"].values()),
        "run_tokens": RUN,
        "runs": rounded(overlap(parts, lambda part: part.split)),
        "floor": rounded({split: statistics.fmean(floor[split] for floor in floors) for split in HELD}),
        "floor_deviation": rounded({split: statistics.pstdev(floor[split] for floor in floors) for split in HELD}),
        "seeds": seeds,
        "by_row": rounded(by_row(rows, runs, wanted, 0)),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def rounded(shares: dict[str, float]) -> dict[str, float]:
    """Shares with as many digits as mean something."""
    return {name: round(value, 4) for name, value in shares.items()}


def table(figures: dict) -> str:
    """The figures of one dataset for a person."""
    lines = [
        f"{figures['dataset']}: {sum(figures['rows'].values())} rows of {figures['source_files']} files",
        f"  held-out rows that are copies of training rows  {figures['copies']}",
        f"  unique rows                                     {figures['unique']:.2%}",
        f"  files in more than one split                    {figures['files']}",
        f"  groups in more than one split                   {figures['groups']}",
        f"  runs of {figures['run_tokens']} tokens that occur in training       {'val':>14} {'test':>14}",
    ]
    for name, key in (("this split", "runs"), ("files at random (floor)", "floor"), ("rows at random", "by_row")):
        cells = []
        for split in HELD:
            deviation = f" ± {figures['floor_deviation'][split]:.1%}" if key == "floor" else ""
            cells.append(f"{figures[key][split]:.1%}{deviation}".rjust(14))
        lines.append(f"    {name:<44}  {' '.join(cells)}")
    return "\n".join(lines)


def main() -> None:
    """Judge the datasets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=20, help="random file splits for the floor (default: 20)")
    parser.add_argument("--table", action="store_true", help="also print a readable table")
    arguments = parser.parse_args()
    for folder in arguments.dataset:
        figures = judge(folder, max(1, arguments.seeds))
        print(json.dumps(figures), flush=True)
        if arguments.table:
            print(table(figures), flush=True)


if __name__ == "__main__":
    main()
