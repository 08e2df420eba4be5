"""How a model is asked in editors, chosen on held-out code and stored with it: from which confidence, and how.

At places in the val split, the engine completes a line that the author has written. A completion is shown as far as its
confidence reaches the threshold, and so from the confidence of its first word on. The threshold is the lowest from
which at least `WANTED_PRECISION` of the completions begin with the author's word. The memory and the context are of
the training split, as for every score. The test split is not touched: it is for scores.

A model that fills gaps can be shown the text after the cursor, before it writes. A small one may then write worse than
if it only reads the text before. So both are tried at each place, and what saves more keystrokes is chosen.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import DRAW_SEED, load_documents
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.complete import Model
from git_starcoder.model.loading import (
    SERVING_FILE,
    SERVING_SCHEMA,
    knows_suffix_first,
    load_reader,
    read_training_record,
)
from git_starcoder.model.with_context import scored_network
from git_starcoder.model.with_memory import MEMORY_FOLDER, training_memory
from git_starcoder.output.files import write_atomically
from git_starcoder.records import content_id
from git_starcoder.serve.cursor import Cursor, Wishes
from git_starcoder.serve.words import accepted_length

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.serve.cursor import Suggestion
    from git_starcoder.text.tokenizer import Tokenizer

DEFAULT_THRESHOLD = 0.2
"""The threshold of a model for which none was chosen."""
WANTED_PRECISION = 0.5
"""The share of the shown completions whose first word is to be right."""
MIN_THRESHOLD = 0.1
"""No lower threshold is chosen if there is a choice. However often the first word is right, what follows would mostly
be wrong."""
PLACES = 200
"""Places at which the engine is asked."""
MIN_SHOWN = 10
"""The precision of fewer completions may be chance."""
MIN_LINES_BEFORE = 8
"""Lines that stand before a place; with fewer, nobody could know what comes."""


class ThresholdChoice(NamedTuple):
    """A threshold and what it was chosen from. The names are keys of `serving.json`."""

    threshold: float
    places: int
    """Places at which the engine was asked."""
    shown: int
    """Completions that reach the threshold."""
    precision: float
    """The share of these that begin with what the author wrote."""
    reads_suffix: bool
    """Whether the model is shown the text after the cursor."""

    def __str__(self) -> str:
        """A sentence for users."""
        share = f"at {self.shown / self.places:.0%} of {self.places} held-out places"
        right = f"the first word is right in {self.precision:.0%}"
        side = "both sides of the cursor are read" if self.reads_suffix else "only the text before the cursor is read"
        return f"completions are shown from a confidence of {self.threshold:.2f}: {share}, and {right}; {side}"


class HeldOutPlace(NamedTuple):
    """A place in a held-out file, and what the author wrote there."""

    cursor: Cursor
    line: str
    """The rest of the line, which the cursor does not show."""


class Serving(NamedTuple):
    """How a model is asked in editors."""

    threshold: float = DEFAULT_THRESHOLD
    reads_suffix: bool = True


def read_serving(folder: Path) -> Serving:
    """Return what was chosen for the model in a folder; the defaults if nothing was."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        record = json.loads((folder / SERVING_FILE).read_text(encoding="utf-8"))
        if record["schema"] == SERVING_SCHEMA and 0 <= float(record["threshold"]) <= 1:
            return Serving(float(record["threshold"]), record.get("reads_suffix") is not False)
    return Serving()


def open_model(folder: Path) -> tuple[Model, float]:
    """Load the model in a folder as editors ask it, and return its threshold, too.

    Raises:
        DatasetError: The folder holds no model, or it is damaged.
    """
    model, serving = Model.open(folder), read_serving(folder)
    model.fills_gaps &= serving.reads_suffix
    return model, serving.threshold


def choose_threshold(folder: Path, dataset: Dataset, seconds: float | None = None) -> ThresholdChoice | None:
    """Choose the threshold of a model and whether it reads the text after the cursor, and write both into its folder.

    Within `seconds`, the engine is asked at as many places as there is time for. None is returned, and nothing is
    written, if they are fewer than `MIN_SHOWN`.

    Raises:
        DatasetError: The folder holds no model, or it is damaged.
    """
    from git_starcoder.serve.engine import Engine

    end = None if seconds is None else perf_counter() + seconds
    network, tokenizer = load_reader(folder)
    record = read_training_record(folder)
    memory = training_memory(RepositoryMemory.open(folder / MEMORY_FOLDER), dataset, tokenizer)
    config: dict[str, Any] = record["config"]
    fills_gaps = bool(config.get("fim") or config.get("base"))
    reader = scored_network(network, record, dataset, tokenizer)
    found: dict[bool, list[tuple[Suggestion, str]]] = {}
    with ExitStack() as stack:
        engines: dict[bool, Engine] = {}
        for reads_suffix in (True, False) if fills_gaps and tokenizer.fim_ids is not None else (False,):
            model = Model(
                reader, tokenizer, memory, record.get("repository"), fills_gaps=reads_suffix,
                suffix_first=knows_suffix_first(config),
            )  # fmt: skip
            engines[reads_suffix] = stack.enter_context(Engine(model))
        wishes = Wishes(ending="line", min_confidence=0)
        for place in held_out_places(folder, dataset, tokenizer):
            if end is not None and perf_counter() > end:
                break
            for reads_suffix, engine in engines.items():
                suggestion = engine.complete(place.cursor, wishes)
                found.setdefault(reads_suffix, []).append((suggestion, place.line))
    choices = [choice for each in found.items() if (choice := _choose(*each))]
    choice = max(choices, key=itemgetter(0), default=(0, None))[1]
    if choice is not None:
        text = json.dumps({"schema": SERVING_SCHEMA, **choice._asdict(), "dataset": dataset.digest}, indent=2)
        write_atomically(folder / SERVING_FILE, text + "\n")
    return choice


def _choose(reads_suffix: bool, found: Sequence[tuple[Suggestion, str]]) -> tuple[int, ThresholdChoice] | None:
    """Return the threshold for suggestions at lines, and its value: how many characters are saved with it."""
    choice = threshold_of([first_word(*each) for each in found], reads_suffix=reads_suffix)
    if choice is None:
        return None
    saved = sum(accepted_length(each.cut_at(choice.threshold), line) for each, line in found)
    return saved, choice


def first_word(found: Suggestion, line: str) -> tuple[float, bool]:
    """Return the confidence of the first word of a completion, and whether the author's line begins with it."""
    if not found.text:
        return 0.0, False
    place, confidence = found.ends[0] if found.ends else (len(found.text), found.confidence)
    return confidence, accepted_length(found.text, line) >= place


def threshold_of(outcomes: Sequence[tuple[float, bool]], *, reads_suffix: bool = True) -> ThresholdChoice | None:
    """Choose a threshold from confidences and whether each completion was right; None if they are too few.

    If no threshold has the wanted precision, it is the one with the best precision.
    """
    ordered = sorted(outcomes, key=lambda outcome: -outcome[0])
    best: ThresholdChoice | None = None
    right = 0
    for shown, (confidence, is_right) in enumerate(ordered, 1):
        if confidence < MIN_THRESHOLD and best is not None:
            break
        right += is_right
        is_last_of_equal = shown == len(ordered) or ordered[shown][0] < confidence
        if shown < MIN_SHOWN or not is_last_of_equal:
            continue
        choice = ThresholdChoice(confidence, len(ordered), shown, right / shown, reads_suffix)
        if choice.precision >= WANTED_PRECISION or best is None or best.precision < choice.precision:
            best = choice
    return best


def held_out_places(folder: Path, dataset: Dataset, tokenizer: Tokenizer) -> Iterator[HeldOutPlace]:
    """Draw places in the val split: one of each file, then a second of each, up to `PLACES`.

    Half of them are at the beginning of the text of a line, the others at the end of a word in it. Files that the base
    of the model has read are left out. The draw depends on the text alone.
    """
    lineage = BaseLineage.of_model(folder, read_training_record(folder))
    documents = drop_read(load_documents(dataset, "val"), None if lineage is None else lineage.blobs)
    candidates: list[tuple[int, str, HeldOutPlace]] = []
    for document in documents:
        if document.start:
            continue
        parts = np.split(document.tokens, [document.context_length])
        read, scored = (tokenizer.decode(part[part != tokenizer.end_id]).decode("utf-8", "replace") for part in parts)
        lines = (read + scored).split("\n")
        # Lines that are only read are not held out. The last one may be incomplete.
        first = max(MIN_LINES_BEFORE, read.count("\n") + bool(read.rpartition("\n")[2]))
        order = sorted(range(first, len(lines)), key=lambda n: content_id(DRAW_SEED, document.path, n))
        numbers = [number for number in order if lines[number].strip()][:PLACES]
        for turn, number in enumerate(numbers):
            drawn = content_id(DRAW_SEED, document.path, number, "column")
            column = _column(lines[number], int(drawn, 16))
            prefix = "\n".join([*lines[:number], lines[number][:column]])
            cursor = Cursor(prefix, "\n" + "\n".join(lines[number + 1 :]), document.path)
            candidates.append((turn, drawn, HeldOutPlace(cursor, lines[number][column:])))
    candidates.sort(key=lambda candidate: candidate[:2])
    yield from (place for *_, place in candidates[:PLACES])


def _column(line: str, drawn: int) -> int:
    """Where the cursor stands in a line: before its text, or after one of its words but the last."""
    start = len(line) - len(line.lstrip())
    ends = [place for place in range(start + 1, len(line)) if line[place - 1].isalnum() and not line[place].isalnum()]
    return ends[drawn // 2 % len(ends)] if drawn % 2 and ends else start
