"""How long does a build take, how much memory, and how near is that to what the hardware could do?

    python benchmarks/build.py REPO [--recipe effectiveness] [--runs 5]

The floor is measured in turn with the builds, in the same run: read every blob with one `git cat-file`, parse every
source file once in as many processes, encode every text once, and write and flush as many bytes as the dataset has.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure

from git_starcoder.dataset import Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo, Unreadable
from git_starcoder.parse.language import detect_language
from git_starcoder.text import tokenizer as tokenizers


def floor(repo: Path, dataset: Dataset, folder: Path) -> dict[str, float]:
    """Seconds of each part that no build can do without."""
    seconds: dict[str, float] = {}
    with LocalEngine() as engine:
        list(engine.map(measure.parsed, [(b"", "text")] * engine.jobs, limit=60))  # started and imported
        clock = time.perf_counter()
        opened = Repo.open(repo)
        entries = {entry.blob: entry for entry in opened.entries() if (entry.size or 2**40) < 2**20}
        blobs = {oid: data for oid, data in opened.read_blobs(entries) if not isinstance(data, Unreadable)}
        seconds["read"] = time.perf_counter() - clock
        tasks = [(data, detect_language(entries[oid].path)) for oid, data in blobs.items()]
        clock = time.perf_counter()
        code = [task for task in tasks if task[1] != "text"]
        if not all(answer in (True, False) for answer in engine.map(measure.parsed, code, limit=60)):
            raise RuntimeError("a parse failed")
        seconds["parse"] = time.perf_counter() - clock
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    texts = [data for data in blobs.values() if b"\0" not in data[:8000]]
    clock = time.perf_counter()
    tokenizer.encode(texts)
    seconds["encode"] = time.perf_counter() - clock
    size = sum(file["bytes"] for file in dataset.manifest["files"].values())
    chunk = os.urandom(1 << 20)
    clock = time.perf_counter()
    with (folder / "floor").open("wb") as file:
        for _ in range(size >> 20):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    seconds["write"] = time.perf_counter() - clock
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--recipe", default="effectiveness")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="starcoder-bench-"))
    out = folder / "dataset"
    command = [
        sys.executable,
        "-m",
        "git_starcoder",
        "build",
        str(arguments.repo),
        "-r",
        arguments.recipe,
        "-o",
        str(out),
    ]
    command += ["-j", str(arguments.jobs), "-q", "--no-cache", "--set", "window.size=1024"]
    builds, floors = [], []
    try:
        for _ in range(arguments.runs):
            shutil.rmtree(out, ignore_errors=True)
            builds.append(measure.run(command))
            floors.append(floor(arguments.repo, Dataset.open(out), folder))
        shutil.rmtree(out)
        memory = measure.memory(command)
        metadata = Dataset.open(out).metadata
        total = sum(file["bytes"] for file in Dataset.open(out).manifest["files"].values())
    finally:
        shutil.rmtree(folder)
    seconds = sorted(builds)
    least = sorted(sum(parts.values()) for parts in floors)
    print(json.dumps({
        "question": "build", "repo": arguments.repo.resolve().parent.name, "recipe": arguments.recipe, "machine": measure.machine(),
        "runs": arguments.runs, "jobs": arguments.jobs, "sequences": metadata["total_sequences"], "megabytes": round(total / 1e6, 1),
        "seconds": [round(seconds[0], 2), round(statistics.median(seconds), 2), round(seconds[-1], 2)],
        "floor_seconds": [round(least[0], 2), round(statistics.median(least), 2), round(least[-1], 2)],
        "floor_parts": {key: round(statistics.median(parts[key] for parts in floors), 2) for key in floors[0]},
        "ratio": round(statistics.median(build / sum(f.values()) for build, f in zip(builds, floors, strict=True)), 2),
        "peak_memory_gb": round(memory, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
