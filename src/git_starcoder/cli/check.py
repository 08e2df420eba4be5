"""`git starcoder check`: whether a dataset keeps its promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, one_line
from git_starcoder.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome
    from git_starcoder.cli.talk import Talk


@click.command("check")
@click.argument("dataset", type=PATH)
@common
def command(talk: Talk, dataset: Path) -> ExitCode:
    """Check whether the dataset in the folder DATASET keeps its promises; exit 1 if it does not."""
    from git_starcoder.checks import check, names
    from git_starcoder.dataset import Dataset

    with talk.watch() as watch:
        opened = Dataset.open(dataset)
        watch.begin("check", len(names()))
        outcomes: list[Outcome] = []
        for outcome in check(opened):
            outcomes.append(outcome)
            watch.advance(1)
    code = ExitCode.FOUND if any(outcome.found for outcome in outcomes) else ExitCode.FINE
    return talk.answer(as_values(outcomes), table(outcomes), code)


def as_values(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes for `--json`."""
    return {
        "checks": [
            {
                "check": outcome.check,
                "promise": outcome.promise,
                "result": result(outcome),
                "figure": outcome.figure,
                "found": outcome.found,
                "findings": [{"where": finding.where, "what": finding.what} for finding in outcome.findings],
            }
            for outcome in outcomes
        ]
    }


def result(outcome: Outcome) -> str:
    """One word: `kept`, `broken` or `skipped`."""
    return "skipped" if outcome.skipped else "broken" if outcome.found else "kept"


def table(outcomes: Sequence[Outcome]) -> str:
    """Check · promise · result · figure, and the findings below."""
    rows = [("check", "promise", "result", "figure")]
    rows += [(outcome.check, outcome.promise, result(outcome), outcome.figure) for outcome in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(f"{cell:{width}}" for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip()
        for row in rows
    ]
    for outcome in outcomes:
        lines += [
            f"{finding.check}: {one_line(finding.where)}: {one_line(finding.what)}" for finding in outcome.findings
        ]
        if outcome.found > len(outcome.findings):
            lines.append(f"{outcome.check}: and {outcome.found - len(outcome.findings):,} more")
    return "\n".join(lines)
