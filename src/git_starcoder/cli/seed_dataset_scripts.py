"""The scripts `create_training_dataset_*.py`, which build a dataset in numbered steps, and `test_dataset_*.py`.

The latter run checks under the names of the seed documents' tests. A test is `ok` if the checks that answer for it find
nothing, `FAILED` if one of them finds something, and `skipped`, with the reason, if all of them were skipped. Checks
that the documents do not name follow under their own names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import user_paths
from git_starcoder.cli.progress import step_line
from git_starcoder.cli.shared_options import PATH_TYPE, open_cache, open_engine, override_seed
from git_starcoder.errors import DatasetError, ExitCode, UsageError
from git_starcoder.protocols import Progress
from git_starcoder.records import SPLITS
from git_starcoder.text.visible import escape_line, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset
    from git_starcoder.recipe import Recipe

FOLDERS = {"effectiveness": "training_data_effectiveness", "elite": "training_data_ELITE"}
"""Default folder of the dataset of each recipe. The suite of tests for it has the recipe's name."""
FOLDER_TEST = "test_dataset_directory_exists"
"""The test that fails where the folder is missing or unfinished; all others are then skipped."""
SIGN_OF_RESULT = {"ok": "✓", "FAILED": "✗", "skipped": "-"}
STEP_TITLES = {
    "effectiveness": (
        ("read", "Scanning source files..."),
        ("split", "Splitting by groups of related files, before anything multiplies..."),
        ("augment", "Generating REAL code augmentations ({techniques})..."),
        ("window", "Tokenizing and creating sequences ({sizes} tokens)..."),
        ("weigh", "Applying smart weighting..."),
        ("order", "Organizing for curriculum learning..."),
        ("write", "Saving as {format}..."),
    ),
    "elite": (
        ("read", "Scanning source files and extracting git history..."),
        ("analyse", "Deep scanning with AST + dependency analysis..."),
        ("split", "Splitting by groups of related files, before anything multiplies..."),
        ("augment", "Preparing ELITE augmentation functions ({techniques})..."),
        ("augment", "Generating ELITE augmentations and git diff sequences..."),
        ("window", "Multi-scale tokenization ({sizes} tokens)..."),
        ("dedup", "Deduplication by similarity (remove near-duplicates)..."),
        ("weigh", "Applying smart + temporal + evolution weighting..."),
        ("order", "Curriculum learning ordering..."),
        ("write", "Saving as {format}..."),
        ("end", "Final summary..."),
    ),
}
"""Recipe → steps of the build and the lines that announce them. Other steps belong to the number before."""


class NumberedProgress(Progress):
    """Prints `[STEP 2/8] …` when a step begins, and its counts when it ends."""

    def __init__(self, script_recipe: str, recipe: Recipe) -> None:
        self._titles = STEP_TITLES[script_recipe]
        self._words = {
            "techniques": ", ".join(name for name, options in recipe.augment.items() if options.share) or "none",
            "sizes": ", ".join(map(str, recipe.window.sizes)),
            "format": recipe.write.format.upper(),
        }
        self._number = 0

    def announce(self, text: str) -> None:
        """Print the next numbered line."""
        self._number += 1
        click.echo(escape_unsafe(f"[STEP {self._number}/{len(self._titles) + 1}] {text.format(**self._words)}"))

    def begin(self, step: str, total: int | None) -> None:  # noqa: ARG002 - part of the protocol
        """Print the line or lines of the step."""
        for name, text in self._titles:
            if name == step:
                self.announce(text)

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Print the counts of the step."""
        click.echo(escape_unsafe("    " + step_line(step, seconds, seen, kept, dropped, verbose=False)))

    def note(self, text: str) -> None:
        """Print the message."""
        click.echo(escape_unsafe("    " + text))


def _create_command(script: str, recipe: str) -> Any:
    folder = FOLDERS[recipe]

    @click.command(script, help=f"Build the {recipe} dataset of a Git repository into {folder}/.")
    @click.argument("repository", metavar="[REPO]", required=False, type=PATH_TYPE)
    @click.option("--repo", type=PATH_TYPE, help="The repository, as the argument (default: the current folder).")
    @click.option("--rev", default="HEAD", show_default=True, help="Commit to read.")
    @click.option("-o", "--out", type=PATH_TYPE, default=Path(folder), show_default=True, help="Folder to write.")
    @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")
    @click.option("--seed", type=int, help="Shorthand for --set seed=N.")
    @click.option("-j", "--jobs", type=click.IntRange(1), help="Worker processes (default: one per processor).")
    @click.option("--cache/--no-cache", "cached", default=True, help="Use cached results of earlier builds.")
    @click.option("--force", is_flag=True, help="Build again, even if the dataset is up to date.")
    def command(
        repository: Path | None,
        repo: Path | None,
        rev: str,
        out: Path,
        overrides: tuple[str, ...],
        seed: int | None,
        jobs: int | None,
        cached: bool,
        force: bool,
    ) -> None:
        from git_starcoder.git.objects import Repo
        from git_starcoder.pipeline import build
        from git_starcoder.recipe import Recipe
        from git_starcoder.stages import window

        if repository and repo and repository != repo:
            raise UsageError("two repositories are named", where=f"{repository} and --repo {repo}")
        user_paths.offer_temporary_folder(out)
        loaded = window.resolve_sizes(Recipe.load(recipe, override_seed(overrides, seed)))
        progress = NumberedProgress(recipe, loaded)
        progress.announce(f"Opening the repository, loading the {recipe} recipe...")
        opened = Repo.open(repository or repo or Path(), rev)
        with open_engine(progress, jobs) as engine, open_cache(progress, wanted=cached) as cache:
            dataset = build(opened, loaded, out, engine=engine, progress=progress, cache=cache, force=force)
        progress.begin("end", None)
        summary = _statistics_lines(dataset)
        if recipe == "elite":
            summary = ["", "ELITE DATASET CREATION COMPLETE!", "", *summary, "", *_elite_lines(dataset.metadata)]
        else:
            summary = ["", "DATASET CREATION COMPLETE!", "", *summary]
        click.echo(escape_unsafe("\n".join([*summary, "", *_file_lines(dataset)])))

    return command


def _file_lines(dataset: Dataset) -> list[str]:
    """The lines that list the written files."""
    files = dataset.manifest["files"]
    shown = [f"    {name}  ({file['bytes'] / 1e6:,.1f} MB)" for name, file in files.items() if "rows" in file]
    return ["Output:", f"  {escape_line(str(dataset.folder))}/", *shown, "    dataset_metadata.json"]


def _statistics_lines(dataset: Dataset) -> list[str]:
    """The lines of counts that both scripts end with."""
    metadata = dataset.metadata
    parts = [f"{split} {metadata[f'{split}_sequences']:,}" for split in SPLITS]
    size = sum(file["bytes"] for file in dataset.manifest["files"].values()) / 1e6
    return [
        "Dataset Statistics:",
        f"  Source files: {metadata['source_files']:,}",
        f"  Git diffs: {metadata['git_diffs']:,}",
        f"  Function signatures: {metadata['function_signatures']:,}",
        f"  Dependency nodes: {metadata['dependency_graph_nodes']:,}",
        f"  Base sequences: {metadata['base_sequences']:,}",
        f"  Augmented sequences: {metadata['augmented_sequences']:,}",
        f"  Total sequences: {metadata['total_sequences']:,} ({', '.join(parts)})",
        f"  Total tokens: {metadata['total_tokens']:,}",
        f"  Dataset size: {size:,.1f} MB",
    ]


def _elite_lines(metadata: Mapping[str, Any]) -> list[str]:
    """The lines of features that the elite script ends with."""
    diff_count, node_count = metadata["git_diffs"], metadata["dependency_graph_nodes"]
    technique_counts: dict[str, int] = metadata["augmentation_techniques"]
    ast_count, error_count = (technique_counts.get(key, 0) for key in ("ast_based", "error_patterns"))
    weights, near = metadata["weighting_strategy"], metadata["deduplication"]["near"]
    features = {
        f"Multi-scale contexts: {metadata['context_windows']}": len(metadata["context_windows"]) > 1,
        f"Git history learning ({diff_count:,} diffs)": diff_count,
        f"AST-based augmentation ({ast_count:,} sequences)": ast_count,
        f"Inter-file dependencies ({node_count:,} files)": node_count,
        f"Function signatures ({metadata['function_signatures']:,} functions)": metadata["function_signatures"],
        f"Error patterns ({error_count:,} sequences)": error_count,
        f"Temporal weighting ({weights['recent_boost']}, 1.0, {weights['old_boost']})": True,
        f"Deduplication by similarity ({near} and above)": near,
        f"Order: {metadata['learning_strategy']}": metadata["learning_strategy"] == "curriculum",
    }
    return ["ELITE Features:", *(f"  {'✓' if is_there else '-'} {text}" for text, is_there in features.items())]


def _test_command(script: str, suite: str, success_message: str) -> Any:
    folder = FOLDERS[suite]

    @click.command(script, help=f"Test the {suite} dataset in DIR (default: {folder}); exit 1 if a test fails.")
    @click.argument("dataset", metavar="[DIR]", default=folder, type=PATH_TYPE)
    @click.option(
        "--repo", type=PATH_TYPE, help="The repository that it was made from, for the checks that go back to it."
    )
    @click.option("-v", "--verbose", is_flag=True, help="Say what each test promises.")
    def command(dataset: Path, repo: Path | None, verbose: bool) -> ExitCode:
        from git_starcoder.checks import SEED_SUITES, check, open_source_repository
        from git_starcoder.dataset import Dataset

        checks_of_test = SEED_SUITES[suite]
        try:
            opened = Dataset.open(dataset)
            outcomes = list(check(opened, open_source_repository(opened, repo) if repo else None))
        except DatasetError as error:
            results = dict.fromkeys(checks_of_test, "skipped") | {FOLDER_TEST: "FAILED"}
            for test, result in results.items():
                figure = f"{error.what} ({error.where})" if test == FOLDER_TEST else "no finished dataset"
                _print_result(test, result, figure)
            return _print_summary([*results.values()], [], success_message)

        def print_test(name: str, answering: list[Outcome]) -> str:
            """Print and return the result of a test: `ok` only if a check was not skipped and none found anything."""
            relevant = [outcome for outcome in answering if not outcome.skipped]
            is_failed = any(outcome.finding_count for outcome in relevant)
            result = "FAILED" if is_failed else "ok" if relevant else "skipped"
            figure = "; ".join(outcome.figure for outcome in relevant or answering) or "no check answers for it"
            _print_result(name, result, figure, answering, verbose=verbose)
            return result

        results = [
            print_test(test, [outcome for outcome in outcomes if outcome.check in checks])
            for test, checks in checks_of_test.items()
        ]
        click.echo("\nWhat the seeds' tests do not look at:")
        named_checks = {check for checks in checks_of_test.values() for check in checks}
        other_results = [
            print_test(outcome.check, [outcome]) for outcome in outcomes if outcome.check not in named_checks
        ]
        return _print_summary(results, other_results, success_message)

    return command


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


create_effectiveness = _create_command("create_training_dataset_effectiveness.py", "effectiveness")
create_elite = _create_command("create_training_dataset_ELITE.py", "elite")
test_effectiveness = _test_command("test_dataset_effectiveness.py", "effectiveness", "All tests passed!")
test_elite = _test_command("test_dataset_ELITE.py", "elite", "ALL ELITE DATASET TESTS PASSED!")
