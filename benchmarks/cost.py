"""Does a build cost in proportion to the repository? Repositories 1, 4 and 16 times the size of a given one.

    python benchmarks/cost.py REPO [--plot docs/cost.svg]

A copy has every longer word changed in its own way, so its files are new blobs that still parse and are no near-
duplicates of the others.
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

import measure

from git_starcoder.dataset import Dataset
from git_starcoder.git.objects import Fault, Repo

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
    blobs = {oid: data for oid, data in opened.read({entry.blob for entry in entries}) if not isinstance(data, Fault)}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="starcoder-cost-"))
    points = []
    try:
        for times in arguments.times:
            size = multiply(arguments.repo, times, folder / f"{times}.git")
            points.append({"question": "cost", "times": times, "megabytes": size / 1e6, "runs": []})
        for _ in range(arguments.runs):  # interleaved, because the machine's speed drifts
            for point in points:
                out = folder / "dataset"
                shutil.rmtree(out, ignore_errors=True)
                source = folder / f"{point['times']}.git"
                command = [
                    sys.executable,
                    "-m",
                    "git_starcoder",
                    "build",
                    str(source),
                    "-r",
                    "effectiveness",
                    "-o",
                    str(out),
                ]
                point["runs"].append(measure.run([*command, "-q", "--set", "window.size=1024"], sample=0.2))
                point["sequences"] = Dataset.open(out).metadata["total_sequences"]
    finally:
        shutil.rmtree(folder)
    for point in points:
        runs = point.pop("runs")
        point["seconds"] = round(statistics.median(run["seconds"] for run in runs), 2)
        point["spread"] = [round(f(run["seconds"] for run in runs), 2) for f in (min, max)]
        point["seconds_per_megabyte"] = round(point["seconds"] / point["megabytes"], 3)
        point["peak_pss_gb"] = round(max(run["pss_gb"] for run in runs), 2)
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
        (axes[1], "peak_pss_gb", "peak memory of all processes, GB"),
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
