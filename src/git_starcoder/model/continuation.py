"""Goes on training a model when its repository has new commits: new rows, and old ones so that little is forgotten."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from git_starcoder.errors import UsageError
from git_starcoder.model.config import BUDGET_KEYS, TrainConfig
from git_starcoder.model.loading import SERVING_FILE, SERVING_SCHEMA, TRAINING_RECORD, read_training_record
from git_starcoder.output.contents import has_schema
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.corpus import Corpus

REPLAY_SHARE = 0.5
"""The share of the tokens that are of rows that the model has read before. It is not measured yet."""
MAX_RATE = 3e-4
"""The highest learning rate. Over 50 commits of flask, the validation loss rose at 1e-3 and fell at 3e-4 and 1e-4."""
MAX_NEW_FACTOR = 8.0
"""A new row is drawn at most so many times as often as an old one, so that few new rows are not learned by heart."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a training goes on from: a model, and the rows of the dataset that it was trained on."""

    model: Path
    record: Mapping[str, Any]
    """The record of its training."""
    known_rows: frozenset[str]
    """The ids of the rows that it has read."""

    @classmethod
    def of_model(cls, model: Path, dataset: Dataset) -> Self:
        """Return the continuation of a model that was trained on a dataset."""
        rows = frozenset(str(metadata["row_id"]) for metadata in dataset.row_metadata("train"))
        return cls(model, read_training_record(model), rows)

    @property
    def digest(self) -> str:
        """A hash of the model, which a checkpoint must have in common with the training."""
        return content_id((self.model / TRAINING_RECORD).read_bytes(), *sorted(self.known_rows))

    def config(self, **budget: float | None) -> TrainConfig:
        """Return the config of the model with another budget, and a learning rate that suits trained weights.

        Raises:
            UsageError: The model has adapters, which are not trained further, or no budget or two are given.
        """
        values: dict[str, Any] = {key: value for key, value in self.record["config"].items() if key not in BUDGET_KEYS}
        if values["tune"] != "full":
            hint = "update the memory alone, or train a new model"
            raise UsageError("a model that was tuned with adapters is not trained further", where="update", hint=hint)
        config = TrainConfig.load(None, (), **(values | budget))
        return replace(config, learning_rate=min(config.peak_rate, MAX_RATE))

    def count_new_rows(self, dataset: Dataset) -> int:
        """Return how many training rows of a dataset have a weight and were not read by the model."""
        return sum(
            metadata["weight"] > 0 and metadata["row_id"] not in self.known_rows
            for metadata in dataset.row_metadata("train")
        )

    def weigh(self, corpus: Corpus, dataset: Dataset) -> Corpus:
        """Return a corpus in which new rows have the share `1 - REPLAY_SHARE` of the tokens, as far as that is allowed.

        `corpus` is of the training split of `dataset`. For example, of 1,000 tokens 100 are new: the new rows would be
        drawn 9 times as often to have half of the tokens, and are drawn 8 times as often (`MAX_NEW_FACTOR`).

        Raises:
            UsageError: No row is new.
        """
        is_known_row = [metadata["row_id"] in self.known_rows for metadata in dataset.row_metadata("train")]
        is_known = np.array(is_known_row, dtype=np.bool_)[corpus.dataset_rows]
        masses = corpus.weights * corpus.lengths
        new, old = float(masses[~is_known].sum()), float(masses[is_known].sum())
        if not new:
            raise UsageError("no training row is new, so there is nothing to train on", where=str(dataset.folder))
        factor = min(MAX_NEW_FACTOR, max(1.0, old * (1 - REPLAY_SHARE) / (REPLAY_SHARE * new)))
        return replace(corpus, weights=np.where(is_known, corpus.weights, corpus.weights * factor))


def copy_serving_choice(model: Path, folder: Path) -> None:
    """Copy what was chosen for editors from a model into the folder that replaces it: new commits hardly change it."""
    if has_schema(model / SERVING_FILE, SERVING_SCHEMA):
        shutil.copyfile(model / SERVING_FILE, folder / SERVING_FILE)
