"""`create_training_dataset_effectiveness.py` and `create_training_dataset_ELITE.py`: a build in numbered steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import places
from git_starcoder.cli.commands import PATH_TYPE, open_cache, open_engine, override_seed
from git_starcoder.cli.progress import step_line
from git_starcoder.errors import UsageError
from git_starcoder.records import SPLITS
from git_starcoder.text.visible import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_starcoder.dataset import Dataset
    from git_starcoder.recipe import Recipe

Steps = tuple[tuple[str, str], ...]
"""A step of the build and what is said when it begins. Steps that are not named go on under the number before."""
EFFECTIVENESS: Steps = (
    ("read", "Scanning source files..."),
    ("split", "Splitting by groups of related files, before anything multiplies..."),
    ("augment", "Generating REAL code augmentations ({techniques})..."),
    ("window", "Tokenizing and creating sequences ({sizes} tokens)..."),
    ("weigh", "Applying smart weighting..."),
    ("order", "Organizing for curriculum learning..."),
    ("write", "Saving as {format}..."),
)
ELITE: Steps = (
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


class Numbered:
    """A watch that says `[STEP 2/8] …` when a step begins, and what it came to when it ends."""

    def __init__(self, steps: Steps, recipe: Recipe) -> None:
        self._steps = steps
        self._words = {
            "techniques": ", ".join(name for name, options in recipe.augment.items() if options.share) or "none",
            "sizes": ", ".join(map(str, recipe.window.sizes)),
            "format": recipe.write.format.upper(),
        }
        self._said = 0

    def say(self, text: str) -> None:
        """The next numbered line."""
        self._said += 1
        click.echo(clean(f"[STEP {self._said}/{len(self._steps) + 1}] {text.format(**self._words)}"))

    def begin(self, step: str, total: int | None) -> None:  # noqa: ARG002 - a watch is told
        """The line or lines of the step."""
        for name, text in self._steps:
            if name == step:
                self.say(text)

    def advance(self, count: int) -> None:
        """Nothing: a log is written, not a terminal."""

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """What the step came to."""
        click.echo(clean("    " + step_line(step, seconds, seen, kept, dropped, verbose=False)))

    def note(self, text: str) -> None:
        """A line."""
        click.echo(clean("    " + text))


def _command(script: str, recipe: str, folder: str, steps: Steps, summary: Callable[[Dataset], list[str]]) -> Any:
    @click.command(script)
    @click.argument("repository", metavar="[REPO]", required=False, type=PATH_TYPE)
    @click.option("--repo", type=PATH_TYPE, help="The repository, as the argument (default: the current folder).")
    @click.option("--rev", default="HEAD", show_default=True, help="Commit to read.")
    @click.option("-o", "--out", type=PATH_TYPE, default=Path(folder), show_default=True, help="Folder to make.")
    @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")
    @click.option("--seed", type=int, help="Shorthand for --set seed=N.")
    @click.option("-j", "--jobs", type=click.IntRange(1), help="Worker processes (default: one per processor).")
    @click.option("--cache/--no-cache", "cached", default=True, help="Use what earlier builds worked out.")
    @click.option("--force", is_flag=True, help="Build again, also where the dataset is up to date.")
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
        places.prefer(out)
        loaded = window.resolve(Recipe.load(recipe, override_seed(overrides, seed)))
        watch = Numbered(steps, loaded)
        watch.say(f"Opening the repository, loading the {recipe} recipe...")
        opened = Repo.open(repository or repo or Path(), rev)
        with open_engine(watch, jobs) as engine, open_cache(watch, wanted=cached) as cache:
            dataset = build(opened, loaded, out, engine=engine, progress=watch, cache=cache, force=force)
        watch.begin("end", None)
        click.echo(clean("\n".join([*summary(dataset), "", *_files(dataset)])))

    command.help = f"Build the {recipe} dataset of a Git repository into {folder}/."
    return command


def _files(dataset: Dataset) -> list[str]:
    sizes = dataset.manifest["files"]
    shown = [f"    {name}  ({file['bytes'] / 1e6:,.1f} MB)" for name, file in sizes.items() if "rows" in file]
    return ["Output:", f"  {one_line(str(dataset.folder))}/", *shown, "    dataset_metadata.json"]


def _statistics(dataset: Dataset) -> list[str]:
    said = dataset.metadata
    parts = [f"{split} {said[f'{split}_sequences']:,}" for split in SPLITS]
    size = sum(file["bytes"] for file in dataset.manifest["files"].values()) / 1e6
    return [
        "Dataset Statistics:",
        f"  Source files: {said['source_files']:,}",
        f"  Git diffs: {said['git_diffs']:,}",
        f"  Function signatures: {said['function_signatures']:,}",
        f"  Dependency nodes: {said['dependency_graph_nodes']:,}",
        f"  Base sequences: {said['base_sequences']:,}",
        f"  Augmented sequences: {said['augmented_sequences']:,}",
        f"  Total sequences: {said['total_sequences']:,} ({', '.join(parts)})",
        f"  Total tokens: {said['total_tokens']:,}",
        f"  Dataset size: {size:,.1f} MB",
    ]


def _effective(dataset: Dataset) -> list[str]:
    return ["", "DATASET CREATION COMPLETE!", "", *_statistics(dataset)]


def _elite(dataset: Dataset) -> list[str]:
    said = dataset.metadata
    made: dict[str, int] = said["augmentation_techniques"]
    weights = said["weighting_strategy"]
    features = {
        f"Multi-scale contexts: {said['context_windows']}": len(said["context_windows"]) > 1,
        f"Git history learning ({said['git_diffs']:,} diffs)": said["git_diffs"],
        f"AST-based augmentation ({made.get('ast_based', 0):,} sequences)": made.get("ast_based"),
        f"Inter-file dependencies ({said['dependency_graph_nodes']:,} files)": said["dependency_graph_nodes"],
        f"Function signatures ({said['function_signatures']:,} functions)": said["function_signatures"],
        f"Error patterns ({made.get('error_patterns', 0):,} sequences)": made.get("error_patterns"),
        f"Temporal weighting ({weights['recent_boost']}, 1.0, {weights['old_boost']})": True,
        f"Deduplication by similarity ({said['deduplication']['near']} and above)": said["deduplication"]["near"],
        f"Order: {said['learning_strategy']}": said["learning_strategy"] == "curriculum",
    }
    shown = [f"  {'✓' if there else '-'} {text}" for text, there in features.items()]
    return ["", "ELITE DATASET CREATION COMPLETE!", "", *_statistics(dataset), "", "ELITE Features:", *shown]


effectiveness = _command(
    "create_training_dataset_effectiveness.py",
    "effectiveness",
    "training_data_effectiveness",
    EFFECTIVENESS,
    _effective,
)
elite = _command("create_training_dataset_ELITE.py", "elite", "training_data_ELITE", ELITE, _elite)
