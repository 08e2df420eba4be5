"""Prints `docs/checks.md`: every check, and the spoiled datasets that it finds.

    python benchmarks/checks.py > docs/checks.md

The spoiled datasets are those of `tests/spoilings.py`. `tests/checks/test_spoilings.py` makes each of them and fails if
a check finds it that the table does not name, or if a check has none.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("src", "tests")]

from git_starcoder.checks import SEED_SUITES, check_classes  # noqa: E402
from git_starcoder.checks.base import answering_checks  # noqa: E402
from spoilings import SPOILINGS  # noqa: E402

HEAD = """\
# Checks

`git starcoder check DATASET [--repo REPOSITORY] [--seeds] [--json]` reads all rows once. For each check it prints what the
check promises, the result and a figure. The result is one of three words:

- `kept`: the check found nothing.
- `broken`: findings follow, each with a file and a line.
- `skipped`: the dataset cannot have what the check looks for, or the check needs the repository. The figure says why. A
  skipped check has not passed.

Exit code 0: nothing is broken. 1: something is broken. 2: this is not a dataset.

With `--repo` a dataset is also compared with its repository. In a shallow or partial clone only what exists is compared;
figures say what was not compared, and why. If the repository does not have the commit of the dataset, a line says so, and
checks that need the repository are skipped.

If `rows` is broken, all checks that read rows are skipped, because they rely on the keys that it verifies.

`benchmarks/checks.py` prints this page. How to write a check: [Write a check](how-to/check.md).

## What each check promises, and datasets that break the promise

A test spoils a good dataset in each of these ways and rewrites the manifest, so that nothing else is wrong. The check finds
it, and no other check does, except those in brackets. ¹: found only with `--repo`.

| check | promise | spoiled datasets that it finds |
| --- | --- | --- |
"""
SEED_HEAD = """
## The tests of the seed documents

| test | {} | answered by |
| --- |{} --- |
"""


def describe_spoilings(check: str) -> str:
    """The spoiled datasets that a check finds, each with the other checks that find it, too."""
    descriptions: list[str] = []
    for spoiling in SPOILINGS:
        if spoiling.check == check:
            also = f" ({', '.join(f'`{name}`' for name in sorted(spoiling.also))})" if spoiling.also else ""
            descriptions.append(f"{spoiling.what}{'¹' if spoiling.source else ''}{also}")
    return "; ".join(descriptions)


def main() -> None:
    """Print the page."""
    page = HEAD
    for name, check_class in check_classes().items():
        page += f"| `{name}` | {check_class.promise} | {describe_spoilings(name)} |\n"
    page += SEED_HEAD.format(" | ".join(SEED_SUITES), " --- |" * len(SEED_SUITES))
    for test, checks in answering_checks().items():
        in_suites = " | ".join("yes" if test in suite else "" for suite in SEED_SUITES.values())
        page += f"| `{test}` | {in_suites} | {', '.join(f'`{name}`' for name in checks)} |\n"
    print(page, end="")


if __name__ == "__main__":
    main()
