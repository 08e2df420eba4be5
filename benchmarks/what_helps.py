"""What is each feature of the recipes worth, from scratch and from a base? Makes the tables of what-helps.md.

    python benchmarks/what_helps.py OUT REPO... [--starts scratch,NAME] [--seeds 2] [--tokens 400000] [--size tiny]
                                    [--only recipes,added,natural,effectiveness,elite]

For each repository, and for each start (from scratch, or the name of a base), these are compared on held-out text:

- `recipes`: the recipes of the seeds with `natural`, which is ours, and with one another, as the seeds claim;
- `added`: `natural` with each of `ADDED`, which are groups of features that it does not have;
- `natural`, `effectiveness`, `elite`: this recipe without each of its features. Those of the training are the same in
  all recipes, so they are left out of the last two.

What hundreds of epochs do, as the seeds advise them, is measured by `epochs.py`.

Everything runs on a GPU if there is one. OUT/NAME/START is a work folder, and OUT/results-STARTS.json has all effects.
What is done is not done again, so an interrupted run goes on, and processes with different starts may run at the same
time. Prints the machine, the time and the tables of all files of results in OUT, in Markdown. An effect over several
repositories is the geometric mean of theirs; its interval is about these repositories.
"""

from __future__ import annotations

import argparse
import json
import time
from math import exp, hypot, log
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import measure

from git_starcoder.comparison.arms import TRAIN_PREFIX, ArmOptions, ablate
from git_starcoder.comparison.compare import compare_recipes
from git_starcoder.comparison.work_folder import open_work_folder
from git_starcoder.engine.local import LocalEngine
from git_starcoder.evals import BOTH, NETWORK
from git_starcoder.git.objects import Repo
from git_starcoder.model.devices import best_device
from git_starcoder.output.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.comparison.arms import Arm
    from git_starcoder.comparison.work_folder import WorkFolder

RECIPES = ("natural", "baseline", "effectiveness", "elite")
SHORT = "windows of 512"
ADDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "the variations of effectiveness": (
        (
            "augment.variable_renaming=0.8",
            "augment.comment_toggle=0.7",
            "augment.format_variation=0.6",
            "augment.token_masking={share: 0.5, copies: 2}",
        ),
        (),
    ),
    "the variations of elite": (
        ("augment.ast_based=0.1", "augment.error_patterns=0.1", "augment.type_annotations=0.1"),
        (),
    ),
    "rows with other files": (("augment.cross_file_context=0.1",), ()),
    "rows from changes": (
        ("read.changes=20000", "augment.git_diff=0.5", "augment.temporal_context=0.1"),
        (),
    ),
    "weights by role": (("weigh.core=3", "weigh.utility=1", "weigh.test=0.3"), ()),
    "weights by age": (("weigh.recent=1.5", "weigh.old=0.7"), ()),
    "the curriculum": (("order.by=curriculum",), ()),
    SHORT: (("window.size=512",), ()),
    "dropout of 0.1": ((), ("dropout=0.1",)),
    "noise of 0.05": ((), ("noise=0.05",)),
    "a moving average": ((), ("ema=0.95",)),
    "AdamW": ((), ("optimizer=adamw", "learning_rate=0.001", "weight_decay=0.1")),
}
"""Groups of features that the default recipe does not have: keys of the recipe, and of the training."""
CONTEXT = "context_tokens=512"
"""Context is compared with the same windows without context: a base cannot read longer rows than it was trained on."""
SCRATCH = "scratch"
PARTS = ("recipes", "added", "natural", "effectiveness", "elite")
CLAIMS = (
    ("elite", "effectiveness", "20–40 % better test loss than effectiveness"),
    ("elite", "baseline", "30–50 % better than baseline"),
)
"""The claims of the seeds about recipes: arm, reference, text."""
SEEDS_RECIPES = ("effectiveness", "elite")


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


def plan_comparisons(parts: Sequence[str], options: ArmOptions) -> list[list[Arm]]:
    """The comparisons of some of `PARTS`. The first arm of each is the one that the others are compared with."""
    recipes = {name: options.make_arm(name, name) for name in RECIPES}
    natural = recipes["natural"]
    added = [
        options.make_arm(f"with {name}", "natural", overrides, training)
        for name, (overrides, training) in ADDED.items()
    ]
    comparisons: list[list[Arm]] = []
    for part in parts:
        if part == "recipes":
            comparisons.append(list(recipes.values()))
            comparisons += [[recipes[right], recipes[left]] for left, right, _ in CLAIMS]
        elif part == "added":
            short, training = ADDED[SHORT][0], (*ADDED[SHORT][1], CONTEXT)
            with_context = options.make_arm(f"with {SHORT} and context of 512 tokens", "natural", short, training)
            comparisons += [[natural, *added], [added[list(ADDED).index(SHORT)], with_context]]
        else:
            features = ablate(recipes[part])
            if part in SEEDS_RECIPES:
                features = [arm for arm in features if not arm.name.startswith(f"without {TRAIN_PREFIX}")]
            comparisons.append([recipes[part], *features])
    return comparisons


def compare_all(repo: Path, start: str, options: ArmOptions, asked: Any, work: WorkFolder, engine: LocalEngine) -> list[dict[str, Any]]:  # fmt: skip
    """All effects on a repository, from scratch or from a base."""
    opened = Repo.open(repo)
    found: list[dict[str, Any]] = []
    for compared in plan_comparisons(asked.only, options):
        result = compare_recipes(
            opened, compared, work, seeds=asked.seeds, engine=engine, with_memory=not asked.network_only
        )
        found += [
            {"repo": repo.name, "start": start, "recipe": compared[0].name, **effect._asdict()}
            for effect in result.effects
        ]
        print(f"# {repo.name}, {start}: {compared[0].name} with {len(compared) - 1} others", flush=True)
    return found


def find_effects(effects: list[dict[str, Any]], start: str, reference: str, arm: str, subject: str) -> dict[str, Shown]:
    """The effect of an arm on each repository."""
    key = {"start": start, "arm": arm, "reference": reference, "subject": subject}
    return {
        each["repo"]: Shown(each["ratio"], each["low"], each["high"]) for each in effects if key.items() <= each.items()
    }


def overall(effects: list[dict[str, Any]], start: str, reference: str, arm: str, subject: str) -> str:
    """The effect of an arm on all repositories together, for a table."""
    found = find_effects(effects, start, reference, arm, subject)
    repos = {each["repo"] for each in effects}
    missing = "" if len(found) == len(repos) else f", {len(found)} of {len(repos)} repositories"
    return f"{combine(list(found.values()))}{missing}" if found else ""


def print_tables(effects: list[dict[str, Any]]) -> None:
    """Print an overview, a table with each repository for each start, and the claims of the seeds."""
    repos, starts = (list(dict.fromkeys(each[key] for each in effects)) for key in ("repo", "start"))
    for subject in (NETWORK, BOTH):
        pairs = dict.fromkeys((each["reference"], each["arm"]) for each in effects if each["subject"] == subject)
        if not pairs:
            continue
        print(f"\n## Bits of the {subject}: an arm compared with a reference\n")
        print("| reference | arm | " + " | ".join(starts) + " |\n" + "| --- " * (2 + len(starts)) + "|")
        for pair in pairs:
            cells = [overall(effects, start, *pair, subject) for start in starts]
            print(f"| {' | '.join(pair)} | {' | '.join(cells)} |")
        for start in starts:
            print(f"\n### {subject}, {start}\n\n| reference | arm | " + " | ".join(repos) + " |")
            print("| --- " * (2 + len(repos)) + "|")
            for pair in pairs:
                if of_repo := find_effects(effects, start, *pair, subject):
                    cells = [str(of_repo.get(repo, "")) for repo in repos]
                    print(f"| {' | '.join(pair)} | {' | '.join(cells)} |")
    print("\n## Claims of the seeds\n\n| claim | start | measured, network alone |\n| --- | --- | --- |")
    for arm, reference, claim in CLAIMS:
        for start in starts:
            if cell := overall(effects, start, reference, arm, NETWORK):
                print(f"| {claim} | {start} | {cell} |")


def read_results(out: Path) -> list[dict[str, Any]]:
    """The effects of all files of results."""
    values = [json.loads(path.read_text()) for path in sorted(out.glob("results-*.json"))]
    return [effect for one in values for effect in one["effects"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("repos", type=Path, nargs="+")
    parser.add_argument("--starts", type=lambda text: text.split(","), default=[SCRATCH])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokens", type=float, default=400_000)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), metavar="PART,...")
    parser.add_argument("--network-only", action="store_true")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--train", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    machine = f"{measure.machine()}, device {best_device()}"
    print(machine, flush=True)
    begun = time.perf_counter()
    effects: list[dict[str, Any]] = []
    asked.out.mkdir(parents=True, exist_ok=True)
    with LocalEngine() as engine:
        for repo in (each.resolve() for each in asked.repos):
            name = repo.parent.name if repo.name == "repo" else repo.name
            for start in asked.starts:
                base = None if start == SCRATCH else start
                options = ArmOptions(tuple(asked.overrides), tuple(asked.train), asked.tokens, base, asked.size)
                with open_work_folder(asked.out / name / start) as work:
                    effects += [
                        {**each, "repo": name} for each in compare_all(repo, start, options, asked, work, engine)
                    ]
                values = {
                    "machine": machine,
                    "effects": effects,
                    "tokens": asked.tokens,
                    "seeds": asked.seeds,
                }
                results = asked.out / f"results-{'-'.join(asked.starts)}.json"
                write_atomically(results, json.dumps(values, indent=1) + "\n")
    print_tables(read_results(asked.out))
    hours = (time.perf_counter() - begun) / 3600
    print(f"\n{hours:.2f} hours in this run, {asked.seeds} seeds, {asked.tokens:,.0f} tokens")


if __name__ == "__main__":
    main()
