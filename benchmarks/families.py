"""Does each family of bases do all that `git starcoder` does with a base? Every way of tuning is tried with real commands.

    python benchmarks/families.py OUT REPO [--only NAME...] [--tunes lora full qlora]

The bases are those of `tests/bases.py`: the architectures and control tokens of the families, with random weights at a
size that takes seconds. For each base and way of tuning:

- `git starcoder run --base` builds, checks, trains, scores and completes. The table has the bits per byte of the base
  before tuning and of the tuned model, and what is saved, in millionths with a paired interval. It trains for seconds,
  so there is not more to gain.
- `git starcoder train` trains for a few steps with a high learning rate, undisturbed; and once more, ended by `SIGKILL`
  as soon as there is a checkpoint, and resumed by the same command. The weights are compared byte for byte. The table
  has the validation loss before and after.
- The trained model fills a gap with random sampling. The table says how often it ended the text before the limit of
  tokens: by itself, which it has hardly learned in a few steps, and if the end of text is made likelier and the memory is
  off. Families without tokens for gaps continue the text before the gap.

The commands run in processes of their own, which are forked from one that has imported the libraries.

A line of JSON is printed for each, and a table in the end. What is finished stays in OUT and is not done again. A
command that fails gives its error line instead of figures. Memory is that of the largest process, in MiB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import measure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
bases: Any = import_module("bases")
FAMILIES: dict[str, Any] = bases.FAMILIES
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "transformers", "git_starcoder.cli"])
TUNES = ("lora", "full", "qlora")
RATES = {"lora": 5e-2, "full": 5e-3, "qlora": 5e-2}
"""Learning rates of the short trainings: random weights have little to adapt."""
RECIPE = ("--set", "window.size=192", "--set", "split={train: 0.6, val: 0.2, test: 0.2}")
STEPS, SAMPLES, MAX_TOKENS = 8, 4, 60
RAISE = 4.0
"""Added to the logit of the end of text: a model that trained for a few steps hardly ends a text by itself."""
PREFIX, SUFFIX = "def find(items, limit):\n    for item in items:\n", "\n    return None\n"
WEIGHTS = ("adapter/adapter_model.safetensors", "model.safetensors")


class FailedError(Exception):
    """A command ended with an error, which is its message."""


class Command:
    """Runs `git starcoder`, and remembers the largest memory of its processes."""

    def __init__(self, log: Path):
        self.log = log
        self.peak = 0

    def start(self, *arguments: str | Path) -> Any:
        """A process of its own."""
        self.log.unlink(missing_ok=True)
        process = SERVER.Process(target=run_command, args=([*map(str, arguments), "--json"], self.log))
        process.start()
        return process

    def run(self, *arguments: str | Path) -> dict[str, Any]:
        """The JSON of a command that ran to its end.

        Raises:
            FailedError: The command failed.
        """
        process = self.start(*arguments)
        process.join()
        if process.exitcode:
            raise FailedError(error_line(self.log.read_text("utf-8")) or f"ended with {process.exitcode}")
        *_, values, peak = self.log.with_suffix(".json").read_text("utf-8").splitlines()
        self.peak = max(self.peak, int(peak) >> 10)
        return json.loads(values)


def run_command(arguments: list[str], log: Path) -> None:
    """Be the process of a command: what it says goes to files, and then the most memory that it had."""
    from git_starcoder.cli import main as git_starcoder

    for path, number in ((log, 2), (log.with_suffix(".json"), 1)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = git_starcoder(arguments)
    sys.stdout.flush()
    if code:
        sys.exit(code)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)


def error_line(text: str) -> str:
    """The line of an error in what a command said; its last line if there is none, such as that of a traceback."""
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")


def before_and_after(values: dict[str, Any]) -> dict[str, float | None]:
    """Of the output of `run`: bits per byte before and after tuning, and their ratio with its interval."""
    bits = {
        score["subject"]: score["value"]
        for score in values["scores"]
        if score["measure"] == "bits per byte" and not score["by"]
    }
    pairs = {(pair["subject"], pair["reference"]): pair for pair in values["comparisons"]}
    pair = pairs["network", "base before tuning"]
    ratio = {key: pair[key] for key in ("ratio", "low", "high")}
    return {"base": bits["base before tuning"], "tuned": bits["network"], **ratio}


def kill_and_resume(command: Command, training: list[str | Path], out: Path) -> bool:
    """Whether a training was killed after its first checkpoint, and then went on from it.

    Raises:
        FailedError: The command failed.
    """
    process = command.start(*training, "-o", out)
    unfinished = out.with_name(f".{out.name}.training")
    while process.is_alive() and not any(unfinished.glob("step-*")):
        time.sleep(0.002)
    process.kill()
    process.join()
    command.run(*training, "-o", out)
    return "resuming after step" in command.log.read_text("utf-8")


def ended_completions(folder: Path, raise_by: float) -> int:
    """How many of some sampled completions ended before the limit of tokens, with a suffix if the model fills gaps.

    If the logit of the end-of-text token is raised by a number, the memory is off: it outweighs a network that has
    learned little.
    """
    from git_starcoder.model.complete import Model

    def open_nothing(*_: Any) -> None:
        """Let transformers run the network: its logits are raised."""

    import_module("git_starcoder.model.lean_network").LeanNetwork.open = open_nothing
    model = Model.open(folder)
    if raise_by:
        model.memory = None
    network: Any = model.network
    ended = 0
    forward, generate = network.model.forward, network.generate

    @wraps(forward)
    def raised(*arguments: Any, **options: Any) -> Any:
        output = forward(*arguments, **options)
        output.logits[..., network.end_token] += raise_by
        return output

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal ended
        (tokens,) = generate(*arguments, **options)
        ended += len(tokens) < MAX_TOKENS or int(tokens[-1]) == network.end_token
        return [tokens]

    network.model.forward, network.generate = raised, watched
    suffix = SUFFIX if model.fills_gaps else None
    for seed in range(SAMPLES):
        model.complete(PREFIX, suffix=suffix, max_tokens=MAX_TOKENS, temperature=1.0, seed=seed)
    return ended


def try_family(out: Path, repo: Path, name: str, tune: str) -> dict[str, Any]:
    """All that is done with a base and a way of tuning."""
    base, folder = out / "bases" / name, out / f"{name}-{tune}"
    if not base.exists():
        bases.write_family(base, name)
    folder.mkdir(exist_ok=True)
    found: dict[str, Any] = {"family": name, "tune": tune}
    command, begun = Command(folder / "log"), time.monotonic()
    ways = ("--base", base, "--tune", tune)
    try:
        run = command.run("run", repo, "-o", out / name, *ways, "--minutes", "0.05", "-j", "1", *RECIPE)
        found |= before_and_after(run)
        training = ["train", out / name / "dataset", *ways, "--steps", str(STEPS), "--force", "--set", "batch=512"]
        training += ["--set", f"learning_rate={RATES[tune]}", "--set", "checkpoint_minutes=1e-9"]
        command.run(*training, "-o", folder / "whole")
        metrics = [json.loads(line) for line in (folder / "whole" / "metrics.jsonl").read_text().splitlines()]
        losses = [line["held_out"] for line in metrics if "held_out" in line]
        found |= {"validation before": losses[0], "validation after": losses[-1]}
        found["resumed"] = kill_and_resume(command, training, folder / "killed")
        files = [[folder / which / file for which in ("whole", "killed")] for file in WEIGHTS]
        pairs = [[path.read_bytes() for path in pair] for pair in files if pair[0].exists()]
        found["same weights"] = bool(pairs) and all(one == other for one, other in pairs)
        found["ended"], found["ended if raised"] = (
            ended_completions(folder / "killed", value) for value in (0.0, RAISE)
        )
    except FailedError as error:
        found["error"] = str(error)
    return {**found, "peak": command.peak, "seconds": round(time.monotonic() - begun, 1)}


def row(found: dict[str, Any]) -> str:
    """A row of the table."""
    if "error" in found:
        cells = [found["error"], *["–"] * 5]
    else:
        ratios = [found[key] for key in ("ratio", "high", "low") if found[key] is not None]
        saved, *interval = [f"{(1 - ratio) * 1e6:.1f}" for ratio in ratios]
        suffix = "suffix" if FAMILIES[found["family"]].fim else "no suffix"
        cells = [
            f"{found['base']:.4f}, {found['tuned']:.4f}",
            f"{saved} ({' to '.join(interval) or '–'})",
            f"{found['validation before']:.2f}, {found['validation after']:.2f}",
            "yes" if found["resumed"] and found["same weights"] else "NO",
            f"{found['ended']}, {found['ended if raised']} of {SAMPLES}, {suffix}",
            f"{found['peak']:,}",
        ]
    return f"| {found['family']} | {found['tune']} | {' | '.join(cells)} | {found['seconds']} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(FAMILIES), default=[*FAMILIES])
    parser.add_argument("--tunes", nargs="+", choices=TUNES, default=TUNES)
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for tune in arguments.tunes:
        for name in arguments.only:
            path = out / f"{name}-{tune}.json"
            if not path.exists():
                found = try_family(out, arguments.repo.absolute(), name, tune)
                path.write_text(json.dumps(found), "utf-8")
            results.append(json.loads(path.read_text("utf-8")))
            print(json.dumps(results[-1]), flush=True)
    print(f"\n{measure.machine()}\n")
    print("| family | tune | bits before, after | saved, millionths | validation before, after | same after a kill | "
          "ended, and if likelier | MiB | seconds |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for result in sorted(results, key=lambda each: arguments.only.index(each["family"])):
        print(row(result))
    return int(any("error" in each or not each["same weights"] for each in results))


if __name__ == "__main__":
    sys.exit(main())
