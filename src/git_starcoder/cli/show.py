"""`git starcoder show`: shows what a dataset contains, a row, or why a file or change is missing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

import click

from git_starcoder import machine
from git_starcoder.cli.console import Console, align_columns
from git_starcoder.cli.shared_options import PATH_TYPE, common_options
from git_starcoder.row_layout import BASE
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.explain_row import RowSegment
    from git_starcoder.dataset.show import DropRecord, Origin, RowPosition
    from git_starcoder.errors import ExitCode

MAX_DROP_LINES = 40
"""The number of lines about drops without -v. Equal drops share a line."""


@click.command("show")
@click.argument("dataset_folder", metavar="DATASET", type=PATH_TYPE)
@click.argument("query", metavar="[ROW|PATH|COMMIT]", required=False)
@common_options
def command(console: Console, dataset_folder: Path, query: str | None) -> ExitCode:
    """Show dataset counts, a row as text, or why a file is missing.

    DATASET is the folder of the dataset. Without a second argument, the command prints the number of rows of each
    technique and the number of drops for each reason.

    ROW is train:17 (row 17 of a split, counted from 0) or the start of a row_id. The command prints the text of the
    row, which parts count for the loss, where the text comes from, and how the weight is calculated.

    PATH is a file of the repository, and COMMIT is the start of a commit id. The command prints how many rows the file
    or commit has, and why others were dropped.
    """
    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.show import Origin, look_up

    dataset = Dataset.open(dataset_folder)
    if query is None:
        return _show_dataset(console, dataset)
    found = look_up(dataset, query)
    if isinstance(found, Origin):
        return _show_file_or_commit(console, found)
    return _show_row(console, dataset, found)


def _show_dataset(console: Console, dataset: Dataset) -> ExitCode:
    from git_starcoder.dataset.show import count_rows_by_kind, read_drops
    from git_starcoder.records import SPLITS

    counts = count_rows_by_kind(dataset)
    sizes = sorted({size for _, _, size in counts})
    techniques = sorted({technique for _, technique, _ in counts}, key=lambda name: (name != BASE, name))

    def table_row(name: str, technique: str | None) -> list[str]:
        """The number of rows of a technique, or of all: by window size, in total, by split."""
        mine = {key: count for key, count in counts.items() if technique in {None, key[1]}}
        by_size = [sum(count for key, count in mine.items() if key[2] == size) for size in sizes]
        by_split = [sum(count for key, count in mine.items() if key[0] == split) for split in SPLITS]
        return [name, *(f"{count:,}" for count in (*by_size, sum(by_size), *by_split))]

    rows = [["technique", *map(str, sizes), "rows", *SPLITS]]
    rows += [*(table_row(technique, technique) for technique in techniques), table_row("all", None)]
    lines = align_columns(rows)
    dropped = Counter[tuple[str, str]]()
    for drop in read_drops(dataset):
        dropped[drop.step, drop.reason] += drop.things
    if dropped:
        lines += ["", *align_columns([["dropped by", "reason", "count"], *_sorted_reasons(dropped)], text_columns=2)]
    notebooks = _notebook_counts(dataset)
    lines += [""] if notebooks else []
    for name, figures in notebooks.items():
        omitted = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in figures.items() if what != name)
        lines.append(f"{name.replace('_', ' ')} {figures[name]:,}, left out: {omitted or 'nothing'}")
    splits = {split: sum(count for key, count in counts.items() if key[0] == split) for split in SPLITS}
    kinds = [
        {"split": split, "made_by": technique, "window_size": size, "rows": count}
        for (split, technique, size), count in sorted(counts.items())
    ]
    drops = [{"step": step, "reason": reason, "things": count} for (step, reason), count in sorted(dropped.items())]
    values = {"splits": splits, "rows": kinds, "drops": drops, "notebooks": notebooks}
    return console.answer(values, "\n".join(lines))


def _notebook_counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """The number of notebooks and of changes to notebooks, and of their outputs and images that are left out."""
    steps = dataset.steps
    figures = next((cast("dict[str, int]", step["figures"]) for step in steps if step["step"] == "read"), None) or {}
    counts: dict[str, dict[str, int]] = {}
    for name, prefix in (("notebooks", "notebook_"), ("changes_of_notebooks", "changes_notebook_")):
        if name in figures:
            omitted = {key.removeprefix(prefix): count for key, count in figures.items() if key.startswith(prefix)}
            counts[name] = {name: figures[name], **omitted}
    return counts


def _sorted_reasons(dropped: Counter[tuple[str, str]]) -> list[list[str]]:
    """Table rows of step, reason and count: in the order of the steps, largest count first."""
    steps = list(dict.fromkeys(step for step, _ in dropped))
    ordered = sorted(dropped.items(), key=lambda item: (steps.index(item[0][0]), -item[1], item[0]))
    return [[step, reason, f"{count:,}"] for (step, reason), count in ordered]


def _show_file_or_commit(console: Console, found: Origin) -> ExitCode:
    is_file = bool(found.path)
    name = found.path or found.commit
    lines = [f"{escape_line(name)}: {sum(each.rows for each in found.rows):,} rows"]
    if found.rows:
        table = [["path", "split", "technique", "window", "rows"]]
        table += [[escape_line(each.path), *map(str, each[1:4]), f"{each.rows:,}"] for each in found.rows]
        if is_file:  # the path is the same in all rows
            table = [row[1:] for row in table]
        lines += ["", *align_columns(table, text_columns=2 if is_file else 3)]
    if found.drops:
        lines += ["", *_describe_drops(found.drops, with_path=not is_file, verbose=console.verbose)]
    values = {
        "path" if is_file else "commit": name,
        "rows": [
            {"path": each.path, "split": each.split, "made_by": each.technique, "window_size": each.window_size,
             "rows": each.rows}
            for each in found.rows
        ],
        "drops": [
            {"step": drop.step, "path": drop.path, "commit": drop.commit, "reason": drop.reason,
             "because": drop.because, "things": drop.things}
            for drop in found.drops
        ],
    }  # fmt: skip
    return console.answer(values, "\n".join(lines))


def _describe_drops(drops: Sequence[DropRecord], *, with_path: bool, verbose: bool) -> list[str]:
    """A line for each different drop of a file (or, `with_path`, of a commit)."""
    counts = Counter[str]()
    for drop in drops:
        path = f"{escape_line(drop.path)}: " if with_path and drop.path else ""
        detail = f" ({escape_line(drop.because)})" if drop.because else ""
        commit = f", commit {drop.commit}" if verbose and not with_path and drop.commit else ""
        counts[f"  {path}{drop.step}: {drop.reason}{detail}{commit}"] += drop.things
    lines = [text if count == 1 else f"{text}, {count:,} times" for text, count in counts.items()]
    if not verbose and len(lines) > MAX_DROP_LINES:
        lines[MAX_DROP_LINES:] = [f"  and {len(lines) - MAX_DROP_LINES:,} more; -v shows all"]
    return [f"dropped: {counts.total():,}", *lines]


def _show_row(console: Console, dataset: Dataset, place: RowPosition) -> ExitCode:
    machine.require_resources()
    from git_starcoder.dataset.explain_row import explain_row

    shown = explain_row(dataset, place)
    extent = shown.extent
    width = max(map(len, shown.facts))
    lines = [console.style(f"{escape_line(shown.location)}  {escape_line(shown.row_id)}", bold=True)]
    lines += [console.style(f"  {name:{width}}  {escape_line(value)}") for name, value in shown.facts.items()]
    lines += ["", *_styled_text(console, shown.segments)]
    values = {
        "row": shown.row.metadata,
        "place": {"split": place.split, "number": place.row_index, "file": shown.location},
        "facts": shown.facts,
        "weight_factors": shown.weight_factors,
        "extent": extent and {"first_byte": extent.first_byte, "last_byte": extent.last_byte,
                              "first_line": extent.first_line, "last_line": extent.last_line},
        "pieces": [{"text": part.text, "counts": part.counts, "control": part.control} for part in shown.segments],
    }  # fmt: skip
    return console.answer(values, "\n".join(lines), styled=True)


def _styled_text(console: Console, pieces: Iterable[RowSegment]) -> list[str]:
    """The lines of a row's text, with a bar before the lines in the loss. A new line starts where the loss begins."""
    lines: list[str] = []
    line: list[str] = []
    is_in_loss = False

    def end_line() -> None:
        margin = console.style("│ ", fg="green") if is_in_loss else console.style("  ")
        lines.append(margin + "".join(line))
        line.clear()

    for piece in pieces:
        if piece.counts != is_in_loss and line:
            end_line()
        is_in_loss = piece.counts
        if piece.control:
            line.append(console.style(f"⟦{piece.text}⟧", fg="magenta"))
            continue
        for index, text in enumerate(piece.text.split("\n")):
            if index:
                end_line()
            if text:
                line.append(console.style(text, dim=not piece.counts))
    if line:
        end_line()
    return lines
