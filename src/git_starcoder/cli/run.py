"""`git starcoder run`: build, check, train, eval and complete, in one go and within a budget of time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import places
from git_starcoder.cli import build as building
from git_starcoder.cli import check as checking
from git_starcoder.cli import train as training
from git_starcoder.cli.options import PATH, of_build, opened_cache, opened_engine, with_seed
from git_starcoder.cli.talk import as_json, common, one_line, schema
from git_starcoder.errors import ExitCode, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.cli.talk import Talk
    from git_starcoder.dataset import Dataset

RESULT = "run.json"
SCHEMA = "git-starcoder/run/"
"""How the schema of the result begins."""
REST = 0.2
"""Of the budget, what training leaves to evaluation."""
LEAST = 0.2
"""Of the budget, what training always gets, should the build have been slow."""
KEPT = 0.9
"""Of the time that is then left, what evaluation may use; the rest is for the completion."""
SHOWN = 8
"""Lines of what the model was given."""
UNREPEATED = 6
"""Tokens that a shown completion does not say again in a row: small models go round in circles else. On code this
read better than drawing at a temperature of 0.4 or 0.6."""


@click.command("run")
@of_build
@click.option("-o", "--out", type=PATH, default=Path("starcoder_run"), show_default=True, help="Folder to make.")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="How long all of it may take.")
@click.option(
    "--size",
    default="tiny",
    show_default=True,
    help="Size of the model: tiny (4M parameters), or small (28M) on a GPU.",
)
@click.option("--force", is_flag=True, help="Build again, and replace files of ours that were changed since.")
@common
def command(
    talk: Talk,
    repo: Path,
    rev: str,
    name: str,
    overrides: tuple[str, ...],
    seed: int | None,
    jobs: int | None,
    cached: bool,
    out: Path,
    minutes: float,
    size: str,
    force: bool,
) -> ExitCode:
    """Build, check, train, eval and complete, all in one go.

    REPO is the folder of a Git repository (default: the current one). Its code is only read, never run.

    The training is shuffled, also where the recipe has a curriculum: in minutes, strict stages cost more than they
    gain. `git starcoder train` follows the curriculum.

    Within --minutes, the build and the checks take what they take. Training gets the rest less a fifth of the
    budget, but a fifth of it at least; what is scored is fitted to the time that is then left, but a few thousand
    tokens and ten lines at least.
    """
    from git_starcoder.git.objects import Repo
    from git_starcoder.pipeline import build
    from git_starcoder.recipe import Recipe

    if not minutes > 0:
        raise UsageError("a budget must be above 0", where="--minutes")
    begun = time.monotonic()
    places.prefer(out)
    recipe = Recipe.load(name, with_seed(overrides, seed))
    opened = Repo.open(repo, rev)
    _prepare(out, force=force)
    with talk.watch() as watch, opened_engine(watch, jobs) as engine, opened_cache(watch, wanted=cached) as cache:
        dataset = build(opened, recipe, out / "dataset", engine=engine, progress=watch, cache=cache, force=force)
    talk.part(building.text(dataset, dataset.folder))
    outcomes = checking.checked(talk, dataset, opened)
    talk.part(checking.table(outcomes))
    values = {"dataset": building.as_values(dataset), **checking.as_values(outcomes)}
    if any(outcome.found for outcome in outcomes):
        return _end(talk, out, values, ExitCode.FOUND)

    def left() -> float:
        return minutes - (time.monotonic() - begun) / 60

    values |= _model(talk, dataset, out, left, minutes, size, recipe.seed)
    return _end(talk, out, values, ExitCode.FINE)


def _model(
    talk: Talk, dataset: Dataset, out: Path, left: Callable[[], float], minutes: float, size: str, seed: int
) -> dict[str, Any]:
    """Train, score and complete; gives the values of the parts."""
    from git_starcoder.model.complete import complete, example
    from git_starcoder.model.config import Config
    from git_starcoder.model.evaluate import evaluate, keep, table
    from git_starcoder.model.network import libraries
    from git_starcoder.model.train import train
    from git_starcoder.text.encoding import lines_of

    model = out / "model"
    with talk.watch() as watch:
        watch.begin("prepare", None)
        libraries()  # which takes seconds
        # Measured on click with one seed: in a short training, strict thirds cost 6.5 % of the held-out bits per byte.
        share = max(minutes * LEAST, left() - minutes * REST)
        config = Config.load(None, (), minutes=share, size=size, order="shuffled", seed=seed)
        result = train(dataset, model, config, progress=watch, force=True, fresh=True)
    talk.part(training.text(result))
    values: dict[str, Any] = {"training": training.as_values(result)}
    if not (dataset.metadata["test_sequences"] or dataset.metadata["val_sequences"]):
        talk.part("nothing is held out, so there is nothing to score the model on")
        return values
    with talk.watch() as watch:
        scores = evaluate(model, dataset, seconds=left() * 60 * KEPT, seed=seed, progress=watch)
    keep(scores, model)
    talk.part(table(scores))
    values |= {key: value for key, value in scores.as_values().items() if key != "dataset"}  # which has its own part
    place = example(dataset, seed)
    if place is None:
        talk.part("no held-out file is long enough to show a completion")
        return values
    written = complete(model, place.prompt, max_tokens=64, unrepeated=UNREPEATED)
    shown = b"".join(lines_of(place.prompt.encode())[-SHOWN:]).decode()
    how = f"the likeliest tokens, but no {UNREPEATED} of them twice"
    lines = [f"{one_line(place.path)}, which the model has not seen:"]
    for title, text in (
        (f"given, its last {SHOWN} lines", shown),
        (f"the model goes on ({how})", written),
        ("the author went on", place.author),
    ):
        lines += [f"--- {title}", text.rstrip("\n")]
    talk.part("\n".join(lines))
    return {**values, "completion": {**place._asdict(), "prompt": shown, "model": written, "how": how}}


def _prepare(out: Path, *, force: bool) -> None:
    """Make the folder of the run, where nothing in it is in the way of a part of it.

    Raises:
        OutputError: something is.

    """
    from git_starcoder import dataset, output
    from git_starcoder.model.train import KIND
    from git_starcoder.publish import reported

    with reported(out):
        place = output.destination(out, "run")
        model = output.destination(place / "model", "model")
        ours = output.says(place / RESULT, SCHEMA) or output.is_ignore(place / output.IGNORE)
        ours = ours or output.written(place / "dataset" / dataset.MANIFEST_FILE, dataset.DATASET_FOLDER) is not None
        if not ours and os.path.lexists(place) and not (place.is_dir() and output.is_unused(place)):
            hint = "choose another folder with --out, or remove it yourself"
            raise OutputError(f"'{out}' exists and is not a run of ours", where="--out", hint=hint)
        if os.path.lexists(place / RESULT) and not output.says(place / RESULT, SCHEMA):
            hint = "move it away, or choose another folder with --out"
            raise OutputError(f"'{RESULT}' in '{out}' is not ours, and its name is needed", where="--out", hint=hint)
        if (there := output.contents(model, KIND)) is not None:
            output.require(model, there, KIND, force=force)
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"'{out}' cannot be written", where="--out", hint="its rights do not allow it")
        if not os.path.lexists(place / output.IGNORE):
            output.ignore(place)


def _end(talk: Talk, out: Path, values: dict[str, Any], code: ExitCode) -> ExitCode:
    from git_starcoder.publish import reported, write_whole

    with reported(out):
        write_whole(out / RESULT, as_json({"schema": schema(talk.verb), **values}, indent=1) + "\n")
    return talk.answer(values, f"all of it is in {one_line(str(out))}", code)
