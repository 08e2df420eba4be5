"""The commands `test_dataset_effectiveness.py` and `test_dataset_ELITE.py`: checks under the names of classic tests.

A test is `ok` if the checks that answer for it find nothing, `FAILED` if one of them finds something, and `skipped`,
with the reason, if all of them were skipped. Checks that the documents do not name follow under their own names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from git_starcoder.cli.commands import PATH_TYPE
from git_starcoder.errors import DatasetError, ExitCode
from git_starcoder.text.visible import escape_line, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome

FOLDER_TEST = "test_dataset_directory_exists"
"""The test that fails where the folder is missing or unfinished; all others are then skipped."""
SIGN_OF_RESULT = {"ok": "✓", "FAILED": "✗", "skipped": "-"}


def _create_command(script: str, suite: str, default_folder: str, success_message: str) -> Any:
    @click.command(script)
    @click.argument("dataset", metavar="[DIR]", default=default_folder, type=PATH_TYPE)
    @click.option(
        "--repo", type=PATH_TYPE, help="The repository that it was made from, for the checks that go back to it."
    )
    @click.option("-v", "--verbose", is_flag=True, help="Say what each test promises.")
    def command(dataset: Path, repo: Path | None, verbose: bool) -> ExitCode:
        from git_starcoder.checks import CLASSIC_SUITES, check, open_source_repository
        from git_starcoder.dataset import Dataset

        checks_of_test = CLASSIC_SUITES[suite]
        try:
            opened = Dataset.open(dataset)
            outcomes = list(check(opened, open_source_repository(opened, repo) if repo else None))
        except DatasetError as error:
            results = ["FAILED" if test == FOLDER_TEST else "skipped" for test in checks_of_test]
            for test, result in zip(checks_of_test, results, strict=True):
                figure = f"{error.what} ({error.where})" if test == FOLDER_TEST else "no finished dataset"
                _print_result(test, result, figure)
            return _print_summary(results, [], success_message)
        results: list[str] = []
        for test, checks in checks_of_test.items():
            answering = [outcome for outcome in outcomes if outcome.check in checks]
            results.append(combined_result(answering))
            _print_result(test, results[-1], _combined_figure(answering), answering, verbose=verbose)
        click.echo("\nWhat the seeds' tests do not look at:")
        other_results: list[str] = []
        named_checks = {check for checks in checks_of_test.values() for check in checks}
        for outcome in outcomes:
            if outcome.check not in named_checks:
                other_results.append(combined_result([outcome]))
                _print_result(outcome.check, other_results[-1], outcome.figure, [outcome], verbose=verbose)
        return _print_summary(results, other_results, success_message)

    command.help = f"Test the {suite} dataset in DIR (default: {default_folder}); exit 1 if a test fails."
    return command


def combined_result(outcomes: Sequence[Outcome]) -> str:
    """The result of a test: `ok` only if at least one check was not skipped and none found anything."""
    if any(outcome.finding_count for outcome in outcomes):
        return "FAILED"
    return "skipped" if all(outcome.skipped for outcome in outcomes) else "ok"


def _combined_figure(outcomes: Sequence[Outcome]) -> str:
    """The figures of the checks that were not skipped, or, if all were, their reasons."""
    outcomes = [outcome for outcome in outcomes if not outcome.skipped] or outcomes
    return "; ".join(outcome.figure for outcome in outcomes) or "no check answers for it"


def _print_result(
    name: str, result: str, figure: str, outcomes: Sequence[Outcome] = (), *, verbose: bool = False
) -> None:
    result_and_figure = f"skipped '{figure}'" if result == "skipped" else f"{result}  {figure}"
    click.echo(escape_unsafe(f"{SIGN_OF_RESULT[result]} {name} ... {result_and_figure}"))
    for outcome in outcomes:
        if verbose:
            click.echo(escape_unsafe(f"    {outcome.check}: {outcome.promise}"))
        for finding in outcome.findings:
            click.echo(f"    {escape_line(finding.where)}: {escape_line(finding.what)}")
        if outcome.finding_count > len(outcome.findings):
            click.echo(f"    {outcome.check}: and {outcome.finding_count - len(outcome.findings):,} more")


def _print_summary(results: Sequence[str], other_results: Sequence[str], success_message: str) -> ExitCode:
    """Print the last lines and return the exit code. A skipped test is not a passed one."""
    all_results = [*results, *other_results]
    counts = {result: all_results.count(result) for result in SIGN_OF_RESULT}
    click.echo(
        f"\nRan {len(all_results)} tests: {counts['ok']} ok, {counts['FAILED']} failed, {counts['skipped']} skipped"
    )
    if counts["FAILED"]:
        click.echo("FAILED")
        return ExitCode.FINDINGS
    skipped = results.count("skipped")
    click.echo(f"No test failed, {skipped} of {len(results)} could not look" if skipped else success_message)
    return ExitCode.SUCCESS


effectiveness = _create_command(
    "test_dataset_effectiveness.py", "effectiveness", "training_data_effectiveness", "All tests passed!"
)
elite = _create_command("test_dataset_ELITE.py", "elite", "training_data_ELITE", "ALL ELITE DATASET TESTS PASSED!")
