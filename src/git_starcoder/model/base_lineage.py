"""Says which base a model goes back to, and which files this base has read.

A bundled base says what it has read. A model of ours was trained on one dataset, so it has read no held-out file of
this dataset; and it may go back to a base in turn. Of all other models nothing is known.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.bases import BASE_FILE, BLOBS_FILE, Base, find_base
from git_starcoder.bases.blobs import BlobFilter
from git_starcoder.model.base_model import find_base_folder
from git_starcoder.model.loading import TRAINING_RECORD, read_training_record

if TYPE_CHECKING:
    from pathlib import Path

BASE_FOLDER = "base"
"""The folder in a model's folder with the record and the filter of the bundled base that the model goes back to."""


@dataclass(frozen=True, slots=True)
class BaseLineage:
    """The model that a training started from."""

    name: str
    """Its name, folder or Hugging Face id, as in the training config."""
    base: Base | None
    """The bundled base that its weights go back to."""
    blobs: BlobFilter | None
    """What it has read, besides the training split of the dataset; None if that is not known."""

    @classmethod
    def trace(cls, name: str, dataset_digest: str) -> BaseLineage:
        """Find out what a training on a dataset starts from.

        Raises:
            UsageError: There is no such model.
            DatasetError: The base is damaged.
        """
        if base := find_base(name):
            return cls(name, base, base.read_blobs())
        folder = find_base_folder(name)
        if (folder / TRAINING_RECORD).is_file():
            record = read_training_record(folder)
            former = cls.of_model(folder, record)
            if record["dataset"] == dataset_digest:
                return cls(name, *((None, _nothing()) if former is None else (former.base, former.blobs)))
        return cls(name, None, None)

    @classmethod
    def of_model(cls, folder: Path, record: dict[str, Any]) -> BaseLineage | None:
        """What a trained model was tuned from, by its folder and its training record; None if it is from scratch.

        Raises:
            DatasetError: The files about the base are damaged.
        """
        config: dict[str, Any] = record.get("config") or {}
        name: str | None = config.get("base")
        if name is None:
            return None
        about: dict[str, Any] = record.get("base") or {}  # models of earlier versions have none
        base = Base.open(folder / BASE_FOLDER) if (folder / BASE_FOLDER / BASE_FILE).is_file() else None
        if not about.get("known"):
            return cls(name, base, None)
        return cls(name, base, _nothing() if base is None else base.read_blobs())

    def save(self, folder: Path) -> None:
        """Write the record and the filter of the base into a model's folder, so that the model can be scored alone."""
        if self.base is not None:
            (folder / BASE_FOLDER).mkdir()
            for file in (BASE_FILE, BLOBS_FILE):
                shutil.copyfile(self.base.folder / file, folder / BASE_FOLDER / file)

    def as_values(self) -> dict[str, Any]:
        """Plain values for the training record."""
        base = self.base
        about = {} if base is None else {"of": base.record["name"], "weights": base.weights_digest}
        return {"name": self.name, **about, "known": self.blobs is not None}


def _nothing() -> BlobFilter:
    return BlobFilter(np.zeros(0, dtype=np.uint32))
