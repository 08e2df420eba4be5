"""`benchmarks/gpu.py` runs to its end on a CPU, and a step that fails or hangs stops no other one."""

from __future__ import annotations

import json
import subprocess
import sys

from checkout import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu.py"
FAILING = """\
import os, sys, time
sys.path.insert(0, {folder!r})
import gpu

def ends(run):
    os._exit(3)

def fails(run):
    raise ValueError("no")

def wrong(run):
    raise gpu.WrongError("too slow", {{"speed": 1}})

gpu.REDUCED_FACTOR = 1.0
gpu.STEPS = {{
    "hangs": (1.0, lambda run: time.sleep(600)), "ends": (60.0, ends), "fails": (60.0, fails), "wrong": (60.0, wrong),
    "works": (60.0, lambda run: {{"figure": 2}}),
}}
gpu.main()
"""


def test_every_step_runs_in_the_reduced_mode(tmp_path):
    command = [sys.executable, str(SCRIPT), "--reduced", "--out", str(tmp_path / "gpu.json")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    steps = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    expected = "dataset device losses compile resume speed-124M speed-350M lora-1.5B memory"
    assert list(steps) == expected.split()
    assert all(found["ok"] for found in steps.values())
    assert steps["resume"]["resumed_apart"] == 0.0
    assert steps["compile"]["graphs"] == 1
    assert steps["lora-1.5B"]["tokens_per_second"] > 0
    assert [line.split(" | ")[0] for line in ended.stdout.splitlines() if line.startswith("| ")] == [
        "| step", "| ---", *(f"| {name}" for name in steps)
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json"]


def test_a_step_that_fails_is_reported_and_the_next_one_runs(tmp_path):
    code = FAILING.format(folder=str(SCRIPT.parent))
    command = [sys.executable, "-c", code, "--reduced", "--out", str(tmp_path / "gpu.json")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 1
    steps = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    reasons = {name: found.get("why") for name, found in steps.items()}
    assert reasons == {
        "hangs": "took more than 1 s", "ends": "the process ended with 3", "fails": "ValueError: no",
        "wrong": "too slow", "works": None,
    }  # fmt: skip
    assert steps["wrong"]["speed"] == 1
    assert steps["works"]["figure"] == 2
    assert "| fails | **ValueError: no** |" in ended.stdout
