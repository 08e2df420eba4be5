"""What is each feature of the recipes worth, from scratch and from a base? Makes the tables of what-helps.md.

    python benchmarks/what_helps.py OUT REPO... [--base NAME] [--seeds 2] [--tokens 400000] [--size tiny]
                                    [--recipes natural,baseline,effectiveness,elite] [--epochs 300,500]

For each repository, and for each start (from scratch, and from the base if one is named):

- all recipes are compared with `baseline`, and `elite` with `effectiveness`, which are the claims of the seeds;
- each recipe is compared with itself without each of its features (`git starcoder compare RECIPE --ablate`).

With `--epochs`, `effectiveness` and `elite` are also trained for so many epochs, as the seeds advise, until the
validation loss rises. That takes long: use a GPU, or leave it out.

Everything runs on a GPU if there is one. OUT/NAME is the work folder of a repository, and OUT/results.json has all
effects. What is done is not done again, so an interrupted run goes on. Prints the machine, the time and the tables, in
Markdown. An effect over several repositories is the geometric mean of theirs; its interval is about these repositories.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from math import exp, hypot, log
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import measure

from git_starcoder.comparison.arms import ArmOptions, ablate
from git_starcoder.comparison.compare import compare_recipes
from git_starcoder.comparison.work_folder import open_work_folder
from git_starcoder.engine.local import LocalEngine
from git_starcoder.evals import BOTH, NETWORK
from git_starcoder.git.objects import Repo
from git_starcoder.model.devices import best_device
from git_starcoder.model.loading import read_training_record
from git_starcoder.model.training import train
from git_starcoder.output_folder import write_atomically
from git_starcoder.pipeline import build

if TYPE_CHECKING:
    from git_starcoder.comparison.work_folder import WorkFolder

RECIPES = ("natural", "baseline", "effectiveness", "elite")
CLAIMS = (
    ("elite", "effectiveness", "20–40 % better test loss than effectiveness"),
    ("elite", "baseline", "30–50 % better than baseline"),
)
"""The claims of the seeds about recipes: arm, reference, text."""
CLAIMED_LOSS = 0.5
"""The seeds promise a final loss below this, in nats per token."""
SEEDS_RECIPES = ("effectiveness", "elite")
BITS_PER_NAT = 1 / log(2)


class Shown(NamedTuple):
    """A ratio and its interval."""

    ratio: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        change = f"{100 * (self.ratio - 1):+.1f} %"
        if self.low is None or self.high is None:
            return change
        ends = f"{100 * (self.low - 1):+.1f} to {100 * (self.high - 1):+.1f}"
        return f"{change} ({ends}){'; no effect shown' if self.low <= 1 <= self.high else ''}"


def combine(effects: list[Shown]) -> Shown:
    """The geometric mean of the ratios of several repositories; their errors are independent."""
    ratio = exp(sum(log(each.ratio) for each in effects) / len(effects))
    if any(each.low is None or each.high is None for each in effects):
        return Shown(ratio, None, None)
    below, above = (
        hypot(*(log(end / each.ratio) for each in effects for end in (each[index],) if end)) / len(effects)
        for index in (1, 2)
    )
    return Shown(ratio, ratio / exp(below), ratio * exp(above))


def compare_all(repo: Path, start: str, options: ArmOptions, asked: Any, work: WorkFolder, engine: LocalEngine) -> list[dict[str, Any]]:  # fmt: skip
    """All effects on a repository, from scratch or from a base."""
    opened = Repo.open(repo)
    arms = {name: options.make_arm(name, name) for name in asked.recipes}
    comparisons = (
        [[arms["baseline"], *(arm for name, arm in arms.items() if name != "baseline")]] if "baseline" in arms else []
    )
    comparisons += [[arms[right], arms[left]] for left, right, _ in CLAIMS if {left, right} <= set(arms)]
    comparisons += [[arm, *ablate(arm)] for arm in arms.values()]
    found: list[dict[str, Any]] = []
    for compared in comparisons:
        if len(compared) > 1:
            result = compare_recipes(opened, compared, work, seeds=asked.seeds, engine=engine)
            found += [
                {"repo": repo.name, "start": start, "recipe": compared[0].name, **effect._asdict()}
                for effect in result.effects
            ]
            print(f"# {repo.name}, {start}: {compared[0].name} with {len(compared) - 1} others", flush=True)
    return found


def train_for_epochs(repo: Path, name: str, epochs: int, options: ArmOptions, out: Path, engine: LocalEngine) -> dict[str, Any]:  # fmt: skip
    """Train a recipe as long as the seeds advise; how long it really took, and the losses."""
    arm = options.make_arm(name, name)
    dataset = build(Repo.open(repo), arm.recipe, out / f"{name}-dataset", engine=engine)
    model = out / f"{name}-{epochs}-epochs"
    if not (model / "training.json").exists():
        train(dataset, model, replace(arm.config, tokens=None, epochs=epochs))
    record = read_training_record(model)
    result = record["result"]
    return {
        "repo": repo.name, "recipe": name, "epochs": epochs, "trained": epochs * result["steps"] / record["steps"],
        "loss": result["loss"] / BITS_PER_NAT, "held_out": result["held_out"], "stopped": result["stopped"],
    }  # fmt: skip


def print_tables(effects: list[dict[str, Any]], long: list[dict[str, Any]]) -> None:
    """Print the tables of features, of recipes and of claims."""
    repos = list(dict.fromkeys(effect["repo"] for effect in effects))

    def row(start: str, arm: str, reference: str, subject: str) -> list[str]:
        key = {"start": start, "arm": arm, "reference": reference, "subject": subject}
        of_repo = {
            each["repo"]: Shown(each["ratio"], each["low"], each["high"])
            for each in effects
            if key.items() <= each.items()
        }
        if not of_repo:
            return []
        return [str(combine(list(of_repo.values()))), *(str(of_repo.get(repo, "")) for repo in repos)]

    keys = dict.fromkeys((each["start"], each["arm"], each["reference"], each["subject"]) for each in effects)
    for subject in (NETWORK, BOTH):
        print(f"\n## Bits of the {subject}: an arm compared with a reference\n")
        print("| start | reference | arm | all | " + " | ".join(repos) + " |")
        print("| --- " * (4 + len(repos)) + "|")
        for start, arm, reference, of in keys:
            if of == subject:
                print(f"| {start} | {reference} | {arm} | " + " | ".join(row(start, arm, reference, subject)) + " |")
    print("\n## Claims of the seeds\n\n| claim | start | measured, network alone |\n| --- | --- | --- |")
    for arm, reference, claim in CLAIMS:
        for start in dict.fromkeys(each["start"] for each in effects):
            if cells := row(start, arm, reference, NETWORK):
                print(f"| {claim} | {start} | {cells[0]} |")
    for each in long:
        verdict = "below" if each["loss"] < CLAIMED_LOSS else "not below"
        print(
            f"| {each['recipe']}: {each['epochs']} epochs, final loss below {CLAIMED_LOSS} | scratch | {each['repo']}: "
            f"trained for {each['trained']:.1f} epochs, ended by {each['stopped']}; training loss {each['loss']:.2f} nats "
            f"per token ({verdict}), held out {each['held_out']} bits per byte |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("repos", type=Path, nargs="+")
    parser.add_argument("--base")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokens", type=float, default=400_000)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--recipes", type=lambda text: text.split(","), default=list(RECIPES))
    parser.add_argument("--epochs", type=lambda text: [int(part) for part in text.split(",")], default=[])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--train", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    machine = f"{measure.machine()}, device {best_device()}"
    print(machine, flush=True)
    begun = time.perf_counter()
    starts = {"scratch": None} | ({asked.base: asked.base} if asked.base else {})
    effects: list[dict[str, Any]] = []
    long: list[dict[str, Any]] = []
    asked.out.mkdir(parents=True, exist_ok=True)
    with LocalEngine() as engine:
        for repo in asked.repos:
            repo = repo.resolve()
            repo_name = repo.parent if repo.name == "repo" else repo
            for start, base in starts.items():
                options = ArmOptions(tuple(asked.overrides), tuple(asked.train), asked.tokens, base, asked.size)
                with open_work_folder(asked.out / repo_name.name) as work:
                    found = compare_all(repo, start, options, asked, work, engine)
                    effects += [{**each, "repo": repo_name.name} for each in found]
                if base is None:
                    folder = asked.out / f"{repo_name.name}-epochs"
                    long += [
                        {**train_for_epochs(repo, name, epochs, options, folder, engine), "repo": repo_name.name}
                        for name in SEEDS_RECIPES
                        if name in asked.recipes
                        for epochs in asked.epochs
                    ]
                values = {
                    "machine": machine,
                    "effects": effects,
                    "epochs": long,
                    "tokens": asked.tokens,
                    "seeds": asked.seeds,
                }
                write_atomically(asked.out / "results.json", json.dumps(values, indent=1) + "\n")
    print_tables(effects, long)
    print(
        f"\n{(time.perf_counter() - begun) / 3600:.2f} hours in this run, {asked.seeds} seeds, {asked.tokens:,.0f} tokens"
    )


if __name__ == "__main__":
    main()
