"""Do two copies of one arm show no difference, and is a planted improvement found?

    python benchmarks/same_arm.py WORK REPO [--tries 20] [--seeds 3] [--tokens 20000] [--size 0.8M]

In each try, the default recipe is trained twice, under two names and with other seeds. No try shares a training with
another one. Of 20 intervals, at least 18 should contain 1. Then the recipe is compared with itself at a learning rate
that is far too low, with the seeds of the same try.

WORK keeps what is done, as for `git starcoder compare`, so an interrupted run goes on. Prints the machine, a line for
each try, and the two counts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import measure

from git_starcoder.comparison.arms import ArmOptions
from git_starcoder.comparison.compare import compare_recipes
from git_starcoder.comparison.work_folder import open_work_folder
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo

LOW_RATE = "learning_rate=1e-3"
"""A tenth of the default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=float, default=20_000)
    parser.add_argument("--size", default="0.8M")
    asked = parser.parse_args()
    print(measure.machine(), flush=True)
    options = ArmOptions(tokens=asked.tokens, size=asked.size)
    equal, found = 0, 0
    with open_work_folder(asked.work) as work, LocalEngine() as engine:
        for number in range(asked.tries):
            first = options.make_arm("one", "natural", first_seed=2 * number * asked.seeds)
            second = replace(first, name="other", first_seed=first.first_seed + asked.seeds)
            slow = options.make_arm("slow", "natural", training=[LOW_RATE], first_seed=first.first_seed)
            shown = []
            for arms in ([first, second], [slow, second]):
                result = compare_recipes(Repo.open(asked.repo), arms, work, seeds=asked.seeds, engine=engine)
                shown.append(result.effects[0])
            equal += shown[0].verdict == "no effect shown"
            found += shown[1].verdict == "fewer bits"
            same, planted = (f"{each.ratio:.3f} ({each.low:.3f} to {each.high:.3f})" for each in shown)
            print(f"try {number + 1}: same arm {same}, planted improvement {planted}", flush=True)
    print(f"no difference between copies in {equal} of {asked.tries}, improvement found in {found} of {asked.tries}")


if __name__ == "__main__":
    main()
