"""Before training: whether it can work at all, found in seconds instead of after hours.

Each line says what was looked at and what was found. A line that is wrong ends the training before it begins; a line to
note is for the user to judge.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import time
from contextlib import suppress
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from git_starcoder.checks import check
from git_starcoder.errors import DatasetError, StarcoderError
from git_starcoder.model.network import LOGITS, PIECE
from git_starcoder.records import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import Config
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.network import Network
    from git_starcoder.text.tokenizer import Tokenizer

GIB = 1 << 30
FLOAT = 4
"""Bytes of a weight, a gradient, or a number of the optimiser's state."""
SPREAD = 1.8
"""On a processor a process comes to hold so much more than the activations that there are at once: what is free between
tensors of many sizes is not given back."""
CODE = 100 << 20
"""Bytes of the code that a processor's library makes for products in bfloat16, by their shapes (see `pack.TILE`)."""
NEAR = {"float32": 1e-3, "bfloat16": 0.1}
"""Nats by which tokens may differ (root mean square), by precision, when their row stands behind another one: rounding.
A leak is 0.4 for an untrained `tiny`, and more for a model that has learned."""
PROBED = 256
"""Tokens of each of the two rows that are put behind one another, at most."""
LITERAL = "<fim_middle>"
"""A control token as a source file may spell it."""


class Line(NamedTuple):
    """One thing that was looked at."""

    what: str
    result: Literal["ok", "note", "wrong"]
    figure: str
    hint: str = ""
    """Where something is wrong."""


def examine(
    dataset: Dataset, corpus: Corpus, network: Network, tokenizer: Tokenizer, config: Config, out: Path
) -> Iterator[Line]:
    """Look at what a training is about to use. Nothing is changed.

    The longest row goes through the network and back, so a device that is too small says so here.
    """
    yield _device(network)
    yield from _memory(corpus, network, config)
    yield _matches(corpus, network, tokenizer)
    yield _ends(corpus)
    yield _controls(tokenizer)
    yield _apart(corpus, network, config)
    yield _splits(dataset)
    yield _disk(network, config, out)


def require(line: Line) -> Line:
    """The line, if it is not wrong.

    Raises:
        StarcoderError: it is.

    """
    if line.result == "wrong":
        raise StarcoderError(line.figure, where=f"before training: {line.what}", hint=line.hint)
    return line


def certified(dataset: Dataset) -> Line:
    """The leak certificate, worked out from all rows, and whether any other check finds something."""
    hint = "`git starcoder check` says what and where"
    try:
        outcomes = {outcome.check: outcome for outcome in check(dataset)}
    except DatasetError as error:
        return Line("certificate", "note", f"cannot be worked out: {error.what}", hint)
    said = {key: outcome.certificate for key, outcome in outcomes.items() if outcome.certificate}
    broken = [key for key, outcome in outcomes.items() if outcome.found]
    overlap = said.get("overlap", {})
    runs = (
        f"; {overlap['overlap']:.1%} of held-out runs are in training, {overlap['floor']:.1%} by chance"
        if overlap
        else ""
    )
    if broken:
        return Line("certificate", "note", f"broken: {', '.join(broken)}{runs}", hint)
    held = ", ".join(f"{found['held_out']:,} {kind}" for kind, found in said.get("leak", {}).items())
    return Line("certificate", "ok", f"all checks are kept; held out and not in training: {held}{runs}")


def _device(network: Network) -> Line:
    threads = f", {network.torch.get_num_threads()} threads" if network.device == "cpu" else ""
    name = f" {network.torch.cuda.get_device_name()}" if network.device == "cuda" else ""
    return Line("device", "ok", f"{network.device}{name}{threads}, matrices in {network.precision}")


def _memory(corpus: Corpus, network: Network, config: Config) -> Iterator[Line]:
    """The memory that a training needs, estimated, and what a pass of the longest row says."""
    weights = list(network.model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    size, moved = _bytes(weights), _bytes(learned)
    matrices = _bytes([weight for weight in learned if weight.ndim == 2]) if config.optimizer == "muon" else 0
    state = 2 * moved - matrices  # Muon keeps one number per weight, AdamW two
    room = _room(network)
    # On a processor weights and rows are in memory already.
    there = _resident() if network.device == "cpu" else 0
    parts = {"the process now" if there else "weights": there or size, "gradients": moved, "optimiser": state}
    longest = int((corpus.lengths + corpus.opens).max()) - 1  # its last token is only a target
    fits = sum(parts.values()) <= room + there
    if fits:
        tokens = max(longest, config.piece or min(config.batch, PIECE))
        active = _activations(network, tokens, longest)
        # The best weights are kept by the processor, their average by the device.
        parts["copies of weights"] = moved * (bool(there) + bool(config.ema))
        parts[f"activations of {tokens:,} tokens"] = int(SPREAD * active) if there else active
        parts["code"] = CODE if there and network.precision == "bfloat16" else 0
    need, whole = sum(parts.values()), room + there
    listed = ", ".join(f"{name} {amount / GIB:.2f}" for name, amount in parts.items() if amount)
    parameters = sum(weight.numel() for weight in weights)
    said = f"{parameters:,} parameters: about {need / GIB:.2f} GiB ({listed}) of {whole / GIB:.1f} GiB"
    if not fits:
        yield Line("memory", "wrong", said, "a smaller --size, or --tune lora")
        return
    yield Line("memory", "ok" if need < whole else "note", said)
    yield _trial(corpus, network, longest)


def _activations(network: Network, tokens: int, longest: int) -> int:
    """Bytes that a piece of rows of `longest` tokens leaves behind for its gradient, as short rows say.

    A part is always there, one grows with the tokens, and one with the square of a row: attention with dropout.
    """
    half = max(1, min(PROBED, longest, network.context) // 2)
    row = np.zeros(2 * half + 1, dtype=np.int64)
    one, two, long = (network.kept(rows) for rows in ([row[: half + 1]], [row[: half + 1]] * 2, [row]))
    square = (long - two) / (2 * half**2)
    each = (two - one) / half
    fixed = one - each * half
    active = fixed + (each + square * (longest - half)) * tokens
    logits = tokens * network.vocabulary
    return int(active) - (FLOAT * logits if logits > LOGITS else 0)  # which are made again then


def _trial(corpus: Corpus, network: Network, longest: int) -> Line:
    """Send the longest row through and back."""
    torch = network.torch
    row = int((corpus.lengths + corpus.opens).argmax())
    if longest > network.context:
        what = f"a row takes {longest:,} tokens, and the model sees {network.context:,}"
        return Line("longest row", "wrong", what, "build with a smaller window.size")
    network.model.eval()  # no dropout: nothing is drawn
    begun = time.perf_counter()
    try:
        loss = network.loss([corpus.row(row)], corpus.given[[row]]).mean()
        loss.backward()
        bits = float(loss.detach()) / log(2)
    except torch.OutOfMemoryError:
        return Line("longest row", "wrong", f"{longest:,} tokens do not fit on the device", "a smaller window.size")
    finally:
        network.model.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - begun
    peak = f", {torch.cuda.max_memory_allocated() / GIB:.2f} GiB at most" if network.device == "cuda" else ""
    said = f"{longest:,} tokens there and back in {seconds:.2f} s{peak}, {bits:.2f} bits per token"
    if not np.isfinite(bits):
        return Line("longest row", "wrong", said, "the weights of the base model are not numbers")
    return Line("longest row", "ok", said)


def _matches(corpus: Corpus, network: Network, tokenizer: Tokenizer) -> Line:
    size = int(network.model.get_input_embeddings().weight.shape[0])
    said = f"{tokenizer.vocab_size:,} tokens in a vocabulary of {size:,}"
    largest = int(corpus.tokens.max())
    if max(largest, tokenizer.end, tokenizer.pad) >= size:
        hint = "build the dataset with the model's tokenizer: --set window.tokenizer=FOLDER"
        return Line("tokenizer", "wrong", f"{said}: the model lacks entries that the rows have", hint)
    return Line("tokenizer", "ok", said)


def _ends(corpus: Corpus) -> Line:
    """Whether the end of texts is learned: a model that never met it would not stop."""
    learned = corpus.ends & (corpus.lengths + corpus.opens > corpus.given)
    said = f"{int(learned.sum()):,} of {len(corpus.ends):,} rows end a text, and learn that it ends"
    if not learned.any():
        return Line(
            "end of text", "wrong", f"no row learns the end-of-text token {corpus.end}", "build the dataset again"
        )
    return Line("end of text", "ok", said)


def _controls(tokenizer: Tokenizer) -> Line:
    """Whether control tokens are one id each, and none is made of text that spells one."""
    spelled = [*tokenizer.controls.values(), LITERAL]
    tokens, _ = tokenizer.encode([text.encode() for text in spelled])
    made = tokenizer.controls.keys() & set(tokens.tolist())
    twice = len(tokenizer.controls) - len(set(tokenizer.controls.values()))
    if made or twice:
        name = tokenizer.controls[min(made)] if made else f"{twice} control tokens"
        why = "is made of ordinary text" if made else "have more than one id"
        return Line("control tokens", "wrong", f"{name} {why}", "use another tokenizer")
    fim = "with" if tokenizer.fim else "without"
    return Line(
        "control tokens", "ok", f"{len(tokenizer.controls)} of one id each, none made of text; {fim} fill-in-the-middle"
    )


def _apart(corpus: Corpus, network: Network, config: Config) -> Line:
    """Whether a row is told the same alone and behind another row."""
    first, second = (corpus.row(row)[:PROBED] for row in np.argsort(corpus.lengths)[[-1, -min(2, len(corpus.ends))]])
    if config.attend == "piece":
        return Line("packed rows", "note", "attend to the rows before them, as asked for by attend: piece")
    if len(second) < 2:
        return Line("packed rows", "note", "no two rows have two tokens: nothing to compare")
    network.model.eval()
    with network.torch.inference_mode():
        alone, together = (
            network.loss(rows).float().cpu().numpy()[1 - len(second) :] for rows in ([second], [first, second])
        )
    differs = float(((alone - together) ** 2).mean()) ** 0.5
    said = f"a row's tokens differ by {differs:.1e} nats behind another row"
    if differs > NEAR[network.precision]:
        return Line("packed rows", "wrong", f"rows see the rows packed before them: {said}", "this is our bug")
    return Line("packed rows", "ok", said)


def _splits(dataset: Dataset) -> Line:
    """Whether a file or a group of files is in two splits, from the rows' metadata alone."""
    owners: dict[tuple[str, Any], str] = {}
    crossing: set[tuple[str, Any]] = set()
    for split in SPLITS:
        for about in dataset.row_metadata(split):
            for key in (("file", about.get("source_file")), ("group", about.get("group"))):
                if key[1] is not None and owners.setdefault(key, split) != split:
                    crossing.add(key)
    if crossing:
        kind, name = min(crossing, key=repr)
        what = f"{len(crossing):,} files and groups are in two splits, such as {kind} {name}"
        return Line("splits", "wrong", what, "what is held out is learned; `git starcoder check` names them all")
    return Line("splits", "ok", f"none of {len(owners):,} files and groups is in two")


def _disk(network: Network, config: Config, out: Path) -> Line:
    """Whether two checkpoints and the model have room."""
    moved = _bytes([weight for weight in network.model.parameters() if weight.requires_grad])
    # A checkpoint has weights, the optimiser's two, the best weights, and their average.
    need = 2 * moved * (4 + bool(config.ema)) + _bytes(list(network.model.parameters()))
    here = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(here).free
    said = f"{free / GIB:.1f} GiB free for {need / GIB:.2f} GiB of checkpoints and model"
    return Line("disk", "ok" if free > need else "wrong", said, "" if free > need else "another --out")


def _bytes(weights: list[Any]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _resident() -> int:
    """Bytes of memory that this process holds."""
    with suppress(OSError):  # only Linux says what is held now, others the most that was
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _room(network: Network) -> int:
    """Bytes of memory that the device has free, or on a CPU the machine."""
    torch = network.torch
    if network.device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if network.device == "mps":
        return int(torch.mps.recommended_max_memory())
    with suppress(OSError):  # only Linux says what is available
        found = re.search(
            r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE
        )
        if found:
            return int(found[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
