"""`git starcoder report`: a dataset as one page to look at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from git_starcoder import user_paths
from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, escape_line
from git_starcoder.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.talk import Talk
    from git_starcoder.errors import ExitCode

HEAD = 4096
"""Bytes of a page in which its generator is named."""


@click.command("report")
@click.argument("dataset", type=PATH)
@click.argument("model", type=PATH, required=False)
@click.option("-o", "--out", type=PATH, default="report.html", show_default=True, help="File to write.")
@click.option("--scores", type=PATH, help="Scores to show, as `eval --json` printed them (default: the last of MODEL).")
@click.option("--check/--no-check", "checked", default=True, help="Run the checks and show what they find.")
@common
def command(talk: Talk, dataset: Path, model: Path | None, out: Path, scores: Path | None, checked: bool) -> ExitCode:
    """Write one HTML page about a dataset, and about a model, too.

    DATASET and MODEL are their folders. The page has everything in it, asks for nothing from outside and runs no
    script.
    """
    from git_starcoder.atomic_write import convert_os_errors, write_atomically
    from git_starcoder.cli import check as checking
    from git_starcoder.dataset import Dataset
    from git_starcoder.output_folder import resolve_destination
    from git_starcoder.report import page, report
    from git_starcoder.report.model import Model, read

    user_paths.offer_temporary_folder(out)
    page.require()
    with convert_os_errors(out):
        place = resolve_destination(out, "report")
        _require_free(place, out, page.GENERATOR)
    opened = Dataset.open(dataset)
    if scores is None and model is not None and (model / "scores.json").is_file():  # what `eval` left there
        scores = model / "scores.json"
    if model is not None:
        Model.open(model)  # missing, it should be missed now and not after the checks
    found = read(scores) if scores else None
    outcomes = checking.checked(talk, opened) if checked else []
    said = report(opened, outcomes, trained=model, scores=found)
    with convert_os_errors(out):
        _require_free(place, out, page.GENERATOR)  # looked at again: the checks took their time
        write_atomically(place, said)
    size = len(said.encode("utf-8"))
    values = {"out": str(out), "bytes": size, "broken": [one.check for one in outcomes if one.finding_count]}
    return talk.answer(values, f"{escape_line(str(out))}: {size:,} bytes")


def _require_free(place: Path, out: Path, generator: str) -> None:
    """Refuse to write over what is no page of ours, and where nothing can be written. `place` is what `out` leads to.

    Raises:
        OutputError: something is in the way.

    """
    from git_starcoder.output_folder import is_mount_point

    hint = "choose another file with --out"
    if not place.parent.is_dir():
        raise OutputError(f"there is no folder '{out.parent}'", where="--out", hint=hint)
    if os.path.lexists(place):
        mark = f'<meta name="generator" content="{generator}">'.encode()
        if not place.is_file() or mark not in place.read_bytes()[:HEAD]:
            raise OutputError(f"'{out}' exists and is not a report of ours", where="--out", hint=hint)
        if is_mount_point(place):
            raise OutputError(f"'{out}' is a mount point, which cannot be replaced", where="--out", hint=hint)
    for path in (place.parent, *([place] if place.exists() else [])):
        if not os.access(path, os.W_OK):
            raise OutputError(f"'{path}' cannot be written", where="--out", hint="its rights do not allow it")
