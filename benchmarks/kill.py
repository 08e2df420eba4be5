"""Is a dataset ever visible half-written? Builds are killed at random moments, then one is left to end.

    python benchmarks/kill.py REPO [--kills 20] [--recipe effectiveness]

Every second kill finds nothing built yet, the others a dataset that is being replaced. The cache, which all builds
share, is thrown away before every third kill, so that builds die while they fill it and while they use it. Moments are
drawn from the time that such a build takes; one that ends before its moment is said to have `ended`. After each
`kill -9` the output is either absent or whole, with the bytes of an undisturbed build without a cache; so is the last
one, which finds what the killed ones left in the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import measure


def digest(folder: Path) -> str:
    """One hash of all files of a folder and their names."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--recipe", default="effectiveness")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="starcoder-kill-") as name:
        out = Path(name) / "dataset"
        command = [sys.executable, "-m", "git_starcoder", "build", str(arguments.repo), "-r", arguments.recipe]
        command += ["-o", str(out), "-q"]
        if arguments.recipe == "effectiveness":
            command += ["--set", "window.size=1024"]
        cache = Path(name) / "cache"
        os.environ["STARCODER_CACHE"] = str(cache)
        seconds = {}
        for how, flags in (("no cache", ["--no-cache"]), ("empty cache", ["--force"]), ("full cache", ["--force"])):
            begun = time.monotonic()
            subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
            seconds[how] = time.monotonic() - begun
            if how == "no cache":
                expected = digest(out)
        seen: Counter[str] = Counter()
        moments = random.Random(0)
        for number in range(arguments.kills):
            if number % 2:  # half of the time there is nothing yet, half of the time something to be replaced
                shutil.rmtree(out, ignore_errors=True)
            elif not out.exists():
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            how = "full cache" if number % 3 else "empty cache"
            if how == "empty cache":
                shutil.rmtree(cache, ignore_errors=True)
            process = subprocess.Popen([*command, "--force"], stdout=subprocess.DEVNULL, start_new_session=True)
            time.sleep(moments.uniform(0.02, 1.02) * seconds[how])
            ended = process.poll() is not None
            process.send_signal(signal.SIGKILL)
            process.wait()
            state = "absent" if not out.exists() else "whole" if digest(out) == expected else "WRONG"
            seen[f"{'ended' if ended else 'killed'}, {state}"] += 1
        subprocess.run([*command, "--force"], check=True, stdout=subprocess.DEVNULL)
        last = digest(out) == expected
        left = sorted(entry.name for entry in Path(name).iterdir())
    print(json.dumps({
        "question": "kill", "repo": arguments.repo.resolve().parent.name, "machine": measure.machine(),
        "seconds_of_a_build": {how: round(took, 2) for how, took in seconds.items()}, "outcomes": dict(seen),
        "last_equals_the_first": last, "left": left,
    }))  # fmt: skip
    if not last or any("WRONG" in state for state in seen) or left != ["cache", "dataset"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
