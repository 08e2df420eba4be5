"""`git starcoder show`: what is in a dataset, what a row says and where it comes from, and why a file is not there."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import click

from git_starcoder import machine
from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from git_starcoder.cli.talk import Talk
    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.lookup import DropRecord, LookupResult, RowPosition
    from git_starcoder.errors import ExitCode

SHOWN = 40
"""Lines of drops, those that say the same in one; -v tells every drop with its commit."""


@click.command("show")
@click.argument("dataset", type=PATH)
@click.argument("what", metavar="[ROW|PATH|COMMIT]", required=False)
@common
def command(talk: Talk, dataset: Path, what: str | None) -> ExitCode:
    """Show a dataset's contents, a row, or what became of a file.

    DATASET alone, the folder of one: its rows by what made them, and what was dropped. ROW is train:17 (seq_id 17 of a
    split) or the beginning of a row_id: its text, what of it counts for the loss, and where it comes from. PATH or
    COMMIT: what is there of it, and why the rest is not.
    """
    from git_starcoder.dataset import Dataset, lookup

    opened = Dataset.open(dataset)
    if what is None:
        return _overview(talk, opened)
    found = lookup.look_up(opened, what)
    if isinstance(found, lookup.LookupResult):
        return _file_or_commit(talk, found)
    return _row(talk, opened, found)


def _overview(talk: Talk, dataset: Dataset) -> ExitCode:
    from git_starcoder.dataset.lookup import count_rows_by_kind, read_drops
    from git_starcoder.records import SPLITS

    counts = count_rows_by_kind(dataset)
    sizes = sorted({size for _, _, size in counts})
    makers = list(dict.fromkeys(made_by for _, made_by, _ in sorted(counts, key=lambda key: (key[1] != "base", key))))
    dropped = Counter[tuple[str, str]]()
    for gone in read_drops(dataset):
        dropped[gone.step, gone.reason] += gone.things
    splits = {split: sum(count for key, count in counts.items() if key[0] == split) for split in SPLITS}
    rows = [["made by", *map(str, sizes), "rows", *SPLITS]]
    for made_by in makers:
        mine = {key: count for key, count in counts.items() if key[1] == made_by}
        by_size = [sum(count for key, count in mine.items() if key[2] == size) for size in sizes]
        by_split = [sum(count for key, count in mine.items() if key[0] == split) for split in SPLITS]
        rows.append([made_by, *(f"{count:,}" for count in (*by_size, sum(by_size), *by_split))])
    every = [sum(count for key, count in counts.items() if key[2] == size) for size in sizes]
    rows.append(["all", *(f"{count:,}" for count in (*every, sum(every), *splits.values()))])
    lines = _aligned(rows)
    if dropped:
        lines += ["", *_aligned([["dropped by", "reason", "things"], *_told(dropped)], left=2)]
    notebooks = _notebooks(dataset)
    lines += [""] if notebooks else []
    for of, figures in notebooks.items():
        told = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in figures.items() if what != of)
        lines.append(f"{of.replace('_', ' ')} {figures[of]:,}, left out: {told or 'nothing'}")
    values = {
        "splits": splits,
        "rows": [
            {"split": split, "made_by": made_by, "window_size": size, "rows": count}
            for (split, made_by, size), count in sorted(counts.items())
        ],
        "drops": [{"step": step, "reason": why, "things": count} for (step, why), count in sorted(dropped.items())],
        "notebooks": notebooks,
    }
    return talk.answer(values, "\n".join(lines))


def _notebooks(dataset: Dataset) -> dict[str, dict[str, int]]:
    """How many notebooks and changes of notebooks are used, and what of them is left out."""
    steps: list[dict[str, Any]] = dataset.manifest["steps"]
    figures = next((cast("dict[str, int]", step["figures"]) for step in steps if step["step"] == "read"), None) or {}
    found: dict[str, dict[str, int]] = {}
    for of, prefix in (("notebooks", "notebook_"), ("changes_of_notebooks", "changes_notebook_")):
        if of in figures:
            rest = {name.removeprefix(prefix): count for name, count in figures.items() if name.startswith(prefix)}
            found[of] = {of: figures[of], **rest}
    return found


def _told(dropped: Counter[tuple[str, str]]) -> list[list[str]]:
    """Reasons in the order of the steps, the most frequent first."""
    steps = list(dict.fromkeys(step for step, _ in dropped))
    ordered = sorted(dropped.items(), key=lambda item: (steps.index(item[0][0]), -item[1], item[0]))
    return [[step, reason, f"{count:,}"] for (step, reason), count in ordered]


def _file_or_commit(talk: Talk, found: LookupResult) -> ExitCode:
    path = bool(found.path)
    rows = found.path_rows if path else found.commit_rows
    name = found.path or min(found.commits)
    lines = [f"{one_line(name)}: {rows.count:,} rows"]
    if rows.count:
        header = [[*([] if path else ["path"]), "split", "made by", "window", "rows"]]
        body = [
            [*([] if path else [one_line(key[0])]), *map(str, key[1:]), f"{count:,}"]
            for key, count in sorted(rows.by_group.items())
        ]
        lines += ["", *_aligned(header + body, left=2 if path else 3)]
    if found.drops:
        lines += ["", *_dropped(found.drops, with_path=not path, every=talk.verbose)]
    values = {
        "path" if path else "commit": name,
        "rows": [
            {"path": key[0], "split": key[1], "made_by": key[2], "window_size": key[3], "rows": count}
            for key, count in sorted(rows.by_group.items())
        ],
        "drops": [gone._asdict() for gone in found.drops],
    }
    return talk.answer(values, "\n".join(lines))


def _dropped(drops: Sequence[DropRecord], *, with_path: bool, every: bool) -> list[str]:
    told = Counter[str]()
    for gone in drops:
        place = f"{one_line(gone.path)}: " if with_path and gone.path else ""
        because = f" ({one_line(gone.because)})" if gone.because else ""
        commit = f", commit {gone.commit}" if every and not with_path and gone.commit else ""
        told[f"  {place}{gone.step}: {gone.reason}{because}{commit}"] += gone.things
    most = len(told) if every else SHOWN
    lines = [f"dropped: {told.total():,}"]
    lines += [text if count == 1 else f"{text}, {count:,} times" for text, count in list(told.items())[:most]]
    return [*lines, *([f"  and {len(told) - most:,} more; -v shows all"] if len(told) > most else [])]


def _row(talk: Talk, dataset: Dataset, place: RowPosition) -> ExitCode:
    machine.require()
    from git_starcoder.dataset.explain_row import explain_row

    shown = explain_row(dataset, place)
    width = max(map(len, shown.facts))
    lines = [talk.style(f"{one_line(shown.location)}  {one_line(shown.row_id)}", bold=True)]
    lines += [talk.style(f"  {name:{width}}  {one_line(value)}") for name, value in shown.facts.items()]
    lines += ["", *_text(talk, shown.segments)]
    values = {
        "row": shown.row.metadata,
        "place": {"split": place.split, "number": place.row_index, "file": shown.location},
        "facts": shown.facts,
        "weight_factors": shown.weight_factors,
        "extent": shown.extent._asdict() if shown.extent else None,
        "pieces": [piece._asdict() for piece in shown.segments],
    }
    return talk.answer(values, "\n".join(lines), styled=True)


def _text(talk: Talk, pieces: Iterable[Any]) -> list[str]:
    """The text, a bar before what counts for the loss; a new line wherever that changes."""
    lines: list[str] = []
    line: list[str] = []
    bar = False

    def end() -> None:
        lines.append((talk.style("│ ", fg="green") if bar else talk.style("  ")) + "".join(line))
        line.clear()

    for piece in pieces:
        if piece.counts != bar and line:
            end()
        bar = piece.counts
        if piece.control:
            line.append(talk.style(f"⟦{piece.text}⟧", fg="magenta"))
            continue
        first, *others = piece.text.split("\n")
        for number, text in enumerate((first, *others)):
            if number:
                end()
            if text:
                line.append(talk.style(text, dim=not piece.counts))
    if line:
        end()
    return lines


def _aligned(rows: list[list[str]], *, left: int = 1) -> list[str]:
    """Rows of cells as lines; the first `left` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{width}}" if at < left else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
