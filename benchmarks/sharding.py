"""Do several processes, with whole or divided weights, train as one does, and how much memory does each need?

    python benchmarks/sharding.py DATASET [--size small] [--steps 50] [--batch 2048] [--optimizer adamw] [--processes 2 4]

Trains the same model with one process, with 2 and 4 that have all weights (`shard: false`), with 2 and 4 that divide
them (`shard: true`), and with numbers of processes that change at half of the steps. The processes are connected by
gloo on this machine's CPU. Prints a line of JSON for each training, and a table. The differences of the losses are to
those of one process, in nats per token: the largest over all steps. Memory is the largest that any process had, in MiB:
before the first step, when the model was built; and from the first to the last step.

Exits with 1 if a plan or ledger differs, or a loss by more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import measure

ALLOWED = 1e-5
"""Nats per token by which a loss may differ."""
MIB = 1 << 20


class Part(NamedTuple):
    """A part of a training: it ends after the checkpoint of a step, or when the training ends."""

    processes: int
    is_sharded: bool
    end: int | None = None


def peak_memory() -> int:
    """The most bytes that this process had in memory since `forget_peak`."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def forget_peak() -> None:
    """Let `peak_memory` begin again."""
    Path("/proc/self/clear_refs").write_text("5")


def work(dataset: str, out: str, values: dict[str, Any], end: int | None, peaks: Path) -> None:
    """Be one process of a training, and write the peaks of its memory into a folder."""
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.loop import TrainingLoop
    from git_starcoder.model.training import train

    run, save = TrainingLoop.run, TrainingLoop._save_checkpoint  # noqa: SLF001

    def watched_run(loop: TrainingLoop, **options: bool) -> None:
        before = peak_memory()
        forget_peak()
        run(loop, **options)
        write_peaks(before)

    def write_peaks(before: int) -> None:
        path = peaks / f"{os.environ.get('RANK', '0')}.json"
        path.write_text(json.dumps({"building": before, "training": peak_memory()}))

    def save_and_end(loop: TrainingLoop) -> None:
        if end is None:
            save(loop)
        elif loop.state.step == end:
            save(loop)
            os._exit(0)

    TrainingLoop.run, TrainingLoop._save_checkpoint = watched_run, save_and_end  # noqa: SLF001
    train(Dataset.open(Path(dataset)), out, TrainConfig(**values))


def train_in_parts(dataset: Path, out: Path, values: dict[str, Any], parts: list[Part]) -> dict[str, Any]:
    """Train with other processes in each part; memory and time are those of the last part.

    Raises:
        RuntimeError: A process failed.
    """
    peaks = out.with_name(out.name + "-peaks")
    seconds = 0.0
    for part in parts:
        peaks.mkdir(exist_ok=True)
        told = {**values, "shard": part.is_sharded, "checkpoint_minutes": 1e9 if part.end is None else 1e-9}
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(part.processes)]
        command = [sys.executable, *(launcher if part.processes > 1 else []), __file__, str(dataset), "--work"]
        begun = time.perf_counter()
        work_of_one = json.dumps([str(dataset), str(out), told, part.end, str(peaks)])
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, work_of_one], capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(f"{part} ended with {done.returncode}: {done.stderr[-2000:]}")
    found = [json.loads(path.read_text()) for path in peaks.iterdir()]
    record = json.loads((out / "training.json").read_text())
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {
        "run": ", then ".join(f"{part.processes}{' sharded' * part.is_sharded}" for part in parts),
        "plan": record["plan"],
        "ledger": {**record["ledger"], **dict.fromkeys(("pieces", "laid", "padded"))},  # which follow the processes
        "losses": [line["loss"] * math.log(2) for line in lines if "loss" in line],
        **{key: round(max(each[key] for each in found) / MIB) for key in ("building", "training")},
        "seconds": round(seconds, 1),
    }


def compare(found: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """What differs between a training and the one with one process."""
    pairs = zip(found.pop("losses"), one["losses"], strict=True)
    found["difference"] = max(abs(loss - expected) for loss, expected in pairs)
    found["same plan and ledger"] = all(found.pop(key) == one[key] for key in ("plan", "ledger"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--size", default="small")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        *told, peaks = json.loads(arguments.work)
        work(*told, Path(peaks))
        return 0
    values = {
        "size": arguments.size, "steps": arguments.steps, "batch": arguments.batch, "optimizer": arguments.optimizer,
        "learning_rate": arguments.learning_rate, "device": "cpu", "precision": "float32",
    }  # fmt: skip
    counts, half = arguments.processes, arguments.steps // 2
    changes = [(1, counts[0]), (counts[0], 1), *([(counts[0], counts[-1])] if len(counts) > 1 else [])]
    trainings = [[Part(1, is_sharded=False)]]
    trainings += [[Part(count, is_sharded)] for is_sharded in (False, True) for count in counts]
    trainings += [[Part(first, first > 1, half), Part(second, second > 1)] for first, second in changes]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="starcoder-sharding-") as folder:
        for number, parts in enumerate(trainings):
            result = train_in_parts(arguments.dataset, Path(folder) / f"model{number}", values, parts)
            one = dict(result) if number == 0 else one  # noqa: F821 - of the first round
            results.append(compare(result, one))
            print(json.dumps(result), flush=True)
    print(f"\n{measure.machine()}; {values}\n")
    print("| processes | largest difference | same plan and ledger | building, MiB | training, MiB | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for result in results:
        same = "yes" if result["same plan and ledger"] else "NO"
        shown = f"{result['difference']:.1e} | {same} | {result['building']:,} | {result['training']:,}"
        print(f"| {result['run']} | {shown} | {result['seconds']} |")
    return int(any(each["difference"] > ALLOWED or not each["same plan and ledger"] for each in results))


if __name__ == "__main__":
    sys.exit(main())
