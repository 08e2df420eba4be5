"""The tests that the seed documents (the original design documents) ask for, and the checks that answer for them."""

from __future__ import annotations

_IN_BOTH: dict[str, tuple[str, ...]] = {
    "test_dataset_directory_exists": ("files",), "test_metadata_file_exists": ("files",),
    "test_metadata_content": ("metadata",), "test_train_file_exists": ("files",),
    "test_val_file_exists": ("files",), "test_train_file_format": ("rows",), "test_val_file_format": ("rows",),
    "test_sequence_token_count": ("lengths",), "test_sequence_metadata": ("rows",),
    "test_dataset_split_ratio": ("split_ratio",), "test_augmentation_diversity": ("diversity",),
}  # fmt: skip
SEED_SUITES: dict[str, dict[str, tuple[str, ...]]] = {
    "effectiveness": {
        **_IN_BOTH,
        "test_context_window_size": ("context_window",), "test_weighting_strategy": ("weights",),
        "test_curriculum_learning": ("curriculum",), "test_no_duplicate_sequences": ("duplicates",),
        "test_file_sizes": ("file_sizes",), "test_augmentation_types_present": ("techniques",),
    },
    "elite": {
        **_IN_BOTH,
        "test_git_history_integration": ("commits",), "test_function_signatures_extracted": ("signatures",),
        "test_dependency_graph_built": ("dependency_graph",), "test_multi_scale_contexts": ("scales",),
        "test_elite_augmentation_types": ("techniques",), "test_git_diff_sequences": ("diffs",),
        "test_smart_weighting": ("origins", "weights"), "test_temporal_weighting": ("ages", "weights"),
        "test_evolution_weighting": ("diffs", "weights"), "test_semantic_deduplication": ("near_duplicates",),
        "test_curriculum_learning": ("curriculum",), "test_no_duplicate_sequences": ("duplicates",),
        "test_file_sizes": ("file_sizes",),
    },
}  # fmt: skip
"""Suite of the seed documents → its tests in the order of the document → the checks that answer for a test.

The first suite has 17 tests. The second names 12 of its 24 itself; the others follow from its features.
"""


def answering_checks() -> dict[str, tuple[str, ...]]:
    """The checks that answer for each test of any suite."""
    return {test: checks for suite in SEED_SUITES.values() for test, checks in suite.items()}


def answered_tests(check: str) -> tuple[str, ...]:
    """The tests that a check answers for."""
    return tuple(test for test, checks in answering_checks().items() if check in checks)
