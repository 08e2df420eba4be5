"""What happens before the first step: preflight checks that training can work, and the batch-size search.

A check that fails ends training before it begins, in seconds instead of after hours; a note is for the user to judge.
The batch-size search runs a few trial steps to find how many tokens fit and are fast at once, and how many steps a time
budget holds. The weights and all random generators are afterwards as before, to the bit.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from math import log
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from git_starcoder.checks import check
from git_starcoder.errors import DatasetError, StarcoderError
from git_starcoder.machine import GIB
from git_starcoder.model.checkpoint import random_state, restore_random_state
from git_starcoder.model.optimizer import Optimizer, copy_weights, is_out_of_memory
from git_starcoder.model.packing import TILE_TOKENS, max_row_tokens, micro_batch_size
from git_starcoder.model.peak_memory import (
    CPU_MICRO_BATCH_TOKENS,
    MIN_GPU_MICRO_BATCH_TOKENS,
    PROBE_TOKENS,
    PeakMemory,
    predict_peak_memory,
    weight_bytes,
)
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.records import SPLITS
from git_starcoder.row_layout import CURRICULUM_STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.network import Network
    from git_starcoder.model.optimizer import StepRunner
    from git_starcoder.model.processes import ProcessGroup
    from git_starcoder.text.tokenizer import Tokenizer

MAX_PACKING_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}
"""Largest difference in nats (root mean square) between a row packed behind another one and the same row alone that is
still rounding. If rows see each other, it is 0.4 for an untrained `tiny`, and more for a trained model."""
SPELLED_CONTROL = "<fim_middle>"
"""A control token as a source file may spell it."""

WORTHWHILE_SPEEDUP = 0.97
"""Twice the micro-batch must take at most this share of the time per step, to be worth its memory."""
MAX_TIMED_STEPS = 12
"""Steps that are timed at most, in all stages together."""
TIMING_SHARE = 0.03
"""Share of the time budget after which no more steps are timed."""
PLANNED_TIME_SHARE = 0.9
"""Share of the remaining time for which steps are planned. The clock ends a training that becomes slower."""


class PreflightResult(NamedTuple):
    """The result of one preflight check. The names are keys of the JSON output."""

    what: str
    """What was checked."""
    result: Literal["ok", "note", "wrong"]
    figure: str
    """What was found."""
    hint: str = ""
    """What to do if the result is not ok."""


def run_preflight(
    dataset: Dataset,
    corpus: Corpus,
    network: Network,
    tokenizer: Tokenizer,
    config: TrainConfig,
    out: Path,
    world_size: int = 1,
) -> Iterator[PreflightResult]:
    """Check everything that a training of `world_size` processes is about to use. Nothing is changed.

    The longest row goes through the network and back, so this is where a device turns out to be too small.
    """
    yield _describe_device(network)
    yield from _check_memory(corpus, network, config, world_size)
    yield _check_vocabulary(corpus, network, tokenizer)
    yield _check_end_of_text(corpus, has_base=config.base is not None)
    yield _check_control_tokens(tokenizer)
    yield _check_packing(corpus, network, config)
    yield _check_splits(dataset)
    yield _check_disk(network, config, out)


def _ok_or_wrong(what: str, figure: str, hint: str, *, is_wrong: bool) -> PreflightResult:
    return PreflightResult(what, "wrong", figure, hint) if is_wrong else PreflightResult(what, "ok", figure)


def raise_if_wrong(result: PreflightResult) -> PreflightResult:
    """Return a result unless it is wrong, which is a `StarcoderError`."""
    if result.result == "wrong":
        raise StarcoderError(result.figure, where=f"before training: {result.what}", hint=result.hint)
    return result


def check_certificate(dataset: Dataset) -> PreflightResult:
    """Compute the leak certificate from all rows, and see whether any other check finds something."""
    hint = "`git starcoder check` shows what and where"
    try:
        outcomes = {outcome.check: outcome for outcome in check(dataset)}
    except DatasetError as error:
        return PreflightResult("certificate", "note", f"cannot be computed: {error.what}", hint)
    certificates = {key: outcome.certificate for key, outcome in outcomes.items() if outcome.certificate}
    broken = [key for key, outcome in outcomes.items() if outcome.finding_count]
    shared = ""
    if overlap := certificates.get("overlap"):
        shared = f"; {overlap['overlap']:.1%} of held-out runs are in training, {overlap['floor']:.1%} by chance"
    if broken:
        return PreflightResult("certificate", "note", f"broken: {', '.join(broken)}{shared}", hint)
    counts = ", ".join(f"{leak['held_out']:,} {kind}" for kind, leak in certificates.get("leak", {}).items())
    return PreflightResult("certificate", "ok", f"all checks pass; held out and not in training: {counts}{shared}")


def _describe_device(network: Network) -> PreflightResult:
    details = f", {network.torch.get_num_threads()} threads" if network.device == "cpu" else ""
    details = f" {network.torch.cuda.get_device_name()}" if network.device == "cuda" else details
    details += ", one of several with a part of the weights" if network.sharded_model else ""
    return PreflightResult("device", "ok", f"{network.device}{details}, matrices in {network.precision}")


def _check_memory(corpus: Corpus, network: Network, config: TrainConfig, world_size: int) -> Iterator[PreflightResult]:
    """Predict the memory that training needs, and send the longest row through the network if there is any hope."""
    peak = predict_peak_memory(corpus, network, config, world_size)
    parameters = sum(weight.numel() for weight in network.model.parameters())
    recomputed = "; activations are computed again" * network.recomputes_activations
    figure = f"{parameters:,} parameters: {peak}{recomputed}"
    if peak.least > peak.available:
        hint = "a smaller --size, or --tune lora; several devices can divide it with shard: true"
        yield PreflightResult("memory", "wrong", figure, hint)
        return
    yield (
        PreflightResult("memory", "ok", figure)
        if peak.fits
        else PreflightResult("memory", "note", figure, _hint_to_save_memory(peak, network))
    )
    yield _check_longest_row(corpus, network, peak.tokens_that_fit)


def _hint_to_save_memory(peak: PeakMemory, network: Network) -> str:
    """What to try if the memory may not suffice."""
    ways = [] if network.recomputes_activations else ["recompute: true"]
    if peak.tokens > peak.tokens_that_fit > 0:
        ways.append(
            f"rows of {peak.tokens_that_fit:,} tokens fit (build with --set window.size=N, and set micro_batch)"
        )
    return "; ".join([*ways, "--tune lora, optimizer: adamw8bit or shard: true need less"])


def choose_recomputation(corpus: Corpus, network: Network, config: TrainConfig, processes: ProcessGroup) -> None:
    """Let the network compute activations again if the config wants it, or if it leaves that open and memory is short.

    All processes decide the same.
    """
    is_needed = bool(config.recompute)
    if config.recompute is None and (processes.is_first or network.sharded_model):
        peak = predict_peak_memory(corpus, network, config, processes.world_size)
        is_needed = network.can_recompute and not peak.fits
    (is_needed,) = processes.broadcast([is_needed])
    network.set_recomputation(is_on=bool(is_needed))


def _check_longest_row(corpus: Corpus, network: Network, fitting: int) -> PreflightResult:
    """Send the longest row forward and backward through the network. Rows of `fitting` tokens would fit."""
    torch, hint = network.torch, f"build with --set window.size={fitting or 'N'}, which is smaller"
    row = int(corpus.input_lengths.argmax())
    tokens = corpus.input_tokens(row)
    longest = len(tokens) - 1
    if longest > network.positions:
        what = f"a row takes {longest:,} tokens, and the model sees {network.positions:,}"
        hint = f"build with --set window.size={network.context - network.context % 64}"
        return PreflightResult("longest row", "wrong", what, hint)
    # Activations are computed again in training mode only. What dropout draws is forgotten.
    network.model.train(network.recomputes_activations)
    state = random_state(torch)
    if network.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        loss = network.row_losses([tokens], corpus.loss_starts[[row]]).mean()
        loss.backward()
        bits = float(loss.detach()) / log(2)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return PreflightResult("longest row", "wrong", f"{longest:,} tokens do not fit on the device", hint)
    finally:
        network.model.zero_grad(set_to_none=True)
        restore_random_state(torch, state)
    seconds = time.perf_counter() - start
    peak = f", {torch.cuda.max_memory_allocated() / GIB:.2f} GiB at most" if network.device == "cuda" else ""
    figure = f"{longest:,} tokens forward and backward in {seconds:.2f} s{peak}, {bits:.2f} bits per token"
    hint = "the weights of the base model are not numbers"
    return _ok_or_wrong("longest row", figure, hint, is_wrong=not np.isfinite(bits))


def _check_vocabulary(corpus: Corpus, network: Network, tokenizer: Tokenizer) -> PreflightResult:
    """Check that the model has an embedding for every token of the rows."""
    size = int(network.model.get_input_embeddings().weight.shape[0])
    is_wrong = max(int(corpus.tokens.max()), tokenizer.end_id, tokenizer.pad_id) >= size
    figure = f"{tokenizer.vocab_size:,} tokens in a vocabulary of {size:,}"
    figure += ": the model lacks entries that the rows have" * is_wrong
    hint = "build the dataset with the model's tokenizer: --set window.tokenizer=FOLDER"
    return _ok_or_wrong("tokenizer", figure, hint, is_wrong=is_wrong)


def _check_end_of_text(corpus: Corpus, *, has_base: bool) -> PreflightResult:
    """Check that some row has the end of a text in its loss: a model from scratch would not learn to stop.

    It can happen in a repository of one repetitive file, whose last window is a copy of another one and is dropped.
    """
    is_learned = corpus.ends_text & (corpus.input_lengths > corpus.loss_starts)
    figure = f"{int(is_learned.sum()):,} of {len(corpus.ends_text):,} rows end a text, and learn that it ends"
    if not is_learned.any():
        figure = f"no row learns the end-of-text token {corpus.end_token}"
        if has_base:
            return PreflightResult("end of text", "note", f"{figure}: the model knows of ends only what its base does")
    hint = "build the dataset with --set dedup.exact=false, or from more files"
    return _ok_or_wrong("end of text", figure, hint, is_wrong=not is_learned.any())


def _check_control_tokens(tokenizer: Tokenizer) -> PreflightResult:
    """Check that each control token has one id, and that text which spells it is not encoded as it."""
    texts = [*tokenizer.control_tokens.values(), SPELLED_CONTROL]
    tokens, _ = tokenizer.encode([text.encode() for text in texts])
    encoded = tokenizer.control_tokens.keys() & set(tokens.tolist())
    duplicates = len(tokenizer.control_tokens) - len(set(tokenizer.control_tokens.values()))
    fim = "with" if tokenizer.fim_ids else "without"
    figure = f"{len(tokenizer.control_tokens)} with one id each, which no text gets; {fim} fill-in-the-middle"
    if encoded:
        figure = f"{tokenizer.control_tokens[min(encoded)]} is made of ordinary text"
    elif duplicates:
        figure = f"{duplicates} control tokens have more than one id"
    return _ok_or_wrong("control tokens", figure, "use another tokenizer", is_wrong=bool(encoded or duplicates))


def _check_packing(corpus: Corpus, network: Network, config: TrainConfig) -> PreflightResult:
    """Check that a row has the same loss alone and packed behind another row."""
    longest_rows = np.argsort(corpus.lengths)[[-1, -min(2, len(corpus.ends_text))]]
    first, second = (corpus.input_tokens(row)[:PROBE_TOKENS] for row in longest_rows)
    if config.attend == "micro_batch":
        why = "rows attend to the rows before them, because of attend: micro_batch"
        return PreflightResult("packed rows", "note", why)
    if len(second) < 2:
        return PreflightResult("packed rows", "note", "no two rows have two tokens: nothing to compare")
    network.model.eval()
    with network.without_gradient():
        alone, packed = (
            network.row_losses(rows).float().cpu().numpy()[1 - len(second) :] for rows in ([second], [first, second])
        )
    difference = float(((alone - packed) ** 2).mean()) ** 0.5
    is_wrong = difference > MAX_PACKING_DIFFERENCE[network.precision]
    problem = "rows see the rows packed before them: " * is_wrong
    figure = f"{problem}the loss of a row changes by {difference:.1e} nats when another row is packed before it"
    return _ok_or_wrong("packed rows", figure, "please report this bug", is_wrong=is_wrong)


def _check_splits(dataset: Dataset) -> PreflightResult:
    """Check by the metadata of the rows that no file and no leak group is in two splits.

    Of a file that held-out commits changed, only lines are held out (`scored`): its past version is in training.
    """
    owners: dict[tuple[str, Any], str] = {}
    crossing: set[tuple[str, Any]] = set()
    for split in SPLITS:
        for metadata in dataset.row_metadata(split):
            file = None if "scored" in metadata else metadata.get("source_file")
            for key in (("file", file), ("group", metadata.get("group"))):
                if key[1] is not None and owners.setdefault(key, split) != split:
                    crossing.add(key)
    figure = f"none of {len(owners):,} files and leak groups is in two splits"
    if crossing:
        kind, name = min(crossing, key=repr)
        figure = f"{len(crossing):,} files and groups are in two splits, such as {kind} {name}"
    hint = "the model would train on held-out text; `git starcoder check` names all of it"
    return _ok_or_wrong("splits", figure, hint, is_wrong=bool(crossing))


def _check_disk(network: Network, config: TrainConfig, out: Path) -> PreflightResult:
    """Check that two checkpoints and the model fit on the disk."""
    trainable_bytes = weight_bytes(list(network.trainable_weights().values()))
    # A checkpoint has the weights, two numbers per weight of the optimizer, the best weights, and perhaps an average.
    needed = 2 * trainable_bytes * (4 + bool(config.ema)) + weight_bytes(list(network.model.parameters()))
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    figure = f"{free / GIB:.1f} GiB free for {needed / GIB:.2f} GiB of checkpoints and model"
    return _ok_or_wrong("disk", figure, "choose another --out", is_wrong=free <= needed)


def search_batch_size(runner: StepRunner, *, is_curriculum: bool, seconds: float | None) -> int | None:
    """Run trial steps to set `runner.micro_batch_tokens`. The runner's weights and optimizer are afterwards as before.

    Returns:
        The estimated steps that fit into `seconds`, which include the search; None if the budget is not a time.
    """
    weights = {name: part.to("cpu", copy=True) for name, part in runner.parts.items()}
    state = random_state(runner.torch)
    steps = MAX_TIMED_STEPS * CURRICULUM_STAGES
    plan = TrainingPlan.build(runner.corpus, runner.config, steps, is_curriculum=is_curriculum)
    steps = 0
    start = time.perf_counter()
    try:
        runner.micro_batch_tokens = _search_micro_batch_tokens(runner, plan)
        if seconds is not None:
            seconds_per_step = _time_steps(runner, plan, seconds * TIMING_SHARE)
            left = seconds - (time.perf_counter() - start)
            steps = max(1, int(PLANNED_TIME_SHARE * left / seconds_per_step))
    finally:
        copy_weights(runner.torch, runner.parts, weights)
        runner.optimizer = Optimizer(runner.network, runner.config, runner.processes)
        restore_random_state(runner.torch, state)
        if runner.network.device == "cuda":
            runner.torch.cuda.empty_cache()
    runner.micro_batch_tokens, steps = map(int, runner.processes.broadcast([runner.micro_batch_tokens, steps]))
    return steps or None


def _search_micro_batch_tokens(runner: StepRunner, plan: TrainingPlan) -> int:
    """The size that the config allows; on a GPU without `micro_batch`, the smallest that is as fast as twice as much.

    A step has as many micro-batches as there are processes, or a multiple, so that all processes have the same to do.
    """
    world_size = runner.processes.world_size
    size = partial(micro_batch_size, runner.corpus, plan)
    longest = max_row_tokens(runner.corpus, runner.config.fim or 0.0)
    count = world_size
    if runner.config.micro_batch or runner.network.device != "cuda":
        limit = max(longest, TILE_TOKENS, runner.config.micro_batch or CPU_MICRO_BATCH_TOKENS)
        while size(count) > limit:
            count += world_size
        return size(count)
    while size(2 * count) > max(longest, MIN_GPU_MICRO_BATCH_TOKENS):
        count *= 2
    runner.micro_batch_tokens = size(count)
    seconds = _time_step(runner, plan, 0)
    while count > world_size:
        best, count = runner.micro_batch_tokens, count // 2
        runner.micro_batch_tokens = size(count)
        seconds, before = _time_step(runner, plan, 0), seconds
        # If memory did not suffice, the runner has made its micro-batches smaller again.
        is_better = runner.micro_batch_tokens > best and seconds <= WORTHWHILE_SPEEDUP * before
        (is_better,) = runner.processes.broadcast([is_better])
        if not is_better:
            return min(best, runner.micro_batch_tokens)
    return runner.micro_batch_tokens


def _time_steps(runner: StepRunner, plan: TrainingPlan, max_seconds: float) -> float:
    """Mean seconds of a step over all stages, after one to warm up.

    The fastest step of each stage counts: a machine that is busy for a moment is not slow, and if it stays busy, the
    clock ends training.
    """
    _time_step(runner, plan, plan.step_count // 2)
    fastest: dict[int, float] = {}
    total = 0.0
    for number in range(MAX_TIMED_STEPS):
        stage = number % CURRICULUM_STAGES  # stages in turn, because their rows differ in length
        step = stage * MAX_TIMED_STEPS + number // CURRICULUM_STAGES
        seconds = _time_step(runner, plan, step, warm_up=False)
        fastest[stage] = min(seconds, fastest.get(stage, seconds))
        (total,) = runner.processes.broadcast([total + seconds])
        if total > max_seconds:
            break
    return sum(fastest.values()) / len(fastest)


def _time_step(runner: StepRunner, plan: TrainingPlan, number: int, *, warm_up: bool = True) -> float:
    """Seconds that a step of the plan takes. With `warm_up`, it is run once before."""
    step = plan.step(number)
    if warm_up:
        float(runner.run_step(plan, step, runner.config.peak_rate).loss)
    start = time.perf_counter()
    float(runner.run_step(plan, step, runner.config.peak_rate).loss)  # waits for the device
    return time.perf_counter() - start
