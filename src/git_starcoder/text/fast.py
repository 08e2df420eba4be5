"""gigatoken, many times faster than `tokenizers`: young and talkative, so kept quiet here, checked by its callers."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy as np
    from numpy.typing import NDArray


def encoder(definition: dict[str, Any]) -> Callable[[bytes], NDArray[np.uint32]] | None:
    """The encoder for the content of a `tokenizer.json`, without control tokens; None if it has unknown parts.

    It is loaded from memory: given a path that does not exist, gigatoken asks the network.
    """
    import gigatoken

    tokens: list[dict[str, Any]] = definition.get("added_tokens") or []
    added = [token for token in tokens if not token["special"]]
    try:
        with quiet():
            return gigatoken.Tokenizer.from_json(json.dumps(definition | {"added_tokens": added})).encode
    except BaseException as error:
        if not is_failure(error):
            raise
        return None


def is_failure(error: BaseException) -> bool:
    """Whether it is an ordinary exception or a panic in Rust, which is a bare BaseException."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def quiet() -> Generator[None]:
    """Nothing reaches the terminal: gigatoken prints to file descriptors 1 and 2, past Python."""
    for file in (sys.stdout, sys.stderr):
        if file is not None:  # pyright: ignore[reportUnnecessaryComparison] - is so where it was closed before the start
            file.flush()
    saved: list[tuple[int, int]] = []
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (1, 2):
            try:
                saved.append((stream, os.dup(stream)))
            except OSError:  # closed by whoever started us: nothing to keep quiet
                continue
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            for stream, copy in saved:
                os.dup2(copy, stream)
                os.close(copy)
