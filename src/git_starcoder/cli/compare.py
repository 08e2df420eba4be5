"""`git starcoder compare`: compares recipes, features of a recipe, or models on one held-out text."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click

from git_starcoder import registry, user_paths
from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, NumberRange, common_options, open_cache, open_engine
from git_starcoder.errors import UsageError

if TYPE_CHECKING:
    from git_starcoder.cli.console import Console
    from git_starcoder.comparison.arms import Arm, ArmOptions
    from git_starcoder.comparison.compare import ArmComparison
    from git_starcoder.errors import ExitCode


@click.command("compare")
@click.argument("names", metavar="[ARM]...", nargs=-1)
@click.option("--repo", type=PATH_TYPE, help="Repository that recipes are compared on (default: the current folder).")
@click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to read.")
@click.option("--dataset", "dataset_folder", type=PATH_TYPE, help="Dataset whose test split models are compared on.")
@click.option("--without", "removed", multiple=True, metavar="FEATURE",
              help="Compare the recipe with itself without a feature, such as augment.comment_toggle, weigh or "
              "train.fim. You can repeat this flag.")  # fmt: skip
@click.option("--ablate", is_flag=True, help="Compare the recipe with itself without each of its features.")
@click.option(
    "--arms", "arms_file", type=PATH_TYPE,
    help="YAML file of arms, NAME: {recipe: NAME, set: [KEY=VALUE], train: [KEY=VALUE], seed: N}.",
)  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Override a key of all recipes. You can repeat this flag.")  # fmt: skip
@click.option("--train", "training", multiple=True, metavar="KEY=VALUE",
              help="Override a training key of all arms, such as dropout=0.1. You can repeat this flag.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True,
              help="Number of trainings of each arm, each with another seed.")  # fmt: skip
@click.option("--tokens", type=NumberRange(1), default=400_000, show_default=True,
              help="Tokens that each training trains on.")  # fmt: skip
@click.option("--base", help="Base that all trainings start from (default: they start from scratch).")
@click.option("--size", default="tiny", show_default=True, help="Size of models from scratch.")
@click.option("--network-only", is_flag=True,
              help="Score the networks alone, without a memory of the repository: faster.")  # fmt: skip
@click.option("--work", type=PATH_TYPE, default="compare.work", show_default=True,
              help="Folder that keeps finished trainings, so that an interrupted comparison goes on.")  # fmt: skip
@click.option("-o", "--out", type=PATH_TYPE, help="HTML file to write, with a plot (default: none).")
@click.option("--cache/--no-cache", "use_cache", default=True,
              help="Read and write the cache of builds (default: yes).")  # fmt: skip
@click.option("-j", "--jobs", type=click.IntRange(1), help="Number of worker processes (default: one per CPU).")
@common_options
def command(
    console: Console, names: tuple[str, ...], repo: Path | None, rev: str, dataset_folder: Path | None,
    removed: tuple[str, ...], ablate: bool, arms_file: Path | None, overrides: tuple[str, ...],
    training: tuple[str, ...], seeds: int, tokens: float, base: str | None, size: str, network_only: bool, work: Path,
    out: Path | None, use_cache: bool, jobs: int | None,
) -> ExitCode:  # fmt: skip
    """Compare recipes, features or models on held-out text.

    ARM is the name or the file of a recipe, or the folder of a model. The first one is the reference that the
    others are compared with. Without ARM, it is the default recipe, and --without or --ablate says what to compare.

    Recipes are compared on a repository. Each is trained with several seeds, always on the same number of tokens. The
    files that are held out are the same for all recipes and seeds.

    Models are compared on the test split of a dataset (--dataset).
    """
    from git_starcoder.comparison.arms import ArmOptions
    from git_starcoder.comparison.show import format_comparison, render_comparison
    from git_starcoder.report import page

    if out is not None:  # what can fail is tried before the work
        page.require_libraries()
        _require_writable(out)
    if not isfinite(tokens):
        raise UsageError("the number of tokens must be finite", where="--tokens")
    if names and all((Path(name) / "training.json").is_file() for name in names):
        if removed or ablate or arms_file or repo:
            hint = "leave out --repo, --arms, --without and --ablate"
            raise UsageError("models are compared as they are", where="compare", hint=hint)
        comparison, place = _compare_models(console, names, dataset_folder)
    else:
        options = ArmOptions(overrides, training, tokens, base, size)
        arms = _list_arms(names, arms_file, removed, options, is_ablation=ablate)
        user_paths.offer_temporary_folder(work)
        repo = repo or Path()
        comparison = _compare_recipes(
            console, arms, repo, rev, seeds, work, jobs, use_cache=use_cache, with_memory=not network_only
        )
        place = repo.resolve().name
    if out is not None:
        _write_page(out, render_comparison(comparison, place))
    text = format_comparison(comparison)
    return console.answer({**comparison.as_values(), "out": None if out is None else str(out)}, text)


def _list_arms(
    names: tuple[str, ...], arms_file: Path | None, removed: tuple[str, ...], options: ArmOptions, *, is_ablation: bool
) -> list[Arm]:
    """The arms that the user named; the first one is the reference."""
    from git_starcoder.comparison.arms import ablate, read_arms, without

    arms = [] if arms_file is None else read_arms(arms_file, options)
    if not names and arms_file is None:
        names = (registry.DEFAULT_RECIPE,)
    arms += [options.make_arm(Path(name).stem, name) for name in names]
    if removed or is_ablation:
        if len(arms) != 1:
            what = f"features are switched off in one recipe, and {len(arms)} are given"
            raise UsageError(what, where="--ablate" if is_ablation else "--without", hint="name one recipe")
        arms += [without(arms[0], feature) for feature in removed]
        known = {arm.name for arm in arms}
        arms += [arm for arm in ablate(arms[0]) if arm.name not in known] if is_ablation else []
    if len(arms) < 2:
        hint = "name two recipes or models, or use --without FEATURE or --ablate"
        raise UsageError("there is nothing to compare with", where="compare", hint=hint)
    return arms


def _compare_recipes(
    console: Console, arms: list[Arm], path: Path, rev: str, seeds: int, work: Path, jobs: int | None,
    *, use_cache: bool, with_memory: bool,
) -> ArmComparison:  # fmt: skip
    from git_starcoder.comparison.compare import compare_recipes
    from git_starcoder.comparison.work_folder import open_work_folder
    from git_starcoder.git.objects import Repo

    repository = Repo.open(path, rev)
    with (
        open_work_folder(work) as folder,
        show_progress(console) as progress,
        open_engine(progress, jobs) as engine,
        open_cache(progress, wanted=use_cache) as cache,
    ):
        return compare_recipes(
            repository,
            arms,
            folder,
            seeds=seeds,
            engine=engine,
            cache=cache,
            progress=progress,
            with_memory=with_memory,
        )


def _compare_models(console: Console, names: tuple[str, ...], dataset_folder: Path | None) -> tuple[ArmComparison, str]:
    from git_starcoder.comparison.compare import compare_models
    from git_starcoder.dataset import Dataset

    if len(names) < 2:
        raise UsageError("there is nothing to compare with", where="compare", hint="name two models")
    if dataset_folder is None:
        hint = "--dataset names the dataset that they were trained on"
        raise UsageError("models are compared on the test split of a dataset", where="compare", hint=hint)
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"the model '{twice[0]}' is given twice", where="compare")
    dataset = Dataset.open(dataset_folder)
    with show_progress(console) as progress:
        progress.begin("compare", None)
        return compare_models({name: Path(name) for name in names}, dataset), str(dataset.metadata["source_repo"])


def _require_writable(out: Path) -> None:
    from git_starcoder.cli.report import require_writable
    from git_starcoder.output.files import convert_os_errors
    from git_starcoder.output.folder import resolve_destination
    from git_starcoder.report import page

    with convert_os_errors(out):
        require_writable(resolve_destination(out, "page"), out, page.REPORT_GENERATOR)


def _write_page(out: Path, html: str) -> None:
    from git_starcoder.output.files import convert_os_errors, write_atomically
    from git_starcoder.output.folder import resolve_destination

    _require_writable(out)  # another file may be there by now
    with convert_os_errors(out):
        write_atomically(resolve_destination(out, "page"), html)
