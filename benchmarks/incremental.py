"""How long does a build take after a commit, and does it give the bytes of a build from nothing?

    python benchmarks/incremental.py REPO [--recipe elite] [--runs 5] [--before HEAD~1] [--after HEAD]

Each run builds `after` from nothing (no cache), then `before` with an empty cache (not measured), then `after` with that
cache. The floor (see build.py) is measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import build
import measure

from git_starcoder.dataset import Dataset

STEP = re.compile(r"^(\w+) .* ([\d.]+) s$", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--recipe", default="elite")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", default="HEAD~1")
    parser.add_argument("--after", default="HEAD")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="starcoder-bench-"))
    out, log = folder / "dataset", folder / "log"

    def build_of(rev: str, *more: str) -> list[str]:
        command = [sys.executable, "-m", "git_starcoder", "build", str(arguments.repo), "-r", arguments.recipe]
        command += ["--rev", rev, "-o", str(out), "--force", *more]
        return ["sh", "-c", f"exec {shlex.join(command)} 2> {shlex.quote(str(log))}"]

    def run(rev: str, *more: str) -> dict[str, float]:
        seconds = measure.run(build_of(rev, *more))
        return {"seconds": seconds, **{f"step {name}": float(taken) for name, taken in STEP.findall(log.read_text())}}

    found: dict[str, list[dict[str, float]]] = {"from nothing": [], "after a commit": [], "floor": []}
    digests: set[str] = set()
    for _ in range(arguments.runs):
        os.environ["STARCODER_CACHE"] = str(folder / "cache")
        found["from nothing"].append(run(arguments.after, "--no-cache"))
        digests.add(Dataset.open(out).digest)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        run(arguments.before)
        found["after a commit"].append(run(arguments.after))
        digests.add(Dataset.open(out).digest)
        found["floor"].append(build.floor(arguments.repo, Dataset.open(out), folder))
    memory = {"from nothing": measure.memory(build_of(arguments.after, "--no-cache"))}
    shutil.rmtree(folder / "cache")
    run(arguments.before)
    memory["after a commit"] = measure.memory(build_of(arguments.after))
    metadata = Dataset.open(out).metadata
    size = sum(path.stat().st_size for path in out.glob("*.jsonl"))
    print(json.dumps({"machine": measure.machine(), "command": " ".join(sys.argv), "same_bytes": len(digests) == 1,
                      "rows": metadata["total_sequences"], "jsonl_bytes": size}))  # fmt: skip
    for what, runs in found.items():
        names = dict.fromkeys(name for one in runs for name in one)
        line = {
            name: [round(rank(one.get(name, 0.0) for one in runs), 2) for rank in (min, statistics.median, max)]
            for name in names
        }
        print(json.dumps({"what": what, **line, **({"memory_gb": round(memory[what], 2)} if what in memory else {})}))
    medians = {
        what: statistics.median(one.get("seconds", sum(one.values())) for one in runs) for what, runs in found.items()
    }
    print(json.dumps({
        "after a commit / from nothing": round(medians["after a commit"] / medians["from nothing"], 3),
        "from nothing / floor": round(medians["from nothing"] / medians["floor"], 1),
    }))  # fmt: skip
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
