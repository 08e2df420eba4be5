"""Evaluates a model, and the baselines to compare it with, on the held-out text of a dataset."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from git_starcoder.dataset.held_out import draw_documents, draw_rows, limit_rows, load_documents
from git_starcoder.errors import DatasetError
from git_starcoder.evals import (
    LOWER_IS_BETTER,
    MEASURE_UNITS,
    MIN_RELIABLE_FILES,
    EvalInput,
    load_evals,
)
from git_starcoder.evals.bits_per_byte import score_kinds_of_rows, score_trained_model, xz_size
from git_starcoder.evals.completion import NO_FIM_TOKENS, score_filled_holes, score_next_lines
from git_starcoder.model.loading import TRAINING_RECORD, load_model, read_training_record, untrained_network
from git_starcoder.output_folder import has_schema, write_atomically
from git_starcoder.protocols import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.dataset import Dataset
    from git_starcoder.evals import Score
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer

SCORES_FILE = "scores.json"
"""File in a model folder with the scores of its last evaluation."""
SCORES_SCHEMA = "git-starcoder/scores/1"
MAX_HELD_OUT_TOKENS = 65_536
"""Held-out tokens that are scored; if there are more, whole files are drawn."""
MAX_TOKENS_PER_KIND = 16_384
"""Tokens of each kind of row that are scored."""
MIN_HELD_OUT_TOKENS = 2048
"""Held-out tokens that are scored, however short the time is."""
MIN_TOKENS_PER_KIND = 256
"""Tokens of each kind of row that are scored, however short the time is."""
MIN_TASKS = 10
"""Lines to predict and gaps to fill, however short the time is."""
MIN_COMPRESSOR_BYTES = 1 << 20
"""Bytes of training text that compressors see, however short the time is."""
TIME_SHARES = {"compressors": 0.3, "scoring": 0.25, "kinds": 0.1, "lines": 0.1, "holes": 0.1}
"""Share of the time that each part may take; the rest is a reserve."""
EVAL_ORDER = (
    "bits_per_byte", "untrained", "xz", "ppm", "next_line", "frequent_line", "fill_in_the_middle", "lines_above",
    "kinds",
)  # fmt: skip
"""The evals with which a table begins; others follow by name."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of all evals in the registry, on the same held-out text."""

    split: Split
    """`test`, or `val` if a small repository has no test split; the val split also decided which weights were kept."""
    files: int
    """Files that were scored."""
    split_files: int
    """Files of the split."""
    is_own_dataset: bool
    """Whether the model was trained on this very dataset. If not, it may have seen the held-out text."""
    dataset_digest: str
    tokenizer: dict[str, Any]
    """The tokenizer that perplexity depends on: `entries`, `digest`, and `bytes_per_token` of the held-out text."""
    scores: tuple[Score, ...]
    skipped: dict[str, str]
    """Evals that were not possible, and why."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "split": self.split,
            "files": self.files,
            "of": self.split_files,
            "own": self.is_own_dataset,
            "dataset": self.dataset_digest,
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
    """Run every eval of the registry on the test split of a dataset.

    The dataset needs the tokenizer that the model was trained with. `seconds` is a time limit: fewer tokens, rows,
    lines and gaps are scored if this machine would need longer, but never less than the minima of this module. `seed`
    is that of the sample of held-out text.

    Raises:
        DatasetError: It is not a model folder, the tokenizers differ, nothing is held out, or the predictions of the
            model are not numbers.
        MissingExtraError: torch, transformers or pyppmd is not installed.
    """
    start = perf_counter()
    folder = Path(model)
    network, tokenizer = load_model(folder)
    if (folder / "tokenizer.json").read_bytes() != (dataset.tokenizer_folder / "tokenizer.json").read_bytes():
        hint = "train a model on this dataset"
        raise DatasetError("model and dataset have different tokenizers", where=str(folder), hint=hint)
    split: Split = "test"
    held_out = load_documents(dataset, split)
    if not held_out:
        split, held_out = "val", load_documents(dataset, "val")
    if not held_out:
        hint = "the repository is too small to hold files out"
        raise DatasetError("nothing is held out", where=str(dataset.folder), hint=hint)
    training = read_training_record(folder)
    is_own_dataset = training["dataset"] == dataset.digest
    drawn = draw_documents(held_out, MAX_HELD_OUT_TOKENS, seed)
    rows = draw_rows(dataset, split, MAX_TOKENS_PER_KIND, tokenizer.end_id, seed)
    no_fim_reason = _reason_without_fim(tokenizer, training, dataset) if is_own_dataset else ""
    networks = network, untrained_network(folder, tokenizer, seed)
    documents = load_documents(dataset, "train")
    exam = EvalInput(*networks, tokenizer, documents, drawn, rows, seed, no_fim_reason=no_fim_reason)
    if seconds is not None:
        exam = _fit_time(exam, lambda: seconds - (perf_counter() - start))
    scores, skipped = _run_evals(exam, progress)
    files, split_files = (len({document.path for document in texts}) for texts in (exam.held_out, held_out))
    tokenizer_values = {
        "entries": tokenizer.vocab_size,
        "digest": tokenizer.digest,
        "bytes_per_token": int(exam.byte_counts().sum()) / sum(len(document.tokens) for document in exam.held_out),
    }
    return Scores(split, files, split_files, is_own_dataset, dataset.digest, tokenizer_values, tuple(scores), skipped)


def save_scores(scores: Scores, model: str | Path) -> bool:
    """Write the scores into the model folder; return False if that is not possible.

    A missing permission or a full disk is no error, because the user sees the scores anyway.
    """
    folder = Path(model)
    if not (folder / TRAINING_RECORD).is_file():
        return False
    text = json.dumps({"schema": SCORES_SCHEMA, **scores.as_values()}, indent=1) + "\n"
    if os.path.lexists(folder / SCORES_FILE) and not has_schema(folder / SCORES_FILE, SCORES_SCHEMA[:-1]):
        return False  # a file of the user
    with suppress(OSError):
        write_atomically(folder / SCORES_FILE, text)
        return True
    return False


def _run_evals(exam: EvalInput, progress: Progress) -> tuple[list[Score], dict[str, str]]:
    """Run every eval of the registry; return the scores, and why evals were skipped."""
    order = {name: place for place, name in enumerate(EVAL_ORDER)}
    evals = load_evals()
    names = sorted(evals, key=lambda name: (order.get(name, len(order)), name))
    progress.begin("eval", len(names))
    start = perf_counter()
    scores: list[Score] = []
    skipped: dict[str, str] = {}
    for name in names:
        outcome = evals[name](exam)
        if isinstance(outcome, str):
            skipped[name] = outcome
        else:
            scores += outcome
        progress.advance(1)
    dropped = {"skipped": len(skipped)} if skipped else {}
    progress.end("eval", perf_counter() - start, len(names), len(names) - len(skipped), dropped)
    return scores, skipped


def _reason_without_fim(tokenizer: Tokenizer, training: dict[str, Any], dataset: Dataset) -> str:
    """Why a model of this dataset cannot fill in the middle; empty if it has learned to, or may have."""
    config: dict[str, Any] = training.get("config") or {}
    if tokenizer.fim_ids is None:
        return NO_FIM_TOKENS
    if config.get("fim") or config.get("base") or any("hole" in row for row in dataset.row_metadata("train")):
        return ""
    return "the model was not trained to: no row of the dataset is masked, and the training's `fim` is 0"


def _fit_time(exam: EvalInput, seconds_left: Callable[[], float]) -> EvalInput:
    """Reduce an exam to what fits into the time that is left, by the speed of a small one."""

    def measure(work: Callable[[], Any]) -> float:
        start = perf_counter()
        work()
        return perf_counter() - start

    small = replace(
        exam, held_out=draw_documents(exam.held_out, MIN_HELD_OUT_TOKENS // 2, exam.seed),
        rows=limit_rows(exam.rows, MIN_TOKENS_PER_KIND // 2), compressor_bytes=MIN_COMPRESSOR_BYTES // 4,
    )  # fmt: skip
    few_tasks = replace(exam, line_count=MIN_TASKS, hole_count=MIN_TASKS)
    text = small.compressor_text()[0]
    # Twice for xz, which becomes slower with more text, and once for PPMd.
    per_byte = 3 * measure(lambda: xz_size(text)) / max(1, len(text))
    # Two models are scored.
    per_token = 2 * measure(lambda: score_trained_model(small)) / (MIN_HELD_OUT_TOKENS // 2)
    scored = sum(len(row.tokens) - row.context_length for row in small.rows)  # exceeds the limit: rows are whole
    kind_count = len({row.technique for row in small.rows})
    per_token_of_each_kind = measure(lambda: score_kinds_of_rows(small)) / scored * kind_count
    per_line = measure(lambda: score_next_lines(few_tasks)) / MIN_TASKS
    per_hole = measure(lambda: score_filled_holes(few_tasks)) / MIN_TASKS
    seconds = max(0.0, seconds_left())

    def affordable(part: str, cost: float, least: int) -> int:
        return max(least, int(seconds * TIME_SHARES[part] / cost))

    return replace(
        exam,
        held_out=draw_documents(exam.held_out, affordable("scoring", per_token, MIN_HELD_OUT_TOKENS), exam.seed),
        rows=limit_rows(exam.rows, affordable("kinds", per_token_of_each_kind, MIN_TOKENS_PER_KIND)),
        line_count=min(exam.line_count, affordable("lines", per_line, MIN_TASKS)),
        hole_count=min(exam.hole_count, affordable("holes", per_hole, MIN_TASKS)),
        compressor_bytes=min(exam.compressor_bytes, affordable("compressors", per_byte, MIN_COMPRESSOR_BYTES)),
    )


def format_scores(scores: Scores) -> str:
    """Format scores as a table in plain text: a part for each measure and each kind of group, a line for each score."""
    lines: list[str] = []
    for measure, unit in MEASURE_UNITS.items():
        overall = [score for score in scores.scores if score.measure == measure and not score.by]
        if overall:
            better = "lower" if measure in LOWER_IS_BETTER else "higher"
            counted = f"{overall[0].over:,} {unit} of {overall[0].files} {scores.split} files"
            lines.append(f"{measure} ({better} is better; {counted}{_describe_tokens(scores, measure)})")
            lines += [_format_score(score, score.subject, score.note) for score in overall]
    for by in dict.fromkeys(score.by for score in scores.scores if score.by):
        groups = [score for score in scores.scores if score.by == by]
        lines.append(f"{groups[0].measure} by {'kind of row' if by == 'kind' else by} ({groups[0].subject})")
        groups.sort(key=lambda score: -score.over)
        lines += [_format_score(score, score.group, _describe_group(score)) for score in groups]
    lines += [f"no {name.replace('_', ' ')}: {reason}" for name, reason in scores.skipped.items()]
    if any(score.low is not None for score in scores.scores):
        few = f"few: under {MIN_RELIABLE_FILES} files, the figure may be chance"
        lines.append(f"A to B: the 95 % confidence interval over files; {few}")
    if not scores.is_own_dataset:
        lines.append("the model was trained on another dataset, so it may have seen these files")
    return "\n".join(lines)


def _format_score(score: Score, name: str, note: str) -> str:
    interval = "" if score.low is None else f"{score.low:.3f} to {score.high:.3f}"
    return f"  {name:32} {score.value:9.3f}  {interval:18}  {note}".rstrip()


def _describe_group(score: Score) -> str:
    """What the score of a group was measured on."""
    few = ", few" if score.files < MIN_RELIABLE_FILES else ""
    count = f"{score.over:,} {MEASURE_UNITS[score.measure]}, {score.files} file{'s' * (score.files != 1)}{few}"
    return f"{count}, {score.note}" if score.note else count


def _describe_tokens(scores: Scores, measure: str) -> str:
    """The tokenizer whose tokens perplexity counts."""
    if MEASURE_UNITS[measure] != "tokens":
        return ""
    values = scores.tokenizer
    entries = f"{values['entries']:,} entries, {values['bytes_per_token']:.2f} bytes each"
    return f"; per token of the tokenizer {values['digest'][:8]} with {entries}"
