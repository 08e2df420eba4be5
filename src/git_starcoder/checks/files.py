"""The folder and its files are there, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.dataset import FIXED_FILES
from git_starcoder.records import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given


SEEDS = (
    "test_dataset_directory_exists", "test_metadata_file_exists", "test_train_file_exists", "test_val_file_exists",
)  # fmt: skip


class Check:
    """A finding for each file that is missing or is a link to elsewhere; the figure is how many there are."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self.figure = ""

    def end(self) -> Iterator[Finding]:
        """Look at each."""
        folder = self._dataset.folder
        rows = [path for split in SPLITS for path in self._dataset.files(split)]
        paths = [*(folder / name for name in FIXED_FILES), *rows]
        for path in paths:
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield Finding("files", name, "is a link: the folder cannot be moved without what it points to")
            elif not path.is_file():
                yield Finding("files", name, "is missing")
        size = sum(path.stat().st_size for path in paths if path.is_file())
        self.figure = f"{len(paths)} files, {size / 1e6:,.1f} MB"
