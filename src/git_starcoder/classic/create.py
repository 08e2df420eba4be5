"""Implements `create_training_dataset_effectiveness.py` and `create_training_dataset_ELITE.py`, with numbered steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import user_paths
from git_starcoder.cli.commands import PATH_TYPE, open_cache, open_engine, override_seed
from git_starcoder.cli.console import step_line
from git_starcoder.errors import UsageError
from git_starcoder.records import SPLITS
from git_starcoder.text.visible import escape_line, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_starcoder.dataset import Dataset
    from git_starcoder.recipe import Recipe

StepTitles = tuple[tuple[str, str], ...]
"""Steps of the build and the lines that announce them. Other steps belong to the number before."""
EFFECTIVENESS: StepTitles = (
    ("read", "Scanning source files..."),
    ("split", "Splitting by groups of related files, before anything multiplies..."),
    ("augment", "Generating REAL code augmentations ({techniques})..."),
    ("window", "Tokenizing and creating sequences ({sizes} tokens)..."),
    ("weigh", "Applying smart weighting..."),
    ("order", "Organizing for curriculum learning..."),
    ("write", "Saving as {format}..."),
)
ELITE: StepTitles = (
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
)


class NumberedProgress:
    """Prints `[STEP 2/8] …` when a step begins, and its counts when it ends."""

    def __init__(self, steps: StepTitles, recipe: Recipe) -> None:
        self._titles = steps
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

    def advance(self, count: int) -> None:
        """Print nothing: the output is a log, not a terminal."""

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Print the counts of the step."""
        click.echo(escape_unsafe("    " + step_line(step, seconds, seen, kept, dropped, verbose=False)))

    def note(self, text: str) -> None:
        """Print the message."""
        click.echo(escape_unsafe("    " + text))


def _command(script: str, recipe: str, folder: str, steps: StepTitles, summary: Callable[[Dataset], list[str]]) -> Any:
    @click.command(script)
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
        progress = NumberedProgress(steps, loaded)
        progress.announce(f"Opening the repository, loading the {recipe} recipe...")
        opened = Repo.open(repository or repo or Path(), rev)
        with open_engine(progress, jobs) as engine, open_cache(progress, wanted=cached) as cache:
            dataset = build(opened, loaded, out, engine=engine, progress=progress, cache=cache, force=force)
        progress.begin("end", None)
        click.echo(escape_unsafe("\n".join([*summary(dataset), "", *_file_lines(dataset)])))

    command.help = f"Build the {recipe} dataset of a Git repository into {folder}/."
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


def _effectiveness_summary(dataset: Dataset) -> list[str]:
    return ["", "DATASET CREATION COMPLETE!", "", *_statistics_lines(dataset)]


def _elite_summary(dataset: Dataset) -> list[str]:
    metadata = dataset.metadata
    technique_counts: dict[str, int] = metadata["augmentation_techniques"]
    weights = metadata["weighting_strategy"]
    features = {
        f"Multi-scale contexts: {metadata['context_windows']}": len(metadata["context_windows"]) > 1,
        f"Git history learning ({metadata['git_diffs']:,} diffs)": metadata["git_diffs"],
        f"AST-based augmentation ({technique_counts.get('ast_based', 0):,} sequences)": technique_counts.get(
            "ast_based"
        ),
        f"Inter-file dependencies ({metadata['dependency_graph_nodes']:,} files)": metadata["dependency_graph_nodes"],
        f"Function signatures ({metadata['function_signatures']:,} functions)": metadata["function_signatures"],
        f"Error patterns ({technique_counts.get('error_patterns', 0):,} sequences)": technique_counts.get(
            "error_patterns"
        ),
        f"Temporal weighting ({weights['recent_boost']}, 1.0, {weights['old_boost']})": True,
        f"Deduplication by similarity ({metadata['deduplication']['near']} and above)": metadata["deduplication"][
            "near"
        ],
        f"Order: {metadata['learning_strategy']}": metadata["learning_strategy"] == "curriculum",
    }
    shown = [f"  {'✓' if is_there else '-'} {text}" for text, is_there in features.items()]
    return ["", "ELITE DATASET CREATION COMPLETE!", "", *_statistics_lines(dataset), "", "ELITE Features:", *shown]


effectiveness = _command(
    "create_training_dataset_effectiveness.py",
    "effectiveness",
    "training_data_effectiveness",
    EFFECTIVENESS,
    _effectiveness_summary,
)
elite = _command("create_training_dataset_ELITE.py", "elite", "training_data_ELITE", ELITE, _elite_summary)
