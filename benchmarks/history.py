"""What does reading a history cost, and is the line diff a good one?

    python benchmarks/history.py read REPOSITORY... [--changes N]
    python benchmarks/history.py diff REPOSITORY [--pairs N] [--difflib]

`read` reads the history of each repository with all processors, and prints the seconds, the processor seconds of all
processes, the peak memory and the counts. `diff` compares real changes: touched lines and processor seconds of ours,
of difflib where asked (it takes minutes), and touched lines of git's four algorithms. Every line is a JSON object.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from git_starcoder.build_state import BuildState
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.changes import select_changes
from git_starcoder.git.objects import Repo
from git_starcoder.recipe import ReadOptions
from git_starcoder.stages import read
from git_starcoder.text.diff import diff_lines
from git_starcoder.text.encoding import DecodedText, decode_file

GIT = ("myers", "minimal", "histogram", "patience")


def _processor() -> float:
    return sum(
        use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def read_history(repository: str, changes: int) -> dict[str, object]:
    """Read the files and the history of a repository once."""
    begun, used = time.perf_counter(), _processor()
    repo = Repo.open(repository)
    with tempfile.TemporaryDirectory() as folder, LocalEngine() as engine, BuildState(Path(folder), 0, engine) as run:
        read.read_repository(run, ReadOptions(changes=changes), repo)
    step = run.steps[0]
    return {
        "repository": repo.name,
        "seconds": round(time.perf_counter() - begun, 2),
        "processor_seconds": round(_processor() - used, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_mb_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        **step.figures,
        "dropped": dict(step.dropped.most_common()),
    }


def compare(repository: str, pairs: int, *, slow: bool) -> list[dict[str, object]]:
    """Compare texts of a sample of real changes in several ways."""
    repo = Repo.open(repository)
    found = [change for change in select_changes(repo, 20_000, 100, lambda _: "").selected if change.blob_before]
    sample = random.Random(0).sample(found, min(pairs, len(found)))
    sizes = repo.blob_sizes(blob for change in sample for blob in (change.blob_before, change.blob_after))
    texts = {
        blob: text.utf8.splitlines(keepends=True)
        for blob, data in repo.read_blobs(blob for blob, size in sizes.items() if size <= 1 << 20)
        if isinstance(data, bytes) and isinstance(text := decode_file(data, max_line=1 << 16, mean_line=500), DecodedText)
        and "crlf" not in text.changed
    }  # fmt: skip
    ours: dict[tuple[str, str], int] = {}
    begun = time.process_time()
    for change in sample:
        old, new = texts.get(change.blob_before), texts.get(change.blob_after)
        if old and new and (ranges := diff_lines(old, new)) is not None:
            touched = sum(one.stop - one.start + one.to_stop - one.to_start for one in ranges)
            ours[change.blob_before, change.blob_after] = touched
    lines = [_line("ours", sum(ours.values()), time.process_time() - begun, len(ours), 0)]
    if slow:
        begun = time.process_time()
        touched = [_difflib(texts[before], texts[after]) for before, after in ours]
        worse = sum(one < other for one, other in zip(touched, ours.values(), strict=True))
        lines.append(_line("difflib", sum(touched), time.process_time() - begun, len(ours), worse))
    for how in GIT:
        touched = [_git(repository, how, before, after) for before, after in ours]
        worse = sum(one < other for one, other in zip(touched, ours.values(), strict=True))
        lines.append(_line(f"git {how}", sum(touched), None, len(ours), worse))
    return lines


def _line(how: str, touched: int, seconds: float | None, pairs: int, fewer: int) -> dict[str, object]:
    spent = None if seconds is None else round(seconds, 3)
    return {"diff": how, "pairs": pairs, "touched_lines": touched, "processor_seconds": spent, "fewer_than_ours": fewer}


def _difflib(old: list[bytes], new: list[bytes]) -> int:
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return sum(stop - start + to_stop - to_start for tag, start, stop, to_start, to_stop in codes if tag != "equal")


def _git(repository: str, how: str, before: str, after: str) -> int:
    command = ["git", "-C", repository, "diff", "--numstat", "--text", f"--diff-algorithm={how}", before, after]
    numbers = subprocess.run(command, capture_output=True, check=True).stdout.split()
    return int(numbers[0]) + int(numbers[1]) if numbers else 0


def main() -> None:
    """Print a JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reading = verbs.add_parser("read")
    reading.add_argument("repositories", nargs="+")
    reading.add_argument("--changes", type=int, default=20_000)
    comparing = verbs.add_parser("diff")
    comparing.add_argument("repository")
    comparing.add_argument("--pairs", type=int, default=300)
    comparing.add_argument("--difflib", action="store_true")
    options = parser.parse_args()
    if options.verb == "read":
        for repository in options.repositories:
            print(json.dumps(read_history(repository, options.changes)), flush=True)
    else:
        for line in compare(options.repository, options.pairs, slow=options.difflib):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
