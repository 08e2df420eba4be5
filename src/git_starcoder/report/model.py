"""A model that was trained on the dataset: how it went, and its scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.evals import EDIT_SIMILARITY, EXACT_MATCH, MEASURE_UNITS, MIN_RELIABLE_FILES, PERPLEXITY
from git_starcoder.report.parts import Figure, Section, Subject, Table
from git_starcoder.report.plot import COLOURS, SERIES, WIDTH, label, short, svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
        if not (folder / "training.json").is_file():
            hint = "`git starcoder train` makes one"
            raise DatasetError(f"'{folder}' is not a model: it has no training.json", where=str(folder), hint=hint)
        training = read(folder / "training.json")
        try:
            lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
            return cls(training, [cast("dict[str, float]", json.loads(line)) for line in lines if line])
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
        why = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"'{path}' cannot be read: {why}", where=str(path.parent), hint=hint) from error
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
        where = "training.json, metrics.jsonl, or the scores"
        raise DatasetError(f"the model's record is damaged: {error}", where=where) from error


def _section(subject: Subject, model: Model) -> Section:
    training = model.training
    own = training["dataset"] == subject.dataset.digest
    lead = [] if own else ["This model was trained on another dataset, so it may have seen what is held out here."]
    figures = [_curve(model)]
    tables: list[Table] = []
    scores = subject.scores
    if scores.get("scores"):
        if scores.get("dataset", subject.dataset.digest) != subject.dataset.digest:
            lead.append("These scores were made on another dataset.")
        lead += [f"No {name.replace('_', ' ')}: {why}." for name, why in scores.get("skipped", {}).items()]
        figures += [*_measures(scores), *_groups(scores)]
        tables += _perplexity(scores)
    else:
        lead.append("There are no scores yet; git starcoder eval makes them.")
    said = {**{key: value for key, value in training.items() if not isinstance(value, dict)}, **training["result"]}
    tables.append(_said("Training", said))
    named = {"config": "Config of the training", "ledger": "Tokens of the training"}
    tables += [_said(title, training[key]) for key, title in named.items() if training.get(key)]
    return Section("Model", lead, figures, tables)


def _said(title: str, values: Mapping[str, Any]) -> Table:
    """A folded table of names and what they were."""
    rows = [
        (key.replace("_", " "), f"{value:,}" if type(value) is int else str(value)) for key, value in values.items()
    ]
    return Table(title, ("what", "value"), rows, left=2)


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


def _measures(scores: Mapping[str, Any]) -> Iterator[Figure]:
    """A figure for each measure: the model, and the references beside it."""
    every = [score for score in scores["scores"] if not score.get("by")]
    measures = dict.fromkeys(score["measure"] for score in every if score["measure"] != PERPLEXITY)
    for number, measure in enumerate(measures):
        of = [score for score in every if score["measure"] == measure]
        title = f"{_capital(measure)} on {scores['files']:,} of {scores['of']:,} {scores['split']} files"
        rows = [(score["subject"], score["note"], *_numbers(score)) for score in of]
        table = Table(title, ("subject", "note", "value", "from", "to"), rows, left=2)
        names = [label(score["subject"], 34) for score in of]
        yield _bars(f"scores-{number}", title, "Lines are 95 % intervals.", of, names, table)


def _groups(scores: Mapping[str, Any]) -> Iterator[Figure]:
    """A figure for each way in which text is told apart."""
    every = [score for score in scores["scores"] if score.get("by")]
    for by in dict.fromkeys(score["by"] for score in every):
        of = sorted((score for score in every if score["by"] == by), key=lambda score: -score["over"])
        measure = of[0]["measure"]
        title = f"{_capital(measure)} by {'kind of row' if by == 'kind' else by}"
        names = [f"{label(score['group'], 22)}, {_files(score)}" for score in of]
        few = f" Grey: fewer than {MIN_RELIABLE_FILES} files, so the figure may be far off."
        caption = "Lines are 95 % intervals; a single file has none."
        rows = [
            (score["group"], score["note"], *_numbers(score), f"{score['over']:,}", f"{score['files']:,}")
            for score in of
        ]
        header = (by, "note", "value", "from", "to", MEASURE_UNITS.get(measure, "over"), "files")
        caption += few * any(score["files"] < MIN_RELIABLE_FILES for score in of)
        yield _bars(f"scores-by-{by}", title, caption, of, names, Table(title, header, rows, left=2))


def _perplexity(scores: Mapping[str, Any]) -> Iterator[Table]:
    """A table: the bars of a trained and an untrained model would not fit one axis."""
    of = [score for score in scores["scores"] if score["measure"] == PERPLEXITY]
    if of:
        tokenizer = scores["tokenizer"]
        title = (
            f"Perplexity per token of the tokenizer {tokenizer['digest'][:8]}: {tokenizer['entries']:,} entries, "
            f"{tokenizer['bytes_per_token']:.2f} bytes each"
        )
        rows = [(score["subject"], *_numbers(score)) for score in of]
        yield Table(title, ("subject", "value", "from", "to"), rows, folded=False)


def _bars(
    key: str, title: str, caption: str, of: Sequence[Mapping[str, Any]], names: Sequence[str], table: Table
) -> Figure:
    """Horizontal bars with their intervals, from the top."""
    known = [index for index, score in enumerate(of) if score["low"] is not None]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        colours = [
            COLOURS["six"] if score.get("files", MIN_RELIABLE_FILES) < MIN_RELIABLE_FILES else SERIES[0] for score in of
        ]
        axes.barh(range(len(of)), [score["value"] for score in of], color=colours, height=0.6, alpha=0.55)
        errors = [
            [of[index]["value"] - of[index]["low"] for index in known],
            [of[index]["high"] - of[index]["value"] for index in known],
        ]
        axes.errorbar([of[index]["value"] for index in known], known, xerr=np.maximum(errors, 0), fmt="none",
                      color=COLOURS["ink"], capsize=3)  # fmt: skip
        axes.set_yticks(range(len(of)), names)
        axes.set_ylim(len(of) - 0.5, -0.5)
        axes.set_xlabel(label(of[0]["measure"]))
        if EXACT_MATCH in of[0]["measure"] or EDIT_SIMILARITY in of[0]["measure"]:
            axes.set_xlim(0, 1)

    about = ", ".join(f"{name} {score['value']:.3f}" for name, score in zip(names, of, strict=True))
    return Figure(svg(key, title, about, paint, height=90 + 30 * len(of)), title, caption, table)


def _numbers(score: Mapping[str, Any]) -> tuple[str, str, str]:
    """A value and its interval, as far as there is one."""
    low, high = ("" if edge is None else f"{edge:.3f}" for edge in (score["low"], score["high"]))
    return f"{score['value']:.3f}", low, high


def _files(score: Mapping[str, Any]) -> str:
    return f"{score['files']:,} file{'s' * (score['files'] != 1)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
