"""`git starcoder run`: builds, checks, trains, evaluates and completes within a time budget."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import user_paths
from git_starcoder.cli.build import dataset_values, describe_dataset
from git_starcoder.cli.check import outcome_table, outcome_values, run_checks
from git_starcoder.cli.console import Console, json_schema, to_json
from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import (
    PATH_TYPE,
    build_options,
    common_options,
    open_cache,
    open_engine,
    override_seed,
)
from git_starcoder.cli.train import describe_training
from git_starcoder.errors import ExitCode, OutputError, UsageError
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_starcoder.bases import Base
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.base_model import BaseModel
    from git_starcoder.recipe import Recipe

RESULT_FILE = "run.json"
SCHEMA_PREFIX = "git-starcoder/run/"
"""The start of the schema in `RESULT_FILE`, by which a folder is recognised as a run."""
EVALUATION_SHARE = 0.2
"""The share of the time budget that training leaves to evaluation."""
MIN_TRAINING_SHARE = 0.2
"""The share of the time budget that training always gets, even after a slow build."""
SCORING_SHARE = 0.9
"""The share of the time left after training that scoring may use; the rest is for the completion."""
THRESHOLD_SHARE = 0.5
"""The share of the time left after scoring in which the threshold of `serve` is chosen."""
SHOWN_PROMPT_LINES = 8
"""The number of lines at the end of the prompt that are printed above the completion."""
MAX_COMPLETION_TOKENS = 64
"""The length of the completion: about as many tokens as the author's lines that it is compared with."""
NO_REPEAT_NGRAM = 6
"""The shown completion never repeats a run of this many tokens, because small models otherwise repeat themselves
endlessly. On code this read better than sampling at a temperature of 0.4 or 0.6."""


@click.command("run")
@build_options
@click.option("-o", "--out", type=PATH_TYPE, default=Path("starcoder_run"), show_default=True, help="Folder to write.")
@click.option(
    "--minutes", type=float, default=10.0, show_default=True, help="Time budget for all steps together, in minutes."
)
@click.option("--base", "base_name",
              help="Base to start from: a name from `git starcoder base list`, the folder or the Hugging Face id of a "
              "causal language model, or none to train from scratch (default: the first in the list, if there is "
              "one).")  # fmt: skip
@click.option("--tune", type=click.Choice(["full", "lora", "qlora"]),
              help="How to train a base: full trains all weights, lora trains only adapters, and qlora does so with "
              "the base weights stored in 4 bits (default: full for a base in the list, lora for others).")  # fmt: skip
@click.option("--size",
              help="Train a model of this size from scratch: tiny (4 million parameters), small (28 million), or "
              "another size that `git starcoder train` accepts (default: start from a base; with --base none: "
              "tiny).")  # fmt: skip
@click.option(
    "--force", is_flag=True, help="Build again even if the dataset is up to date, and replace files that you edited."
)
@common_options
def command(
    console: Console, repo: Path, rev: str, name: str, overrides: tuple[str, ...], seed: int | None, jobs: int | None,
    use_cache: bool, out: Path, minutes: float, base_name: str | None, tune: str | None, size: str | None, force: bool,
) -> ExitCode:  # fmt: skip
    """Run build, check, train, eval and complete with one command.

    REPO is the folder of a Git repository (default: the current folder). Its code is only read, never run.

    Training starts from a base, a small model that has read other repositories, if git-starcoder comes with one, or
    from any causal language model. The dataset then has its tokenizer, and its score before tuning is shown as well.

    The model is trained on shuffled rows, even if the recipe has a curriculum, because no benefit of a curriculum was
    measured. `git starcoder train` follows the curriculum.

    The command always trains from the beginning. If a check fails, it ends before training, with exit code 1.

    The time budget is divided as follows. Building and checking take the time that they need. A fifth of the budget is
    reserved for evaluation. Training gets the rest, but at least a fifth of the budget. If little time is left,
    evaluation scores fewer samples, but always a few thousand tokens and ten lines.
    """
    from git_starcoder.bases import Base
    from git_starcoder.git.objects import Repo
    from git_starcoder.pipeline import build
    from git_starcoder.recipe import Recipe

    if not minutes > 0:
        raise UsageError("the time budget must be above 0", where="--minutes")
    start = time.monotonic()
    user_paths.offer_temporary_folder(out)
    recipe = Recipe.load(name, override_seed(overrides, seed))
    repository = Repo.open(repo, rev)
    base, reason = _choose_base(base_name, size, recipe)
    start_model = _start_model(base, size, tune)
    if base is not None:
        recipe = Recipe.load(name, (*override_seed(overrides, seed), *_overrides_for(base, recipe)))
    _prepare_folder(out, force=force)
    console.print_message(reason)
    for note in () if base is None or isinstance(base, Base) else base.notes():
        console.print_message(note)
    with (
        show_progress(console) as progress,
        open_engine(progress, jobs) as engine,
        open_cache(progress, wanted=use_cache) as cache,
    ):
        folder = out / "dataset"
        dataset = build(repository, recipe, folder, engine=engine, progress=progress, cache=cache, force=force)
    console.print_section(describe_dataset(dataset, dataset.folder))
    outcomes = run_checks(console, dataset, repository)
    console.print_section(outcome_table(outcomes))
    values = {"dataset": dataset_values(dataset), **outcome_values(outcomes), "start": start_model}
    if any(outcome.finding_count for outcome in outcomes):
        return _finish(console, out, values, ExitCode.FINDINGS)

    def minutes_left() -> float:
        return minutes - (time.monotonic() - start) / 60

    values |= _train_and_evaluate(console, dataset, out / "model", minutes_left, minutes, start_model, recipe.seed)
    return _finish(console, out, values, ExitCode.SUCCESS)


def _choose_base(name: str | None, size: str | None, recipe: Recipe) -> tuple[Base | BaseModel | None, str]:
    """The base to start from, None for a model from scratch; and what the user should know about this choice."""
    from git_starcoder.bases import NO_BASE, NO_SHIPPED_BASE, default_base

    if name is not None and name != NO_BASE:
        if size is not None:
            raise UsageError("a base has its own size", where="--size", hint="leave out --size, or use --base none")
        base = _open_base(name)
        if problem := _reason_against(base, recipe):
            raise UsageError(
                problem, where="--base", hint="change window.size or window.tokenizer with --set, or use --base none"
            )
        return base, f"training starts from the base '{base.name}'"
    if name == NO_BASE or size is not None:
        return None, "training starts from scratch"
    base = default_base()
    if base is None:
        return None, f"training starts from scratch: {NO_SHIPPED_BASE}"
    if problem := _reason_against(base, recipe):
        return None, f"training starts from scratch: {problem}"
    return base, f"training starts from the base '{base.name}'; --base none trains from scratch"


def _open_base(name: str) -> Base | BaseModel:
    """A bundled base, or another causal language model in a folder or with a Hugging Face id."""
    from git_starcoder.bases import find_base, require_base
    from git_starcoder.user_paths import expand_user

    if base := find_base(name):
        return base
    if "/" not in name and not expand_user(name).is_dir():  # an id has an owner
        return require_base(name, where="--base", advice=": give a folder or a Hugging Face id, or use --base none")
    from git_starcoder.model.base_model import BaseModel

    return BaseModel.open(name)


def _start_model(base: Base | BaseModel | None, size: str | None, tune: str | None) -> dict[str, str]:
    """The training keys that say what training starts from, and how a base is tuned.

    Raises:
        UsageError: The way of tuning is not possible here.
        MissingExtraError: It needs a library that is not installed.
    """
    from git_starcoder.bases import Base

    if base is None:
        if tune is not None:
            raise UsageError("a model from scratch is not tuned", where="--tune", hint="give --base, too")
        return {"size": size or "tiny"}
    tune = tune or ("full" if isinstance(base, Base) else "lora")
    if tune != "full":
        from git_starcoder.model.config import TrainConfig
        from git_starcoder.model.devices import best_device
        from git_starcoder.model.extras import require_libraries

        require_libraries(TrainConfig.load(base=base.name, tune=tune), best_device())
    return {"base": base.name} if tune == "full" else {"base": base.name, "tune": tune}


def _overrides_for(base: Base | BaseModel, recipe: Recipe) -> list[str]:
    """What a recipe needs for a base: its tokenizer, and rows that it can read whole."""
    from git_starcoder.bases import Base
    from git_starcoder.model.packing import TILE_TOKENS
    from git_starcoder.stages.window import resolve_sizes

    overrides = [f"window.tokenizer={json.dumps(base.name)}"] if recipe.window.tokenizer == "learn" else []
    longest = None if isinstance(base, Base) else _longest_row(base)  # the build knows the rows of a bundled base
    if isinstance(recipe.window.size, str) and longest is not None:
        whole_tiles = longest - longest % TILE_TOKENS or longest
        sizes = [size for size in resolve_sizes(recipe).window.sizes if size <= longest] or [whole_tiles]
        overrides.append(f"window.size={sizes[0] if len(sizes) == 1 else sizes}")
    return overrides


def _longest_row(base: Base | BaseModel) -> int | None:
    """Tokens of the longest row that a base can read; None if any."""
    from git_starcoder.bases import Base

    if isinstance(base, Base):
        return base.window
    from git_starcoder.model.packing import FIM_TOKEN_COUNT

    return None if base.positions is None else base.positions - FIM_TOKEN_COUNT


def _reason_against(base: Base | BaseModel, recipe: Recipe) -> str:
    """Why training on the dataset of a recipe cannot start from a base, or ""."""
    tokenizer, size, longest = recipe.window.tokenizer, recipe.window.size, _longest_row(base)
    if tokenizer not in {"learn", base.name}:
        return f"the recipe has the tokenizer '{tokenizer}', and the base '{base.name}' its own"
    if not isinstance(size, str) and longest is not None and max(recipe.window.sizes) > longest:
        rows = f"{max(recipe.window.sizes):,} tokens"
        return f"the recipe has rows of {rows}, and the base '{base.name}' reads {longest:,}"
    return ""


def _train_and_evaluate(
    console: Console, dataset: Dataset, model_folder: Path, minutes_left: Callable[[], float], minutes: float,
    start_model: Mapping[str, str], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Trains a model, scores it and shows a completion; returns the values of these parts for `--json`."""
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.devices import import_libraries
    from git_starcoder.model.evaluate import NothingHeldOutError, evaluate, format_scores, save_scores
    from git_starcoder.model.training import train
    from git_starcoder.serve.confidence import choose_threshold

    with show_progress(console) as progress:
        progress.begin("prepare", None)
        import_libraries()  # loading torch takes seconds, which training does not get
        training_minutes = max(minutes * MIN_TRAINING_SHARE, minutes_left() - minutes * EVALUATION_SHARE)
        # In one comparison (click, one seed, a short training) the curriculum cost 6.5 % of the held-out bits per byte.
        config = TrainConfig.load(None, (), minutes=training_minutes, order="shuffled", seed=seed, **start_model)
        result = train(dataset, model_folder, config, progress=progress, force=True, fresh=True)
    console.print_section(describe_training(result))
    values: dict[str, Any] = {"training": asdict(result)}
    with show_progress(console) as progress:
        seconds = minutes_left() * 60 * SCORING_SHARE
        try:
            scores = evaluate(model_folder, dataset, seconds=seconds, seed=seed, progress=progress)
        except NothingHeldOutError as error:
            console.print_section(error.what)
            return values
    save_scores(scores, model_folder)
    console.print_section(format_scores(scores))
    values |= {key: value for key, value in scores.as_values().items() if key != "dataset"}  # a part of its own
    with show_progress(console) as progress:
        progress.begin("threshold", None)
        choice = choose_threshold(model_folder, dataset, seconds=max(0.0, minutes_left() * 60 * THRESHOLD_SHARE))
    if choice is not None:
        console.print_section(str(choice))
        values["serving"] = choice._asdict()
    return values | _show_completion(console, dataset, model_folder, seed)


def _show_completion(console: Console, dataset: Dataset, model_folder: Path, seed: int) -> dict[str, Any]:
    """Lets the model continue a held-out file; returns the values of this part for `--json`."""
    from git_starcoder.model.complete import complete, find_completion_example
    from git_starcoder.model.evaluate import held_out_blobs
    from git_starcoder.text.encoding import split_lines

    held_out = find_completion_example(dataset, seed, held_out_blobs(model_folder))
    if held_out is None:
        console.print_section("no held-out file is long enough to show a completion")
        return {}
    completion = complete(
        model_folder, held_out.prompt, max_tokens=MAX_COMPLETION_TOKENS, no_repeat_tokens=NO_REPEAT_NGRAM
    )
    prompt_end = b"".join(split_lines(held_out.prompt.encode())[-SHOWN_PROMPT_LINES:]).decode()
    method = f"the most likely tokens, without repeating any {NO_REPEAT_NGRAM} of them"
    lines = [f"{escape_line(held_out.path)}, which the model has never seen:"]
    for title, text in (
        (f"prompt, the last {SHOWN_PROMPT_LINES} lines", prompt_end),
        (f"completion by the model ({method})", completion),
        ("what the author wrote", held_out.author),
    ):
        lines += [f"--- {title}", text.rstrip("\n")]
    console.print_section("\n".join(lines))
    shown = {"path": held_out.path, "prompt": prompt_end, "author": held_out.author}
    return {"completion": {**shown, "model": completion, "how": method}}


def _prepare_folder(out: Path, *, force: bool) -> None:
    """Creates the folder of the run; an `OutputError` if it cannot be written or a file of the user is in the way."""
    from git_starcoder import dataset
    from git_starcoder.model.training import MODEL_KIND
    from git_starcoder.output import contents
    from git_starcoder.output.files import convert_os_errors
    from git_starcoder.output.folder import resolve_destination

    with convert_os_errors(out):
        folder = resolve_destination(out, "run")
        model = resolve_destination(folder / "model", "model")
        has_result = contents.has_schema(folder / RESULT_FILE, SCHEMA_PREFIX)
        is_run = (
            has_result
            or contents.is_own_gitignore(folder / contents.GITIGNORE_NAME)
            or contents.read_marker(folder / "dataset" / dataset.MANIFEST_FILE, dataset.DATASET_FOLDER) is not None
        )
        is_free = not os.path.lexists(folder) or (folder.is_dir() and contents.is_practically_empty(folder))
        if not is_run and not is_free:
            what = f"'{out}' exists and is not a folder that git starcoder run wrote"
            hint = "choose another folder with --out, or remove it yourself"
            raise OutputError(what, where="--out", hint=hint)
        if os.path.lexists(folder / RESULT_FILE) and not has_result:
            what = f"'{RESULT_FILE}' in '{out}' is your file, but the run needs its name"
            raise OutputError(what, where="--out", hint="move it away, or choose another folder with --out")
        if (found := contents.inspect_folder(model, MODEL_KIND)) is not None:
            contents.require_replaceable(model, found, MODEL_KIND, force=force)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"no permission to write '{out}'", where="--out", hint="change its permissions")
        if not os.path.lexists(folder / contents.GITIGNORE_NAME):
            contents.write_gitignore(folder)


def _finish(console: Console, out: Path, values: dict[str, Any], code: ExitCode) -> ExitCode:
    """Writes `run.json`, and prints the end of the result."""
    from git_starcoder.output.files import convert_os_errors, write_atomically

    with convert_os_errors(out):
        write_atomically(out / RESULT_FILE, to_json({"schema": json_schema(console.verb), **values}, indent=1) + "\n")
    return console.answer(values, f"everything is in {escape_line(str(out))}", code)
