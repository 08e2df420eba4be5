"""Ask a model, and the references beside it, about the held-out text of a dataset."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from git_starcoder import registry
from git_starcoder.dataset.held_out import draw_documents, draw_rows, limit_rows, load_documents
from git_starcoder.errors import DatasetError
from git_starcoder.evals import (
    LOWER_IS_BETTER,
    MEASURE_UNITS,
    MIN_RELIABLE_FILES,
    EvalInput,
    bits_per_byte,
    fill_in_the_middle,
    kinds,
    next_line,
    xz,
)
from git_starcoder.model.load import TRAINING, again, load, record
from git_starcoder.output import says
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.publish import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.dataset import Dataset
    from git_starcoder.evals import Score
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer

SCORES = "scores.json"
"""In a model's folder: what was found when it was asked last."""
SCHEMA = "git-starcoder/scores/1"
LIMIT = 65_536
"""Held-out tokens that are asked about; of more, whole files are drawn."""
LIMIT_OF_KIND = 16_384
"""Tokens of each kind of row."""
FEWEST = 2048
"""Held-out tokens, within whatever time."""
FEWEST_OF_KIND = 256
"""Tokens of each kind of row, within whatever time."""
FEWEST_LINES = 10
"""Lines that are asked for, and holes, within whatever time."""
LEAST_GIVEN = 1 << 20
"""Bytes of training text for the compressors, within whatever time."""
SHARES = {"compressing": 0.3, "scoring": 0.25, "kinds": 0.1, "lines": 0.1, "holes": 0.1}
"""Of the time, what each may use at most; the rest is for what was not foreseen."""
ORDER = (
    "bits_per_byte", "untrained", "xz", "ppm", "next_line", "frequent_line", "fill_in_the_middle", "lines_above",
    "kinds",
)  # fmt: skip
"""How a table begins; other evals follow."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the evals of the shelf found, all on the same held-out text."""

    split: Split
    """`test`, or `val` where a small repository has no test split; on that one the kept weights were chosen."""
    files: int
    """Files asked about."""
    of: int
    """Files that the split has."""
    own: bool
    """Whether the model was trained on this very dataset; if not, it may have seen what is held out here."""
    dataset: str
    """Digest of the dataset."""
    tokenizer: dict[str, Any]
    """Whose tokens perplexity counts: its `entries`, its `digest`, and the `bytes_per_token` of the held-out text."""
    scores: tuple[Score, ...]
    skipped: dict[str, str]
    """Evals that could not be made, and why."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "split": self.split,
            "files": self.files,
            "of": self.of,
            "own": self.own,
            "dataset": self.dataset,
            "tokenizer": self.tokenizer,
            "skipped": self.skipped,
            "scores": [score._asdict() for score in self.scores],
        }


def evaluate(
    model: str | Path,
    dataset: Dataset,
    *,
    seconds: float | None = None,
    seed: int = 0,
    progress: Progress = NO_PROGRESS,
) -> Scores:
    """Run every eval of the shelf on the test split: at most `LIMIT` tokens of its text, and rows of each kind.

    With `seconds`, as much less is asked as this machine needs to be done by then: fewer tokens, rows, lines and holes,
    and less training text for the compressors, but never less than the smallest numbers above.

    Raises:
        DatasetError: `model` is no model folder, a tokenizer that is not the dataset's, nothing is held out, or the
            model's predictions are not numbers.
        MissingExtraError: torch, transformers or pyppmd is not installed.

    """
    entered = perf_counter()
    folder = Path(model)
    network, tokenizer = load(folder)
    if (folder / "tokenizer.json").read_bytes() != (dataset.tokenizer_folder / "tokenizer.json").read_bytes():
        raise DatasetError("model and dataset have different tokenizers", where=str(folder), hint="train it again")
    split: Split = "test"
    found = load_documents(dataset, split)
    if not found:
        split, found = "val", load_documents(dataset, "val")
    if not found:
        hint = "the repository is too small to hold files out"
        raise DatasetError("nothing is held out", where=str(dataset.folder), hint=hint)
    training = record(folder)
    own = training["dataset"] == dataset.digest
    exam = EvalInput(
        network,
        again(folder, tokenizer, seed),
        tokenizer,
        load_documents(dataset, "train"),
        draw_documents(found, LIMIT, seed),
        draw_rows(dataset, split, LIMIT_OF_KIND, tokenizer.end, seed),
        seed,
        no_fim_reason=_untaught(tokenizer, training, dataset) if own else "",
    )
    if seconds is not None:
        exam = _within(exam, lambda: seconds - (perf_counter() - entered))
    scores, skipped = _all(exam, progress)
    files, of = (len({document.path for document in each}) for each in (exam.held_out, found))
    about = {
        "entries": tokenizer.vocab_size,
        "digest": tokenizer.digest,
        "bytes_per_token": int(exam.byte_counts().sum()) / sum(len(document.tokens) for document in exam.held_out),
    }
    return Scores(split, files, of, own, dataset.digest, about, tuple(scores), skipped)


def keep(scores: Scores, model: str | Path) -> bool:
    """Write the scores beside the model, whole or not at all; gives whether that was possible."""
    folder = Path(model)
    if not (folder / TRAINING).is_file():
        return False
    text = json.dumps({"schema": SCHEMA, **scores.as_values()}, indent=1) + "\n"
    if os.path.lexists(folder / SCORES) and not says(folder / SCORES, SCHEMA[:-1]):
        return False  # it is the user's
    try:
        write_whole(folder / SCORES, text)
    except OSError:  # of somebody else, or full: the scores are told all the same
        return False
    return True


def _all(exam: EvalInput, watch: Progress) -> tuple[list[Score], dict[str, str]]:
    """Every eval of the shelf in order: what it found, and why it could not be made."""
    names = sorted(registry.names("evals"), key=lambda key: (ORDER.index(key) if key in ORDER else len(ORDER), key))
    watch.begin("eval", len(names))
    begun = perf_counter()
    scores: list[Score] = []
    skipped: dict[str, str] = {}
    for name in names:
        found: list[Score] | str = registry.load("evals", name).evaluate(exam)
        if isinstance(found, str):
            skipped[name] = found
        else:
            scores += found
        watch.advance(1)
    dropped = {"skipped": len(skipped)} if skipped else {}
    watch.end("eval", perf_counter() - begun, len(names), len(names) - len(skipped), dropped)
    return scores, skipped


def _untaught(tokenizer: Tokenizer, training: dict[str, Any], dataset: Dataset) -> str:
    """Why a model of this dataset cannot fill in the middle; empty if it was shown how, or may have been."""
    config: dict[str, Any] = training.get("config") or {}
    if tokenizer.fim is None:
        return fill_in_the_middle.NO_FIM_TOKENS
    if config.get("fim") or config.get("base") or any("hole" in about for about in dataset.row_metadata("train")):
        return ""
    return "the model was not trained to: no row of the dataset is masked, and the training's `fim` is 0"


def _within(exam: EvalInput, left: Callable[[], float]) -> EvalInput:
    """A smaller exam for the seconds that are left, from the speeds of a small one."""

    def measured(work: Callable[[], Any]) -> float:
        begun = perf_counter()
        work()
        return perf_counter() - begun

    few = replace(
        exam, held_out=draw_documents(exam.held_out, FEWEST // 2, exam.seed),
        rows=limit_rows(exam.rows, FEWEST_OF_KIND // 2), compressor_bytes=LEAST_GIVEN // 4,
    )  # fmt: skip
    asking = replace(exam, line_count=FEWEST_LINES, hole_count=FEWEST_LINES)
    training = few.compressor_text()[0]
    per_byte = (
        3 * measured(lambda: xz.compressed_size(training)) / max(1, len(training))
    )  # twice xz, which gets slower, and PPMd
    per_token = 2 * measured(lambda: bits_per_byte.evaluate(few)) / (FEWEST // 2)  # two models
    asked = sum(len(row.tokens) - row.context_length for row in few.rows)  # more than the limit, as rows are whole
    per_row = (
        measured(lambda: kinds.evaluate(few)) / asked * len({row.technique for row in few.rows})
    )  # a token of each kind
    per_line = measured(lambda: next_line.evaluate(asking)) / FEWEST_LINES
    per_hole = measured(lambda: fill_in_the_middle.evaluate(asking)) / FEWEST_LINES
    time = max(0.0, left())

    def affordable(what: str, cost: float) -> int:
        return int(time * SHARES[what] / cost)

    return replace(
        exam,
        held_out=draw_documents(exam.held_out, max(FEWEST, affordable("scoring", per_token)), exam.seed),
        rows=limit_rows(exam.rows, max(FEWEST_OF_KIND, affordable("kinds", per_row))),
        line_count=min(exam.line_count, max(FEWEST_LINES, affordable("lines", per_line))),
        hole_count=min(exam.hole_count, max(FEWEST_LINES, affordable("holes", per_hole))),
        compressor_bytes=min(exam.compressor_bytes, max(LEAST_GIVEN, affordable("compressing", per_byte))),
    )


def table(scores: Scores) -> str:
    """The scores as plain text: a part for each measure and each way to tell things apart, a line for each score."""
    lines: list[str] = []
    for measure, unit in MEASURE_UNITS.items():
        of = [score for score in scores.scores if score.measure == measure and not score.by]
        if of:
            better = "lower" if measure in LOWER_IS_BETTER else "higher"
            counted = f"{of[0].over:,} {unit} of {of[0].files} {scores.split} files"
            lines.append(f"{measure} ({better} is better; {counted}{_tokens(scores, measure)})")
            lines += [_line(score, score.subject, score.note) for score in of]
    for by in dict.fromkeys(score.by for score in scores.scores if score.by):
        of = [score for score in scores.scores if score.by == by]
        lines.append(f"{of[0].measure} by {'kind of row' if by == 'kind' else by} ({of[0].subject})")
        lines += [_line(score, score.group, _counted(score)) for score in sorted(of, key=lambda each: -each.over)]
    lines += [f"no {name.replace('_', ' ')}: {why}" for name, why in scores.skipped.items()]
    if any(score.low is not None for score in scores.scores):
        lines.append(
            f"A to B: the 95 % interval over files; few: under {MIN_RELIABLE_FILES} files, the figure may be chance"
        )
    if not scores.own:
        lines.append("the model was trained on another dataset, so it may have seen these files")
    return "\n".join(lines)


def _line(score: Score, name: str, note: str) -> str:
    interval = "" if score.low is None else f"{score.low:.3f} to {score.high:.3f}"
    return f"  {name:32} {score.value:9.3f}  {interval:18}  {note}".rstrip()


def _counted(score: Score) -> str:
    """What a line of a group is over."""
    few = ", few" if score.files < MIN_RELIABLE_FILES else ""
    parts = [
        f"{score.over:,} {MEASURE_UNITS[score.measure]}",
        f"{score.files} file{'s' * (score.files != 1)}{few}",
        score.note,
    ]
    return ", ".join(part for part in parts if part)


def _tokens(scores: Scores, measure: str) -> str:
    """Whose tokens perplexity counts."""
    if MEASURE_UNITS[measure] != "tokens":
        return ""
    about = scores.tokenizer
    return (
        f"; per token of the tokenizer {about['digest'][:8]} with {about['entries']:,} entries, "
        f"{about['bytes_per_token']:.2f} bytes each"
    )
