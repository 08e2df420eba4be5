"""Does a training that is killed end where it would have? It is killed at random moments, then left to end.

    python benchmarks/kill_train.py DATASET [--kills 30] [--steps 120] [--size 1M]

Every second `kill -9` comes while a checkpoint is being written, as soon as a part of it is seen; the others come a
random time after the first one. After every tenth the newest checkpoint is damaged, too. In the end the weights are
compared with those of an undisturbed training, byte by byte, and the metrics line by line, but for the time. Prints a
line of JSON for each kill, and one for all of it.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import measure

FURTHEST = 4
"""Steps that a training makes before it is killed, about, at most."""


def trained(folder: Path) -> tuple[bytes, list[dict[str, float]]]:
    """Weights and metrics of a model."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    metrics = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return (folder / "model.safetensors").read_bytes(), metrics


def steps(folder: Path, pattern: str) -> list[int]:
    """Of the checkpoints in the folder of a training, newest first."""
    return sorted((int(path.name.split("-")[1].split(".")[0]) for path in folder.glob(pattern)), reverse=True)


def begun_writes(folder: Path) -> set[str]:
    """Checkpoints that are half written."""
    return {path.name for path in folder.glob(".step-*.partial") if ".old." not in path.name}


def damage(folder: Path, chance: random.Random) -> str:
    """Change a byte of the newest checkpoint."""
    found = steps(folder, "step-*")
    if not found:
        return ""
    path = chance.choice(sorted((folder / f"step-{found[0]}").iterdir()))
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content) - 1)] ^= 1 << chance.randrange(7)
    path.write_bytes(content)
    return f"step-{found[0]}/{path.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--size", default="1M")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="starcoder-kill-train-") as name:
        out, whole = Path(name) / "model", Path(name) / "whole"
        folder = out.with_name(".model.training")
        command = [sys.executable, "-m", "git_starcoder", "train", str(arguments.dataset), "--steps",
                   str(arguments.steps), "--size", arguments.size, "--device", "cpu", "-q"]  # fmt: skip
        for value in ("precision=float32", "batch=512", "ema=0.99", "dropout=0.1", "checkpoint_minutes=0.002"):
            command += ["--set", value]
        begun = time.monotonic()
        subprocess.run([*command, "-o", str(whole)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
        step = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])["seconds"] / arguments.steps
        chance = random.Random(0)
        outcomes: Counter[str] = Counter()
        damaged = 0
        for number in range(arguments.kills):
            process = subprocess.Popen([*command, "-o", str(out)], stdout=subprocess.DEVNULL, start_new_session=True)
            # What the one before left is cleared first.
            while process.poll() is None and begun_writes(folder):
                time.sleep(0.001)
            seen: set[str] = set()
            wanted = 1 if number % 2 == 0 else chance.randint(1, FURTHEST)
            while process.poll() is None and len(seen) < wanted:
                seen |= begun_writes(folder)
                time.sleep(0.0002)
            if number % 2 == 0:
                time.sleep(chance.uniform(0, FURTHEST) * step)
            ended = process.poll() is not None
            process.send_signal(signal.SIGKILL)
            process.wait()
            if ended:
                raise SystemExit(f"the training ended by itself ({process.returncode}); more --steps are needed")
            within = bool(begun_writes(folder))
            outcomes["inside the write of a checkpoint" if within else "elsewhere"] += 1
            spoilt = damage(folder, chance) if number % 10 == 9 else ""
            damaged += bool(spoilt)
            print(json.dumps({"kill": number + 1, "within": within, "checkpoints": steps(folder, "step-*"),
                              "damaged": spoilt}), flush=True)  # fmt: skip
        subprocess.run([*command, "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
        same = [one == other for one, other in zip(trained(out), trained(whole), strict=True)]
        left = sorted(entry.name for entry in Path(name).iterdir())
    print(json.dumps({
        "question": "kill_train", "machine": measure.machine(), "steps": arguments.steps, "size": arguments.size,
        "seconds_undisturbed": round(seconds, 1), "kills": dict(outcomes), "damaged": damaged,
        "weights_equal": same[0], "metrics_equal": same[1], "left": left,
    }))  # fmt: skip
    if not all(same) or left != ["model", "whole"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
