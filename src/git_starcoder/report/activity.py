"""When the code was written, and what age does to its weight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.layout import OLD_DAYS, RECENT_DAYS
from git_starcoder.records import SPLITS
from git_starcoder.report.parts import Figure, Section, Subject, Table
from git_starcoder.report.plot import SERIES, SPLIT, WIDTH, short, svg

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    from git_starcoder.report.tally import Amount, Day

BINS = 60
"""Bars, at most."""


def section(subject: Subject) -> Section:
    """Tokens by the day of the last change, split by split, over the mean weight of what is as old."""
    newest = _newest(subject)
    days, weigh = subject.tally.days, subject.recipe.weigh
    oldest = max((day.age for day in days), default=0)
    width = max(1, -(-(oldest + 1) // BINS))  # days
    count = oldest // width + 1
    tokens = {split: _summed(days, count, width, {split}, (False, True))[0] for split in SPLITS}
    changes = _summed(days, count, width, set(SPLITS), (True,))[0]
    learned, weighed = _summed(days, count, width, {"train"}, (False, True))
    mean = np.divide(weighed, learned, out=np.full(count, np.nan), where=learned > 0)
    dates = [_date(newest, (at + 0.5) * width) for at in range(count)]

    def paint(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        bottom = np.zeros(count)
        for split in SPLITS:
            upper.bar(dates, tokens[split], width * 0.9, bottom=bottom, color=SPLIT[split], label=split)
            bottom += tokens[split]
        upper.plot(dates, changes, color=SERIES[3], drawstyle="steps-mid", label="of it, from changes")
        upper.set_ylabel("tokens")
        upper.yaxis.set_major_formatter(short)
        lower.plot(dates, mean, color=SERIES[4], drawstyle="steps-mid", marker=".", label="mean weight")
        steps = [
            newest,
            *(newest - timedelta(days=days) for days in (RECENT_DAYS, RECENT_DAYS, OLD_DAYS, OLD_DAYS)),
            dates[-1],
        ]
        factors = [weigh.recent, weigh.recent, 1, 1, weigh.old, weigh.old]
        lower.plot(steps, factors, color=SERIES[5], linestyle="--", label="what age does")
        lower.legend(loc="upper left", ncols=2)
        lower.set_xlim(dates[-1] - timedelta(days=width), newest + timedelta(days=width))
        lower.set_ylim(bottom=0)
        lower.set_ylabel("weight")
        lower.tick_params(axis="x", rotation=30)
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper right", ncols=4)

    title = "Activity over time"
    rows = [
        (dates[at].strftime("%Y-%m-%d"), *(f"{tokens[split][at]:,.0f}" for split in SPLITS), f"{changes[at]:,.0f}",
         f"{mean[at]:.2f}" if learned[at] else "")
        for at in reversed(range(count)) if any(tokens[split][at] for split in SPLITS)
    ]  # fmt: skip
    table = Table(title, ("middle of the time", *SPLITS, "from changes", "mean weight in training"), rows)
    busiest = max(rows, key=lambda row: sum(int(cell.replace(",", "")) for cell in row[1:4]), default=("nothing",))[0]
    about = f"Tokens by when they were last changed, in {count} parts of {width} days. Most are around {busiest}."
    picture = svg("activity", title, about, paint, width=2 * WIDTH, height=360)
    caption = (
        f"Each bar is {width} day{'s' * (width > 1)}. What is younger than {RECENT_DAYS} days weighs {weigh.recent:g} "
        f"times what its role weighs, from {OLD_DAYS} days on {weigh.old:g} times; what shows a change, "
        f"{weigh.evolution:g} times."
    )
    return Section("Activity over time", [], [Figure(picture, title, caption, table, wide=True)])


def _newest(subject: Subject) -> datetime:
    try:
        return datetime.fromisoformat(subject.dataset.metadata["creation_date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"creation_date is no date: {error}", where="dataset_metadata.json") from error


def _date(newest: datetime, days: float) -> datetime:
    try:
        return newest - timedelta(days=days)
    except OverflowError:
        return datetime(1, 1, 1, tzinfo=UTC)


def _summed(
    days: dict[Day, Amount], count: int, width: int, splits: Container[str], change: Container[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tokens, and tokens times weight, by age; shape (count,)."""
    tokens, weights = np.zeros(count), np.zeros(count)
    for day, amount in days.items():
        if day.split in splits and day.change in change:
            tokens[day.age // width] += amount.tokens
            weights[day.age // width] += amount.weight
    return tokens, weights
