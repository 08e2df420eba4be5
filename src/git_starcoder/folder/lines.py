"""What the rows of a file say of themselves: the same in every format.

What all rows of a sample share is made once, what each row has of its own comes as columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.records import Change, printable_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.build_state import TextStore
    from git_starcoder.records import Role, Sample, Unit, Windows

OWN = {
    "seq_id": "int64", "row_id": "string", "window_size": "int32", "length": "int32", "token_start": "int32",
    "chunk_index": "int32", "total_chunks": "int32", "complexity": "float64", "weight": "float64", "stage": "int8",
    "weight_of_row": "float64", "copy": "int32", "copies": "int32", "context": "int32", "hole": "list<int32>",
}  # fmt: skip
"""Metadata that each row has of its own, with its type."""
SHARED = {
    "source_file": "string", "directory": "string", "file_extension": "string", "language": "string", "role": "string",
    "priority": "string", "is_core": "bool", "is_test": "bool", "augmentation_type": "string", "age_days": "int64",
    "commit": "string", "sample": "string", "group": "string", "split": "string", "has_dependencies": "bool",
    "type_density": "float64", "error_patterns": "int64", "blob": "string", "is_evolution": "bool",
    "commit_message": "string", "kind": "string",
}  # fmt: skip
"""Metadata that rows of a sample share, with its type; some do not have all of it."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of one split in the order of their file, as columns. Arrays have shape (lines,)."""

    windows: Windows
    row: NDArray[np.int64]
    """Index into `windows`."""
    spans: NDArray[np.int64]
    """Where their parts lie in `windows.tokens`, shape (lines, 3, 2)."""
    masked: NDArray[np.bool_]
    """Whether the parts are prefix, suffix and middle with control tokens around them; else head, text and nothing."""
    marks: tuple[int, ...]
    """Those control tokens: one before each part, and the last."""
    stage: NDArray[np.int8] | None = None
    """Of the curriculum, from 1, where there is one."""
    copy: NDArray[np.int64] | None = None
    """Which of the copies of its row it is, from 0, where rows are copied; their weight is then 1."""
    copies: NDArray[np.int64] | None = None
    """How many copies its row has."""
    before: int = 0
    """Lines of the file before the first of these."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def rows(self) -> int:
        """How many rows have their first copy among these lines."""
        return len(self) if self.copy is None else int(np.count_nonzero(self.copy == 0))

    @property
    def length(self) -> NDArray[np.int64]:
        """Tokens before padding."""
        return (self.spans[:, :, 1] - self.spans[:, :, 0]).sum(axis=1) + len(self.marks) * self.masked

    @property
    def uncounted(self) -> NDArray[np.int64]:
        """How many tokens at the beginning of each row do not count for the loss.

        A head does not. Of a masked row all do, prefix and suffix, too (Bavarian et al., 2022, section 3).
        """
        return np.where(self.masked, 0, self.spans[:, 0, 1] - self.spans[:, 0, 0])

    def part(self, begin: int, stop: int) -> Lines:
        """Some of the lines."""
        part = slice(begin, stop)
        stage, copy, copies = (
            None if column is None else column[part] for column in (self.stage, self.copy, self.copies)
        )
        return replace(
            self, row=self.row[part], spans=self.spans[part], masked=self.masked[part], stage=stage, copy=copy,
            copies=copies, before=self.before + begin,
        )  # fmt: skip

    def columns(self) -> dict[str, list[Any]]:
        """Metadata of the lines by the keys of `OWN`; None where a line does not have it."""
        windows, row = self.windows, self.row
        weight = _decimals(windows.weight[row])
        values: dict[str, list[Any]] = {
            "seq_id": list(range(self.before, self.before + len(self))),
            "row_id": [f"{key:016x}" for key in windows.content_key[row].tolist()],
            "window_size": windows.size[row].tolist(),
            "length": self.length.tolist(),
            "token_start": windows.sample_offset[row].tolist(),
            "chunk_index": windows.window_index[row].tolist(),
            "total_chunks": windows.window_count[row].tolist(),
            "complexity": _decimals(windows.difficulty[row]),
            "weight": weight if self.copy is None else [1.0] * len(self),
        }
        if self.stage is not None:
            values["stage"] = self.stage.tolist()
        if self.copy is not None and self.copies is not None:
            values["weight_of_row"] = weight
            values["copy"] = self.copy.tolist()
            values["copies"] = self.copies.tolist()
        values["context"] = [tokens or None for tokens in np.where(self.masked, 0, windows.prefix_length[row]).tolist()]
        holes = np.stack([windows.mask_start[row], windows.mask_stop[row]], axis=1).tolist()
        values["hole"] = [hole if there else None for hole, there in zip(holes, self.masked.tolist(), strict=True)]
        return values


def _decimals(values: NDArray[np.float64]) -> list[float]:
    """The values with four decimals."""
    return (np.rint(values * 10_000) / 10_000).tolist()


def shared(sample: Sample, newest: int, texts: TextStore) -> dict[str, Any]:
    """Metadata that all rows of a sample share. `newest` is the time from which ages count, seconds since 1970."""
    origin = sample.origin
    values: dict[str, Any] = {
        **_named(origin.path),
        "language": origin.language,
        "role": origin.role,
        "priority": priority(origin.role),
        "is_core": origin.role == "core",
        "is_test": origin.role == "test",
        "augmentation_type": sample.technique,
        "age_days": max(0, newest - origin.changed_at) // 86_400,
        "commit": origin.commit,
        "sample": sample.id,
        "group": origin.group,
        "split": origin.split,
        **(_of_change(origin, texts) if isinstance(origin, Change) else _of_unit(origin)),
    }
    if sample.kind:
        values["kind"] = sample.kind
    return values


@lru_cache(1)  # the samples of a file lie beside one another
def _named(path: str) -> dict[str, str]:
    printed = printable_path(path)  # as it is: a library of paths would make `a//b` and `./a/b` one with `a/b`
    folder, _, name = printed.rpartition("/")
    return {"source_file": printed, "directory": folder or ".", "file_extension": PurePosixPath(name).suffix}


def _of_unit(unit: Unit) -> dict[str, Any]:
    return {
        "has_dependencies": bool(unit.imports),
        "type_density": round(unit.type_density, 4),
        "error_patterns": unit.error_patterns,
        "blob": unit.source.blob,
    }


def _of_change(change: Change, texts: TextStore) -> dict[str, Any]:
    return {
        "has_dependencies": False,
        "type_density": 0.0,
        "error_patterns": 0,
        "blob": change.blob_after,
        "is_evolution": True,
        "commit_message": texts.get(change.message).decode("utf-8", "replace"),
    }


def priority(role: Role) -> str:
    """The seeds' word for a role: core is `high`, tests are `low`, all others `medium`."""
    return {"core": "high", "test": "low"}.get(role, "medium")
