"""Uses a trained model: completes code, and measures how well it predicts a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import Document, load_documents
from git_starcoder.errors import UsageError
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.context import ContextComposer
from git_starcoder.model.generation import Sampling
from git_starcoder.model.held_out_text import encode_header
from git_starcoder.model.loading import knows_suffix_first, load_reader, read_training_record
from git_starcoder.model.with_context import CONTEXT_FOLDER, NetworkWithContext
from git_starcoder.model.with_memory import MEMORY_FOLDER, read_prompt
from git_starcoder.records import content_id
from git_starcoder.row_layout import gap_prompt
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.encoding import Refusal, decode_text, detect_codec, normalize_line_ends, split_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.bases.blobs import BlobFilter
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.loading import AnyNetwork
    from git_starcoder.text.tokenizer import Tokenizer

    Tokens = NDArray[Any]

MIN_PROMPT_LINES = 12
"""Lines before the place of an example completion."""
HIDDEN_LINES = 6
"""Lines after that place, with which the completion is compared."""
COMMENT_STARTS = "#/*-;\"'`<"
"""First characters of lines of comment and documentation."""
NO_HEADER = np.zeros(0, dtype=np.int64)
RESERVED_TOKENS = 4
"""Places in the context for the control tokens of a prompt."""


class Model:
    """A trained model with its tokenizer.

    Example:
        `Model.open("model_effectiveness").complete("def add(a, b):")`
    """

    def __init__(
        self,
        network: AnyNetwork | NetworkWithContext,
        tokenizer: Tokenizer,
        memory: RepositoryMemory | None = None,
        repository: str | None = None,
        *,
        fills_gaps: bool = True,
        suffix_first: bool = False,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.memory = memory
        """What the repository contains, exactly; None if the model has no memory."""
        self.repository = repository
        """The name of the repository, if the model was trained with a header before every window."""
        self.fills_gaps = fills_gaps and tokenizer.fim_ids is not None
        """Whether the model can be shown the text after a gap."""
        self.suffix_first = suffix_first
        """Whether it is shown this text before the text before the gap; see `row_layout.gap_prompt`."""

    @classmethod
    def open(cls, folder: str | Path) -> Model:
        """Load the model in a folder that `train` wrote.

        Raises:
            DatasetError: It is not a model folder, or it is damaged.
            MissingExtraError: torch or transformers is not installed.
        """
        folder = Path(folder)
        network, tokenizer = load_reader(folder)
        record = read_training_record(folder)
        memory = RepositoryMemory.open(folder / MEMORY_FOLDER) if (folder / MEMORY_FOLDER).exists() else None
        reader: AnyNetwork | NetworkWithContext = network
        if (folder / CONTEXT_FOLDER).exists():
            composer = ContextComposer.open(folder / CONTEXT_FOLDER, tokenizer)
            reader = NetworkWithContext(network, composer, record["config"]["context_tokens"])
        config = record.get("config", {})
        fills_gaps = bool(config.get("fim", True) or config.get("base"))
        suffix_first = knows_suffix_first(config)
        return cls(
            reader, tokenizer, memory, record.get("repository"), fills_gaps=fills_gaps, suffix_first=suffix_first
        )

    def complete(
        self,
        prompt: str | bytes,
        *,
        max_tokens: int = 128,
        suffix: str | bytes | None = None,
        path: str = "",
        temperature: float = 0.0,
        no_repeat_tokens: int = 0,
        seed: int = 0,
    ) -> str:
        """Continue a text, or fill the gap between `prompt` and `suffix`.

        Both are read as `build` reads a file: encoding, byte order mark and line ends.

        Args:
            prompt: The text to continue. If it is too long, its beginning is cut off.
            max_tokens: The largest number of tokens to generate.
            suffix: The text after the gap. If it is too long, its end is cut off.
            path: The path of the file in its repository. The model reads it first, if it was trained to.
            temperature: Randomness of sampling; 0 takes the most likely token every time.
            no_repeat_tokens: If not 0, no sequence of this many tokens is generated that occurred before.
            seed: Seed of sampling.

        Raises:
            UsageError: A number is out of range, the prompt is not text, or there is a suffix and the tokenizer has no
                fill-in-the-middle tokens.
        """
        _check_sampling(max_tokens, temperature)
        network, tokenizer = self.network, self.tokenizer
        limit = min(max_tokens, network.context // 2)
        header = self.header(path, network.context - limit - RESERVED_TOKENS)
        tokens = prompt_tokens(network, tokenizer, prompt, suffix, limit, header, suffix_first=self.suffix_first)
        stop = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
        stop[[network.end_token, *tokenizer.control_tokens]] = True
        readers = [] if self.memory is None else [read_prompt(self.memory, tokens, tokenizer)]
        sampling = Sampling(temperature, no_repeat_tokens, seed)
        (generated,) = network.generate([tokens], limit, stop=stop, sampling=sampling, readers=readers)
        return tokenizer.decode(generated[~stop[generated]]).decode("utf-8", "replace")

    def header(self, path: str, room: int) -> NDArray[np.int64]:
        """The header of a file as training shows it: whole or not at all.

        It is empty if it would take more than half of `room`, the tokens of a header and the text, if the path is not
        known, or if the model knows no headers.
        """
        if not (self.repository and path):
            return NO_HEADER
        header = encode_header(self.tokenizer, self.repository, path)
        return header if len(header) <= room // 2 else NO_HEADER

    def bits_per_byte(self, text: str | bytes) -> float:
        """The average number of bits that the model needs to predict one byte of a non-empty text; lower is better."""
        data = clean_prompt(text, "the text")
        if not data:
            raise UsageError("bits per byte need a text that is not empty", where="text")
        document = Document("", "", "", "", 0, self.tokenizer.encode([data])[0])
        return float(document_bits(self.network, [document], self.network.end_token)[0]) / len(data)


def complete(
    model: str | Path,
    prompt: str | bytes,
    *,
    max_tokens: int = 128,
    suffix: str | bytes | None = None,
    path: str = "",
    temperature: float = 0.0,
    no_repeat_tokens: int = 0,
    seed: int = 0,
) -> str:
    """Continue a text with the model in a folder. See `Model.open` and `Model.complete`."""
    _check_sampling(max_tokens, temperature)  # before the model is loaded, which takes seconds
    options: dict[str, Any] = {
        "path": path,
        "temperature": temperature,
        "no_repeat_tokens": no_repeat_tokens,
        "seed": seed,
    }
    return Model.open(model).complete(prompt, max_tokens=max_tokens, suffix=suffix, **options)


def _check_sampling(max_tokens: int, temperature: float) -> None:
    if max_tokens < 1 or temperature < 0:
        raise UsageError("max_tokens must be at least 1, and temperature at least 0", where="complete")


def prompt_tokens(
    network: AnyNetwork | NetworkWithContext, tokenizer: Tokenizer, prompt: str | bytes,
    suffix: str | bytes | None, max_tokens: int, header: NDArray[np.int64] = NO_HEADER, *, suffix_first: bool = False,
) -> NDArray[np.int64]:  # fmt: skip
    """The tokens that the model continues with up to `max_tokens`, shape (tokens,). See `arrange_prompt`.

    Of a prompt that is too long only the end is there.
    """
    room = network.context - max_tokens - RESERVED_TOKENS - len(header)
    prompt, suffix = clean_prompts(prompt, suffix)
    before = tokenizer.encode([prompt])[0].astype(np.int64)
    if suffix is None:
        return arrange_prompt(tokenizer, header, before[-room:], begins_file=len(before) < room)
    if tokenizer.fim_ids is None:
        raise UsageError("the tokenizer has no fill-in-the-middle tokens", where="--suffix")
    after = tokenizer.encode([suffix])[0].astype(np.int64)[: room // 2]
    return arrange_prompt(tokenizer, header, before[-(room - len(after)) :], after, suffix_first=suffix_first)


def arrange_prompt(
    tokenizer: Tokenizer, header: Tokens, before: Tokens, after: Tokens | None = None, *, begins_file: bool = False,
    suffix_first: bool = False,
) -> NDArray[np.int64]:  # fmt: skip
    """The parts of a prompt in the order in which a model has seen them in training.

    With the text after a gap: the header and a `row_layout.gap_prompt`. Without: `header before`, after the end-of-text
    token if `before` begins the file.
    """
    if after is None or tokenizer.fim_ids is None:
        return np.concatenate(([tokenizer.end_id] * begins_file, header, before)).astype(np.int64)
    fim_prefix, fim_middle, fim_suffix = (np.array([token]) for token in tokenizer.fim_ids)
    parts = gap_prompt(before, after, (fim_prefix, fim_suffix, fim_middle), suffix_first=suffix_first)
    return np.concatenate((header, *parts)).astype(np.int64)


def clean_prompts(prompt: str | bytes, suffix: str | bytes | None) -> tuple[bytes, bytes | None]:
    """The UTF-8 of a text and of the text after its end, which has the same encoding. See `clean_prompt`."""
    codec = detect_codec(prompt, cut=True) if isinstance(prompt, bytes) else ""
    after = None if suffix is None else clean_prompt(suffix, "the suffix", codec)
    return clean_prompt(prompt, "the prompt"), after


def clean_prompt(text: str | bytes, name: str, codec: str = "") -> bytes:
    """The UTF-8 of a text as `build` would store it in a row. A text with a NUL is a `UsageError` about `name`.

    A character that is cut off at the end is left out. Bytes that do not fit their encoding become U+FFFD. `codec` is
    that of the text that it belongs to, if known.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    decoded = decode_text(data, like=codec, cut=True)
    if not isinstance(decoded, Refusal):
        return decoded.utf8
    if decoded.reason == "binary":
        raise UsageError(f"{name} is not text: it {decoded.detail}", where="complete")
    return normalize_line_ends(data.decode("utf-8", "replace").encode())


class CompletionExample(NamedTuple):
    """A place in a held-out file at which to show a completion. The names are keys of the JSON output."""

    path: str
    prompt: str
    """All lines before the place."""
    author: str
    """The lines after it."""


def find_completion_example(
    dataset: Dataset, seed: int = 0, blobs: BlobFilter | None = None
) -> CompletionExample | None:
    """Find a place in a held-out file where a block of code begins; None if there is none.

    The files of `blobs`, which the base of the model has read, are left out.
    """
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    for split in ("test", "val"):
        unread = drop_read(load_documents(dataset, split), blobs)
        found = [document for document in unread if document.start == 0 and not document.context_length]
        found.sort(key=lambda document: (document.language == "text", content_id(seed, document.path)))
        for document in found:
            text = tokenizer.decode(document.tokens[document.tokens != tokenizer.end_id])
            lines = [line.decode("utf-8", "replace") for line in split_lines(text)]
            numbers = range(MIN_PROMPT_LINES, len(lines) - HIDDEN_LINES + 1)
            if places := [number for number in numbers if _begins_block(lines, number)]:
                place = places[len(places) // 2]
                hidden = lines[place : place + HIDDEN_LINES]
                return CompletionExample(document.path, "".join(lines[:place]), "".join(hidden))
    return None


def _begins_block(lines: list[str], index: int) -> bool:
    """Whether the line before opens a block, and the next lines are code with few blank lines and no comment first."""
    next_lines = [line.strip() for line in lines[index : index + HIDDEN_LINES]]
    written = [line for line in next_lines if line]
    is_code = next_lines[0] != "" and all(line[0] not in COMMENT_STARTS for line in written[:2])
    return lines[index - 1].rstrip().endswith(("{", ":")) and is_code and len(written) >= HIDDEN_LINES - 1
