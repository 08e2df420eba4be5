"""What a build would come to: `git starcoder build -n`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_starcoder.cli.talk import escape_line
from git_starcoder.user_paths import temporary_folder

if TYPE_CHECKING:
    from git_starcoder.git.objects import Repo
    from git_starcoder.protocols import Engine, Progress
    from git_starcoder.recipe import Recipe

BYTES_PER_WRITTEN = 4.0
"""Bytes of JSON for each token of a row, padding included."""
BYTES_PER_ROW = 700
"""Bytes of JSON for the metadata of a row."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Files and changes exactly, the rest about."""

    commit: str
    files: int
    files_seen: int
    changes: int
    changes_seen: int
    """Of single files in commits; 0 where the recipe reads no history."""
    text_bytes: int
    windows: tuple[int, ...]
    rows: int
    tokens: int
    bytes: int

    def values(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def text(self, out: Path) -> str:
        """For a person."""
        history = f"  changes {self.changes:,} of {self.changes_seen:,} that commits made to files"
        return "\n".join((
            f"would make {escape_line(str(out))} from commit {self.commit[:12]}",
            f"  files   {self.files:,} of {self.files_seen:,}, {self.text_bytes:,} bytes of text",
            *([history] if self.changes_seen else []),
            f"  windows {', '.join(f'{size:,}' for size in self.windows)} tokens",
            f"  rows    about {self.rows:,}",
            f"  tokens  about {self.tokens:,}",
            f"  bytes   about {self.bytes:,}",
        ))  # fmt: skip


def plan(repo: Repo, recipe: Recipe, engine: Engine, progress: Progress) -> Plan:
    """Read, analyse and split, and estimate what the steps after them would make."""
    from git_starcoder.build_state import BuildState
    from git_starcoder.records import SPLITS
    from git_starcoder.stages import analyse, read, split, window

    recipe = window.resolve_sizes(recipe)
    sizes = recipe.window.sizes
    with (
        tempfile.TemporaryDirectory(dir=temporary_folder()) as folder,
        BuildState(Path(folder), recipe.seed, engine, progress) as run,
    ):
        sources, changes = read.read_repository(run, recipe.read, repo)
        units = analyse.analyse_sources(run, recipe.analyse, sources)
        units, changes = split.assign_splits(run, recipe, units, changes)
    entries = int(run.steps[0].figures["entries"])
    figures = run.steps[-1].figures
    rows = sum(int(figures[f"expected_rows_{each}"]) for each in SPLITS)
    text = sum(unit.source.text.stop - unit.source.text.start for unit in units)
    tokens = round(len(sizes) * rows / fsum(1 / size for size in sizes))  # every size has about as many
    written = round(tokens * BYTES_PER_WRITTEN + rows * BYTES_PER_ROW)
    return Plan(
        commit=repo.commit,
        files=len(units),
        files_seen=entries,
        changes=len(changes),
        changes_seen=run.steps[0].seen - entries,
        text_bytes=text,
        windows=sizes,
        rows=rows,
        tokens=tokens,
        bytes=written,
    )
