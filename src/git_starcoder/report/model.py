"""A model that was trained on the dataset: how it went, and its scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.report.parts import Figure, Section, Subject, Table
from git_starcoder.report.plot import COLOURS, SERIES, WIDTH, label, short, svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Model:
    """What `train` says in a model's folder."""

    training: Mapping[str, Any]
    """`training.json`."""
    metrics: Sequence[Mapping[str, float]]
    """`metrics.jsonl`: a line for each step, and for each look at what is held out."""

    @classmethod
    def open(cls, folder: Path) -> Model:
        """Read both files.

        Raises:
            DatasetError: it is no folder of a model of ours.
        """
        training = read(folder / "training.json")
        try:
            lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            return cls(training, [cast("dict[str, float]", json.loads(line)) for line in lines])
        except (OSError, ValueError) as error:
            raise DatasetError(f"'{folder}' has no metrics: {error}", where="metrics.jsonl") from error


def read(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        DatasetError: there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "`git starcoder train` makes a model, `git starcoder eval --json` its scores"
        raise DatasetError(f"'{path}' cannot be read: {error}", where=str(path.parent), hint=hint) from error
    if not isinstance(found, dict):
        raise DatasetError(f"'{path}' is not an object", where=str(path.parent))
    return cast("dict[str, Any]", found)


def section(subject: Subject) -> Section | None:
    """The curve, the scores with their intervals, and what the training was."""
    if subject.model is None:
        return None
    try:
        return _section(subject, subject.model)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"the model's record is damaged: {error}", where="training.json, metrics.jsonl") from error


def _section(subject: Subject, model: Model) -> Section:
    training = model.training
    own = training["dataset"] == subject.dataset.digest
    lead = [] if own else ["This model was trained on another dataset, so it may have seen what is held out here."]
    figures = [_curve(model)]
    if subject.scores.get("scores"):
        figures += _scores(subject)
    else:
        lead.append("There are no scores; git starcoder eval --json gives some, for --scores.")
    said = {**{key: value for key, value in training.items() if not isinstance(value, dict)}, **training["result"]}
    rows = [
        (key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)) for key, value in said.items()
    ]
    return Section("Model", lead, figures, [Table("Training", ("what", "value"), rows, left=2)])


def _curve(model: Model) -> Figure:
    steps = [line for line in model.metrics if "loss" in line]
    at = {line["step"]: line["tokens"] for line in steps}
    looks = [line for line in model.metrics if "held_out" in line]
    losses = np.array([line["loss"] for line in steps])
    width = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid") if len(losses) else losses

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(
            [line["tokens"] for line in steps][width - 1 :],
            smooth,
            color=COLOURS["six"],
            label="training, bits per token",
        )
        axes.plot([at[line["step"]] for line in looks], [line["held_out"] for line in looks], "o-", color=SERIES[0],
                  label="held out, bits per byte")  # fmt: skip
        axes.set_xlabel("tokens seen")
        axes.xaxis.set_major_formatter(short)
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper right", ncols=2)

    rows = [(f"{line['step']:,}", f"{at[line['step']]:,}", f"{line['held_out']:.4f}") for line in looks]
    title = "Loss along the training"
    about = (
        f"{len(steps):,} steps; held out {rows[0][2]} bits per byte first, {rows[-1][2]} last."
        if rows
        else f"{len(steps):,} steps."
    )
    table = Table(title, ("step", "tokens seen", "held out, bits per byte"), rows, left=0)
    return Figure(svg("loss", title, about, paint, width=2 * WIDTH, height=320), title, "", table, wide=True)


def _scores(subject: Subject) -> list[Figure]:
    scores = subject.scores
    figures: list[Figure] = []
    for number, measure in enumerate(dict.fromkeys(score["measure"] for score in scores["scores"])):
        of: list[dict[str, Any]] = [score for score in scores["scores"] if score["measure"] == measure]

        def paint(figure: Any, of: list[dict[str, Any]] = of, measure: str = measure) -> None:
            axes = figure.subplots()
            errors = [[score["value"] - score["low"] for score in of], [score["high"] - score["value"] for score in of]]
            axes.barh(range(len(of)), [score["value"] for score in of], color=SERIES[0], height=0.6)
            axes.errorbar([score["value"] for score in of], range(len(of)), xerr=np.maximum(errors, 0), fmt="none",
                          color=COLOURS["ink"], capsize=3)  # fmt: skip
            axes.set_yticks(range(len(of)), [label(score["subject"], 30) for score in of])
            axes.invert_yaxis()
            axes.set_xlabel(label(measure))

        rows = [
            (score["subject"], f"{score['value']:.3f}", f"{score['low']:.3f}", f"{score['high']:.3f}", score["note"])
            for score in of
        ]
        rows = [(row[0], row[4], *row[1:4]) for row in rows]
        title = f"{measure[:1].upper()}{measure[1:]} on {scores['files']:,} of {scores['of']:,} {scores['split']} files"
        about = ", ".join(f"{row[0]} {row[2]}" for row in rows)
        table = Table(title, ("subject", "note", "value", "from", "to"), rows, left=2)
        picture = svg(f"scores-{number}", title, about, paint, height=90 + 30 * len(of))
        figures.append(Figure(picture, title, "Lines are 95 % intervals.", table))
    return figures
