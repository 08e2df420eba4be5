"""`git starcoder report`: a dataset as one page to look at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from git_starcoder import places
from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, one_line
from git_starcoder.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.talk import Talk
    from git_starcoder.errors import ExitCode


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
    from git_starcoder.cli import check as checking
    from git_starcoder.dataset import Dataset
    from git_starcoder.publish import reported
    from git_starcoder.report import page, report
    from git_starcoder.report.model import Model, read

    places.prefer(out)
    page.require()
    _free(out, page.GENERATOR)
    opened = Dataset.open(dataset)
    if scores is None and model is not None and (model / "scores.json").is_file():  # what `eval` left there
        scores = model / "scores.json"
    if model is not None:
        Model.open(model)  # missing, it should be missed now and not after the checks
    found = read(scores) if scores else None
    outcomes = checking.checked(talk, opened) if checked else []
    said = report(opened, outcomes, trained=model, scores=found)
    data = said.encode("utf-8")
    partial = out.with_name(f".{out.name}.partial")
    with reported(out):
        try:
            partial.write_bytes(data)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    values = {"out": str(out), "bytes": len(data), "broken": [one.check for one in outcomes if one.found]}
    return talk.answer(values, f"{one_line(str(out))}: {len(data):,} bytes")


def _free(out: Path, generator: str) -> None:
    """Refuse to write over what is no page of ours, and into a folder that is not there."""
    hint = "choose another file with --out"
    if not out.parent.is_dir():
        raise OutputError(f"there is no folder '{out.parent}'", where="--out", hint=hint)
    if not os.path.lexists(out):
        return
    mark = f'<meta name="generator" content="{generator}">'.encode()
    if not out.is_file() or mark not in out.read_bytes()[:4096]:
        raise OutputError(f"'{out}' exists and is not a report of ours", where="--out", hint=hint)
