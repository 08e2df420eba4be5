"""A finished dataset folder: open it, read its rows, and (`write_*`) write its files."""

from git_starcoder.dataset.folder import (
    CARD_FILE,
    DATASET_FOLDER,
    DATASET_SCHEMA,
    FIXED_FILES,
    MANIFEST_FILE,
    METADATA_FILE,
    BuildTarget,
    Dataset,
    dataset_fingerprint,
    publish_dataset,
)
from git_starcoder.dataset.read_rows import Row

__all__ = [
    "CARD_FILE", "DATASET_FOLDER", "DATASET_SCHEMA", "FIXED_FILES", "MANIFEST_FILE", "METADATA_FILE", "BuildTarget",
    "Dataset", "Row", "dataset_fingerprint", "publish_dataset",
]  # fmt: skip
