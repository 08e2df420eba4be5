"""Prints `docs/checks.md`: every check, and the spoiled datasets that it is shown to find.

    python benchmarks/checks.py > docs/checks.md

The promise is the first line of a check's module, the seeds' tests are its `SEEDS`, and the spoiled datasets those of
`tests/spoilings.py`. `tests/checks/test_spoilings.py` makes each of them, and fails where another check finds it, too,
that the table does not name, or where a check has none.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("src", "tests")]

from git_starcoder import registry  # noqa: E402
from git_starcoder.checks import SEEDED, names  # noqa: E402
from spoilings import SPOILINGS  # noqa: E402

HEAD = """\
# Checks

`git starcoder check DATASET [--repo REPOSITORY] [--seeds] [--json]` reads all rows once and prints, for each check, what it
promises, the result and a figure. `kept`: it found nothing. `broken`: findings follow, with file and line. `skipped`: the
dataset cannot have what the check looks for, or the check needs the repository; the figure says why, and it is no pass.
Exit code 0: nothing broken; 1: something is; 2: this is no dataset.

In a shallow or partial clone `--repo` compares what is there; figures say what was not compared, and why. A repository
that does not have the commit of the dataset is told in a line, and what needs it is skipped.

Where `rows` is broken, the checks that read rows are skipped: they rest upon the keys that it has seen.

This page is printed by `benchmarks/checks.py`.

## What each promises, and a dataset that breaks it

A test spoils a good dataset in each of these ways, and rewrites the manifest so that only the lie is left. The check finds
it, and no other does but those named in brackets. ¹: seen only with `--repo`.

| check | promise | spoiled datasets that it finds |
| --- | --- | --- |
"""
SEEDS = """
## The tests of the seed documents

| test | {} | answered by |
| --- |{} --- |
"""


def spoiled(check: str) -> str:
    """What is done to a good dataset for a check."""
    told: list[str] = []
    for each in SPOILINGS:
        if each.check == check:
            also = f" ({', '.join(f'`{name}`' for name in sorted(each.also))})" if each.also else ""
            told.append(f"{each.what}{'¹' if each.source else ''}{also}")
    return "; ".join(told)


def main() -> None:
    """Print the page."""
    page = HEAD
    for key in names():
        page += f"| `{key}` | {registry.summary('checks', key)} | {spoiled(key)} |\n"
    page += SEEDS.format(" | ".join(SEEDED), " --- |" * len(SEEDED))
    for name in dict.fromkeys(name for tests in SEEDED.values() for name in tests):
        there = " | ".join("yes" if name in tests else "" for tests in SEEDED.values())
        answering = ", ".join(f"`{key}`" for key in names() if name in registry.load("checks", key).SEEDS)
        page += f"| `{name}` | {there} | {answering} |\n"
    print(page, end="")


if __name__ == "__main__":
    main()
