"""Report section about a model that was trained on the dataset: its loss curve and its scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.dataset.contamination import BaseReading
from git_starcoder.errors import DAMAGE_ERRORS, DatasetError
from git_starcoder.evals import (
    BASE,
    BITS_PER_BYTE,
    EDIT_SIMILARITY,
    EXACT_MATCH,
    MEASURE_UNITS,
    MIN_RELIABLE_GROUPS,
    PERPLEXITY,
    UNTRAINED,
)
from git_starcoder.evals.compressors import PPM_GOING_ON
from git_starcoder.report.page import INK, SERIES, Figure, ReportInput, Section, Table, chart, format_number, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SMOOTHED_SHARE = 50
"""The training loss is a moving average over a 50th of the steps."""

BUDGET_NAMES = {
    "draws": "rows drawn",
    "fills": "rows learned as prefix, suffix, middle",
    "drawn": "tokens of the drawn rows",
    "control": "control tokens added",
    "trained": "tokens in the loss",
    "shown": "tokens read and not in the loss",
    "pieces": "micro-batches",
    "laid": "tokens of the micro-batches, with padding",
    "padded": "padding tokens",
    "last": "last tokens of rows, which are only predicted",
    "unasked": "tokens of rows with nothing in the loss",
}
"""What the keys of the token budget in `training.json` mean."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What `train` recorded in a model's folder."""

    training: Mapping[str, Any]
    """`training.json`."""
    metrics: Sequence[Mapping[str, float]]
    """`metrics.jsonl`: one object per step, and one per validation."""

    @classmethod
    def open(cls, folder: Path) -> ModelRecord:
        """Reads both files; a `DatasetError` if the folder is not a model that `train` wrote."""
        if not (folder / "training.json").is_file():
            hint = "train one with `git starcoder train`"
            raise DatasetError(f"'{folder}' is not a model: it has no training.json", where=str(folder), hint=hint)
        training = read_json(folder / "training.json")
        try:
            lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
            return cls(training, [cast("dict[str, float]", json.loads(line)) for line in lines if line])
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"'{folder}' has no metrics: {error}", where="metrics.jsonl") from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that contains one object; a `DatasetError` if it contains something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        hint = "`git starcoder train` writes a model, and `git starcoder eval --json` prints its scores"
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"'{path}' cannot be read: {reason}", where=str(path.parent), hint=hint) from error
    if not isinstance(value, dict):
        raise DatasetError(f"'{path}' is not a JSON object", where=str(path.parent))
    return cast("dict[str, Any]", value)


def model_section(report_input: ReportInput) -> Section | None:
    """The loss curve, the scores with their confidence intervals, and the training's settings; None without a model."""
    if report_input.model is None:
        return None
    try:
        return _make_section(report_input, report_input.model)
    except DAMAGE_ERRORS as error:
        where = "training.json, metrics.jsonl, or the scores"
        raise DatasetError(f"the model's record is damaged: {error}", where=where) from error


def _make_section(report_input: ReportInput, model: ModelRecord) -> Section:
    training, scores = model.training, report_input.scores
    digest = report_input.dataset.digest
    paragraphs: list[str] = []
    if training["dataset"] != digest:
        paragraphs.append("This model was trained on another dataset, so it may have seen the files held out here.")
    figures = [_loss_chart(model)]
    tables: list[Table] = []
    if scores.get("scores"):
        if "comparisons" not in scores:
            hint = "measure them again with `git starcoder eval`"
            raise DatasetError("the scores are of an earlier version", where="the scores", hint=hint)
        if scores.get("dataset", digest) != digest:
            paragraphs.append("These scores were measured on another dataset.")
        if (base := scores.get("base")) is not None:
            told = str(BaseReading.from_values(base))
            paragraphs.append(f"{told[:1].upper()}{told[1:]}.")
        paragraphs += [f"No {name.replace('_', ' ')}: {reason}." for name, reason in scores.get("skipped", {}).items()]
        figures = [*_result_charts(scores), *figures, *_measure_charts(scores), *_group_charts(scores)]
        tables += [*_comparison_tables(scores), *_perplexity_tables(scores)]
    else:
        paragraphs.append("There are no scores yet. Measure them with `git starcoder eval`.")
    values = {**{key: value for key, value in training.items() if not isinstance(value, dict)}, **training["result"]}
    tables.append(_settings_table("Training", values))
    if config := training.get("config"):
        unused = {"size"} if config.get("base") else set[str]()  # a base has its own size
        tables.append(_settings_table("Training configuration", {k: v for k, v in config.items() if k not in unused}))
    budget: dict[str, int] = training.get("ledger") or {}
    if budget:
        named = {BUDGET_NAMES.get(key, key): value for key, value in budget.items()}
        tables.append(_settings_table("Token budget of the training", named))
    return Section("Model", paragraphs, figures, tables)


def _settings_table(title: str, values: Mapping[str, Any]) -> Table:
    rows = [(key.replace("_", " "), _format_setting(value)) for key, value in values.items()]
    return Table(title, ("name", "value"), rows, text_columns=2)


def _format_setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _loss_chart(model: ModelRecord) -> Figure:
    steps = [line for line in model.metrics if "loss" in line]
    validations = [line for line in model.metrics if "held_out" in line]
    tokens_at = {0: 0} | {line["step"]: line["tokens"] for line in steps}
    losses = np.array([line["loss"] for line in steps])
    width = max(1, len(losses) // SMOOTHED_SHARE)
    smooth_losses = np.convolve(losses, np.ones(width) / width, mode="valid") if len(losses) else losses

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        tokens = [line["tokens"] for line in steps][width - 1 :]
        axes.plot(tokens, smooth_losses, color=SERIES[5], label="training, bits per token")
        validation_tokens = [tokens_at[line["step"]] for line in validations]
        held_out = [line["held_out"] for line in validations]
        axes.plot(validation_tokens, held_out, "o-", color=SERIES[0], label="validation, bits per byte")
        axes.set_xlabel("tokens seen")
        axes.xaxis.set_major_formatter(format_number)
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper right", ncols=2)

    rows = [(f"{line['step']:,}", f"{tokens_at[line['step']]:,}", f"{line['held_out']:.4f}") for line in validations]
    description = f"{len(steps):,} steps."
    if rows:
        description += f" Validation: {rows[0][2]} bits per byte first, {rows[-1][2]} last."
    header = ("step", "tokens seen", "validation, bits per byte")
    return chart("loss", "Loss curve", description, draw, header, rows, text_columns=0, wide=True, height=320)


def _result_charts(scores: Mapping[str, Any]) -> Iterator[Figure]:
    """The result in one picture: the bits per byte of the models and the compressors.

    The untrained network is only in the table: next to its bar, the others would look alike.
    """
    measured = [score for score in scores["scores"] if score["measure"] == BITS_PER_BYTE and not score.get("by")]
    shown = [score for score in measured if score["subject"] != UNTRAINED]
    shown.sort(key=lambda score: score["eval"] != "compressors")  # the models below what they are compared with
    if not shown:
        return

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _draw_scores(axes, shown, [SERIES[5 if score["eval"] == "compressors" else 0] for score in shown])
        for line, score in enumerate(shown):
            edge = score["value"] if score["high"] is None else score["high"]
            axes.annotate(f"{score['value']:.2f}", (edge, line), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(shown)), [shorten(score["subject"]) for score in shown])
        axes.set_xlabel("bits per byte of code that none of them has seen; less is better")
        axes.margins(x=0.1)

    title = f"Bits per byte on {scores['files']:,} of {scores['of']:,} {scores['split']} files"
    description = ", ".join(f"{score['subject']} {score['value']:.3f}" for score in shown)
    header = ("model or compressor", "note", "value", "interval from", "to")
    rows = [(score["subject"], score["note"], *_formatted_interval(score)) for score in measured]
    overlap = "they may overlap where the difference is certain, because some files are hard for all"
    caption = f"{_describe_result(shown, scores['comparisons'])} Lines are 95 % confidence intervals; {overlap}."
    height = 90 + 36 * len(shown)
    yield chart("result", title, description, draw, header, rows, caption=caption, text_columns=2, wide=True,
                height=height)  # fmt: skip


def _describe_result(shown: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]) -> str:
    """The last model next to the best compressor that forgets each file, in one sentence."""
    models = [score["subject"] for score in shown if score["eval"] != "compressors" and score["subject"] != BASE]
    compressors = [score for score in shown if score["eval"] == "compressors" and score["subject"] != PPM_GOING_ON]
    if not models or not compressors:
        return ""
    best = min(compressors, key=lambda score: score["value"])["subject"]
    pair = next(each for each in comparisons if (each["subject"], each["reference"]) == (models[-1], best))
    who = f"The {models[-1]}" if len(models) == 1 else f"The model ({models[-1]})"
    sentence = _describe_pair(pair, who, f"the best compressor ({best})")
    of_base = [each for each in comparisons if (each["subject"], each["reference"]) == (models[0], BASE)]
    return " ".join(
        [sentence, *(_describe_pair(each, f"The {models[0]}", "the base before tuning") for each in of_base)]
    )


def _describe_pair(pair: Mapping[str, Any], who: str, reference: str) -> str:
    """How many bits a model needs compared with a reference, in one or two sentences."""
    ratio, low, high = pair["ratio"], pair["low"], pair["high"]
    difference = f"{100 * abs(1 - ratio):.0f} % {'fewer' if ratio < 1 else 'more'} bits than {reference}"
    if low is None:
        return f"{who} needs {difference}. All files resemble each other, so this may be chance."
    if low < 1 < high:
        return f"{who} needs about as many bits as {reference}: the difference may be chance."
    near, far = sorted((100 * abs(1 - low), 100 * abs(1 - high)))
    return f"{who} needs {difference}; with 95 % confidence, between {near:.0f} and {far:.0f} %."


def _comparison_tables(scores: Mapping[str, Any]) -> Iterator[Table]:
    rows = [
        (each["subject"], each["reference"], f"{each['ratio']:.3f}", *_formatted_ends(each))
        for each in scores["comparisons"]
    ]
    if rows:
        title = "Bits as a share of those of another on the same files (below 1: fewer)"
        yield Table(title, ("model", "compared with", "ratio", "interval from", "to"), rows, 2, folded=False)


def _measure_charts(scores: Mapping[str, Any]) -> Iterator[Figure]:
    """A chart for each other measure: the models and their baselines."""
    overall = [score for score in scores["scores"] if not score.get("by")]
    measures = dict.fromkeys(
        score["measure"] for score in overall if score["measure"] not in {BITS_PER_BYTE, PERPLEXITY}
    )
    for index, measure in enumerate(measures):
        measured = [score for score in overall if score["measure"] == measure]
        title = f"{measure[:1].upper()}{measure[1:]} on {scores['files']:,} of {scores['of']:,} {scores['split']} files"
        rows = [(score["subject"], score["note"], *_formatted_interval(score)) for score in measured]
        names = [shorten(score["subject"], 34) for score in measured]
        header = ("model or baseline", "note", "value", "interval from", "to")
        caption = "Lines are 95 % confidence intervals."
        yield _score_chart(f"scores-{index}", title, caption, measured, names, header, rows)


def _group_charts(scores: Mapping[str, Any]) -> Iterator[Figure]:
    """A chart for each property that scores are split by: kind of row, language and role."""
    grouped = [score for score in scores["scores"] if score.get("by")]
    for by in dict.fromkeys(score["by"] for score in grouped):
        groups = sorted((score for score in grouped if score["by"] == by), key=lambda score: -score["over"])
        measure = groups[0]["measure"]
        caption = "Lines are 95 % confidence intervals; a single leak group has none."
        if any(score["groups"] < MIN_RELIABLE_GROUPS for score in groups):
            caption += f" Grey bars have fewer than {MIN_RELIABLE_GROUPS} leak groups and may be far off."
        rows = [
            (score["group"], score["note"], *_formatted_interval(score), f"{score['over']:,}", f"{score['files']:,}")
            for score in groups
        ]
        names = [
            f"{shorten(score['group'], 22)}, {score['files']:,} file{'s' * (score['files'] != 1)}" for score in groups
        ]
        title = f"{measure[:1].upper()}{measure[1:]} by {'kind of row' if by == 'kind' else by}"
        header = (by, "note", "value", "interval from", "to", MEASURE_UNITS.get(measure, "count"), "files")
        yield _score_chart(f"scores-by-{by}", title, caption, groups, names, header, rows)


def _perplexity_tables(scores: Mapping[str, Any]) -> Iterator[Table]:
    """A table and no chart: a trained model's perplexity would be invisible next to that of an untrained one."""
    measured = [score for score in scores["scores"] if score["measure"] == PERPLEXITY]
    if measured:
        tokenizer = scores["tokenizer"]
        title = (
            f"Perplexity per token (tokenizer {tokenizer['digest'][:8]}: {tokenizer['entries']:,} entries, "
            f"{tokenizer['bytes_per_token']:.2f} bytes per token)"
        )
        rows = [(score["subject"], *_formatted_interval(score)) for score in measured]
        yield Table(title, ("model", "value", "interval from", "to"), rows, folded=False)


def _score_chart(
    key: str, title: str, caption: str, scores: Sequence[Mapping[str, Any]], names: Sequence[str],
    header: Sequence[str], rows: Sequence[Sequence[str]],
) -> Figure:  # fmt: skip
    """Horizontal bars with confidence intervals, from the top down."""
    measure = scores[0]["measure"]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        is_reliable = [score["groups"] >= MIN_RELIABLE_GROUPS for score in scores]
        _draw_scores(axes, scores, [SERIES[0] if reliable else SERIES[5] for reliable in is_reliable])
        axes.set_yticks(range(len(scores)), names)
        axes.set_xlabel(shorten(measure))
        if EXACT_MATCH in measure or EDIT_SIMILARITY in measure:
            axes.set_xlim(0, 1)

    description = ", ".join(f"{name} {score['value']:.3f}" for name, score in zip(names, scores, strict=True))
    height = 90 + 30 * len(scores)
    return chart(key, title, description, draw, header, rows, caption=caption, text_columns=2, height=height)


def _draw_scores(axes: Any, scores: Sequence[Mapping[str, Any]], colours: Sequence[str]) -> None:
    """Draws a bar for each score, with its confidence interval."""
    axes.barh(range(len(scores)), [score["value"] for score in scores], color=colours, height=0.6, alpha=0.55)
    lines = [line for line, score in enumerate(scores) if score["low"] is not None]
    values, lows, highs = ([scores[line][key] for line in lines] for key in ("value", "low", "high"))
    errors = np.maximum((np.subtract(values, lows), np.subtract(highs, values)), 0)
    axes.errorbar(values, lines, xerr=errors, fmt="none", color=INK, capsize=3)
    axes.set_ylim(len(scores) - 0.5, -0.5)


def _formatted_interval(score: Mapping[str, Any]) -> tuple[str, str, str]:
    """The value and the ends of its confidence interval."""
    return f"{score['value']:.3f}", *_formatted_ends(score)


def _formatted_ends(score: Mapping[str, Any]) -> tuple[str, str]:
    """The ends of a confidence interval; empty if there is none."""
    low, high = ("" if end is None else f"{end:.3f}" for end in (score["low"], score["high"]))
    return low, high
