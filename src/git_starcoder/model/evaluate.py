"""Evaluates a model, and the baselines to compare it with, on the held-out text of a dataset."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from git_starcoder.dataset.contamination import BaseReading, drop_read, find_read_rows
from git_starcoder.dataset.held_out import draw_documents, draw_rows, limit_rows, load_documents
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.evals import (
    BASE,
    BOTH,
    LOWER_IS_BETTER,
    MEASURE_UNITS,
    MEMORY,
    MIN_RELIABLE_GROUPS,
    NETWORK,
    EvalInput,
    compare,
    load_evals,
)
from git_starcoder.evals.bits_per_byte import score_kinds_of_rows, score_models
from git_starcoder.evals.completion import NO_FIM_TOKENS, score_filled_holes, score_next_lines
from git_starcoder.evals.compressors import compressed_sizes
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.architecture import UntrainedNetwork
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.base_weights import load_base_network
from git_starcoder.model.card import CARD_FILE, render_card
from git_starcoder.model.loading import TRAINING_RECORD, knows_suffix_first, load_model, read_training_record
from git_starcoder.model.with_context import scored_network
from git_starcoder.model.with_memory import (
    MEMORY_FOLDER,
    MemoryModel,
    NetworkWithMemory,
    RememberingNetwork,
    training_memory,
)
from git_starcoder.output.contents import describe_file, has_schema
from git_starcoder.output.files import write_atomically
from git_starcoder.protocols import NO_PROGRESS, LanguageModel, Progress
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from git_starcoder.bases.blobs import BlobFilter
    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.held_out import Document
    from git_starcoder.evals import Comparison, Score
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer

SCORES_FILE = "scores.json"
"""File in a model folder with the scores of its last evaluation."""
SCORES_SCHEMA = "git-starcoder/scores/2"
MAX_HELD_OUT_TOKENS = 65_536
"""Held-out tokens that are scored; if there are more, files and pieces of files are drawn."""
MAX_TOKENS_PER_KIND = 16_384
"""Tokens of each kind of row that are scored."""
MIN_HELD_OUT_TOKENS = 2048
"""Held-out tokens that are scored, however short the time is."""
MIN_TOKENS_PER_KIND = 256
"""Tokens of each kind of row that are scored, however short the time is."""
MIN_DOCUMENTS = 32
"""Held-out texts that compressors are measured on, however short the time is."""
MIN_TASKS = 10
"""Lines to predict and gaps to fill, however short the time is."""
MIN_COMPRESSOR_BYTES = 1 << 20
"""Bytes of training text that compressors see, however short the time is."""
PART_WORKERS = 2
"""Workers: two compressors read the training text at the same time."""
TIME_SHARES = {"compressors": 0.25, "scoring": 0.25, "kinds": 0.1, "lines": 0.2, "holes": 0.15}
"""Share of the time that each part may take; the rest is a reserve."""
EVAL_ORDER = (
    "bits_per_byte", "compressors", "next_line", "frequent_line", "fill_in_the_middle", "lines_above",
    "kinds",
)  # fmt: skip
"""The evals with which a table begins; others follow by name."""


class NothingHeldOutError(DatasetError):
    """There is no held-out text to score, or the base of the model has read all of it."""


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
    comparisons: tuple[Comparison, ...]
    """The bits of each model as a share of those of each other subject."""
    documents: tuple[Document, ...]
    """The texts that were scored, in the order of `Score.document_bits`."""
    skipped: dict[str, str]
    """Evals that were not possible, and why."""
    base: BaseReading | None = None
    """What the base of the model has read of the held-out text; None if the model is from scratch."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        columns = {
            "path": [document.path for document in self.documents],
            "group": [document.group for document in self.documents],
            "start": [document.start + document.context_length for document in self.documents],
            "tokens": [len(document.scored) for document in self.documents],
        }
        bits = {
            score.subject: [round(value, 1) for value in score.document_bits]
            for score in self.scores
            if score.document_bits
        }
        return {
            "split": self.split,
            "files": self.files,
            "of": self.split_files,
            "own": self.is_own_dataset,
            "base": None if self.base is None else self.base.as_values(),
            "dataset": self.dataset_digest,
            "tokenizer": self.tokenizer,
            "skipped": self.skipped,
            "scores": [
                {key: value for key, value in score._asdict().items() if key != "document_bits"}
                for score in self.scores
            ],
            "comparisons": [comparison._asdict() for comparison in self.comparisons],
            "documents": {**columns, "bits": bits},
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

    The dataset needs the tokenizer that the model was trained with. Files that the base of the model has read are left
    out; if these are all files of the test split, the val split is scored. `seconds` is a time limit: fewer tokens,
    rows, lines and gaps are scored if this machine would need longer, but never less than the minima of this module.
    `seed` is that of the intervals and of the untrained network. The text that is scored does not depend on it. A model
    that was tuned from a base is scored beside this base instead of an untrained network.

    Raises:
        DatasetError: It is not a model folder, the tokenizers differ, nothing is held out that the base has not read,
            or the predictions of the model are not numbers.
        MissingExtraError: torch, transformers or pyppmd is not installed.
    """
    start = perf_counter()
    folder = Path(model)
    network, tokenizer = load_model(folder)
    _require_same_tokenizer(tokenizer, load_tokenizer(dataset.tokenizer_folder), folder)
    training = read_training_record(folder)
    lineage = BaseLineage.of_model(folder, training)
    splits: dict[Split, list[Document]] = {"test": load_documents(dataset, "test")}
    if lineage is not None or not splits["test"]:
        splits["val"] = load_documents(dataset, "val")
    blobs = None if lineage is None else lineage.blobs
    reading = None if lineage is None else BaseReading.measure(lineage.name, splits, blobs, tokenizer)
    split, held_out = _choose_split(dataset, splits, blobs, reading)
    is_own_dataset = training["dataset"] == dataset.digest
    drawn = draw_documents(held_out, MAX_HELD_OUT_TOKENS)
    left_out = find_read_rows(dataset, split, blobs)
    rows = draw_rows(dataset, split, MAX_TOKENS_PER_KIND, tokenizer.end_id, left_out)
    no_fim_reason = _reason_without_fim(tokenizer, training, dataset) if is_own_dataset else ""
    alone = RememberingNetwork(scored_network(network, training, dataset, tokenizer))
    models: dict[str, LanguageModel] = {NETWORK: alone}
    if is_own_dataset and (folder / MEMORY_FOLDER).is_dir():
        # Made anew from the training split: the stored memory holds the held-out files as well.
        memory = training_memory(RepositoryMemory.open(folder / MEMORY_FOLDER), dataset, tokenizer)
        models |= {MEMORY: MemoryModel(memory, tokenizer), BOTH: NetworkWithMemory(alone, memory, tokenizer)}
    base, base_problem = _load_base(lineage, tokenizer)
    untrained = UntrainedNetwork(network, folder, seed) if lineage is None else None
    documents = load_documents(dataset, "train")
    with LocalEngine(PART_WORKERS) as engine:
        exam = EvalInput(
            models,
            untrained,
            tokenizer,
            documents,
            drawn,
            engine,
            rows,
            seed,
            no_fim_reason=no_fim_reason,
            base=base,
            suffix_first=knows_suffix_first(training.get("config") or {}),
        )
        if seconds is not None:
            exam = _fit_time(exam, held_out, lambda: seconds - (perf_counter() - start))
        scores, skipped = _run_evals(exam, progress)
    if base_problem:
        skipped[BASE] = base_problem
    comparisons = compare(scores, list(models), [document.group for document in exam.held_out], seed)
    files, split_files = (len({document.path for document in texts}) for texts in (exam.held_out, splits[split]))
    tokenizer_values = {
        "entries": tokenizer.vocab_size,
        "digest": tokenizer.digest,
        "bytes_per_token": int(exam.byte_counts().sum()) / _token_count(exam.held_out),
    }
    return Scores(
        split, files, split_files, is_own_dataset, dataset.digest, tokenizer_values, tuple(scores), tuple(comparisons),
        tuple(exam.held_out), skipped, reading,
    )  # fmt: skip


def _require_same_tokenizer(tokenizer: Tokenizer, other: Tokenizer, folder: Path) -> None:
    """Check that the tokenizer of a model, in `folder`, is that of a dataset."""
    if tokenizer.digest == other.digest:
        return
    is_other = tokenizer.find_difference(other) or other.find_difference(tokenizer) or tokenizer.end_id != other.end_id
    if is_other:
        hint = "train a model on this dataset"
        raise DatasetError("model and dataset have different tokenizers", where=str(folder), hint=hint)


def _load_base(lineage: BaseLineage | None, tokenizer: Tokenizer) -> tuple[LanguageModel | None, str]:
    """The base of a model before it was tuned, and why there is none to score, if there should be one."""
    if lineage is None:
        return None, ""
    try:
        return load_base_network(lineage.name, tokenizer), ""
    except (UsageError, DatasetError) as error:
        return None, error.what


def held_out_blobs(model: str | Path) -> BlobFilter | None:
    """The files that the base of a model has read, which are no held-out text for it; None if that is not known."""
    lineage = BaseLineage.of_model(Path(model), read_training_record(Path(model)))
    return None if lineage is None else lineage.blobs


def _choose_split(
    dataset: Dataset, splits: Mapping[Split, Sequence[Document]], blobs: BlobFilter | None, reading: BaseReading | None
) -> tuple[Split, list[Document]]:
    """The split to score, and its documents that the base has not read: `test`, else `val`."""
    for split, documents in splits.items():
        if unread := drop_read(documents, blobs):
            return split, unread
    where = str(dataset.folder)
    if reading is not None and any(splits.values()):
        what = f"the base '{reading.name}' has read all files that are held out, so the model cannot be scored"
        raise NothingHeldOutError(what, where=where, hint="score a model that was trained from scratch")
    hint = "its recipe has split.holdout=none, or the repository is too small to hold files out"
    raise NothingHeldOutError("nothing is held out, so the model cannot be scored", where=where, hint=hint)


def _token_count(documents: Sequence[Document]) -> int:
    return sum(len(document.scored) for document in documents)


def save_scores(scores: Scores, model: str | Path) -> bool:
    """Write the scores into the model folder; return False if that is not possible.

    A missing permission or a full disk is no error, because the user sees the scores anyway.
    """
    folder = Path(model)
    if not (folder / TRAINING_RECORD).is_file():
        return False
    values = {"schema": SCORES_SCHEMA, **scores.as_values()}
    # A line for each key: with an indent, the bits of each document would have a line of their own.
    text = "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()) + "\n}\n"
    if os.path.lexists(folder / SCORES_FILE) and not has_schema(folder / SCORES_FILE, SCORES_SCHEMA[:-1]):
        return False  # a file of the user
    with suppress(OSError):
        write_atomically(folder / SCORES_FILE, text)
        _update_card(folder, scores.as_values())
        return True
    return False


def _update_card(folder: Path, scores: dict[str, Any]) -> None:
    """Write the scores into the card of a model, unless the user has edited it."""
    record = read_training_record(folder)
    card, files = folder / CARD_FILE, record.get("files", {})
    if CARD_FILE not in files or not card.is_file() or describe_file(card) != files[CARD_FILE]:
        return
    write_atomically(card, render_card(record, BaseLineage.of_model(folder, record), scores))
    files[CARD_FILE] = describe_file(card)
    write_atomically(folder / TRAINING_RECORD, json.dumps(record, indent=2) + "\n")


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


def _fit_time(exam: EvalInput, documents: Sequence[Document], seconds_left: Callable[[], float]) -> EvalInput:
    """Reduce an exam to what fits into the time that is left, by the speed of a small one.

    `documents` are those that held-out text is drawn from.
    """

    def measure(work: Callable[[], Any]) -> float:
        start = perf_counter()
        work()
        return perf_counter() - start

    small = replace(
        exam, held_out=draw_documents(documents, MIN_HELD_OUT_TOKENS // 2),
        rows=limit_rows(exam.rows, MIN_TOKENS_PER_KIND // 2), compressor_bytes=MIN_COMPRESSOR_BYTES // 4,
    )  # fmt: skip
    few_tasks = replace(exam, line_count=MIN_TASKS, hole_count=MIN_TASKS)
    per_token = measure(lambda: score_models(small)) / _token_count(small.held_out)
    scored = sum(len(row.tokens) - row.context_length for row in small.rows)  # exceeds the limit: rows are whole
    kind_count = len({row.technique for row in small.rows})
    per_token_of_each_kind = measure(lambda: score_kinds_of_rows(small)) / max(1, scored) * kind_count
    per_line = measure(lambda: score_next_lines(few_tasks)) / MIN_TASKS
    per_hole = measure(lambda: score_filled_holes(few_tasks)) / MIN_TASKS
    # Doubled, because compressors become slower with more training text: per byte of it, and per held-out text.
    per_byte, per_document = (2 * cost for cost in _compressor_costs(small))
    seconds = max(0.0, seconds_left())

    def affordable(part: str, cost: float, least: int) -> int:
        return max(least, int(seconds * TIME_SHARES[part] / max(cost, 1e-9)))

    # The texts take half of the time of the compressors at most.
    max_documents = affordable("compressors", 2 * per_document, MIN_DOCUMENTS)
    tokens = min(MAX_HELD_OUT_TOKENS, affordable("scoring", per_token, MIN_HELD_OUT_TOKENS))
    held_out = draw_documents(documents, tokens, max_documents)
    per_byte /= max(0.5, 1 - per_document * len(held_out) / max(1e-9, seconds * TIME_SHARES["compressors"]))
    return replace(
        exam,
        held_out=held_out,
        rows=limit_rows(exam.rows, affordable("kinds", per_token_of_each_kind, MIN_TOKENS_PER_KIND)),
        line_count=min(exam.line_count, affordable("lines", per_line, MIN_TASKS)),
        hole_count=min(exam.hole_count, affordable("holes", per_hole, MIN_TASKS)),
        compressor_bytes=min(exam.compressor_bytes, affordable("compressors", per_byte, MIN_COMPRESSOR_BYTES)),
    )


def _compressor_costs(exam: EvalInput) -> tuple[float, float]:
    """Return the seconds of the compressors per byte of training text, and per held-out text."""
    sizes = compressed_sizes(exam)
    if isinstance(sizes, str):  # they fail again later, which is reported
        return 0.0, 0.0
    longest = max if exam.engine.jobs >= PART_WORKERS else sum
    training = longest([size.training_seconds for size in sizes])
    texts = longest([size.seconds for size in sizes])
    return training / max(1, len(exam.compressor_text()[0])), texts / len(exam.held_out)


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
    for reference in dict.fromkeys(each.reference for each in scores.comparisons):
        lines.append(f"bits as a share of those of '{reference}' on the same files (below 1: fewer)")
        compared = [each for each in scores.comparisons if each.reference == reference]
        lines += [_format_line(each.subject, each.ratio, each.low, each.high) for each in compared]
    for by in dict.fromkeys(score.by for score in scores.scores if score.by):
        groups = [score for score in scores.scores if score.by == by]
        lines.append(f"{groups[0].measure} by {'kind of row' if by == 'kind' else by} ({groups[0].subject})")
        groups.sort(key=lambda score: -score.over)
        lines += [_format_score(score, score.group, _describe_group(score)) for score in groups]
    lines += [f"no {name.replace('_', ' ')}: {reason}" for name, reason in scores.skipped.items()]
    if any(score.low is not None for score in scores.scores):
        few = f"few: under {MIN_RELIABLE_GROUPS} such groups, the figure may be chance"
        lines.append(f"A to B: the 95 % confidence interval over groups of files that resemble each other; {few}")
    if scores.base is not None:
        lines.append(str(scores.base))
    if not scores.is_own_dataset:
        lines.append("the model was trained on another dataset, so it may have seen these files")
    return "\n".join(lines)


def _format_score(score: Score, name: str, note: str) -> str:
    return _format_line(name, score.value, score.low, score.high, note)


def _format_line(name: str, value: float, low: float | None, high: float | None, note: str = "") -> str:
    interval = "" if low is None else f"{low:.3f} to {high:.3f}"
    return f"  {name:46} {value:9.3f}  {interval:18}  {note}".rstrip()


def _describe_group(score: Score) -> str:
    """What the score of a group was measured on."""
    few = ", few" if score.groups < MIN_RELIABLE_GROUPS else ""
    count = f"{score.over:,} {MEASURE_UNITS[score.measure]}, {score.files} file{'s' * (score.files != 1)}{few}"
    return f"{count}, {score.note}" if score.note else count


def _describe_tokens(scores: Scores, measure: str) -> str:
    """The tokenizer whose tokens perplexity counts."""
    if MEASURE_UNITS[measure] != "tokens":
        return ""
    values = scores.tokenizer
    entries = f"{values['entries']:,} entries, {values['bytes_per_token']:.2f} bytes each"
    return f"; per token of the tokenizer {values['digest'][:8]} with {entries}"
