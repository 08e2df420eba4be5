"""Judge a dataset from its files alone: does what is held out also stand in what is learned from?

    python benchmarks/leak.py DATASET... [--seeds 20] [--table]

Reads `training_data_{train,val,test}.jsonl` and knows nothing of how they were made. One JSON line per dataset:

- `copies`: held-out rows whose tokens are those of a training row;
- `unique`: share of all rows that are unlike every other;
- `files`, `groups`: source files and leak groups that have rows in more than one split;
- `runs`: share of the runs of 32 tokens in what held-out rows ask for that occur anywhere in a training row, too. What
  a row asks for is what counts for its loss: of a diff what came after, of a file behind a head the file.

`runs` and all below are by the kind of the held-out row: `base`, `git_diff`, `techniques` for all others. Some runs
occur twice in any code base, and that is no leak. Three more figures say how many to expect, from the same rows:

- `without_changes`: the same split, where no row that shows a change is learned from. What is above it, history adds.
- `floor`: no such row is learned from, and whole files are given to the splits at random, with the same shares of rows
  (mean and standard deviation over several seeds). A diff goes with its file; one of a path that is no more is left out.
- `by_row`: single rows are given to the splits at random, as is often done.
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
KINDS = ("base", "techniques", "git_diff")
CHANGES = ("git_diff", "temporal_context")
RUN = 32
BASE = 0x9E3779B97F4A7C15
CHUNK = 1 << 21


@dataclass
class Rows:
    """All rows of a dataset: tokens without padding behind one another, and one entry per row of all else."""

    tokens: array = field(default_factory=lambda: array("I"))
    length: list[int] = field(default_factory=list)
    head: list[int] = field(default_factory=list)
    """Tokens at the beginning that do not count for the loss."""
    split: list[str] = field(default_factory=list)
    file: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    shows_change: list[bool] = field(default_factory=list)
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
                made_by = metadata["augmentation_type"]
                rows.kind.append(made_by if made_by in KINDS else "techniques")
                rows.shows_change.append(made_by in CHANGES)
                hole = metadata.get("hole")
                rows.head.append(len(tokens) - (hole[1] - hole[0]) - 1 if hole else metadata.get("context", 0))
                rows.digest.append(blake2b(tokens.tobytes(), digest_size=16).digest())
    return rows


class Runs:
    """The hashes of the runs of rows."""

    def __init__(self, rows: Rows) -> None:
        self.tokens = np.frombuffer(rows.tokens, dtype=np.uint32)
        self.length = np.array(rows.length, dtype=np.int64)
        self.first = np.concatenate(([0], np.cumsum(self.length)))[:-1]
        self.head = np.array(rows.head, dtype=np.int64)
        most = max(CHUNK, int(self.length.max(initial=0)))
        self.powers = powers(BASE, most)
        self.inverse = powers(pow(BASE, -1, 1 << 64), most)

    def asked(self, rows: np.ndarray) -> np.ndarray:
        """Hashes of all runs of what some rows ask for, repetitions and all."""
        return np.concatenate([np.empty(0, np.uint64), *(self._of(one, self.head[one]) for one in self._chunks(rows))])

    def distinct(self, rows: np.ndarray) -> np.ndarray:
        """The different hashes of the runs of some rows, what they do not ask for included, sorted."""
        parts = [unique(self._of(chunk, np.zeros(len(chunk), np.int64))) for chunk in self._chunks(rows)]
        return unique(np.concatenate([np.empty(0, np.uint64), *parts]))

    def _chunks(self, rows: np.ndarray):
        ends = np.cumsum(self.length[rows])
        start = 0
        while start < len(rows):
            stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + CHUNK, side="right"))
            yield rows[start : max(stop, start + 1)]
            start = max(stop, start + 1)

    def _of(self, rows: np.ndarray, skipped: np.ndarray) -> np.ndarray:
        """A polynomial of the tokens of each run modulo 2^64, where some are skipped at the beginning of each row."""
        length = self.length[rows] - skipped
        begin = np.concatenate(([0], np.cumsum(length)))
        at = np.repeat(self.first[rows] + skipped - begin[:-1], length) + np.arange(begin[-1])
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
    """What one file has of one kind in one split."""

    file: str
    split: str
    kind: str
    shows_change: bool
    asked_runs: int
    shared: np.ndarray
    """Numbers of those of its runs that another piece has as well."""
    asked_shared: np.ndarray
    """The same for what its rows ask for …"""
    asked_counts: np.ndarray
    """… and how often they hold each."""


def pieces(rows: Rows, runs: Runs) -> list[Piece]:
    """The dataset by file, split and kind, with the runs that occur in more than one piece."""
    members: dict[tuple[str, str, str, bool], list[int]] = defaultdict(list)
    for number, key in enumerate(zip(rows.file, rows.split, rows.kind, rows.shows_change, strict=True)):
        members[key].append(number)
    found = []
    for key, numbers in members.items():
        own = np.array(numbers)
        found.append((key, runs.distinct(own), *np.unique(runs.asked(own), return_counts=True)))
    every = np.sort(np.concatenate([np.empty(0, np.uint64), *(entry[1] for entry in found)]))
    shared = unique(every[1:][every[1:] == every[:-1]])

    def numbers_of(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.minimum(np.searchsorted(shared, hashes), max(0, len(shared) - 1))
        known = shared[at] == hashes if len(shared) else np.zeros(len(hashes), dtype=bool)
        return at[known], known

    result = []
    for key, distinct, asked, counts in found:
        asked_shared, known = numbers_of(asked)
        result.append(Piece(*key, int(counts.sum()), numbers_of(distinct)[0], asked_shared, counts[known]))
    return result


def overlap(parts: list[Piece], split_of, *, changes: bool) -> dict[str, dict[str, float]]:
    """By kind, for val and test, the share of the runs that rows ask for that occur in training.

    `split_of(piece)` is its split, or none. Rows that show a change are learned from where `changes` are.
    """
    size = max((int(part.shared.max(initial=-1)) for part in parts), default=-1) + 1
    learned = np.zeros(size, dtype=bool)
    for part in parts:
        if split_of(part) == "train" and (changes or not part.shows_change):
            learned[part.shared] = True
    hits = {kind: dict.fromkeys(HELD, 0) for kind in kinds(parts)}
    runs = {kind: dict.fromkeys(HELD, 0) for kind in hits}
    for part in parts:
        if (split := split_of(part)) in HELD:
            hits[part.kind][split] += int(part.asked_counts[learned[part.asked_shared]].sum())
            runs[part.kind][split] += part.asked_runs
    return {
        kind: {split: hits[kind][split] / runs[kind][split] if runs[kind][split] else 0.0 for split in HELD}
        for kind in hits
    }


def kinds(parts: list[Piece]) -> list[str]:
    """The kinds that there are."""
    return [kind for kind in KINDS if any(part.kind == kind for part in parts)]


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


def by_row(rows: Rows, runs: Runs, wanted: dict[str, int], seed: int) -> dict[str, dict[str, float]]:
    """The same figures for the same rows, dealt to the splits one by one."""
    dealt = deal(dict.fromkeys(range(len(rows.split)), 1), wanted, seed)
    split = np.array([dealt[number] for number in range(len(dealt))])
    kind = np.array(rows.kind)
    learned = runs.distinct(np.flatnonzero(split == "train"))
    shares: dict[str, dict[str, float]] = {one: {} for one in KINDS if one in rows.kind}
    for one, of_kind in shares.items():
        for name in HELD:
            hashes, counts = np.unique(runs.asked(np.flatnonzero((kind == one) & (split == name))), return_counts=True)
            at = np.minimum(np.searchsorted(learned, hashes), max(0, len(learned) - 1))
            hits = counts[learned[at] == hashes].sum() if len(learned) else 0
            of_kind[name] = float(hits / counts.sum()) if len(counts) else 0.0
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
    plain = dict.fromkeys(SPLITS, 0)
    for file, group, split, kind in zip(rows.file, rows.group, rows.split, rows.kind, strict=True):
        splits_of["files"][file].add(split)
        splits_of["groups"][group].add(split)
        if kind != "git_diff":
            sizes[file] += 1
            plain[split] += 1
    floors = []
    for seed in range(seeds):
        dealt = deal(sizes, plain, seed)
        floors.append(overlap(parts, lambda part, dealt=dealt: dealt.get(part.file), changes=False))
    return {
        "dataset": folder.resolve().name,
        "rows": wanted,
        "source_files": len(sizes),
        "copies": sum(digest in learned for digest in held),
        "unique": round(len(set(rows.digest)) / max(1, len(rows.digest)), 6),
        "files": sum(len(splits) > 1 for splits in splits_of["files"].values()),
        "groups": sum(len(splits) > 1 for splits in splits_of["groups"].values()),
        "run_tokens": RUN,
        "runs": rounded(overlap(parts, lambda part: part.split, changes=True)),
        "without_changes": rounded(overlap(parts, lambda part: part.split, changes=False)),
        "floor": rounded(over(floors, statistics.fmean)),
        "floor_deviation": rounded(over(floors, statistics.pstdev)),
        "seeds": seeds,
        "by_row": rounded(by_row(rows, runs, wanted, 0)),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def over(draws: list[dict[str, dict[str, float]]], summary) -> dict[str, dict[str, float]]:
    """One figure for each share that several draws have."""
    return {kind: {split: summary(draw[kind][split] for draw in draws) for split in HELD} for kind in draws[0]}


def rounded(shares: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Shares with as many digits as mean something."""
    return {kind: {split: round(value, 4) for split, value in of_kind.items()} for kind, of_kind in shares.items()}


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
    names = {
        "runs": "this split",
        "without_changes": "and no change learned from",
        "floor": "and files at random (floor)",
        "by_row": "rows at random",
    }
    for kind in figures["runs"]:
        for key, name in names.items():
            cells = []
            for split in HELD:
                deviation = f" ± {figures['floor_deviation'][kind][split]:.1%}" if key == "floor" else ""
                cells.append(f"{figures[key][kind][split]:.1%}{deviation}".rjust(14))
            lines.append(f"    {kind + ', ' + name:<44}  {' '.join(cells)}")
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
