"""`git starcoder build`: builds a dataset from a repository, or prints what a build would contain (`--dry-run`)."""

from __future__ import annotations

import os
import re
import tempfile
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import user_paths
from git_starcoder.cli.progress import drop_reasons, show_progress
from git_starcoder.cli.shared_options import (
    PATH_TYPE,
    common_options,
    find_cache,
    open_cache,
    open_engine,
    override_seed,
    resolve_jobs,
    settings_options,
)
from git_starcoder.errors import UsageError
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from git_starcoder.cli.console import Console
    from git_starcoder.dataset import Dataset
    from git_starcoder.errors import ExitCode
    from git_starcoder.git.objects import Repo
    from git_starcoder.many.build import Share
    from git_starcoder.many.share import Phase
    from git_starcoder.many.tasks import RepositorySource
    from git_starcoder.protocols import Engine, Progress
    from git_starcoder.recipe import Recipe

JSON_BYTES_PER_TOKEN = 4.0
"""An estimate for the dry run: the JSON text of a token of a row, padding included."""
JSON_BYTES_PER_ROW = 700
"""An estimate for the dry run: the JSON text of a row's metadata."""


class _ShareType(click.ParamType[Any]):
    """The number of a process and of all processes: `3/8` is the third of eight."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from git_starcoder.many.build import Share

        found = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", value, re.ASCII)
        if not found or int(found[1]) > int(found[2]):
            self.fail(f"{value!r} is not one of several parts, such as 3/8", param, ctx)
        return Share(*map(int, found.groups()))


FALLBACKS = {
    "uneven": "the splits have other shares than the recipe asks for, because related files stay together",
    "no test": "there are only two groups of different files, so test is empty",
    "all train": "all files are alike, so val and test are empty",
}
"""What the figure `fallback` of the step split means."""


@click.command("build")
@click.argument("repos", metavar="[REPO]...", nargs=-1, type=PATH_TYPE)
@click.option("--list", "list_file", type=PATH_TYPE,
              help="File with a repository on each line: its path, and after tabs a revision and a name if needed. "
              "Makes a dataset of many repositories.")  # fmt: skip
@settings_options
@click.option("--format", "row_format", type=click.Choice(["jsonl", "parquet"]),
              help="File format of the rows; the same as --set write.format=F (default: jsonl).")  # fmt: skip
@click.option(
    "--copies", is_flag=True, help="Write a training row of weight 3 three times, for trainers that ignore weights."
)
@click.option(
    "--labels", is_flag=True, help="Add input_ids, attention_mask and labels to each row, for other trainers."
)
@click.option("-o", "--out", type=PATH_TYPE, help="Folder to write (default: training_data_<recipe>).")
@click.option("-n", "--dry-run", is_flag=True,
              help="Print an estimate of the dataset of one repository, and write nothing.")  # fmt: skip
@click.option("--license", "licenses", multiple=True, metavar="SPDX",
              help="Of many repositories, use only those with this licence, for example MIT. "
              "You can repeat this flag.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Stop if one of many repositories cannot be read (default: leave it out).")
@click.option("--work", type=PATH_TYPE,
              help="Folder that keeps what is known about each of many repositories, for later builds "
              "(default: OUT.work, or none with --no-cache).")  # fmt: skip
@click.option("--engine", "engine_name", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="What runs the work on many repositories: processes on this machine, or a Ray cluster.")  # fmt: skip
@click.option("--ray-address", metavar="ADDRESS",
              help="Address of a Ray cluster, or auto for the one this machine belongs to "
              "(default: RAY_ADDRESS, else a cluster on this machine that ends with the command).")  # fmt: skip
@click.option(
    "--shard",
    metavar="I/N",
    type=_ShareType(),
    help="Do one phase for the I-th of N parts of the repositories, and end. For job arrays.",
)
@click.option("--phase", type=click.Choice(["read", "rows", "write"]),
              help="The phase that --shard does. All processes of a phase must end before the next phase.")  # fmt: skip
@click.option("--force", is_flag=True, help="Rebuild even if the dataset is up to date or you edited its files.")
@common_options
def command(
    console: Console, repos: tuple[Path, ...], list_file: Path | None, rev: str, name: str,
    overrides: tuple[str, ...], seed: int | None, jobs: int | None, use_cache: bool, row_format: str | None,
    copies: bool, labels: bool, out: Path | None, dry_run: bool, licenses: tuple[str, ...], strict: bool,
    work: Path | None, engine_name: str, ray_address: str | None, shard: Share | None, phase: Phase | None,
    force: bool,
) -> ExitCode:  # fmt: skip
    """Build a training dataset from one or many Git repositories.

    REPO is the folder of a repository (default: the current folder). Several, or those of --list, become one dataset.
    Their code is only read, never run.
    """
    from git_starcoder.dataset import read_rows
    from git_starcoder.git.objects import Repo
    from git_starcoder.pipeline import build
    from git_starcoder.recipe import Recipe

    is_many = len(repos) > 1 or list_file is not None
    if not is_many:
        _require_many("--license", licenses)
        _require_many("--strict", strict)
        _require_many("--work", work)
        _require_many("--engine ray", engine_name == "ray")
        _require_many("--shard", shard)
        _require_many("--phase", phase)
    elif dry_run:
        raise UsageError("--dry-run is for one repository", where="--dry-run")
    if ray_address and engine_name != "ray":
        raise UsageError("--ray-address is for --engine ray", where="--ray-address")
    if licenses:
        overrides = (*overrides, f"repos.licenses=[{', '.join(licenses)}]")
    flags = {"write.format": row_format, "write.copies": copies and "true", "write.labels": labels and "true"}
    overrides = (*overrides, *(f"{key}={value}" for key, value in flags.items() if value))
    recipe = Recipe.load(name, override_seed(overrides, seed))
    if recipe.write.format == "parquet":
        read_rows.import_pyarrow()  # a missing library is reported before the work starts
    out = out or Path(f"training_data_{recipe_file_name(recipe)}")
    if not dry_run:
        user_paths.offer_temporary_folder(out)
    if is_many:
        sources = _list_sources(repos, list_file, rev)
        named = out if out.name not in {"", ".."} else os.path.abspath(out)  # noqa: PTH100 - `.` has no name
        work = work or (Path(f"{named}.work") if use_cache else None)
        if shard or phase:
            return _build_share(
                console, sources, recipe, out, work, jobs, shard, phase, engine_name, strict=strict, force=force
            )
        cluster = (ray_address or os.environ.get("RAY_ADDRESS", "")) if engine_name == "ray" else None
        return _build_many(
            console, sources, recipe, out, work, jobs, cluster, use_cache=use_cache, strict=strict, force=force
        )
    repository = Repo.open(repos[0] if repos else Path(), rev)
    with (
        show_progress(console) as progress,
        open_engine(progress, jobs) as engine,
        open_cache(progress, wanted=use_cache) as cache,
    ):
        if dry_run:
            plan = estimate_build(repository, recipe, engine, progress)
            return console.answer({"plan": plan, "out": str(out)}, describe_estimate(plan, out))
        dataset = build(repository, recipe, out, engine=engine, progress=progress, cache=cache, force=force)
    values = {"out": str(out), **dataset_values(dataset), "notes": repository.notes}
    return console.answer(values, describe_dataset(dataset, out))


def _require_many(flag: str, value: object) -> None:
    """A `UsageError` if a flag for many repositories is used with one."""
    if value:
        hint = "give several repositories, or a list with --list"
        raise UsageError(f"{flag} is for many repositories", where=flag, hint=hint)


def _list_sources(repos: tuple[Path, ...], list_file: Path | None, rev: str) -> list[RepositorySource]:
    """All repositories of the arguments and of the list."""
    from git_starcoder.many.repositories import read_list
    from git_starcoder.many.tasks import RepositorySource

    sources = [RepositorySource(path, rev) for path in repos]
    return sources if list_file is None else [*sources, *read_list(list_file, rev)]


def _build_many(
    console: Console, sources: list[RepositorySource], recipe: Recipe, out: Path, work: Path | None,
    jobs: int | None, cluster: str | None, *, use_cache: bool, strict: bool, force: bool,
) -> ExitCode:  # fmt: skip
    """Builds one dataset from many repositories, and prints it.

    `cluster` is the address of a Ray cluster, "" for one on this machine, and None to work without Ray.
    """
    from git_starcoder.many.build import build_many, require_buildable
    from git_starcoder.many.tasks import CacheFolder

    require_buildable(recipe, out, work)  # before Ray looks for the work folder

    with (
        show_progress(console) as progress,
        open_engine(progress, jobs) if cluster is None else _open_ray(jobs, cluster, work, sources) as engine,
    ):
        found = find_cache(progress, wanted=use_cache and not cluster)  # SQLite does not work on shared storage
        cache = None if found is None else CacheFolder(*found)
        dataset = build_many(
            sources, recipe, out, engine=engine, progress=progress, cache=cache, work=work, strict=strict, force=force
        )
    counts = dataset.manifest["repositories"]
    values = {"out": str(out), **dataset_values(dataset), "repositories": counts}
    dropped = f"; left out: {drop_reasons(counts['dropped'], verbose=True)}" if counts["dropped"] else ""
    made_of = f"  made of {counts['kept']:,} of {counts['seen']:,} repositories{dropped}"
    return console.answer(values, f"{describe_dataset(dataset, out)}\n{made_of}")


def _build_share(
    console: Console, sources: list[RepositorySource], recipe: Recipe, out: Path, work: Path | None, jobs: int | None,
    share: Share | None, phase: Phase | None, engine_name: str, *, strict: bool, force: bool,
) -> ExitCode:  # fmt: skip
    """Does one phase for a share of many repositories, and prints how many."""
    from git_starcoder.many.share import build_share

    if share is None or phase is None:
        given, missing = ("--phase", "--shard I/N") if share is None else ("--shard", "--phase read, rows or write")
        raise UsageError(f"{given} needs {missing}", where=given)
    if force:
        raise UsageError("--shard does without --force", where="--force", hint="give it to the last command")
    if engine_name != "local":
        raise UsageError("--shard does without Ray", where="--engine ray", hint="use one or the other")
    if work is None:
        raise UsageError("--shard needs a work folder", where="--no-cache", hint="name one with --work FOLDER")
    with show_progress(console) as progress, open_engine(progress, jobs) as engine:
        done = build_share(sources, recipe, phase, share, engine, out, work, progress=progress, strict=strict)
    values = {"phase": phase, "shard": [share.number, share.count], "work": str(work), **done._asdict()}
    repositories = "repository" if done.done == 1 else "repositories"
    text = f"{phase} {share.number}/{share.count}: {done.done:,} {repositories} done in {escape_line(str(work))}"
    return console.answer(values, text)


def _open_ray(
    jobs: int | None, cluster: str, work: Path | None, sources: list[RepositorySource]
) -> AbstractContextManager[Engine]:
    """Connects to Ray, and makes sure that its nodes see the repositories and the work folder."""
    from git_starcoder.engine.ray import RayEngine
    from git_starcoder.many.storage import open_work_folder

    if work is None:
        raise UsageError("--engine ray needs a work folder", where="--no-cache", hint="name one with --work FOLDER")
    engine = RayEngine(resolve_jobs(jobs), cluster)
    try:
        # With the file by which the nodes find it, a new folder would not be taken for a work folder.
        engine.require_shared(open_work_folder(work), [source.path for source in sources if source.path.exists()])
    except BaseException:
        engine.close()
        raise
    return engine


def recipe_file_name(recipe: Recipe) -> str:
    """The recipe's name in a form that can be part of a file name."""
    return re.sub(r"[^\w.-]+", "_", recipe.name)


def dataset_values(dataset: Dataset) -> dict[str, Any]:
    """What `--json` prints about a dataset."""
    return {"digest": dataset.digest, "metadata": dataset.metadata, "steps": dataset.steps}


def describe_dataset(dataset: Dataset, out: Path) -> str:
    """The folder, the rows of each split, the size, and what each step dropped, as text."""
    from git_starcoder.records import SPLITS

    metadata = dataset.metadata
    byte_count = sum(file["bytes"] for file in dataset.manifest["files"].values())
    rows = ", ".join(f"{split} {metadata[f'{split}_sequences']:,}" for split in SPLITS)
    windows = ", ".join(f"{size:,}" for size in metadata["context_windows"])
    lines = [
        escape_line(str(out)),
        f"  rows    {metadata['total_sequences']:,}: {rows}",
        f"  tokens  {metadata['total_tokens']:,} in windows of {windows}",
        f"  bytes   {byte_count:,}",
    ]
    for step in dataset.steps:
        name, dropped, fallback = step["step"], step["dropped"], step["figures"].get("fallback", "none")
        if dropped:
            reasons = drop_reasons(dropped, verbose=True)
            lines.append(f"  {name:8}kept {step['kept']:,} of {step['seen']:,}; dropped {reasons}")
        if fallback != "none":
            lines.append(f"  {name:8}{FALLBACKS.get(fallback, fallback)}")
    return "\n".join(lines)


def estimate_build(repo: Repo, recipe: Recipe, engine: Engine, progress: Progress) -> dict[str, Any]:
    """What a build would read and write, as `--json` prints it. Files and changes are exact, the rest is estimated.

    Only the steps read, analyse and split run. `changes_seen` are the changes that commits made to files; 0 if the
    recipe reads no history.
    """
    from git_starcoder.build_state import BuildState
    from git_starcoder.pipeline import read_and_split
    from git_starcoder.records import SPLITS
    from git_starcoder.stages import newest_commits, window

    recipe = newest_commits.resolve_commits(window.resolve_sizes(recipe), repo)
    sizes = recipe.window.sizes
    with (
        tempfile.TemporaryDirectory(dir=user_paths.temporary_folder()) as folder,
        BuildState(Path(folder), recipe.seed, engine, progress) as state,
    ):
        units, changes = read_and_split(state, recipe, repo, newest_commits.open_past(recipe, repo))
    entry_count = int(state.steps[0].figures["entries"])
    figures = state.steps[-1].figures
    row_count = sum(int(figures[f"expected_rows_{name}"]) for name in SPLITS)
    # Every window size covers the same text, so it has rows in proportion to 1 / size, and all have as many tokens:
    # 30 rows with sizes 64 and 128 -> 20 + 10 rows, 20 * 64 + 10 * 128 = 2,560 tokens.
    token_count = round(len(sizes) * row_count / fsum(1 / size for size in sizes))
    return {
        "commit": repo.commit, "files": len(units), "files_seen": entry_count,
        "changes": len(changes), "changes_seen": state.steps[0].seen - entry_count,
        "text_bytes": sum(unit.source.text.stop - unit.source.text.start for unit in units),
        "windows": sizes, "rows": row_count, "tokens": token_count,
        "bytes": round(token_count * JSON_BYTES_PER_TOKEN + row_count * JSON_BYTES_PER_ROW),
    }  # fmt: skip


def describe_estimate(plan: dict[str, Any], out: Path) -> str:
    """The result of `estimate_build` as text."""
    changes = f"  changes {plan['changes']:,} of {plan['changes_seen']:,} that commits made to files\n"
    return (
        f"would build {escape_line(str(out))} from commit {plan['commit'][:12]}\n"
        f"  files   {plan['files']:,} of {plan['files_seen']:,}, {plan['text_bytes']:,} bytes of text\n"
        f"{changes if plan['changes_seen'] else ''}"
        f"  windows {', '.join(f'{size:,}' for size in plan['windows'])} tokens\n"
        f"  rows    about {plan['rows']:,}\n  tokens  about {plan['tokens']:,}\n  bytes   about {plan['bytes']:,}"
    )
