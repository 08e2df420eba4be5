"""Complete code with a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.dataset.held_out import load_documents
from git_starcoder.errors import UsageError
from git_starcoder.model.load import load
from git_starcoder.records import content_id
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.encoding import Refusal, codec_of_text, line_ends, lines_of, read

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.network import Network
    from git_starcoder.text.tokenizer import Tokenizer

BEFORE = 12
"""Lines that stand before at least."""
HIDDEN = 6
"""Lines that the author went on with."""
COMMENTS = "#/*-;\"'`<"
"""How lines of comment and documentation begin."""


class Example(NamedTuple):
    """A place in a held-out file."""

    path: str
    prompt: str
    """All lines before it."""
    author: str
    """The lines after it."""


def complete(
    model: str | Path,
    prompt: str | bytes,
    *,
    max_tokens: int = 128,
    suffix: str | bytes | None = None,
    temperature: float = 0.0,
    unrepeated: int = 0,
    seed: int = 0,
) -> str:
    """What the model writes after `prompt`, or between it and `suffix`.

    Both are read as `build` reads a file: encoding, byte order mark and line ends.
    The likeliest token is taken every time, or one is drawn where `temperature` is above 0. With `unrepeated`, no so
    many tokens in a row are written that stood there before. A prompt that is too long
    loses its beginning, a suffix its end.

    Raises:
        UsageError: a number that cannot be, no text, or a suffix for a tokenizer without fill-in-the-middle tokens.
        DatasetError: not a model folder.

    """
    if max_tokens < 1 or temperature < 0:
        raise UsageError("max_tokens must be above 0 and temperature not below", where="complete")
    network, tokenizer = load(model)
    limit = min(max_tokens, network.context // 2)
    tokens = prompt_tokens(network, tokenizer, prompt, suffix, limit)
    stop = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    stop[network.end] = True
    options: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {}
    if unrepeated:
        options["no_repeat_ngram_size"] = unrepeated
    network.torch.manual_seed(seed)
    written = network.generate([tokens], limit, stop=stop, **options)[0]
    return tokenizer.decode(written[written != network.end]).decode("utf-8", "replace")


def prompt_tokens(
    network: Network, tokenizer: Tokenizer, prompt: str | bytes, suffix: str | bytes | None, limit: int
) -> NDArray[np.int64]:
    """What the model goes on after, shape (tokens,): `<fim_prefix>…<fim_suffix>…<fim_middle>` where there is a suffix.

    Raises:
        UsageError: the tokenizer has no fill-in-the-middle tokens, or the prompt or the suffix is no text.

    """
    room = network.context - limit - 4
    before = tokenizer.encode([text_of(prompt, "the prompt")])[0].astype(np.int64)
    if suffix is None:
        return np.concatenate(([network.end], before))[-room:]
    if tokenizer.fim is None:
        raise UsageError("the tokenizer has no fill-in-the-middle tokens", where="--suffix")
    first, middle, last = tokenizer.fim
    codec = codec_of_text(prompt, cut=True) if isinstance(prompt, bytes) else ""
    after = tokenizer.encode([text_of(suffix, "the suffix", codec)])[0].astype(np.int64)[: room // 2]
    return np.concatenate(([first], before[-(room - len(after)) :], [last], after, [middle]))


def text_of(given: str | bytes, what: str, like: str = "") -> bytes:
    """A prompt or a suffix as `build` would have it in a row; `like` is the codec of the text that it goes with.

    It may end in the middle of a character, which is left out. Bytes of no encoding that it declares become U+FFFD.

    Raises:
        UsageError: it has a NUL.
    """
    data = given if isinstance(given, bytes) else given.encode("utf-8", "replace")
    text = read(data, like=like, cut=True)
    if not isinstance(text, Refusal):
        return text.utf8
    if text.reason == "binary":
        raise UsageError(f"{what} is not text: it {text.because}", where="complete")
    return line_ends(data.decode("utf-8", "replace").encode())


def example(dataset: Dataset, seed: int = 0) -> Example | None:
    """A place in a held-out file where a block begins and code goes on; None if there is none."""
    tokenizer = tokenizers.load(dataset.tokenizer_folder)
    for split in ("test", "val"):
        found = [each for each in load_documents(dataset, split) if each.start == 0]
        found.sort(key=lambda each: (each.language == "text", content_id(seed, each.path)))
        for document in found:
            text = tokenizer.decode(document.tokens[document.tokens != tokenizer.end])
            lines = [line.decode("utf-8", "replace") for line in lines_of(text)]
            places = [at for at in range(BEFORE, len(lines) - HIDDEN + 1) if _shows(lines, at)]
            if places:
                at = places[len(places) // 2]
                return Example(document.path, "".join(lines[:at]), "".join(lines[at : at + HIDDEN]))
    return None


def _shows(lines: list[str], at: int) -> bool:
    """Whether a block of code begins after a line: it opens one, and what follows is hardly blank and no comment."""
    written = [line.strip() for line in lines[at : at + HIDDEN] if line.strip()]
    code = all(line[0] not in COMMENTS for line in written[:2])
    return (
        lines[at - 1].rstrip().endswith(("{", ":")) and bool(lines[at].strip()) and code and len(written) >= HIDDEN - 1
    )
