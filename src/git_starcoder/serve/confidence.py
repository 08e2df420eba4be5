"""The confidence from which a completion is shown, chosen on held-out code and stored with the model."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

THRESHOLD_FILE = "serving.json"
"""File in a model folder with the threshold and how it was chosen."""
THRESHOLD_SCHEMA = "git-starcoder/serving/1"
DEFAULT_THRESHOLD = 0.2
"""The threshold of a model for which none was chosen."""


def read_threshold(folder: Path) -> float:
    """Return the threshold of the model in a folder; `DEFAULT_THRESHOLD` if none was chosen."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        record = json.loads((folder / THRESHOLD_FILE).read_text(encoding="utf-8"))
        if record["schema"] == THRESHOLD_SCHEMA and 0 <= float(record["threshold"]) <= 1:
            return float(record["threshold"])
    return DEFAULT_THRESHOLD
