"""Lets a network write text token by token, alone or with the memory of a repository.

A memory also drafts what may come next: the network then reads several tokens in one pass, and those that it would have
written itself are kept (speculative decoding; Leviathan et al., 2023). The text is the same as without drafts.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from git_starcoder.model.packing import padded_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.memory.repository_memory import MemoryReader
    from git_starcoder.model.loading import AnyNetwork
    from git_starcoder.model.network import Network

MAX_PADDING_TOKENS = 2048
"""Padding in a batch of prompts, which takes one pass per token: a batch of unequal prompts is faster than two."""


class Sampling(NamedTuple):
    """How the next token is chosen from the probabilities."""

    temperature: float = 0.0
    """Randomness: 0 takes the most likely token; 1 draws tokens as often as the model expects them."""
    no_repeat_tokens: int = 0
    """If not 0, no sequence of this many tokens is written that occurred before."""
    seed: int = 0
    top_k: int = 0
    """If not 0, only the most likely tokens are drawn, this many of them."""
    top_p: float = 1.0
    """Only the most likely tokens are drawn, as few as have this share of the probability together."""


GREEDY = Sampling()


class Passes(Protocol):
    """A text that a network reads, and what it has computed of it."""

    @property
    def can_forget(self) -> bool:
        """Whether the last tokens can be taken back."""
        ...

    def tokens(self) -> NDArray[np.int64]:
        """Return the tokens that were read."""
        ...

    def read(self, texts: Sequence[Sequence[int]], *, is_prompt: bool = False) -> NDArray[np.float32]:
        """Read the next tokens of one text. See `NetworkPasses.read`."""
        ...

    def forget(self, count: int) -> None:
        """Take back the last tokens."""
        ...


class Writer:
    """A text that is being written: the prompt, the tokens so far, and how the next one is chosen."""

    def __init__(
        self, prompt: NDArray[Any], limit: int, stop: NDArray[np.bool_], sampling: Sampling,
        reader: MemoryReader | None,
    ) -> None:  # fmt: skip
        self.history: list[int] = prompt.tolist()
        self.written: list[int] = []
        self.is_done = limit == 0
        self._limit = limit
        self._stop = stop
        self._sampling = sampling
        self._reader = reader
        self._followers: dict[tuple[int, ...], set[int]] = {}
        """After each sequence of `no_repeat_tokens - 1` tokens, those that followed it."""
        for end in range(len(self.history)):
            self._remember(end)

    def write(self, probabilities: NDArray[np.float32]) -> int:
        """Choose the next token by the network's probabilities, shape (vocabulary,), and append it."""
        token = self._choose(self._predict(probabilities))
        self.history.append(token)
        self.written.append(token)
        self._remember(len(self.history) - 1)
        if self._reader:
            self._reader.add([token])
        self.is_done = bool(self._stop[token]) or len(self.written) == self._limit
        return token

    def _predict(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities by which the next token is chosen."""
        return self._reader.mix(probabilities) if self._reader else probabilities

    def draft(self) -> list[int]:
        """Guess the tokens after the last one, by the memory."""
        return self._reader.draft()[: self._limit - len(self.written) - 1] if self._reader else []

    def _choose(self, probabilities: NDArray[np.float32]) -> int:
        temperature, repeat, seed = self._sampling[:3]
        allowed: NDArray[np.float64] = probabilities.astype(np.float64)
        if repeat and len(self.history) >= repeat:
            allowed[list(self._followers.get(tuple(self.history[len(self.history) - repeat + 1 :]), ()))] = 0
        if not temperature or not allowed.any():
            return int(allowed.argmax())
        # Powers of p / max p, so that none overflows. Each place has a random number of its own, drafts or not.
        powers: NDArray[np.float64] = (allowed / allowed.max()) ** (1 / temperature)
        _keep_likely(powers, self._sampling.top_k, self._sampling.top_p)
        generator = np.random.default_rng((seed % (1 << 64), len(self.written)))
        return int(generator.choice(len(powers), p=powers / powers.sum()))

    def _remember(self, end: int) -> None:
        if (repeat := self._sampling.no_repeat_tokens) and end + 1 >= repeat:
            before = tuple(self.history[end - repeat + 1 : end])
            self._followers.setdefault(before, set()).add(self.history[end])


def _keep_likely(weights: NDArray[np.float64], top_k: int, top_p: float) -> None:
    """Set all weights to 0 but the largest: `top_k` of them (0: all), and as few as have a share of `top_p`."""
    if top_k or top_p < 1:
        order = np.argsort(-weights, kind="stable")
        shares = np.cumsum(weights[order]) / weights.sum()
        kept = 1 + int(np.searchsorted(shares, top_p))
        weights[order[min(kept, top_k or kept) :]] = 0


def make_writers(
    network: AnyNetwork,
    prompts: Sequence[NDArray[Any]],
    limit: int,
    *,
    stop: NDArray[np.bool_],
    sampling: Sampling = GREEDY,
    readers: Sequence[MemoryReader] = (),
) -> list[Writer]:
    """A writer for each prompt.

    Args:
        network: The network that reads the prompts.
        prompts: Token ids of each prompt.
        limit: Largest number of new tokens.
        stop: For each token of the vocabulary whether the continuation ends with it, shape (vocabulary,).
        sampling: How tokens are chosen.
        readers: For each prompt a memory that has read the text before; without them, the network writes alone.
    """
    return [
        Writer(network.add_first_token(prompt), limit, stop, sampling, reader)
        for prompt, reader in zip(prompts, readers or [None] * len(prompts), strict=True)
    ]


def generate(network: Network, prompts: Sequence[NDArray[Any]], limit: int, **options: Any) -> list[NDArray[np.int32]]:
    """Continue each prompt. See `make_writers`."""
    writers = make_writers(network, prompts, limit, **options)
    lengths = np.array([len(writer.history) for writer in writers], dtype=np.int64)
    with network.without_gradient():
        for batch in padded_batches(lengths, max_padding=MAX_PADDING_TOKENS):
            if len(batch) == 1:
                write_alone(network, writers[batch[0]])
            else:
                _write_batch(network, [writers[index] for index in batch])
    return [np.array(writer.written, dtype=np.int32) for writer in writers]


def _write_batch(network: Network, writers: list[Writer]) -> None:
    """Let writers write until all are done."""
    passes = NetworkPasses(network, len(writers))
    probabilities = passes.read([writer.history for writer in writers], is_prompt=True)
    while True:
        pairs = zip(writers, probabilities[:, -1], strict=True)
        tokens = [0 if writer.is_done else writer.write(row) for writer, row in pairs]
        if all(writer.is_done for writer in writers):
            return
        probabilities = passes.read([[token] for token in tokens])


def write_alone(network: AnyNetwork, writer: Writer) -> None:
    """Let one writer write until it is done."""
    passes = network.open_passes()
    probabilities = passes.read([writer.history], is_prompt=True)[0]
    with network.limit_threads(1):
        write_with_drafts(passes, writer, probabilities)


def write_with_drafts(passes: Passes, writer: Writer, probabilities: NDArray[np.float32]) -> None:
    """Let one writer write until it is done: a pass reads the last token and a draft of the next ones.

    `passes` have read the prompt, and `probabilities`, shape (1, vocabulary), are those of the token after it.
    """
    draft: list[int] = []
    while not writer.is_done:
        # Row 0 predicts the first token of the draft, row 1 the second one, and so on, as long as the draft is right.
        used = 0
        is_right = True
        while is_right and not writer.is_done:
            token = writer.write(probabilities[used])
            is_right = used < len(draft) and token == draft[used]
            used += 1
        if not writer.is_done:
            passes.forget(1 + len(draft) - used)
            draft = writer.draft() if passes.can_forget else []
            probabilities = passes.read([[writer.history[-1], *draft]])[0]


class NetworkPasses:
    """Passes of some texts through a network, which keeps what it has computed for earlier tokens."""

    def __init__(self, network: Network, count: int) -> None:
        network.model.eval()
        self._network = network
        self._parameters = signature(network.model.forward).parameters
        self._tokens = network.torch.empty((count, 0), dtype=network.torch.int64)
        self._mask = self._tokens.clone()
        self._cache: Any = None
        if "past_key_values" in self._parameters:
            from git_starcoder.model.growing_cache import make_cache

            self._cache = make_cache(network.model.config)
        self.can_forget = self._cache is not None and not any(self._cache.is_sliding)
        """Whether the last tokens can be taken back."""

    def tokens(self, index: int = 0) -> NDArray[np.int64]:
        """Return the tokens of a text that were read."""
        return self._tokens[index].numpy()

    def read(self, texts: Sequence[Sequence[int]], *, is_prompt: bool = False) -> NDArray[np.float32]:
        """Read the next tokens of each text, and return the probabilities of the token after each of them.

        The result has shape (texts, tokens, vocabulary). Of a prompt, only the probabilities after its last token are
        returned. If the texts are not equally long, they are padded on the left; that is possible only in the first
        pass.
        """
        network, torch = self._network, self._network.torch
        longest = max(len(text) for text in texts)
        new = torch.tensor([[network.pad_token] * (longest - len(text)) + list(text) for text in texts])
        mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
        self._tokens = torch.cat((self._tokens, new), 1)
        self._mask = torch.cat((self._mask, mask), 1)
        shown = self._tokens if self._cache is None else new
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -shown.shape[1] :]
        wanted = 1 if is_prompt else longest
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": wanted}
        if not self._mask.all():
            options["attention_mask"] = self._mask
        options = {key: value for key, value in options.items() if key in self._parameters}
        if self._cache is not None:
            options |= {"past_key_values": self._cache, "use_cache": True}
        options = {key: value.to(network.device) if torch.is_tensor(value) else value for key, value in options.items()}
        network.use_own_attention()
        with network.autocast():
            logits = network.model(input_ids=shown.to(network.device), **options).logits[:, -wanted:].float()
        logits[:, :, network.suppressed_tokens] = -torch.inf
        return logits.softmax(-1).cpu().numpy()

    def forget(self, count: int) -> None:
        """Take back the last tokens of the texts."""
        if count:
            self._tokens, self._mask = self._tokens[:, :-count], self._mask[:, :-count]
            if self._cache is not None:
                self._cache.crop(-count)
