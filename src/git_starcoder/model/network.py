"""A causal language model of transformers, made from scratch or loaded, behind the protocol that evals know."""

from __future__ import annotations

import contextlib
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.engine.local import cores
from git_starcoder.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from git_starcoder.text.tokenizer import Tokenizer

PIECE = 8192
"""Padded tokens that go through the network at once."""
PADDING = 128
"""Tokens of padding for which rows are put into two pieces instead of one: about what a piece more costs on a CPU."""
ANSWERS = 2048
"""The same where a piece is written, token by token."""
SLICE = 512
"""Tokens whose logits are made at once."""


def libraries() -> tuple[Any, Any]:
    """Torch and transformers, the latter quiet.

    Raises:
        MissingExtraError: one of them is not installed.

    """
    found: list[Any] = []
    for name in ("torch", "transformers"):
        try:
            found.append(import_module(name))
        except ImportError as error:
            raise MissingExtraError(name, "train") from error
    torch, transformers = found
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers


def device() -> str:
    """The best device there is: `cuda`, `mps` or `cpu`."""
    torch, _ = libraries()
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def precision(where: str) -> str:
    """`bfloat16` where matrices are multiplied clearly faster with it, else `float32`; on a CPU that is measured."""
    torch, _ = libraries()
    if where == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if where != "cpu":
        return "float32"
    seconds: dict[str, float] = {}
    for name in ("float32", "bfloat16"):
        left, right = (torch.ones(512, 512, dtype=getattr(torch, name)) for _ in range(2))
        times: list[float] = []
        for _ in range(8):
            begun = time.perf_counter()
            torch.mm(left, right)
            times.append(time.perf_counter() - begun)
        seconds[name] = min(times)
    return "bfloat16" if seconds["bfloat16"] * 1.5 < seconds["float32"] else "float32"


def pieces(lengths: NDArray[np.int64], limit: int = PIECE, padding: int = PADDING) -> Iterator[list[int]]:
    """Rows grouped by length, longest first: indices for at most `limit` tokens with and `padding` tokens of padding.

    A row that is longer than `limit` is a piece of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    begin = padded = 0
    for here in range(1, len(order) + 1):
        longest = lengths[order[begin]]
        if here < len(order):
            padded += int(longest - lengths[order[here]])
        if here == len(order) or longest * (here - begin + 1) > limit or padded > padding:
            yield order[begin:here].tolist()
            begin, padded = here, 0


class Network:
    """A model on a device. `model` is the transformers model, its weights in float32."""

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self.torch, _ = libraries()
        # Else torch follows OMP_NUM_THREADS, which many environments set for the sake of other programs.
        self.torch.set_num_threads(cores())
        self.device = device()
        self.precision = precision(self.device)
        self.model = model.to(self.device)
        self.context: int = model.config.max_position_embeddings
        self.pad = tokenizer.pad
        self.end = tokenizer.end
        self.unwritten = [self.pad, *(tokenizer.fim or ()), *range(tokenizer.vocab_size, model.config.vocab_size)]
        """Tokens that are never written: control tokens, and those that only fill the last tile."""

    def cast(self) -> AbstractContextManager[Any]:
        """Within it, matrices are multiplied in the device's precision."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return self.torch.autocast(self.device, getattr(self.torch, self.precision))

    def loss(self, rows: Sequence[NDArray[Any]], given: NDArray[np.int64] | None = None) -> Any:
        """Negative log-likelihood in nats of each token that is asked for, row by row, shape (asked,).

        Of each row the first tokens are only shown: as many as `given` says, shape (rows,), or one.
        """
        torch = self.torch
        padded = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
        for number, row in enumerate(rows):
            padded[number, : len(row)] = row
        first = np.ones(len(rows), dtype=np.int64) if given is None else given
        tokens = torch.from_numpy(padded).to(self.device)
        # Of what is not asked for no logits are made: the same as a weight of 0, and cheaper.
        asked = torch.from_numpy((padded >= 0) & (np.arange(padded.shape[1]) >= first[:, None]))[:, 1:].to(self.device)
        with self.cast():
            # Padding stands to the right, where causal attention does not look: no mask is needed.
            hidden = self.model.model(tokens[:, :-1].clamp(min=0), use_cache=False).last_hidden_state[asked]
            # In slices that fit a cache: twice as fast on a CPU as all logits at once, and a fraction of the memory.
            parts = zip(hidden.split(SLICE), tokens[:, 1:][asked].split(SLICE), strict=True)
            return torch.cat([self._nats(part, targets) for part, targets in parts])

    def _nats(self, hidden: Any, targets: Any) -> Any:
        functional = self.torch.nn.functional
        logits = functional.linear(hidden, self.model.lm_head.weight)
        return functional.cross_entropy(logits.float(), targets, reduction="none")

    def bits(self, windows: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """See `seams.Model`."""
        found: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(windows)
        lengths = np.array([len(window) for window in windows], dtype=np.int64)
        self.model.eval()
        with self.torch.inference_mode():
            for piece in pieces(lengths):
                rows = [windows[index] for index in piece]
                nats = self.loss(rows).float().cpu().numpy()
                ends = np.cumsum(lengths[piece] - 1)[:-1]
                for index, line in zip(piece, np.split(nats, ends), strict=True):
                    found[index] = (line / np.log(2)).astype(np.float32)
        return iter(found)

    def write(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_], **options: Any
    ) -> list[NDArray[np.int32]]:
        """See `seams.Model`. `options` go to `generate`, for sampling."""
        torch = self.torch
        found: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)] * len(prompts)
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        self.model.eval()
        with torch.inference_mode():
            for piece in pieces(lengths, padding=ANSWERS):
                longest = int(lengths[piece].max())
                tokens = torch.full((len(piece), longest), self.pad)
                mask = torch.zeros_like(tokens)
                for line, index in enumerate(piece):
                    tokens[line, longest - lengths[index] :] = torch.from_numpy(
                        np.asarray(prompts[index], dtype=np.int64)
                    )
                    mask[line, longest - lengths[index] :] = 1
                with self.cast():
                    written: Any = self.model.generate(
                        tokens.to(self.device),
                        attention_mask=mask.to(self.device),
                        max_new_tokens=limit,
                        eos_token_id=np.flatnonzero(stop).tolist(),
                        pad_token_id=self.pad,
                        suppress_tokens=self.unwritten,
                        **{"do_sample": False, **options},
                    )
                for index, line in zip(piece, written[:, longest:].cpu().numpy(), strict=True):
                    ends = np.flatnonzero(stop[line])
                    found[index] = line[: ends[0] + 1 if len(ends) else limit].astype(np.int32)
        return found
