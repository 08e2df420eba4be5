"""Brings a model up to date after new commits: its dataset, its memory, and on request its network.

The new dataset takes over the splits and the tokenizer of the old one, so what was held out stays held out, and the
network can read the new rows. It is built in the hidden folder `.NAME.update` beside the old one. First the model is
replaced, and then the dataset, each in one step. If the process is killed in between, the model belongs to the dataset
in the hidden folder, and the next update finishes the work.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.build_state import Pins
from git_starcoder.dataset import DATASET_FOLDER, Dataset
from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import load_documents, load_repository
from git_starcoder.errors import DatasetError, RepositoryError, UsageError
from git_starcoder.evals import mean_over_groups
from git_starcoder.git.objects import UNSHALLOW, Repo
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.card import CARD_FILE, render_card
from git_starcoder.model.continuation import Continuation, copy_serving_choice
from git_starcoder.model.evaluate import SCORES_FILE
from git_starcoder.model.held_out_text import draw_texts, score_texts
from git_starcoder.model.loading import TRAINING_RECORD, read_training_record, require_model
from git_starcoder.model.training import MODEL_KIND, TrainResult, train
from git_starcoder.model.with_context import CONTEXT_FOLDER, repository_context
from git_starcoder.model.with_memory import MEMORY_FOLDER, remembered_texts
from git_starcoder.output.contents import GITIGNORE_NAME, describe_files, inspect_folder, require_replaceable
from git_starcoder.output.folder import atomic_folder, resolve_destination
from git_starcoder.pipeline import build
from git_starcoder.protocols import NO_CACHE, NO_PROGRESS, Cache, Engine, Progress
from git_starcoder.records import SPLITS
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.model.held_out_text import HeldOutText

MAX_SCORED_TOKENS = 16_384
"""Held-out tokens of each kind that are scored before and after."""
KEPT, NEW = "held out before and now", "new"
"""The kinds of held-out files: those of both datasets, and those that only the new one has."""


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """The bits per byte of held-out text before and after an update. The fields are JSON keys."""

    text: str
    """Which files: `KEPT` or `NEW`."""
    subject: str
    files: int
    bytes: int
    before: float
    after: float
    ratio: float
    """The bits after as a share of those before: above 1, something was forgotten."""
    low: float | None
    """The paired 95 % interval over leak groups; None for a single group."""
    high: float | None


@dataclass(slots=True)
class Update:
    """The result of an update."""

    model: Path
    dataset: Path
    old_commit: str
    new_commit: str
    is_changed: bool = True
    """Whether anything was to be done."""
    new_rows: int = 0
    """Training rows that the old dataset did not have."""
    rows: int = 0
    """All training rows."""
    memory_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """How long each part took: `dataset`, `memory`, `network`, `scores`."""
    training: TrainResult | None = None
    """The training of the network; None if only the memory was updated."""
    scores: list[BeforeAndAfter] = field(default_factory=list[BeforeAndAfter])

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return {**values, "model": str(self.model), "dataset": str(self.dataset)}


def update(
    model: str | Path, dataset: str | Path, repo: Repo, *, budget: Mapping[str, float] | None = None,
    scored: bool = True, engine: Engine, cache: Cache = NO_CACHE, progress: Progress = NO_PROGRESS, force: bool = False,
) -> Update:  # fmt: skip
    """Bring a model and its dataset up to date with a commit.

    Args:
        model: The folder of the model. It is replaced as a whole or not at all.
        dataset: The folder of the dataset that the model was trained on.
        repo: The repository, at its new commit.
        budget: A training budget such as `{"minutes": 2}`. Without one, the network stays as it is.
        scored: Whether held-out text is scored before and after.
        engine: The worker processes of the build.
        cache: Results of earlier builds.
        progress: Receives the progress.
        force: Whether files of the model or the dataset that were edited are replaced, and whether the repository may
            lack the old commit.

    Raises:
        DatasetError: The model was not trained on the dataset, or one of them is damaged.
        UsageError: The dataset is of many repositories, or the network cannot be trained further.
        RepositoryError: The repository does not have the commit of the dataset.
        OutputError: A folder cannot be written.
    """
    return _UpdateRun(Path(model), Path(dataset), repo, engine, cache, progress, force=force).run(budget, scored=scored)


class _UpdateRun:
    """One update."""

    def __init__(
        self, model: Path, dataset: Path, repo: Repo, engine: Engine, cache: Cache, progress: Progress, *, force: bool
    ) -> None:
        self.model, self.folder, self.repo = model, dataset, repo
        self.engine, self.cache, self.progress, self.force = engine, cache, progress, force
        target = resolve_destination(dataset, "dataset")
        self.staged = target.with_name(f".{target.name}.update")
        require_model(model)
        self.record = read_training_record(model)
        self.tokenizer = load_tokenizer(model)
        lineage = BaseLineage.of_model(model, self.record)
        self.blobs = None if lineage is None else lineage.blobs
        self.lineage = lineage

    def run(self, budget: Mapping[str, float] | None, *, scored: bool) -> Update:
        old = self._open_old_dataset()
        result = Update(self.model, self.folder, str(old.manifest["commit"]), self.repo.commit)
        if result.old_commit == result.new_commit:
            result.is_changed = False
            return result
        self._require_old_commit(result.old_commit)
        for folder, kind in ((self.model, MODEL_KIND), (self.folder, DATASET_FOLDER)):
            if (contents := inspect_folder(folder, kind)) is not None:
                require_replaceable(folder, contents, kind, force=self.force)
        continuation = Continuation.of_model(self.model, old)
        config = None if budget is None else continuation.config(**budget)
        start = perf_counter()
        new = self._build(old)
        result.seconds["dataset"] = perf_counter() - start
        result.new_rows, result.rows = continuation.count_new_rows(new), new.count("train")
        if config is not None and not result.new_rows:
            self.progress.note("No training row is new, so the network stays as it is.")
            config = None
        texts = self._held_out_texts(old, new) if scored else {}
        start = perf_counter()
        before = {name: score_texts(self.model, old, each) for name, each in texts.items()}
        result.seconds["scores"] = perf_counter() - start
        if config is None:
            result.memory_tokens, result.seconds["memory"] = self._replace_memory(new)
        else:
            start = perf_counter()
            options: dict[str, Any] = {"progress": self.progress, "force": True, "continuation": continuation}
            result.training = train(new, self.model, config, **options)
            result.seconds["network"] = perf_counter() - start
            result.memory_tokens = len(RepositoryMemory.open(self.model / MEMORY_FOLDER).index.places)
        start = perf_counter()
        after = {name: score_texts(self.model, new, each) for name, each in texts.items()}
        result.seconds["scores"] += perf_counter() - start
        self._publish_dataset()
        for name, each in texts.items():
            result.scores += _compare(name, each, before[name], after[name])
        return result

    def _open_old_dataset(self) -> Dataset:
        """Open the dataset of the model; finish an update that was killed before it replaced the dataset."""
        dataset = Dataset.open(self.folder)
        if dataset.digest != self.record["dataset"]:
            with suppress(DatasetError):
                if Dataset.open(self.staged).digest == self.record["dataset"]:
                    self._publish_dataset()
                    dataset = Dataset.open(self.folder)
        if dataset.digest != self.record["dataset"]:
            what = f"'{self.model}' was not trained on the dataset '{self.folder}'"
            raise DatasetError(what, where=str(self.folder), hint="name its dataset with --dataset")
        if dataset.is_of_many:
            raise UsageError("a dataset of many repositories is not updated", where=str(self.folder))
        return dataset

    def _require_old_commit(self, commit: str) -> None:
        try:
            Repo.open(self.repo.path, commit)
        except RepositoryError as error:
            if not self.force:
                what = f"'{self.repo.path}' does not have the commit {commit[:12]} of the dataset"
                hint = f"give the repository of the model; {UNSHALLOW}; --force updates from any repository"
                raise RepositoryError(what, where=str(self.repo.path), hint=hint) from error

    def _build(self, old: Dataset) -> Dataset:
        recipe = old.load_recipe()
        options: dict[str, Any] = {"engine": self.engine, "progress": self.progress, "cache": self.cache}
        # If the newest commits are held out, what they once added trains as soon as enough others came after them.
        splits = old.splits_of_files() if recipe.split.holdout == "files" else {}
        pins = Pins(splits, old.tokenizer_folder)
        return build(self.repo, recipe, self.staged, pins=pins, **options)

    def _held_out_texts(self, old: Dataset, new: Dataset) -> dict[str, list[HeldOutText]]:
        """The held-out text by kind, as it is at the new commit. No model has trained on it."""
        known = {split: {str(row["source_file"]) for row in old.row_metadata(split)} for split in SPLITS}
        if new.load_recipe().split.holdout == "commits":
            known["train"] = set()  # only lines are held out that came after all that the old model has read
        kinds: dict[str, list[Document]] = {KEPT: [], NEW: []}
        for document in drop_read(load_documents(new, "test"), self.blobs):
            if document.path in known["test"]:
                kinds[KEPT].append(document)
            elif document.path not in known["train"] | known["val"]:
                kinds[NEW].append(document)
        texts = {name: draw_texts(each, MAX_SCORED_TOKENS, self.tokenizer) for name, each in kinds.items()}
        return {name: each for name, each in texts.items() if each}

    def _replace_memory(self, dataset: Dataset) -> tuple[int, float]:
        """Write the model with the memory of a dataset; return the tokens of the memory and how long it took to make.

        The gates stay: they say how much a count is worth, which new commits hardly change.
        """
        texts = remembered_texts(load_repository(dataset))
        start = perf_counter()
        memory = RepositoryMemory.open(self.model / MEMORY_FOLDER).update(texts, "repository")
        seconds = perf_counter() - start
        made_anew = {MEMORY_FOLDER, CONTEXT_FOLDER}
        dropped = {TRAINING_RECORD, SCORES_FILE, CARD_FILE}
        with atomic_folder(self.model, MODEL_KIND, lambda _: None, force=self.force) as (folder, _):
            for name in self.record["files"]:
                if name not in dropped and Path(name).parts[0] not in made_anew:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self.model / name, folder / name)
            memory.save(folder / MEMORY_FOLDER)
            if self.record["config"].get("context_tokens"):
                repository_context(dataset, self.tokenizer).save(folder / CONTEXT_FOLDER)
            updates = [*self.record.get("updates", []), {"tokens": 0}]
            record = {**self.record, "dataset": dataset.digest, "updates": updates}
            (folder / CARD_FILE).write_text(render_card(record, self.lineage), encoding="utf-8")
            record["files"] = describe_files(folder)
            (folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            copy_serving_choice(self.model, folder)
        return len(memory.index.places), seconds

    def _publish_dataset(self) -> None:
        """Replace the old dataset by the staged one. Its files stay where they are until all is done."""
        with atomic_folder(self.folder, DATASET_FOLDER, lambda _: None, force=self.force) as (folder, _):
            ignored = shutil.ignore_patterns(GITIGNORE_NAME)
            shutil.copytree(self.staged, folder, copy_function=_link_or_copy, dirs_exist_ok=True, ignore=ignored)
        shutil.rmtree(self.staged, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no links
        shutil.copyfile(source, target)


def _compare(
    name: str, texts: list[HeldOutText], before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[BeforeAndAfter]:
    """The scores of one kind of text, for each subject that was scored both times."""
    byte_count = sum(len(text.scored) for text in texts)
    files = len({text.path for text in texts})
    groups = [text.group for text in texts]
    scores: list[BeforeAndAfter] = []
    for subject in before:
        if subject in after:
            ratio, low, high, _ = mean_over_groups(groups, after[subject], before[subject], seed=0)
            earlier, later = (float(np.sum(each[subject])) / byte_count for each in (before, after))
            scores.append(BeforeAndAfter(name, subject, files, byte_count, earlier, later, ratio, low, high))
    return scores
