"""A network that is shown parts of other files before the file that it reads, in training, for scores and for use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from git_starcoder.dataset.held_out import load_documents, load_repository
from git_starcoder.errors import UsageError
from git_starcoder.model.context import BEGINNING_TOKENS, ContextComposer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.loading import AnyNetwork
    from git_starcoder.text.tokenizer import Tokenizer

    Tokens = NDArray[Any]

NetworkKind = TypeVar("NetworkKind", bound="AnyNetwork")
CONTEXT_FOLDER = "context"
"""The folder in a model's folder with the files of the repository that may be shown."""
MAX_WINDOWS_OF_CONTEXT = 2
"""The most windows of a row's size that a context may be long: a network reads headers of up to 3/4 of what it reads
at once."""


class NetworkWithContext:
    """A network that reads the context of a file before it. It implements the protocol `LanguageModel`.

    A file without a header, or with fewer than `BEGINNING_TOKENS` tokens before what is predicted, has no context.
    """

    def __init__(self, network: AnyNetwork, composer: ContextComposer, budget: int) -> None:
        """Show at most `budget` tokens of other files, as in training."""
        self.network = network
        self.composer = composer
        self.budget = budget
        self.end_token = network.end_token
        self.context = network.context - budget

    def sequence_bits(
        self, sequences: Sequence[Tokens], first_scored: Sequence[int], *, headers: Sequence[Tokens] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences. See `protocols.LanguageModel`.

        Raises:
            ValueError: The context is of the whole repository, so it may show what would be scored.
        """

        def measure(*pieces: Any) -> list[NDArray[np.float32]]:
            return self.network.sequence_bits(*pieces[:2], headers=pieces[2], parts=parts)

        return self._measure(measure, sequences, first_scored, headers)

    def sequence_views(
        self, sequences: Sequence[Tokens], first_scored: Sequence[int], headers: Sequence[Tokens]
    ) -> list[NDArray[np.float32]]:
        """Describe the prediction of each scored token. See `Network.sequence_views`; errors as in `sequence_bits`."""
        return self._measure(self.network.sequence_views, sequences, first_scored, headers)

    def _measure(
        self, measure: Callable[..., list[NDArray[np.float32]]], sequences: Sequence[Tokens],
        first_scored: Sequence[int], headers: Sequence[Tokens],
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Measure the tokens that the context is chosen from without it, and those after them with it."""
        if not any(map(len, headers)):
            return measure(sequences, first_scored, headers)
        if self.composer.contents != "training split":
            raise ValueError(f"a score may not come from a context of the {self.composer.contents}")
        pieces: list[tuple[Tokens, int, Tokens]] = []
        owners: list[int] = []
        for owner, (tokens, first, header) in enumerate(zip(sequences, first_scored, headers, strict=True)):
            text_start = int(len(tokens) > 0 and tokens[0] == self.end_token)
            chosen_from = text_start + BEGINNING_TOKENS
            extended = self.composer.extend_header(header, tokens[text_start:], self.budget)
            if first < chosen_from:
                pieces.append((tokens[:chosen_from], first, header))
                owners.append(owner)
            if len(tokens) > chosen_from:
                pieces.append((tokens, max(first, chosen_from), extended))
                owners.append(owner)
        found: list[list[NDArray[np.float32]]] = [[] for _ in sequences]
        for owner, values in zip(owners, measure(*zip(*pieces, strict=True)) if pieces else [], strict=True):
            found[owner].append(values)
        return [np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32) for parts in found]

    def generate(
        self, prompts: Sequence[Tokens], limit: int, *, stop: NDArray[np.bool_], **options: Any
    ) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`; `options` go to `generation.generate`."""
        extended = [self.composer.extend_prompt(prompt, self.budget) for prompt in prompts]
        return self.network.generate(extended, limit, stop=stop, **options)


def training_context(dataset: Dataset, tokenizer: Tokenizer) -> ContextComposer:
    """Make the composer for training and for scores: it shows the training split of a dataset."""
    return ContextComposer.build(load_documents(dataset, "train"), "training split", tokenizer)


def scored_network(
    network: NetworkKind, training: dict[str, Any], dataset: Dataset, tokenizer: Tokenizer
) -> NetworkKind | NetworkWithContext:
    """Return the network for scores on a dataset, with contexts if the record of its training says so.

    The composer that is stored with a model shows the held-out files as well, so one is made of the training split.
    """
    config: dict[str, Any] = training.get("config") or {}
    if not config.get("context_tokens"):
        return network
    return NetworkWithContext(network, training_context(dataset, tokenizer), config["context_tokens"])


def repository_context(dataset: Dataset, tokenizer: Tokenizer) -> ContextComposer:
    """Make the composer for use, which shows all files of a dataset."""
    return ContextComposer.build(load_repository(dataset), "repository", tokenizer)


def add_contexts(corpus: Corpus, composer: ContextComposer, dataset: Dataset, config: TrainConfig) -> Corpus:
    """Show the context of each file before its rows, in all draws but a share of `context_dropout`.

    The windows of a file have one context, also when they are shifted.

    Raises:
        UsageError: The rows have no headers, or the context is too long for the rows.
    """
    longest = MAX_WINDOWS_OF_CONTEXT * int(dataset.metadata["max_tokens_per_sequence"])
    if config.context_tokens > longest:
        what = f"{config.context_tokens:,} tokens of context are too many: rows of this dataset take up to {longest:,}"
        raise UsageError(what, where="context_tokens")
    headers: dict[str, Tokens] = {}
    for document in load_documents(dataset, "train"):
        if document.path not in headers and len(document.header):
            text = document.tokens, config.context_tokens
            headers[document.path] = composer.extend_header(document.header, *text, document.group)
    if not headers:
        hint = "build it with window.header=auto, as the default recipe does"
        raise UsageError(
            "the rows of the dataset have no headers, which a context needs", where="context_tokens", hint=hint
        )
    return corpus.with_headers(headers, config.context_dropout)
