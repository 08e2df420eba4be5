"""What the metadata say of settings and origin is what the recipe and the manifest say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from git_starcoder.recipe import Recipe
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_metadata_content",)
COUNTS = (
    "total_sequences", "train_sequences", "val_sequences", "test_sequences", "source_files", "source_files_scanned",
    "base_sequences", "augmented_sequences", "git_diffs", "git_commits_analyzed", "function_signatures",
    "dependency_graph_nodes", "vocab_size", "max_tokens_per_sequence", "overlap_tokens", "primary_window",
    "total_tokens",
)  # fmt: skip
"""Keys of whole numbers; other checks count them."""


class Check:
    """A finding for each key that is missing or says something else; the figure is where the dataset comes from."""

    def __init__(self, given: Given) -> None:
        self._dataset, self._source = given.dataset, given.source
        self._files: set[str] = set()
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:  # noqa: ARG002
        """Remember their files, of those that stand at the commit."""
        self._files.update(said["source_file"] for said in block.metadata if not said.get("is_evolution"))
        return ()

    def end(self) -> Iterator[Finding]:
        """Compare all keys."""
        said, manifest = self._dataset.metadata, self._dataset.manifest
        recipe = Recipe.load(self._dataset.folder / "recipe.yaml")
        for key in COUNTS:
            if type(said.get(key)) is not int:
                yield _finding(f"{key} is {said.get(key)!r}, not a whole number")
        for key, value in _expected(recipe, manifest).items():
            if said.get(key) != value:
                yield _finding(f"{key} is {said.get(key)!r}, not {value!r}")
        if not said.get(f"{recipe.name}_version"):
            yield _finding(f"no {recipe.name}_version")
        if len(self._files) > (files := said.get("source_files") or 0):
            yield _finding(f"{files} source_files, but rows come from {len(self._files)}")
        try:
            created = datetime.fromisoformat(str(said.get("creation_date")))
        except ValueError:
            yield _finding(f"creation_date is {said.get('creation_date')!r}, not a date")
        else:
            if self._source and created != datetime.fromtimestamp(self._source.committed_at, UTC):
                yield _finding(f"creation_date is {said['creation_date']}, not that of the commit")
        self.figure = f"{said.get('source_repo')}, recipe {recipe.name}"


def _expected(recipe: Recipe, manifest: dict[str, Any]) -> dict[str, Any]:
    """What follows from the recipe and the manifest."""
    steps = {step["step"]: step for step in manifest["steps"]}
    weigh = recipe.weigh
    return {
        "source_repo": f"git:{manifest.get('commit')}",
        "source_files_scanned": steps.get("read", {}).get("figures", {}).get("entries"),
        "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
        "weighting_strategy": {
            "high_priority": weigh.core, "medium_priority": weigh.utility, "low_priority": weigh.test,
            "core": weigh.core, "medium": weigh.utility, "test": weigh.test, "recent_boost": weigh.recent,
            "old_boost": weigh.old, "evolution_boost": weigh.evolution, "copies": recipe.write.copies,
        },
        "learning_strategy": recipe.order.by,
        "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
        "format": recipe.write.format,
    }  # fmt: skip


def _finding(what: str) -> Finding:
    return Finding("metadata", "dataset_metadata.json", what)
