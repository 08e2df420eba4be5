"""Does a build cost in proportion to the repository? Repositories 1, 4 and 16 times the size of a given one.

    python benchmarks/cost.py REPO [--recipe effectiveness] [--plot docs/cost.svg]
    python benchmarks/cost.py REPO --recipe elite --history [--plot docs/cost-elite.svg]

A copy has every longer word changed in its own way, so its files are new blobs that still parse and are no near-
duplicates of the others. With `--history` every commit is copied as well: so many histories side by side, each below a
folder of its own, and a last commit that merges them. Then REPO must have all its blobs, and the recipe reads every
change, so that its budget does not hide what history costs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import measure

from git_starcoder.dataset import Dataset
from git_starcoder.git.objects import Repo, Unreadable

MOST_CHANGES = 1_000_000
WORD = re.compile(rb"\b[a-z][a-z0-9_]{5,}\b")
KEYWORDS = frozenset(
    b"abstract assert boolean break catch const continue crate default double dynamic elseif export extends extern finally"
    b" friend function global implements import include inline instanceof interface lambda module mutable namespace native"
    b" nonlocal object operator override package private protected public register require return signed sizeof static"
    b" struct super switch template typedef typename typeof undefined union unsafe unsigned virtual volatile".split()
)


def changed(data: bytes, copy: int) -> bytes:
    """The text with its longer words changed for this copy."""
    if copy == 0 or b"\0" in data[:8000]:
        return data + b"\0" * copy if copy else data
    suffix = b"_%d" % copy
    return WORD.sub(lambda match: match[0] if match[0] in KEYWORDS else match[0][:-1] + suffix, data)


def multiply(repo: Path, times: int, out: Path) -> int:
    """A bare repository with so many changed copies of the files in one commit; the bytes of its distinct blobs."""
    opened = Repo.open(repo)
    entries = [
        e for e in opened.entries() if e.size is not None and e.size < 1 << 20 and e.mode in {0o100644, 0o100755}
    ]
    blobs = {
        oid: data
        for oid, data in opened.read_blobs({entry.blob for entry in entries})
        if not isinstance(data, Unreadable)
    }
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(out)], check=True)
    stream = subprocess.Popen(["git", "--git-dir", str(out), "fast-import", "--quiet"], stdin=subprocess.PIPE)
    assert stream.stdin is not None
    stream.stdin.write(b"commit refs/heads/main\ncommitter a <a@example.org> 1700000000 +0000\ndata 4\ncopy\n")
    total = 0
    for copy in range(times):
        for entry in entries:
            if entry.blob not in blobs or any(ord(letter) < 32 or letter == '"' for letter in entry.path):
                continue
            data = changed(blobs[entry.blob], copy)
            total += len(data)
            path = f"copy{copy}/{entry.path}".encode("utf-8", "surrogateescape")
            stream.stdin.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path, len(data), data))
    stream.stdin.close()
    if stream.wait():
        raise RuntimeError("git fast-import failed")
    return total


def multiply_history(repo: Path, times: int, out: Path) -> int:
    """A bare repository with so many changed copies of the whole history; the bytes of their distinct blobs."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(out)], check=True)
    total = 0
    for copy in range(times):
        export = subprocess.Popen(
            ["git", "--git-dir", str(repo), "fast-export", "--signed-tags=strip", "HEAD"], stdout=subprocess.PIPE
        )
        stream = subprocess.Popen(["git", "--git-dir", str(out), "fast-import", "--quiet"], stdin=subprocess.PIPE)
        assert export.stdout is not None
        assert stream.stdin is not None
        total += _exported(export.stdout, stream.stdin, copy)
        stream.stdin.close()
        if export.wait() or stream.wait():
            raise RuntimeError("git fast-export or fast-import failed")
    git = ["git", "--git-dir", str(out)]
    merge = b"commit refs/heads/main\ncommitter a <a@example.org> 1700000000 +0000\ndata 5\nmerge"
    trees = []
    for copy in range(times):
        merge += b"\n%s refs/heads/copy%d^0" % (b"merge" if copy else b"from", copy)
        tree = subprocess.run([*git, "rev-parse", f"copy{copy}:copy{copy}"], check=True, capture_output=True).stdout
        trees.append(b"M 040000 %s copy%d\n" % (tree.strip(), copy))
    subprocess.run([*git, "fast-import", "--quiet"], input=merge + b"\n" + b"".join(trees), check=True)
    return total


def _exported(source: BinaryIO, sink: BinaryIO, copy: int) -> int:
    """Pass an export on, on a branch and below a folder of the copy's name; the bytes of its blobs."""
    total = 0
    blob = False
    for line in source:
        word, _, rest = line.partition(b" ")
        if word == b"data":
            data = source.read(int(rest))
            if blob:
                data = changed(data, copy)
                total += len(data)
            sink.write(b"data %d\n%s" % (len(data), data))
            continue
        blob = line == b"blob\n" or (blob and word == b"mark")
        if word in {b"commit", b"reset"}:
            line = b"%s refs/heads/copy%d\n" % (word, copy)
        elif word in {b"M", b"D"}:
            *fields, path = line.split(b" ", 1 if word == b"D" else 3)
            folder = b"copy%d/" % copy
            path = b'"' + folder + path[1:] if path.startswith(b'"') else folder + path
            line = b" ".join((*fields, path))
        sink.write(line)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--recipe", default="effectiveness")
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="starcoder-cost-"))
    points = []
    try:
        for times in arguments.times:
            make = multiply_history if arguments.history else multiply
            size = make(arguments.repo, times, folder / f"{times}.git")
            points.append({"question": "cost", "recipe": arguments.recipe, "history": arguments.history})
            points[-1] |= {"times": times, "megabytes": size / 1e6, "runs": []}
        for _ in range(arguments.runs):  # interleaved, because the machine's speed drifts
            for point in points:
                out = folder / "dataset"
                shutil.rmtree(out, ignore_errors=True)
                source = folder / f"{point['times']}.git"
                command = [sys.executable, "-m", "git_starcoder", "build", str(source), "-r", arguments.recipe]
                command += ["-o", str(out), "-q", "--no-cache"]
                if arguments.recipe == "effectiveness":
                    command += ["--set", "window.size=1024"]
                if arguments.history:
                    command += ["--set", f"read.changes={MOST_CHANGES}"]
                point["runs"].append(measure.run(command))
                if "peak_memory_gb" not in point:
                    shutil.rmtree(out)
                    point["peak_memory_gb"] = round(measure.memory(command), 2)
                point["sequences"] = Dataset.open(out).metadata["total_sequences"]
                point["changes"] = Dataset.open(out).metadata["git_diffs"]
    finally:
        shutil.rmtree(folder)
    for point in points:
        runs = point.pop("runs")
        point["seconds"] = round(statistics.median(runs), 2)
        point["spread"] = [round(f(runs), 2) for f in (min, max)]
        point["seconds_per_megabyte"] = round(point["seconds"] / point["megabytes"], 3)
        point["megabytes"] = round(point["megabytes"], 1)
        print(json.dumps({**point, "machine": measure.machine()}))
    if arguments.plot:
        draw(points, arguments.plot)


def draw(points: list[dict], path: Path) -> None:
    """Seconds and memory against the size, both from zero."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cost"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    sizes = [point["megabytes"] for point in points]
    for axis, key, label in (
        (axes[0], "seconds", "seconds"),
        (axes[1], "peak_memory_gb", "peak memory of all processes, GB"),
    ):
        values = [point[key] for point in points]
        axis.plot(sizes, values, "o-", label="measured")
        axis.plot(
            [0, sizes[-1]], [0, values[0] / sizes[0] * sizes[-1]], ":", color="gray", label="in proportion to the first"
        )
        axis.set(xlabel="MB of distinct blobs", ylabel=label, xlim=0, ylim=0)
        axis.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
