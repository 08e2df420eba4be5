"""`tests/test_dataset_effectiveness.py`, `tests/test_dataset_ELITE.py`: the checks under the names of the seeds' tests.

A test is `ok` if the checks that answer for it find nothing, `FAILED` if one of them does, and `skipped` with the
reason where none of them could look. Checks that the seeds do not have follow under their own names, and count as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from git_starcoder.cli.commands import PATH_TYPE
from git_starcoder.errors import DatasetError, ExitCode
from git_starcoder.text.visible import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome

OPENED = "test_dataset_directory_exists"
"""The test that an unfinished or missing folder fails; there is then nothing for the others to look at."""
SIGNS = {"ok": "✓", "FAILED": "✗", "skipped": "-"}


def _command(script: str, recipe: str, folder: str, passed: str) -> Any:
    @click.command(script)
    @click.argument("dataset", metavar="[DIR]", default=folder, type=PATH_TYPE)
    @click.option(
        "--repo", type=PATH_TYPE, help="The repository that it was made from, for the checks that go back to it."
    )
    @click.option("-v", "--verbose", is_flag=True, help="Say what each test promises.")
    def command(dataset: Path, repo: Path | None, verbose: bool) -> ExitCode:
        from git_starcoder.checks import SEEDED, check, source_of
        from git_starcoder.dataset import Dataset

        results: list[str] = []
        try:
            opened = Dataset.open(dataset)
            outcomes = list(check(opened, source_of(opened, repo) if repo else None))
        except DatasetError as error:
            for name in SEEDED[recipe]:
                results.append("FAILED" if name == OPENED else "skipped")
                _say(name, results[-1], f"{error.what} ({error.where})" if name == OPENED else "no finished dataset")
            return _sum(results, [], passed)
        for name in SEEDED[recipe]:
            answering = [outcome for outcome in outcomes if name in outcome.seeds]
            results.append(result(answering))
            _say(name, results[-1], _figures(answering), answering, verbose=verbose)
        click.echo("\nWhat the seeds' tests do not look at:")
        others: list[str] = []
        for outcome in outcomes:
            if not set(outcome.seeds) & set(SEEDED[recipe]):
                others.append(result([outcome]))
                _say(outcome.check, others[-1], _figures([outcome]), [outcome], verbose=verbose)
        return _sum(results, others, passed)

    command.help = f"Test the {recipe} dataset in DIR (default: {folder}); exit 1 if a test fails."
    return command


def result(outcomes: Sequence[Outcome]) -> Literal["ok", "FAILED", "skipped"]:
    """What a test comes to: `ok` only if at least one check looked and none found anything."""
    if any(outcome.found for outcome in outcomes):
        return "FAILED"
    return "skipped" if all(outcome.skipped for outcome in outcomes) else "ok"


def _figures(outcomes: Sequence[Outcome]) -> str:
    """The figures of the checks that looked, or else the reasons of those that did not."""
    looked = [outcome for outcome in outcomes if not outcome.skipped] or outcomes
    return "; ".join(outcome.figure for outcome in looked) or "no check answers for it"


def _say(name: str, what: str, figure: str, outcomes: Sequence[Outcome] = (), *, verbose: bool = False) -> None:
    said = f"skipped '{figure}'" if what == "skipped" else f"{what}  {figure}"
    click.echo(clean(f"{SIGNS[what]} {name} ... {said}"))
    for outcome in outcomes:
        if verbose:
            click.echo(clean(f"    {outcome.check}: {outcome.promise}"))
        for finding in outcome.findings:
            click.echo(f"    {one_line(finding.where)}: {one_line(finding.what)}")
        if outcome.found > len(outcome.findings):
            click.echo(f"    {outcome.check}: and {outcome.found - len(outcome.findings):,} more")


def _sum(results: Sequence[str], others: Sequence[str], passed: str) -> ExitCode:
    """The last lines. What was skipped was not passed."""
    every = [*results, *others]
    count = {what: every.count(what) for what in SIGNS}
    click.echo(f"\nRan {len(every)} tests: {count['ok']} ok, {count['FAILED']} failed, {count['skipped']} skipped")
    if count["FAILED"]:
        click.echo("FAILED")
        return ExitCode.FOUND
    skipped = results.count("skipped")
    click.echo(f"No test failed, {skipped} of {len(results)} could not look" if skipped else passed)
    return ExitCode.FINE


effectiveness = _command(
    "test_dataset_effectiveness.py", "effectiveness", "training_data_effectiveness", "All tests passed!"
)
elite = _command("test_dataset_ELITE.py", "elite", "training_data_ELITE", "ALL ELITE DATASET TESTS PASSED!")
