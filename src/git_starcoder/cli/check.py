"""`git starcoder check`: checks whether a dataset keeps its promises."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from git_starcoder.cli.console import Console, align_columns
from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, common_options
from git_starcoder.errors import ExitCode
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo

MIN_BYTES_FOR_READERS = 1 << 25
"""Datasets with fewer bytes of rows are read faster by this process than reader processes start."""
READER_COUNT = 2
"""The number of reader processes: one reads on while the rows of the other are checked."""


@click.command("check")
@click.argument("dataset_folder", metavar="DATASET", type=PATH_TYPE)
@click.option(
    "--repo",
    type=PATH_TYPE,
    help="Repository that the dataset was built from; rows are then compared with its files (default: they are not).",
)
@click.option("--seeds", is_flag=True, help="Also print the names of the original tests that each check replaces.")
@common_options
def command(console: Console, dataset_folder: Path, repo: Path | None, seeds: bool) -> ExitCode:
    """Check a dataset for leaks and other errors; exit with 1 if any.

    DATASET is the folder of the dataset. Each check verifies one promise, for example that no held-out file is in the
    training split.
    """
    from git_starcoder.checks import open_source_repository
    from git_starcoder.dataset import Dataset

    dataset = Dataset.open(dataset_folder)
    source = open_source_repository(dataset, repo) if repo else None
    if isinstance(source, str):
        console.print_message(f"not compared with the repository: {source}")
    outcomes = run_checks(console, dataset, source)
    code = ExitCode.FINDINGS if any(outcome.finding_count for outcome in outcomes) else ExitCode.SUCCESS
    return console.answer(outcome_values(outcomes), outcome_table(outcomes, show_seeds=seeds), code)


def run_checks(console: Console, dataset: Dataset, source: Repo | str | None = None) -> list[Outcome]:
    """Runs all checks; `source` is the dataset's repository, or the reason why it cannot be compared with it."""
    from git_starcoder.checks import check
    from git_starcoder.engine.local import LocalEngine

    files = [path for path in dataset.folder.glob("*.jsonl") if path.is_file()]  # not a link to nothing
    is_large = sum(path.stat().st_size for path in files) >= MIN_BYTES_FOR_READERS
    with show_progress(console) as progress, LocalEngine(READER_COUNT) if is_large else nullcontext() as engine:
        return list(check(dataset, source, progress, engine))


def outcome_values(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What `--json` prints about the outcomes."""
    from git_starcoder.report.certificate import outcome_result

    checks = [
        {
            "check": outcome.check, "promise": outcome.promise, "seeds": list(outcome.seed_tests),
            "result": outcome_result(outcome), "figure": outcome.figure, "found": outcome.finding_count,
            "findings": [{"where": finding.where, "what": finding.what} for finding in outcome.findings],
        }
        for outcome in outcomes
    ]  # fmt: skip
    return {"checks": checks}


def outcome_table(outcomes: Sequence[Outcome], *, show_seeds: bool = False) -> str:
    """A table with the result of each check, and the findings below it."""
    from git_starcoder.report.certificate import outcome_result

    rows = [("check", "seeds" if show_seeds else "promise", "result", "figure")]
    for outcome in outcomes:
        description = " ".join(outcome.seed_tests) or "-" if show_seeds else outcome.promise
        rows.append((outcome.check, description, outcome_result(outcome), escape_line(outcome.figure)))
    lines = align_columns(rows, text_columns=4)
    for outcome in outcomes:
        for finding in outcome.findings:
            lines.append(f"{finding.check}: {escape_line(finding.where)}: {escape_line(finding.what)}")
        if outcome.finding_count > len(outcome.findings):
            lines.append(f"{outcome.check}: and {outcome.finding_count - len(outcome.findings):,} more")
    return "\n".join(lines)
