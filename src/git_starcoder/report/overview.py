"""Report sections about the rows: drops, sizes, lengths and duplicates, age of the code, order of the training file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.records import SPLITS
from git_starcoder.report.page import (
    INK,
    PAPER,
    SERIES,
    SPLIT_COLOURS,
    Figure,
    ReportInput,
    Section,
    Table,
    chart,
    draw_bars,
    draw_share_bars,
    format_number,
    percent,
)
from git_starcoder.report.statistics import FILL_BINS, RowStatistics, read_json_lines
from git_starcoder.weight_rules import OLD_DAYS, RECENT_DAYS

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    from git_starcoder.report.statistics import AgeGroup, RowTotals


MAX_EXAMPLE_CHARACTERS = 120
"""The length at which the example of a drop is cut, so that the table stays readable."""
GROUP_TITLES = {
    "split": "By split", "window_size": "By window size", "technique": "By technique", "language": "By language",
    "role": "By role",
}  # fmt: skip
"""The charts of the sizes section, by the `RowGroup` field that they count by."""
MAX_ACTIVITY_BARS = 60
"""More bars would be too thin to tell apart. A bar covers as many days as this limit requires."""
CURRICULUM_POINTS = 100
"""The number of parts that the training file is cut into; each part is a point of the curves."""
CURRICULUM_TABLE_ROWS = 10
"""The number of rows of the table: each averages 10 points, because 100 rows would be too many to read."""


def steps_section(report_input: ReportInput) -> Section:
    """What each step saw, kept and dropped, and each reason for drops with an example."""
    steps: list[dict[str, Any]] = report_input.dataset.manifest["steps"]
    rows = [
        (step["step"], f"{step['seen']:,}", f"{step['kept']:,}", f"{step['seen'] - step['kept']:,}",
         percent(step["kept"], step["seen"]))
        for step in steps
    ]  # fmt: skip
    bars = [(step["step"], step["kept"] / step["seen"] if step["seen"] else 0.0, f"{step['seen']:,}") for step in steps]
    segments = ("kept", SERIES[0]), ("dropped", SERIES[1])
    figure = chart(
        "steps", "What each step kept",
        "; ".join(f"{step['step']} kept {percent(step['kept'], step['seen'])} of {step['seen']:,}" for step in steps),
        lambda figure: draw_share_bars(figure, bars, segments, hatched=1, room=1.22, unit=" of what was seen"),
        ("step", "seen", "kept", "dropped", "share kept"), rows, height=300,
        caption="Each step counts its own items: read counts files and changes, analyse counts files, augment counts "
        "attempts to vary a text, window and dedup count rows.",
    )  # fmt: skip
    paragraph = "In every step, seen = kept + dropped. The file drops.jsonl lists everything that was dropped."
    return Section("Steps and drops", [paragraph], [figure], [_drop_reasons(report_input, steps)])


def _drop_reasons(report_input: ReportInput, steps: list[dict[str, Any]]) -> Table:
    examples: dict[tuple[str, str], str] = {}
    for drop in read_json_lines(report_input.dataset, "drops.jsonl"):
        key = str(drop.get("step")), str(drop.get("reason"))
        if key not in examples:
            because = drop.get("because")
            examples[key] = f"{drop.get('id')}{f' ({because})' if because else ''}"
    rows: list[tuple[str, ...]] = []
    for step in steps:
        for reason, count in sorted(step["dropped"].items(), key=lambda item: (-item[1], item[0])):
            example = examples.get((step["step"], reason), "")
            if len(example) > MAX_EXAMPLE_CHARACTERS:
                example = example[: MAX_EXAMPLE_CHARACTERS - 1] + "…"
            rows.append((step["step"], reason.replace("_", " "), example, f"{count:,}", percent(count, step["seen"])))
    header = ("step", "reason", "first example", "dropped", "share of what the step saw")
    return Table("Drops by reason", header, rows, text_columns=3, folded=False)


def sizes_section(report_input: ReportInput) -> Section:
    """Rows, tokens and weight by split, window size, technique, language and role."""
    paragraph = (
        "Tokens are those in the loss. A token of the repository counts once for each window that shows it. Weight is "
        "the number of these tokens times how often a trainer should draw their row."
    )
    figures = [_size_chart(report_input.statistics, name, title) for name, title in GROUP_TITLES.items()]
    return Section("Sizes", [paragraph], figures)


def _size_chart(statistics: RowStatistics, name: str, title: str) -> Figure:
    total = statistics.total()
    values = list(SPLITS) if name == "split" else statistics.values(name)
    totals = {str(value): statistics.total(**{name: value}) for value in values}
    rows = [
        (value, f"{group.rows:,}", f"{group.tokens:,}", percent(group.tokens, total.tokens),
         percent(group.weight, total.weight))
        for value, group in totals.items()
    ]  # fmt: skip
    if name == "split":
        bars: dict[str, dict[str, float]] = {split: {split: totals[split].tokens} for split in SPLITS}
    else:
        bars = {
            str(value): {split: statistics.total(split=split, **{name: value}).tokens for split in SPLITS}
            for value in values
        }
    shares = ", ".join(f"{value} {percent(group.tokens, total.tokens)}" for value, group in totals.items())
    header = (name.replace("_", " "), "rows", "tokens", "share of tokens", "share of weight")
    return chart(
        f"sizes-{name.replace('_', '-')}", title, f"Share of tokens: {shares}.",
        lambda figure: draw_bars(figure, bars, SPLIT_COLOURS, "tokens"), header, rows, height=90 + 26 * len(values),
    )  # fmt: skip


def lengths_section(report_input: ReportInput) -> Section:
    """How full windows are, how often overlapping windows repeat a token, and how many duplicate rows were dropped."""
    statistics = report_input.statistics
    figures = [_fill_chart(statistics), _repetition_chart(statistics)]
    return Section("Row lengths and duplicates", (), figures, [_duplicates(report_input)])


def _fill_chart(statistics: RowStatistics) -> Figure:
    window_sizes = statistics.values("window_size")
    fill_counts = statistics.fill_counts

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        centres = [(fill_bin + 0.5) / FILL_BINS for fill_bin in range(FILL_BINS)]
        heights = [0] * FILL_BINS
        for index, size in enumerate(window_sizes):
            counts = [fill_counts[size, fill_bin] for fill_bin in range(FILL_BINS)]
            colour = SERIES[index % len(SERIES)]
            axes.bar(centres, counts, 0.9 / FILL_BINS, bottom=heights, color=colour, label=str(size))
            heights = [height + count for height, count in zip(heights, counts, strict=True)]
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 % of the window"])
        axes.set_ylabel("rows")
        axes.yaxis.set_major_formatter(format_number)
        figure.legend(loc="outside upper right", ncols=5)

    rows: list[tuple[str, ...]] = []
    for size in window_sizes:
        count = statistics.total(window_size=size).rows
        full, padding = fill_counts[size, FILL_BINS - 1], statistics.padding_tokens[size]
        rows.append((str(size), f"{count:,}", percent(full, count), percent(padding, size * count)))
    header = ("window", "rows", f"rows filled to {1 - 1 / FILL_BINS:.0%} or more", "share of padding tokens")
    shares = (f"window {size}: {full} of the rows are full, {padding} padding" for size, _, full, padding in rows)
    return chart("lengths", "How much of a window is text", "; ".join(shares), draw, header, rows)


def _repetition_chart(statistics: RowStatistics) -> Figure:
    base_length = sum(statistics.base_lengths.values())
    repetitions = {
        str(size): statistics.base_tokens[size] / base_length if base_length else 0.0
        for size in statistics.values("window_size")
    }
    total = sum(repetitions.values())
    bars = {size: {"rows": count} for size, count in repetitions.items()}
    return chart(
        "repeats", "How often windows of each size show a token",
        f"Windows of all sizes together show a token of a file {total:.2f} times.",
        lambda figure: draw_bars(figure, bars, {"rows": SERIES[0]}, "rows that show a token of a file"),
        ("window", "rows per token"),
        [*((size, f"{count:.2f}") for size, count in repetitions.items()), ("all", f"{total:.2f}")],
        caption=f"The average over the {base_length:,} tokens of files as they are (technique base). Rows of other "
        "techniques are not counted.", height=90 + 26 * len(bars),
    )  # fmt: skip


def _duplicates(report_input: ReportInput) -> Table:
    rows: list[tuple[str, ...]] = []
    for step in report_input.dataset.manifest["steps"]:
        if step["step"] == "dedup":
            for reason, count in sorted(step["dropped"].items()):
                rows.append((f"dropped: {reason}", f"{count:,}", percent(count, step["seen"])))
            rows.append(("kept", f"{step['kept']:,}", percent(step["kept"], step["seen"])))
    row_count = report_input.statistics.total().rows
    repeated = row_count - len(report_input.statistics.row_ids)
    rows.append(("kept, but identical to an earlier row", f"{repeated:,}", percent(repeated, row_count)))
    return Table("Duplicate rows", ("rows", "count", "share"), rows, folded=False)


def activity_section(report_input: ReportInput) -> Section:
    """Tokens by the date of their last change, above the mean weight of training rows of the same age."""
    newest = _newest_date(report_input)
    by_age, weigh = report_input.statistics.by_age, report_input.recipe.weigh
    max_age = max((group.age_days for group in by_age), default=0)
    bar_days = max(1, -(-(max_age + 1) // MAX_ACTIVITY_BARS))
    bar_count = max_age // bar_days + 1
    both = (False, True)
    tokens = {split: _sum_by_age(by_age, bar_count, bar_days, {split}, both)[0] for split in SPLITS}
    change_tokens = _sum_by_age(by_age, bar_count, bar_days, set(SPLITS), (True,))[0]
    train_tokens, train_weights = _sum_by_age(by_age, bar_count, bar_days, {"train"}, both)
    mean_weights = np.divide(train_weights, train_tokens, out=np.full(bar_count, np.nan), where=train_tokens > 0)
    dates = [_days_before(newest, (bar + 0.5) * bar_days) for bar in range(bar_count)]

    def draw(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        heights = np.zeros(bar_count)
        for split in SPLITS:
            colour = SPLIT_COLOURS[split]
            upper.bar(dates, tokens[split], bar_days * 0.9, bottom=heights, color=colour, label=split)
            heights += tokens[split]
        upper.plot(dates, change_tokens, color=SERIES[3], drawstyle="steps-mid", label="of these, in changes")
        upper.set_ylabel("tokens")
        upper.yaxis.set_major_formatter(format_number)
        lower.plot(dates, mean_weights, color=SERIES[4], drawstyle="steps-mid", marker=".", label="mean weight")
        limits = [_days_before(newest, days) for days in (RECENT_DAYS, RECENT_DAYS, OLD_DAYS, OLD_DAYS)]
        edges = [newest, *limits, dates[-1]]
        factors = [weigh.recent, weigh.recent, 1, 1, weigh.old, weigh.old]
        lower.plot(edges, factors, color=SERIES[5], linestyle="--", label="age factor")
        lower.legend(loc="upper left", ncols=2)
        lower.set_xlim(_days_before(dates[-1], bar_days), _days_before(newest, -bar_days))
        lower.set_ylim(bottom=0)
        lower.set_ylabel("weight")
        lower.tick_params(axis="x", rotation=30)
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper right", ncols=4)

    repository_factor = " × factor of the repository" if report_input.dataset.is_of_many else ""
    table_rows = [
        (dates[bar].strftime("%Y-%m-%d"), *(f"{tokens[split][bar]:,.0f}" for split in SPLITS),
         f"{change_tokens[bar]:,.0f}", f"{mean_weights[bar]:.2f}" if train_tokens[bar] else "")
        for bar in reversed(range(bar_count)) if any(tokens[split][bar] for split in SPLITS)
    ]  # fmt: skip
    sums = sum(tokens.values(), np.zeros(bar_count))
    busiest = dates[int(sums.argmax())].strftime("%Y-%m-%d") if sums.any() else "no date"
    days = f"{bar_days} day{'s' * (bar_days > 1)}"
    figure = chart(
        "activity", "Activity over time",
        f"Tokens by the date of their last change, in {bar_count} bars of {days}. The highest bar is at {busiest}.",
        draw, ("middle of the bar", *SPLITS, "in changes", "mean training weight"), table_rows, wide=True, height=360,
        caption=f"Each bar covers {days}. Weight = role factor × age factor × change factor{repository_factor}. "
        f"The age factor is {weigh.recent:g} for code younger than {RECENT_DAYS} days and {weigh.old:g} from "
        f"{OLD_DAYS} days on; the change factor is {weigh.evolution:g} for rows that show a change.",
    )  # fmt: skip
    return Section("Activity over time", (), [figure])


def _newest_date(report_input: ReportInput) -> datetime:
    try:
        return datetime.fromisoformat(report_input.dataset.metadata["creation_date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"creation_date is not a date: {error}", where="dataset_metadata.json") from error


def _days_before(date: datetime, days: float) -> datetime:
    """The date some days before another (or after, if negative), at most as far as dates go: years 1 to 9999."""
    try:
        return date - timedelta(days=days)
    except OverflowError:
        # Matplotlib would round the last microsecond up to the year 10000.
        return (datetime.min if days > 0 else datetime.max).replace(microsecond=0, tzinfo=UTC)


def _sum_by_age(
    by_age: dict[AgeGroup, RowTotals], bar_count: int, bar_days: int, splits: Container[str], is_change: Container[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tokens, and tokens times weight, of each bar, newest first; both of shape (bar_count,)."""
    tokens, weights = np.zeros(bar_count), np.zeros(bar_count)
    for group, totals in by_age.items():
        if group.split in splits and group.is_change in is_change:
            tokens[group.age_days // bar_days] += totals.tokens
            weights[group.age_days // bar_days] += totals.weight
    return tokens, weights


def curriculum_section(report_input: ReportInput) -> Section | None:
    """Difficulty and window sizes along the training file; None without training rows."""
    difficulties = np.array(report_input.statistics.train_difficulties)
    window_sizes = np.array(report_input.statistics.train_window_sizes)
    row_count = len(difficulties)
    if not row_count:
        return None
    # The file is cut at rows `edges`: 250 rows in 100 points -> edges [0, 2, 5, 8, 10, ...].
    edges = np.unique(np.linspace(0, row_count, CURRICULUM_POINTS + 1).round().astype(np.int64))
    percentiles = [np.percentile(difficulties[start:stop], (10, 50, 90)) for start, stop in pairwise(edges)]
    low, median, high = np.array(percentiles).T
    sizes = np.unique(window_sizes)
    # The share of each size in each part: running counts at the edges, their differences, by the lengths of the parts.
    size_shares = np.stack([
        np.diff(np.concatenate(([0], np.cumsum(window_sizes == size)))[edges]) / np.diff(edges) for size in sizes
    ])  # fmt: skip
    centres = (edges[:-1] + edges[1:]) / 2 / row_count
    stage_starts = ((np.flatnonzero(np.diff(np.array(report_input.statistics.train_stages))) + 1) / row_count).tolist()

    def draw(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.fill_between(centres, low, high, color=SERIES[0], alpha=0.3, linewidth=0, label="10 to 90 % of the rows")
        upper.plot(centres, median, color=SERIES[0], label="median")
        upper.set_ylabel("difficulty")
        upper.set_ylim(0, 1)
        upper.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2)
        lower.stackplot(
            centres, size_shares, labels=[str(size) for size in sizes.tolist()], edgecolor=PAPER,
            linewidth=0.6, colors=[SERIES[index % len(SERIES)] for index in range(len(sizes))],
        )  # fmt: skip
        for axes in (upper, lower):
            for stage_start in stage_starts:
                axes.axvline(stage_start, color=INK, linestyle=":", linewidth=1)
        lower.set_ylabel("share of window sizes")
        lower.set_xlim(0, 1)
        lower.set_xticks([0, 0.25, 0.5, 0.75, 1], ["first row", "25 %", "50 %", "75 %", "last row"])
        figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=6)

    parts = np.array_split(np.arange(len(centres)), min(CURRICULUM_TABLE_ROWS, len(centres)))
    table_rows = [
        (f"{percent(float(edges[part[0]]), row_count)} to {percent(float(edges[part[-1] + 1]), row_count)}",
         *(f"{values[part].mean():.3f}" for values in (low, median, high)),
         *(f"{values[part].mean():.0%}" for values in size_shares))
        for part in parts
    ]  # fmt: skip
    figure = chart(
        "curriculum", "Difficulty and window sizes along the training file",
        f"The median difficulty is {median[0]:.3f} in the first rows and {median[-1]:.3f} in the last; the "
        f"{len(stage_starts) + 1} stages start at {', '.join(f'{start:.0%}' for start in (0, *stage_starts))}.",
        draw, ("rows", "10 %", "median", "90 %", *(f"window {size}" for size in sizes.tolist())), table_rows,
        wide=True, height=380,
    )  # fmt: skip
    strategy = report_input.dataset.metadata.get("learning_strategy", "unknown")
    paragraph = f"Order of the training rows: {strategy}."
    if len(stage_starts):
        paragraph += " Dotted lines mark the start of a stage of the curriculum."
    return Section("Curriculum", [paragraph], [figure])
