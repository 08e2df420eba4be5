"""`README.md`: the dataset card, with the YAML header that `datasets.load_dataset(FOLDER)` and the Hub read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from git_starcoder import strict_config
from git_starcoder.folder.facts import IMPORTS, SIGNATURES
from git_starcoder.parquet import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_starcoder.build_state import TextStore
    from git_starcoder.records import Unit

Features = Mapping[str, "str | Mapping[str, str]"]
"""The type of each column, such as `int64` or `list<uint16>`; of a column of objects, those of its members."""
LICENCE = re.compile(r"(licen[cs]e|copying|unlicense)([-_.][\w.-]+)?", re.IGNORECASE)
"""Names of files at the root that hold a licence."""
LICENCES = {
    "apache-2.0": "Apache License Version 2.0, January 2004",
    "mit": "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "bsd-3-clause": "Neither the name of",
    "bsd-2-clause": "Redistributions in binary form must reproduce the above copyright notice",
    "isc": "Permission to use, copy, modify, and/or distribute this software for any purpose",
    "mpl-2.0": "Mozilla Public License Version 2.0",
    "agpl-3.0": "GNU AFFERO GENERAL PUBLIC LICENSE Version 3",
    "lgpl-3.0": "GNU LESSER GENERAL PUBLIC LICENSE Version 3",
    "gpl-3.0": "GNU GENERAL PUBLIC LICENSE Version 3",
    "gpl-2.0": "GNU GENERAL PUBLIC LICENSE Version 2",
    "unlicense": "This is free and unencumbered software released into the public domain",
}
"""Words that stand near the beginning of a licence and of none before it in this list, by the Hub's key."""
BEGINNING = 2000
"""Characters of a licence that are looked at."""
SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7))


def card(said: Mapping[str, Any], features: Features, licence: str) -> str:
    """The card of a dataset. `said` is its metadata, and `features` are the columns of its rows.

    It names the files of each split: from their names alone `datasets` would guess, and guess wrong, because
    "training" is in all names of JSON lines.
    """
    files = [
        {
            "split": name,
            "path": f"data/{name}-*.parquet" if said["format"] == "parquet" else f"training_data_{key}.jsonl",
        }
        for key, name in NAMES.items()
        if said[f"{key}_sequences"]  # the library fails at a split without rows
    ]
    total = said["total_sequences"]
    header = {
        "pretty_name": f"{said['source_repo'][:16]} by git-starcoder",
        "license": licence,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for name, most in SIZES if total < most), "n>10M")],
        "tags": ["code", "git", "git-starcoder"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": [_feature(name, kind) for name, kind in features.items()]},
    }
    return f"---\n{strict_config.dump(header)}---\n\n{_text(said, licence)}"


def licence_of(units: Iterable[Unit], texts: TextStore) -> str:
    """The licence in the repository's root by the Hub's key; `other` for one we do not know or several, else `unknown`.

    It is that of the repository as a whole: files may have others.
    """
    found = {
        recognised(texts.get(unit.source.text).decode("utf-8", "replace"))
        for unit in units
        if LICENCE.fullmatch(unit.path)
    }
    return found.pop() if len(found) == 1 else "other" if found else "unknown"


def recognised(text: str) -> str:
    """The Hub's key of a licence's text, or `other`."""
    words = " ".join(text[:BEGINNING].split()).lower()
    return next((key for key, said in LICENCES.items() if said.lower() in words), "other")


def _feature(name: str, kind: str | Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(kind, str):
        return {"name": name, "struct": [_feature(*member) for member in kind.items()]}
    return {"name": name, "sequence": kind[5:-1]} if kind.startswith("list<") else {"name": name, "dtype": kind}


def _text(said: Mapping[str, Any], licence: str) -> str:
    made = ", ".join(f"{name} {count:,}" for name, count in said["augmentation_techniques"].items())
    whole = {
        "unknown": "The repository has no licence file that is part of this dataset.",
        "other": "The repository has a licence that was not recognised, or several.",
    }.get(licence, f"The repository's licence file reads like {licence}.")
    text = "; `text` is what they say, without padding" if said["format"] == "parquet" else ""
    of = "" if said["format"] == "parquet" else " of `metadata`"
    return f"""# Training data from {said["source_repo"]}

Made by git-starcoder from one Git repository: {said["total_sequences"]:,} rows of up to
{said["max_tokens_per_sequence"]:,} tokens from {said["source_files"]:,} files ({made}).
Files that share text, and everything made of them, are in one split.

```python
from datasets import load_dataset

rows = load_dataset("FOLDER")  # train, validation, test
edges = load_dataset("json", data_files="FOLDER/{IMPORTS}")  # and {SIGNATURES}
```

`tokens` are ids of the tokenizer in `tokenizer/`, padded behind `length`{of}{text}.
`weight`{of} is how often a trainer should draw a row. The first `context` tokens of a row do not count for the loss.

{whole} Single files may be under others.
"""
