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
from git_starcoder.checks.seed_suites import answering_checks  # noqa: E402
from spoilings import SPOILINGS  # noqa: E402

HEAD = """\
# Checks

`git starcoder check DATASET [--repo REPOSITORY] [--seeds] [--json]` reads all rows once. Each check has a promise: a sentence
that is true of every correct dataset. The command prints one line per check with the promise, the result and a figure, such as
the number of rows compared. The result is one of three words:

- `kept`: the promise is true.
- `broken`: the promise is false. The violations are listed below the line, each with a file and a line number. A check that cannot
  read the dataset is broken, too; its violation is the error.
- `skipped`: the check could not run. Either it does not apply to this dataset, or it needs the repository. The figure gives the
  reason. A skipped check has not passed.

The exit code is 0 if no promise is broken, 1 if one is broken, and 2 if the folder is not a dataset.

With `--repo`, the dataset is also compared with its repository. A shallow or partial clone lacks some commits or files; the
figures say which comparisons were impossible. If the commit of the dataset is missing in the repository, the command says so and
skips the checks that need the repository.

The check `rows` runs first, because the other checks rely on the metadata keys of rows. If `rows` is broken, all checks that
read rows are skipped.

`benchmarks/checks.py` generates this page. [Write a check](how-to/check.md) explains how to add one.

## What each check promises, and datasets that break the promise

The last column lists errors that a test plants in a correct dataset, one at a time. The test also updates the digests in the
manifest, so that nothing else is wrong. It fails if the check does not find the error, or if a check that is not named in brackets
also finds the error. Errors marked ¹ are found only with `--repo`.

| check | promise | planted errors that the check finds |
| --- | --- | --- |
"""
SEED_HEAD = """
## The tests of the seed documents

The project started from two documents (see [Seed documents](seeds/index.md)) that name tests of a dataset. The columns
`effectiveness` and `elite` say which of the two documents has the test.

| test | {} | checks that cover it |
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
