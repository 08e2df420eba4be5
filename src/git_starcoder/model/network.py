"""A causal language model of transformers, made from scratch or loaded, behind the protocol that evals know."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder import user_paths
from git_starcoder.errors import MachineError, MissingExtraError, UsageError, as_machine_error
from git_starcoder.machine import MIN_TRAINING_ADDRESS_SPACE_BYTES, limit_library_threads, require_resources
from git_starcoder.model import attention
from git_starcoder.model.pack import TILE, UNASKED, flat
from git_starcoder.text.tokenizer import summarize_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from git_starcoder.model.pack import Packed
    from git_starcoder.text.tokenizer import Tokenizer

PIECE = 8192
"""Padded tokens that go through the network at once."""
PADDING = 128
"""Tokens of padding for which rows are put into two pieces instead of one: about what a piece more costs on a CPU."""
ANSWERS = 2048
"""The same where a piece is written, token by token."""
SLICE = 512
"""Tokens whose logits are made at once."""
LOGITS = 1 << 28
"""Logits above which those of a piece are not kept for the gradient but made again: a GiB of them."""
UNLIMITED = 1 << 20
"""Context of a model whose positions have no end."""


class Way(NamedTuple):
    """How a piece goes through an architecture."""

    body: Any
    """Gives what `head` makes logits of."""
    head: Any
    flat: bool = False
    """Whether rows may lie behind one another; else they are padded to one length."""


def _same(states: Any) -> Any:
    return states


def libraries() -> tuple[Any, Any]:
    """Torch and transformers, the latter quiet.

    Raises:
        MissingExtraError: one of them is not installed.
        MachineError: one of them cannot be loaded, or not in this Python.

    """
    if sys.flags.optimize > 1:
        what = "transformers reads docstrings while it runs, and Python was told to leave them out"
        raise MachineError(what, where="PYTHONOPTIMIZE=2 or -OO", hint="PYTHONOPTIMIZE=1 keeps them")
    require_resources(MIN_TRAINING_ADDRESS_SPACE_BYTES)
    user_paths.temporary_folder()  # torch looks for one while it is loaded
    if user_paths.current_folder() is None:
        os.chdir("/")  # MKL ends the process where the current folder was deleted
    found: list[Any] = []
    for name in ("torch", "transformers"):
        try:
            found.append(import_module(name))
        except ImportError as error:
            raise MissingExtraError.from_import_error(error, name, "train") from error
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
            begun = time.process_time()  # which neighbours on the machine do not change
            torch.mm(left, right)
            times.append(time.process_time() - begun)
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
    """A causal language model on a device. `model` is the transformers model, its weights in float32."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        adapter: Any = None,
        *,
        where: str | None = None,
        precise: str | None = None,
        compiled: bool = False,
    ) -> None:
        """With peft's `adapter`, if it put adapters into the model.

        `where` and `precise`: device and precision, the best there are unless given. `compiled`: on CUDA only.
        """
        self.torch, _ = libraries()
        # Else torch follows OMP_NUM_THREADS, which many environments set for the sake of other programs.
        self.torch.set_num_threads(limit_library_threads())
        self.device = where or device()
        self.precision = precise or precision(self.device)
        if self.device == "cuda":
            self.torch.set_float32_matmul_precision("high")
        self.model = model if getattr(model, "hf_quantizer", None) else model.to(self.device)
        self.adapter = adapter
        said = model.config.get_text_config()
        self.vocabulary: int = said.vocab_size
        """Tokens that there are logits of."""
        self.context: int = getattr(said, "max_position_embeddings", None) or UNLIMITED
        self.pad = tokenizer.pad_id
        self.end = tokenizer.end_id
        self.unwritten = [self.pad, *(tokenizer.fim_ids or ()), *range(tokenizer.vocab_size, self.vocabulary)]
        """Tokens that are never written: control tokens, and those that only fill the last tile."""
        self.compiled = compiled
        self.fixed = compiled or self.device == "mps"
        """Whether all pieces should have one length: else the graph is compiled, or buffers are kept, for each."""
        self.notes: list[str] = []
        """What the user should know of how this model is used."""
        attention.register()
        self._way = self._ask()
        self._body: Any = self._way.body
        if compiled:
            self._body = self.torch.compile(self._body, dynamic=False)

    def trained(self) -> dict[str, Any]:
        """The weights that are trained, by name: all of them, or those of the adapters. Tied ones come once."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def cast(self) -> AbstractContextManager[Any]:
        """Within it, matrices are multiplied in the device's precision."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return self.torch.autocast(self.device, getattr(self.torch, self.precision))

    def loss(self, rows: Sequence[NDArray[Any]], given: NDArray[np.int64] | None = None) -> Any:
        """`nats` of rows, of each of which the first tokens are only shown: as many as `given` says, or one."""
        return self.nats(flat(rows, given))

    def nats(self, piece: Packed) -> Any:
        """Negative log-likelihood in nats of each token that is asked for, in the piece's order, shape (asked,)."""
        torch = self.torch
        count = piece.asked
        # Whole tiles, so that there are few shapes: any place will do behind the last one, as nothing is asked there.
        asked = np.pad(np.flatnonzero(piece.targets != UNASKED), (0, -count % TILE))
        targets = self._put(np.pad(piece.targets[asked[:count]], (0, -count % TILE), constant_values=UNASKED))
        with self.cast():
            # Of what is not asked for no logits are made: the same as a weight of 0, and cheaper.
            states = self._states(self._way, self._body, piece, asked)
            # In slices that fit a cache: twice as fast on a CPU as all logits at once, and a fraction of the memory.
            # (torch's linear_cross_entropy was 2 to 4 times as slow there.)
            parts = zip(states.split(SLICE), targets.split(SLICE), strict=True)
            if len(asked) * self.vocabulary <= LOGITS or not torch.is_grad_enabled():
                return torch.cat([self._nats(*part) for part in parts])[:count]
            again = torch.utils.checkpoint.checkpoint
            return torch.cat([again(self._nats, *part, use_reentrant=False) for part in parts])[:count]

    def kept(self, rows: Sequence[NDArray[Any]]) -> int:
        """Bytes that rows leave behind for their gradient, weights aside. Nothing is compiled for them."""
        own = {weight.untyped_storage().data_ptr() for weight in self.model.parameters()}
        found: dict[int, int] = {}

        def note(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            return tensor

        body, self._body = self._body, self._way.body
        try:
            # With dropout, which keeps what it drew; and nobody is to see that it was drawn.
            self.model.train()
            with self.torch.random.fork_rng(), self.torch.autograd.graph.saved_tensors_hooks(note, _same):
                nats = self.loss(rows)
        finally:
            self._body = body
        del nats  # until here, no other tensor has had the place of one of those
        return sum(size for place, size in found.items() if place not in own)

    def _nats(self, states: Any, targets: Any) -> Any:
        logits = self._way.head(states).float()
        return self.torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    def _states(self, way: Way, body: Any, piece: Packed, asked: NDArray[np.int64]) -> Any:
        """What the head makes logits of, for the places that are asked about, shape (asked, width)."""
        if way.flat:
            size = len(piece.tokens) if self.compiled else 0
            rows = attention.rows_of(self.torch, piece.bounds, self.device, size)
            tokens, positions = self._put(piece.tokens)[None], self._put(piece.positions)[None]
            with attention.within_rows(self.model):
                found = body(input_ids=tokens, position_ids=positions, use_cache=False, rows=rows)
            return found[0][0][self._put(asked)]
        lengths = np.diff(piece.bounds).astype(np.int64)
        if lengths.max(initial=0) > self.context:
            what = f"{self.model.config.model_type} reads {self.context:,} tokens at once, and not {lengths.max():,}"
            raise UsageError(what, where="attend", hint="attend: row; its attention cannot be kept within rows")
        row = np.searchsorted(piece.bounds, asked, side="right") - 1
        parts: list[Any] = []
        order: list[NDArray[np.int64]] = []
        for group in pieces(lengths):
            # Padding stands to the right, where causal attention does not look: no mask is needed.
            padded = np.zeros((len(group), int(lengths[group].max())), dtype=np.int64)
            for line, number in enumerate(group):
                padded[line, : lengths[number]] = piece.tokens[piece.bounds[number] : piece.bounds[number + 1]]
            found = body(input_ids=self._put(padded), use_cache=False)[0]
            line_of = np.full(len(lengths), -1)
            line_of[group] = np.arange(len(group))
            here = np.flatnonzero(line_of[row] >= 0)
            order.append(here)
            columns = asked[here] - piece.bounds[row[here]]
            parts.append(found[self._put(line_of[row[here]]), self._put(columns)])
        return self.torch.cat(parts)[self._put(np.argsort(np.concatenate(order)))]

    def _ask(self) -> Way:
        """How pieces go through this architecture: tried on short rows, which the model also reads alone.

        Raises:
            UsageError: it cannot be run, its weights are no numbers, or what follows a token changes what it says.

        """
        core, kind = self.model, self.model.config.model_type
        rows = [np.arange(count) * 7 % self.vocabulary for count in (10, 6)]
        rows.append(rows[0][:4])
        training = core.training
        core.eval()
        # Only a CPU multiplies in whole float32, and CUDA's kernel does not take it at all.
        exact = self.device == "cpu"
        with self.torch.inference_mode(), contextlib.nullcontext() if exact else self.cast():
            try:
                found = [core(input_ids=self._put(row[None, :-1]), use_cache=False)[0][0] for row in rows]
            except Exception as error:  # whatever an architecture makes of a configuration that it is not meant for
                wrong = UsageError(f"{kind} cannot be run as configured", where=summarize_error(error))
                raise as_machine_error(error) or wrong from error
            alone = self.torch.cat(found)
            near = float(alone.float().std()) * (1e-3 if exact else 0.1)
            if not isfinite(near):
                raise UsageError(f"the weights of the {kind} are no numbers", where="base")
            if (found[0][:3] - found[2]).abs().max() > near:
                raise UsageError(f"{kind} is not a causal model: it looks at what follows", where="base")
            parts, whole = Way(core.get_decoder(), core.get_output_embeddings()), Way(core, _same)
            ways = [parts._replace(flat=True), whole._replace(flat=True), parts, whole]
            way = next((way for way in ways if self._near(way, flat(rows), alone, near)), None)
        core.train(training)
        if way is None:
            raise UsageError(f"{kind} does not read rows side by side as it reads them alone", where="base")
        if not way.flat:
            self.notes.append(f"{kind} cannot attend within rows of a flat piece: rows are padded, which is slower")
        return way

    def _near(self, way: Way, piece: Packed, alone: Any, near: float) -> bool:
        """Whether a piece's logits are those of its rows alone."""
        try:
            logits = way.head(self._states(way, way.body, piece, np.arange(len(piece.tokens))))
        except Exception as error:  # whatever an architecture makes of arguments that it does not know
            if limit := as_machine_error(error):
                raise limit from error
            return False
        return logits.shape == alone.shape and bool((logits - alone).abs().max() <= near)

    def _put(self, array: NDArray[Any]) -> Any:
        """An array on the device."""
        tensor = self.torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
        if self.device == "cuda":  # without waiting for the device
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def token_bits(self, windows: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """See `seams.Model`."""
        found: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(windows)
        asked = [index for index, window in enumerate(windows) if len(window) > 1]
        lengths = np.array([len(windows[index]) - 1 for index in asked], dtype=np.int64)
        self.model.eval()
        with self.torch.inference_mode():
            begin = 0
            while begin < len(asked):
                end = begin + max(1, int(np.searchsorted(np.cumsum(lengths[begin:]), PIECE, side="right")))
                rows = [windows[index] for index in asked[begin:end]]
                nats = self.nats(flat(rows, size=PIECE if self.fixed else TILE)).float().cpu().numpy()
                for index, line in zip(
                    asked[begin:end], np.split(nats, np.cumsum(lengths[begin:end])[:-1]), strict=True
                ):
                    found[index] = (line / np.log(2)).astype(np.float32)
                begin = end
        return iter(found)

    def generate(
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
                        # A base may say otherwise for chats.
                        **{"do_sample": False, "repetition_penalty": 1.0, "num_beams": 1, **options},
                    )
                for index, line in zip(piece, written[:, longest:].cpu().numpy(), strict=True):
                    ends = np.flatnonzero(stop[line])
                    found[index] = line[: ends[0] + 1 if len(ends) else limit].astype(np.int32)
        return found
