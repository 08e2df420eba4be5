"""How much of the held-out code does history put into training?

    python benchmarks/leak_lines.py DATASET REPOSITORY [DATASET REPOSITORY]... [--seeds 20] [--words] [--table]

Reads the rows and the tokenizer of a dataset, and with plain git the blobs of the repository that it was made from; it
knows nothing of how the rows were made. A line counts that has 20 bytes or more without the space around, each
different one once. With `--words` lines are compared by their words alone, without signs, escapes, HTML tags and numbers
in front: so a line is known that stands in training as a comment, in a patch or as a string. One JSON line per dataset; shares are of the lines of held-out files of code at the commit that was
read (`all_files`: of code or not) that also stand in

- `files`: the training files (A), the floor that honest reuse of code gives;
- `ours`: the training files, or any training row, its context included (C2); `points` is how much more that is;
- `commits`: the training files, or what 85 % of all commits wrote or took away (B), as in a dataset that deals commits
  to the splits at random;
- `random_files`: the other files, where 15 % of the files are held out at random: what A is by chance.

`beyond` says which kinds of training rows, and which part of them, have lines that the training files have not. `rows`
says of how many held-out rows that have three lines or more nearly all (nine tenths) of what is to be learned stands in
training rows, and in those of them that no change made: code that was moved or copied, which a model may know by heart.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")
WRAPPING = re.compile(rb"\\[nrt]|<[^<>]*>|&[a-z#0-9]{2,6};")
HELD = ("val", "test")
LEAST = 20
FEW = 3
MOST = 0.9
COMMITS = 0.85
FILES = 0.15
HISTORY = ("git_diff", "temporal_context")
NONE = "0" * 40


@dataclass
class Lines:
    """A number for each line that is asked for."""

    words: bool = False
    """Whether lines are compared by their words."""
    number: dict[bytes, int] = field(default_factory=dict)

    def add(self, text: bytes) -> np.ndarray:
        """The numbers of the lines of a text, each once; new ones get the next."""
        return np.array(
            sorted({self.number.setdefault(line, len(self.number)) for line in self.telling(text)}), np.int64
        )

    def find(self, text: bytes) -> np.ndarray:
        """The numbers of those that are asked for."""
        known = self.number
        return np.array(sorted({known[line] for line in self.telling(text) if line in known}), np.int64)

    def telling(self, text: bytes) -> list[bytes]:
        """The lines of a text that are long enough to be told from others."""
        lines = [line for line in map(bytes.strip, text.split(b"\n")) if len(line) >= LEAST]
        return [words_of(line) for line in lines] if self.words else lines


def words_of(line: bytes) -> bytes:
    """The words of a line: `12: <b>if</b> (a &lt; b)\\n",` → `if a b`."""
    words = WORD.findall(WRAPPING.sub(b" ", line))
    while words and words[0].isdigit():
        del words[0]
    return b" ".join(words)


class Spelling:
    """The bytes of tokens. Control tokens end a line."""

    def __init__(self, folder: Path) -> None:
        said = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if (said.get("decoder") or {}).get("type") != "ByteLevel":
            raise SystemExit(f"error: the tokenizer of {folder.parent} is not byte-level")
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that GPT-2's alphabet leaves as they are
        alphabet = {chr(byte): byte for byte in plain}
        alphabet |= {chr(256 + at): byte for at, byte in enumerate(sorted(set(range(256)) - set(plain)))}
        self.table = {at: bytes(map(alphabet.get, token)) for token, at in said["model"]["vocab"].items()
                      if all(sign in alphabet for sign in token)}  # fmt: skip
        self.table |= {token["id"]: b"\n" for token in said["added_tokens"]}

    def text(self, tokens: list[int]) -> bytes:
        """The text of tokens."""
        return b"".join(map(self.table.__getitem__, tokens))


def rows_of(folder: Path, split: str):
    """The kind of each row of a split, its tokens that do not count for the loss, those that do, and its metadata."""
    with (folder / f"training_data_{split}.jsonl").open("rb") as lines:
        for line in lines:
            row = json.loads(line)
            about = row["metadata"]
            tokens, stop = row["tokens"], about["length"]
            hole = about.get("hole")
            start = stop - (hole[1] - hole[0]) - 1 if hole else about.get("context", 0)
            yield about["augmentation_type"], tokens[:start], tokens[start:stop], about


def git(repository: str, *arguments: str, asked=subprocess.DEVNULL) -> subprocess.Popen:
    """Git on a repository, never over a network: in a partial clone what is missing stays so."""
    command = ["git", "-C", repository, "-c", "protocol.allow=never", "-c", "core.fsmonitor=false", *arguments]
    return subprocess.Popen(command, stdin=asked, stdout=subprocess.PIPE)


def blobs_of(repository: str, names: list[str]):
    """The name and content of each of some blobs that is there."""
    with tempfile.TemporaryFile() as asked:
        asked.write("".join(f"{name}\n" for name in names).encode())
        asked.seek(0)
        with git(repository, "cat-file", "--batch", "--buffer", asked=asked) as process:
            while header := process.stdout.readline().split():
                if header[1] != b"missing":
                    yield header[0].decode(), process.stdout.read(int(header[2]) + 1)[:-1]
    ended(process, repository)


def commits_of(repository: str, commit: str) -> list[list[tuple[str, str]]]:
    """The blobs before and after of each file of each commit that is no merge."""
    options = ("--raw", "--no-renames", "--no-abbrev", "--no-merges", "--root", "--format=tformat:commit")
    commits: list[list[tuple[str, str]]] = []
    with git(repository, "log", *options, "--end-of-options", commit) as process:
        for line in process.stdout:
            if line == b"commit\n":
                commits.append([])
            elif line.startswith(b":") and b"160000" not in line[1:14].split():  # a submodule has no blob
                old, new = line[15:96].decode().split()
                commits[-1].append((old, new))
    ended(process, repository)
    return commits


def ended(process: subprocess.Popen, repository: str) -> None:
    """Give up where git did."""
    if process.returncode:
        raise SystemExit(f"error: git cannot read {repository}")


def share(held: np.ndarray, there: np.ndarray) -> float:
    """The share of held-out lines that are there."""
    return float(np.count_nonzero(held & there) / max(1, np.count_nonzero(held)))


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": round(statistics.fmean(values), 4), "deviation": round(statistics.pstdev(values), 4)}


def judge(folder: Path, repository: str, seeds: int, words: bool = False) -> dict:
    """All figures of one dataset."""
    begun = time.perf_counter()
    lines, spelling = Lines(words), Spelling(folder / "tokenizer")
    commit = json.loads((folder / "manifest.json").read_bytes())["commit"]
    held_rows: list[tuple[str, np.ndarray]] = []
    files: dict[str, tuple[str, str, bool]] = {}

    def know(split: str, about: dict) -> None:
        if "is_evolution" not in about:
            files[about["source_file"]] = (split, about["blob"], about["language"] != "text")

    for split in HELD:
        for kind, _, learned, about in rows_of(folder, split):
            know(split, about)
            held_rows.append((kind, lines.add(spelling.text(learned))))
    # The files to learn from are known once their rows are read; the lines of all files must be known before.
    for _, _, _, about in rows_of(folder, "train"):
        know("train", about)
    of_blob = {name: lines.add(data) for name, data in blobs_of(repository, sorted({one[1] for one in files.values()}))}
    seen: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(len(lines.number), dtype=bool))
    for kind, head, learned, _ in rows_of(folder, "train"):
        seen[kind, "learned"][lines.find(spelling.text(learned))] = True
        if head:
            seen[kind, "context"][lines.find(spelling.text(head))] = True

    def marked(parts) -> np.ndarray:
        mask = np.zeros(len(lines.number), dtype=bool)
        for part in parts:
            mask[part] = True
        return mask

    there = [(split, of_blob[blob], is_code) for split, blob, is_code in files.values() if blob in of_blob]
    held = marked(part for split, part, is_code in there if split != "train" and is_code)
    held_all = marked(part for split, part, _ in there if split != "train")
    files_only = marked(part for split, part, _ in there if split == "train")
    plain = files_only | np.any([mask for (kind, _), mask in seen.items() if kind not in HISTORY], axis=0)
    ours = files_only | np.any(list(seen.values()), axis=0)

    history = commits_of(repository, commit)
    names = sorted({name for one in history for pair in one for name in pair} - {NONE})
    versions = {name: lines.find(data) for name, data in blobs_of(repository, names)}
    nothing = np.empty(0, np.int64)
    written = [
        marked(np.setxor1d(versions.get(old, nothing), versions.get(new, nothing), assume_unique=True)
               for old, new in one if {old, new} <= {NONE, *versions}).nonzero()[0]
        for one in history
    ]  # fmt: skip
    chances = [random.Random(seed) for seed in range(seeds)]
    by_commits = [
        share(held, files_only | marked(chance.sample(written, round(COMMITS * len(written))))) for chance in chances
    ]
    by_files = []
    for chance in chances:
        shuffled = chance.sample(there, len(there))
        count = round(FILES * len(there))
        out = marked(part for _, part, is_code in shuffled[:count] if is_code)
        by_files.append(share(out, marked(part for _, part, _ in shuffled[count:])))

    told = {}
    for kind in sorted({kind for kind, _ in held_rows}):
        asked = [part for one, part in held_rows if one == kind and len(part) >= FEW]
        told[kind] = {"rows": len(asked)} | {
            name: round(float(np.mean([mask[part].mean() >= MOST for part in asked])), 4) if asked else 0.0
            for name, mask in (("known", ours), ("known_without_changes", plain))
        }
    return {
        "dataset": folder.resolve().name,
        "words": words,
        "files": len(files),
        "commits_walked": len(history),
        "held_out_lines": int(held.sum()),
        "files_only": round(share(held, files_only), 4),
        "ours": round(share(held, ours), 4),
        "points": round(100 * (share(held, ours) - share(held, files_only)), 2),
        "commits": spread(by_commits),
        "random_files": spread(by_files),
        "all_files": {
            "held_out_lines": int(held_all.sum()),
            "files_only": round(share(held_all, files_only), 4),
            "ours": round(share(held_all, ours), 4),
        },
        "beyond": {
            f"{kind} {part}": int(np.count_nonzero(held_all & ~files_only & mask))
            for (kind, part), mask in sorted(seen.items())
        },
        "rows": told,
        "seeds": seeds,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def table(figures: dict) -> str:
    """The figures of one dataset for a person."""

    def spread_of(name: str) -> str:
        return f"{figures[name]['mean']:.1%} ± {figures[name]['deviation']:.1%}"

    return "\n".join(
        [
            f"{figures['dataset']}: of {figures['held_out_lines']} held-out lines of code there stand in",
            f"  training files (A)                                {figures['files_only']:.1%}",
            f"  training files and rows (C2)                      {figures['ours']:.1%} ({figures['points']:+.2f} points)",
            f"  training files and 85 % of commits (B)            {spread_of('commits')}",
            f"  other files, files held out at random             {spread_of('random_files')}",
            "  held-out rows of which nearly all stands in training (in rows that no change made)",
            *(
                f"    {kind:<20} {one['known']:>7.1%} ({one['known_without_changes']:.1%}) of {one['rows']}"
                for kind, one in figures["rows"].items()
            ),
        ]
    )


def main() -> None:
    """Judge the datasets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", nargs="+", metavar="DATASET REPOSITORY")
    parser.add_argument("--seeds", type=int, default=20, help="random draws for B and for files (default: 20)")
    parser.add_argument("--words", action="store_true", help="compare the words of lines, not their bytes")
    parser.add_argument("--table", action="store_true", help="also print a readable table")
    arguments = parser.parse_args()
    if len(arguments.pair) % 2:
        parser.error("each dataset needs its repository")
    for folder, repository in zip(arguments.pair[::2], arguments.pair[1::2], strict=True):
        figures = judge(Path(folder), repository, max(1, arguments.seeds), arguments.words)
        print(json.dumps(figures), flush=True)
        if arguments.table:
            print(table(figures), flush=True)


if __name__ == "__main__":
    main()
