"""Encodes with gigatoken, which is young: its output is silenced, and whoever uses it verifies its results."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy as np
    from numpy.typing import NDArray


def fast_encoder(definition: dict[str, Any]) -> Callable[[bytes], NDArray[np.uint32]] | None:
    """The encoder of gigatoken for a `tokenizer.json` without its control tokens; None if gigatoken cannot load it.

    The definition is passed in memory: given a path that does not exist, gigatoken would ask the network.
    """
    import gigatoken

    added = [token for token in cast("list[Any]", definition.get("added_tokens") or []) if not token["special"]]
    try:
        with silence_output():
            return gigatoken.Tokenizer.from_json(json.dumps(definition | {"added_tokens": added})).encode
    except BaseException as error:
        if not is_gigatoken_failure(error):
            raise
        return None


def is_gigatoken_failure(error: BaseException) -> bool:
    """Whether it is an ordinary exception, or a panic in Rust, which is a bare BaseException."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def silence_output() -> Generator[None]:
    """Discard what gigatoken prints to file descriptors 1 and 2, past Python."""
    for file in (sys.stdout, sys.stderr):
        if file is not None:  # pyright: ignore[reportUnnecessaryComparison] - None where it was closed before the start
            file.flush()
    saved: list[tuple[int, int]] = []
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (1, 2):
            try:
                saved.append((stream, os.dup(stream)))
            except OSError:  # closed by the parent process, so there is nothing to silence
                continue
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            for stream, copy in saved:
                os.dup2(copy, stream)
                os.close(copy)
