"""What does a dataset of many repositories cost, beside datasets of each one alone?

    python benchmarks/many.py LIST [--alone 20] [--jobs 2] [--add NAME] [--work FOLDER]

LIST is a list as `git starcoder build --list` takes it. Three things are measured:

- all repositories but one, from nothing: wall and processor seconds, and the peak memory of all processes. `own` is
  their memory without mapped files, which the kernel takes back when it needs the room;
- the same with the last one added (`--add`: another one), with the work folder of that build;
- some repositories alone, each from nothing (`--alone`: that many, spread over the sizes), and the same repositories as
  one dataset. Costs are compared by processor seconds per megabyte of files read, so others on the machine matter little.

A JSON line for each. The recipe is `natural` with a tokenizer that was learned before, which is not in the times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

from git_starcoder.dataset import Dataset

SAMPLE_SECONDS = 0.5


def own_memory(root: int) -> int:
    """Bytes of a process and all below it that are in no file."""
    own = 0
    waiting = [root]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            status = (process / "status").read_text()
            for thread in (process / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
        own += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
    return own


def build(listed: Path, out: Path, work: Path, options: list[str]) -> dict[str, float]:
    """Build a dataset with an empty cache; what it cost."""
    command = [sys.executable, "-m", "git_starcoder", "build", "--list", str(listed), "-o", str(out), "-q", *options]
    command += ["--work", str(work)]
    cache = out.with_name("cache")  # of this build alone
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["STARCODER_CACHE"] = str(cache)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    whole = own = 0.0
    while process.poll() is None:
        whole = max(whole, measure.tree_memory(process.pid) / 1e9)
        own = max(own, own_memory(process.pid) / 1e9)
        time.sleep(SAMPLE_SECONDS)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    read = next(step for step in Dataset.open(out).manifest["steps"] if step["step"] == "read")
    megabytes = read["figures"]["bytes"] / 1e6
    return {
        "seconds": round(seconds, 1), "processor_seconds": round(processor, 1), "memory_gb": round(whole, 2),
        "own_gb": round(own, 2), "megabytes": round(megabytes, 1), "processor_seconds_per_mb": round(processor / megabytes, 4),
        "rows": Dataset.open(out).metadata["total_sequences"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("--alone", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--add", help="name of the repository that is added")
    parser.add_argument("--work", type=Path, help="folder for all that is written")
    arguments = parser.parse_args()
    lines = [line for line in arguments.list.read_text().splitlines() if line.strip() and line[0] != "#"]
    lines = [
        "\t".join([str((arguments.list.parent / line.split("\t")[0]).absolute()), *line.split("\t")[1:]])
        for line in lines
    ]
    names = [line.split("\t")[2] for line in lines]
    added = names.index(arguments.add) if arguments.add else len(lines) - 1
    folder = Path(tempfile.mkdtemp(prefix="starcoder-bench-", dir=arguments.work))

    def write_list(name: str, chosen: list[str]) -> Path:
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{line}\n" for line in chosen))
        return path

    print(json.dumps({"machine": measure.machine(), "repositories": len(lines), "added": names[added]}), flush=True)
    few = lines[:: max(1, len(lines) // 8)][:8]
    build(write_list("tokenizer", few), folder / "tokenizer", folder / "tokenizer_work", [])
    options = ["-j", str(arguments.jobs), "--set", f"window.tokenizer={folder / 'tokenizer/tokenizer'}"]
    rest = lines[:added] + lines[added + 1 :]
    work = folder / "work"
    for name, chosen in (("all but one", rest), ("one more", lines)):
        cost = build(write_list(name.replace(" ", "_"), chosen), folder / name.replace(" ", "_"), work, options)
        print(json.dumps({"what": name, "repositories": len(chosen), **cost}), flush=True)
    kept = (folder / "one_more/repositories.jsonl").read_text().splitlines()
    sizes = {each["repository"]: each["tokens"] for each in map(json.loads, kept) if each["result"] == "kept"}
    by_size = sorted(
        (line for line in lines if line.split("\t")[2] in sizes), key=lambda line: sizes[line.split("\t")[2]]
    )
    sample = by_size[:: max(1, len(by_size) // arguments.alone)]
    costs: list[dict[str, float]] = []
    for number, line in enumerate(sample):
        out = folder / f"alone_{number}"
        costs.append(build(write_list(out.name, [line]), out, folder / f"{out.name}_work", options))
        shutil.rmtree(folder / f"{out.name}_work")
    megabytes, processor = (sum(cost[key] for cost in costs) for key in ("megabytes", "processor_seconds"))
    alone = {
        "megabytes": round(megabytes, 1),
        "processor_seconds": round(processor, 1),
        "processor_seconds_per_mb": round(processor / megabytes, 4),
    }
    print(json.dumps({"what": "each alone", "repositories": len(sample), **alone}), flush=True)
    together = build(write_list("together", sample), folder / "together", folder / "together_work", options)
    print(json.dumps({"what": "the same together", "repositories": len(sample), **together}), flush=True)
    print(
        json.dumps({"what": "cost together / alone", "ratio": round(together["processor_seconds"] / processor, 3)}),
        flush=True,
    )


if __name__ == "__main__":
    main()
