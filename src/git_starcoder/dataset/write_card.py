"""Writes `README.md`, the dataset card, with the YAML header that `datasets.load_dataset(FOLDER)` and the Hub read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from git_starcoder import strict_config
from git_starcoder.dataset.folder import REPOSITORIES_FILE
from git_starcoder.dataset.read_rows import SPLIT_FILE_NAMES
from git_starcoder.dataset.write_metadata import IMPORTS_FILE, SIGNATURES_FILE
from git_starcoder.text.licences import LICENCE_FILE, recognise_licence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_starcoder.build_state import TextStore
    from git_starcoder.records import Unit

ColumnTypes = Mapping[str, "str | Mapping[str, str]"]
"""The type of each column, such as `int64` or `list<uint16>`; for a column of objects, the types of its members."""
HUB_LICENCES = {
    "apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "isc", "mpl-2.0", "agpl-3.0", "lgpl-3.0", "lgpl-2.1",
    "gpl-3.0", "gpl-2.0", "unlicense", "bsl-1.0", "zlib", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "postgresql",
    "artistic-2.0", "wtfpl", "epl-1.0", "epl-2.0", "eupl-1.2", "ofl-1.1", "mulanpsl-2.0",
}  # fmt: skip
"""The Hub's keys of licences: those of SPDX in lower case."""
SIZE_CATEGORIES = (
    ("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7),
)  # fmt: skip
"""The Hub's names for numbers of rows, each with its upper bound."""


def render_card(metadata: Mapping[str, Any], columns: ColumnTypes, licence: str) -> str:
    """Return the card of a dataset, from the metadata of the dataset and the types of its columns.

    The card names the files of each split. From the file names alone `datasets` would guess wrong, because
    "training" is in all names of JSON lines.
    """
    pattern = "data/{name}-*.parquet" if metadata["format"] == "parquet" else "training_data_{key}.jsonl"
    if "repositories" in metadata:
        pattern = f"data/{{name}}/*.{metadata['format']}"
    files = [
        {"split": name, "path": pattern.format(name=name, key=key)}
        for key, name in SPLIT_FILE_NAMES.items()
        if metadata[f"{key}_sequences"]  # the library fails at a split without rows
    ]
    total = metadata["total_sequences"]
    header = {
        "pretty_name": f"{metadata['source_repo'][:16]} by git-starcoder",
        "license": licence,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for name, bound in SIZE_CATEGORIES if total < bound), "n>10M")],
        "tags": ["code", "git", "git-starcoder"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": [_feature(name, kind) for name, kind in columns.items()]},
    }
    return f"---\n{strict_config.dump(header)}---\n\n{_card_text(metadata, licence)}"


def detect_licence(units: Iterable[Unit], texts: TextStore) -> str:
    """Return the Hub's key of the licence file in the root folder, `other` if it is not known or there are several.

    `unknown` means that there is none. The licence is that of the repository as a whole: single files may have others.
    """
    keys = {
        hub_licence(recognise_licence(texts.get(unit.source.text).decode("utf-8", "replace")))
        for unit in units
        if LICENCE_FILE.fullmatch(unit.path)
    }
    return keys.pop() if len(keys) == 1 else "other" if keys else "unknown"


def hub_licence(identifier: str) -> str:
    """Return the Hub's key of a licence, or `other`."""
    key = identifier.lower()
    return key if key in HUB_LICENCES else "other"


def _feature(name: str, kind: str | Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(kind, str):
        return {"name": name, "struct": [_feature(*member) for member in kind.items()]}
    return {"name": name, "sequence": kind[5:-1]} if kind.startswith("list<") else {"name": name, "dtype": kind}


def _card_text(metadata: Mapping[str, Any], licence: str) -> str:
    techniques = ", ".join(f"{name} {count:,}" for name, count in metadata["augmentation_techniques"].items())
    licence_sentence = {
        "unknown": "The repository has no licence file that is part of this dataset.",
        "other": "The repository has a licence that was not recognised, or several.",
    }.get(licence, f"The repository's licence file reads like {licence}.")
    is_parquet = metadata["format"] == "parquet"
    text_column = "; `text` is what they say, without padding" if is_parquet else ""
    count = metadata.get("repositories")
    origin = "one Git repository" if count is None else f"{count:,} Git repositories (`{REPOSITORIES_FILE}`)"
    if count is not None:
        licence_sentence = f"The licences of the repositories are in `{REPOSITORIES_FILE}`."
    where = "" if is_parquet else " of `metadata`"
    return f"""# Training data from {metadata["source_repo"]}

Made by git-starcoder from {origin}: {metadata["total_sequences"]:,} rows of up to
{metadata["max_tokens_per_sequence"]:,} tokens from {metadata["source_files"]:,} files ({techniques}).
Files that share text, and everything made of them, are in one split.

```python
from datasets import load_dataset

rows = load_dataset("FOLDER")  # train, validation, test
edges = load_dataset("json", data_files="FOLDER/{IMPORTS_FILE}")  # and {SIGNATURES_FILE}
```

`tokens` are ids of the tokenizer in `tokenizer/`, padded behind `length`{where}{text_column}.
`weight`{where} is how often a trainer should draw a row. The first `context` tokens of a row do not count for the loss.

{licence_sentence} Single files may be under others.
"""
