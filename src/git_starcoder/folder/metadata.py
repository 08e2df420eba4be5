"""`dataset_metadata.json`: the figures of a dataset under the keys that the seeds name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.dataset import SCHEMA

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Unit


class Written(NamedTuple):
    """What the rows of the files come to."""

    rows: Counter[str]
    """By split."""
    made_by: Counter[str]
    """Rows by what made them."""
    tokens: int
    """Before padding."""


def metadata(
    build: BuildState, recipe: Recipe, repo: Repo, units: Collection[Unit], written: Written
) -> dict[str, Any]:
    """What the dataset says of itself."""
    steps = {step.name: step for step in build.steps}
    rows, made_by, tokens = written
    total = rows.total()
    nodes = {unit.path for unit in units if unit.imports} | {path for unit in units for path in unit.imports}
    primary = recipe.window.primary
    return {
        # The commit's date, not the clock's: two builds of one commit have the same bytes.
        "creation_date": datetime.fromtimestamp(repo.committed_at, UTC).isoformat(),
        f"{recipe.name}_version": SCHEMA.rpartition("/")[2],
        "source_repo": f"git:{repo.commit}",
        "format": recipe.write.format,
        "total_sequences": total,
        "train_sequences": rows["train"],
        "val_sequences": rows["val"],
        "test_sequences": rows["test"],
        "source_files": len(units),
        "source_files_scanned": steps["read"].figures["entries"],
        "base_sequences": made_by["base"],
        "augmented_sequences": total - made_by["base"],
        "git_diffs": made_by["git_diff"],
        "git_commits_analyzed": steps["read"].figures.get("commits", len({unit.commit for unit in units})),
        "function_signatures": sum(symbol.kind == "function" for unit in units for symbol in unit.symbols),
        "dependency_graph_nodes": len(nodes),
        "dependency_graph_edges": sum(len(unit.imports) for unit in units),
        "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
        "vocab_size": steps["window"].figures["vocab_size"],
        "max_tokens_per_sequence": max(recipe.window.sizes),
        "overlap_tokens": round(primary * recipe.window.overlap),
        "context_windows": list(recipe.window.sizes),
        "primary_window": primary,
        "total_tokens": tokens,
        "avg_tokens_per_sequence": round(tokens / max(1, total), 1),
        "augmentation_techniques": {key: made_by[key] for key in ("base", *recipe.augment)},
        "weighting_strategy": {
            "high_priority": recipe.weigh.core,
            "medium_priority": recipe.weigh.utility,
            "low_priority": recipe.weigh.test,
            "core": recipe.weigh.core,
            "medium": recipe.weigh.utility,
            "test": recipe.weigh.test,
            "recent_boost": recipe.weigh.recent,
            "old_boost": recipe.weigh.old,
            "evolution_boost": recipe.weigh.evolution,
            "copies": recipe.write.copies,
        },
        "learning_strategy": recipe.order.by,
        "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
    }
