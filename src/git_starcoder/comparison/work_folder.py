"""Keeps the results of trainings in a folder, so that an interrupted comparison goes on where it stopped.

    WORK/work.json           says that the folder is one of comparisons
    WORK/results/KEY.json    a finished training: the bits of each text
    WORK/models/KEY          its model, until the result is written; beside it the checkpoints of a training
    WORK/datasets/KEY        datasets, until no training needs them any more; that of the held-out text stays

KEY is a hash of all that decides the content. Everything appears complete or not at all, so the folder may be used
again after a crash, and deleted at any time.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.output.contents import OutputKind
from git_starcoder.output.files import convert_os_errors, write_atomically
from git_starcoder.output.folder import WORK_MARKER, exclusive_lock, prepare_work_folder
from git_starcoder.records import CONTENT_ID

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping
    from pathlib import Path

RESULT_SCHEMA = "git-starcoder/arm/1"
LOCK_FILE = "lock"
WORK_KIND = OutputKind("work folder", "comparison", WORK_MARKER, "git-starcoder/comparison-work/1")


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A folder of results; see the top of this module."""

    folder: Path

    def dataset(self, key: str) -> Path:
        """The folder of a dataset."""
        return self.folder / "datasets" / key

    def model(self, key: str) -> Path:
        """The folder of a model."""
        return self.folder / "models" / key

    def read_result(self, key: str) -> dict[str, Any] | None:
        """Read a finished result; None if there is none."""
        try:
            values: Any = json.loads((self.folder / "results" / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it is measured again, and replaced
            return None
        known = cast("dict[str, Any]", values) if isinstance(values, dict) else {}
        return known if known.get("schema") == RESULT_SCHEMA and isinstance(known.get("bits"), dict) else None

    def write_result(self, key: str, values: Mapping[str, Any]) -> None:
        """Write a finished result, and remove its model."""
        with convert_os_errors(self.folder):
            text = json.dumps({"schema": RESULT_SCHEMA, **values}) + "\n"
            write_atomically(self.folder / "results" / f"{key}.json", text)
            shutil.rmtree(self.model(key), ignore_errors=True)

    def remove_datasets(self, keep: Collection[str]) -> None:
        """Remove the datasets that no training needs any more, and what a kill left of them."""
        for folder in (self.folder / "datasets").iterdir():
            if folder.name not in keep and CONTENT_ID.match(folder.name.removeprefix(".")):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_work_folder(path: Path) -> Generator[WorkFolder]:
    """Create or open a folder of results, which no other process uses until the context ends.

    Raises:
        OutputError: The folder cannot be written, is in use, or holds something else.
    """
    with convert_os_errors(path):
        folder = prepare_work_folder(path, WORK_KIND)
        for name in ("results", "models", "datasets"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path, WORK_KIND, folder / LOCK_FILE):
            yield WorkFolder(folder)
