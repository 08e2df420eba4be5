"""`git starcoder check`: whether a dataset keeps its promises."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, escape_line
from git_starcoder.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome
    from git_starcoder.cli.talk import Talk
    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo

LARGE = 1 << 25
"""Bytes from which it is worth while to start processes that read ahead."""
READERS = 2
"""Of them: while one is waited for, the other reads."""


@click.command("check")
@click.argument("dataset", type=PATH)
@click.option("--repo", type=PATH, help="The repository it was built from, to go back to the source.")
@click.option("--seeds", is_flag=True, help="Name the tests of the seed documents that each check answers for.")
@common
def command(talk: Talk, dataset: Path, repo: Path | None, seeds: bool) -> ExitCode:
    """Check whether a dataset keeps its promises; exit 1 if not.

    DATASET is its folder.
    """
    from git_starcoder.checks import open_source_repository
    from git_starcoder.dataset import Dataset

    opened = Dataset.open(dataset)
    source = open_source_repository(opened, repo) if repo else None
    if isinstance(source, str):
        talk.tell(f"not compared with the repository: {source}")
    outcomes = checked(talk, opened, source)
    code = ExitCode.FINDINGS if any(outcome.finding_count for outcome in outcomes) else ExitCode.SUCCESS
    return talk.answer(as_values(outcomes), table(outcomes, seeds=seeds), code)


def checked(talk: Talk, dataset: Dataset, source: Repo | str | None = None) -> list[Outcome]:
    """What the checks say of a dataset; the rows of a large one are read by processes beside this one."""
    from git_starcoder.checks import check
    from git_starcoder.engine.local import LocalEngine

    large = sum(path.stat().st_size for path in dataset.folder.glob("*.jsonl")) >= LARGE
    with talk.watch() as watch, LocalEngine(READERS) if large else nullcontext() as engine:
        return list(check(dataset, source, watch, engine))


def as_values(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes for `--json`."""
    return {
        "checks": [
            {
                "check": outcome.check,
                "promise": outcome.promise,
                "seeds": list(outcome.classic_tests),
                "result": result(outcome),
                "figure": outcome.figure,
                "found": outcome.finding_count,
                "findings": [{"where": finding.where, "what": finding.what} for finding in outcome.findings],
            }
            for outcome in outcomes
        ]
    }


def result(outcome: Outcome) -> str:
    """One word: `kept`, `broken` or `skipped`."""
    return "skipped" if outcome.skipped else "broken" if outcome.finding_count else "kept"


def table(outcomes: Sequence[Outcome], *, seeds: bool = False) -> str:
    """Check · promise (or the seeds' names) · result · figure, and the findings below."""
    rows = [("check", "seeds" if seeds else "promise", "result", "figure")]
    for outcome in outcomes:
        says = " ".join(outcome.classic_tests) or "-" if seeds else outcome.promise
        rows.append((outcome.check, says, result(outcome), escape_line(outcome.figure)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(f"{cell:{width}}" for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip()
        for row in rows
    ]
    for outcome in outcomes:
        lines += [
            f"{finding.check}: {escape_line(finding.where)}: {escape_line(finding.what)}"
            for finding in outcome.findings
        ]
        if outcome.finding_count > len(outcome.findings):
            lines.append(f"{outcome.check}: and {outcome.finding_count - len(outcome.findings):,} more")
    return "\n".join(lines)
