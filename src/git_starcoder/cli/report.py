"""`git starcoder report`: writes an HTML page about a dataset and a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from git_starcoder import user_paths
from git_starcoder.cli.shared_options import PATH_TYPE, common_options
from git_starcoder.errors import ExitCode, OutputError, UsageError
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.console import Console

PAGE_HEAD_BYTES = 4096
"""The start of a page that is searched for its generator tag."""


@click.command("report")
@click.argument("dataset_folder", metavar="DATASET", type=PATH_TYPE)
@click.argument("model_folder", metavar="[MODEL]", type=PATH_TYPE, required=False)
@click.option("-o", "--out", type=PATH_TYPE, default="report.html", show_default=True, help="File to write.")
@click.option("--scores", type=PATH_TYPE,
              help="File with the scores, as printed by `eval --json` (default: MODEL/scores.json).")  # fmt: skip
@click.option("--check/--no-check", "check", default=True, help="Run the checks and show their results (default: yes).")
@common_options
def command(
    console: Console, dataset_folder: Path, model_folder: Path | None, out: Path, scores: Path | None, check: bool
) -> ExitCode:
    """Write an HTML page about a dataset and a model.

    DATASET is the folder of a dataset. MODEL, which is optional, is the folder of a model. The page is a single file
    that works without a network and without scripts.
    """
    from git_starcoder.cli.check import run_checks
    from git_starcoder.dataset import Dataset
    from git_starcoder.output.files import convert_os_errors, write_atomically
    from git_starcoder.output.folder import resolve_destination
    from git_starcoder.report import page, report
    from git_starcoder.report.model import ModelRecord, read_json

    if scores is not None and model_folder is None:
        hint = "name the folder of the model after DATASET"
        raise UsageError("the page shows scores of a model only, and no model is named", where="--scores", hint=hint)
    # Everything that can fail is tried before the checks, which take their time.
    user_paths.offer_temporary_folder(out)
    page.require_libraries()
    with convert_os_errors(out):
        target = resolve_destination(out, "report")
        require_writable(target, out, page.REPORT_GENERATOR)
    dataset = Dataset.open(dataset_folder)
    if scores is None and model_folder is not None and (model_folder / "scores.json").is_file():
        scores = model_folder / "scores.json"
    if model_folder is not None:
        ModelRecord.open(model_folder)
    score_values = read_json(scores) if scores else None
    outcomes = run_checks(console, dataset) if check else []
    html = report(dataset, outcomes, model_folder=model_folder, scores=score_values)
    with convert_os_errors(out):
        require_writable(target, out, page.REPORT_GENERATOR)  # another file may be there by now
        write_atomically(target, html)
    byte_count = len(html.encode("utf-8"))
    broken = [outcome.check for outcome in outcomes if outcome.finding_count]
    values = {"out": str(out), "bytes": byte_count, "broken": broken}
    return console.answer(values, f"{escape_line(str(out))}: {byte_count:,} bytes")


def require_writable(target: Path, out: Path, generator: str) -> None:
    """Makes sure that a report can be written to `target`, the real path of `out`, and would replace only a report."""
    from git_starcoder.output.folder import is_mount_point

    hint = "choose another file with --out"
    if not target.parent.is_dir():
        raise OutputError(f"the folder '{out.parent}' does not exist", where="--out", hint=hint)
    if os.path.lexists(target):
        tag = f'<meta name="generator" content="{generator}">'.encode()
        if not target.is_file() or tag not in target.read_bytes()[:PAGE_HEAD_BYTES]:
            what = f"'{out}' exists and was not written by git starcoder report"
            raise OutputError(what, where="--out", hint=hint)
        if is_mount_point(target):
            raise OutputError(f"'{out}' is a mount point, which cannot be replaced", where="--out", hint=hint)
    for path in (target.parent, *([target] if target.exists() else [])):
        if not os.access(path, os.W_OK):
            raise OutputError(f"no permission to write '{path}'", where="--out", hint="change its permissions")
