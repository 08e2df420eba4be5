"""The training loop: runs the steps of the plan, validates, and saves checkpoints from which a run resumes exactly.

The clock decides something only if the budget is a time: when to end, and how far the learning rate has fallen.
"""

from __future__ import annotations

import gc
import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import isfinite, log
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import StarcoderError
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.model.checkpoint import (
    Checkpoint,
    partial_folder,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from git_starcoder.model.checkpoint_writer import CheckpointWriter, copy_to_cpu
from git_starcoder.model.optimizer import MovingAverage, copy_weights, learning_rate
from git_starcoder.model.packing import TokenCounter, TokenCounts
from git_starcoder.model.packing_thread import PackingThread
from git_starcoder.model.sharded_checkpoint import as_divided, read_parts, write_parts
from git_starcoder.model.throughput import Utilization, peak_operations

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from git_starcoder.evals import Document
    from git_starcoder.model.checkpoint import MetricsLog
    from git_starcoder.model.network import Network
    from git_starcoder.model.optimizer import StepResult, StepRunner
    from git_starcoder.model.packing_thread import PackedStep
    from git_starcoder.model.plan import TrainingPlan
    from git_starcoder.model.with_context import NetworkWithContext
    from git_starcoder.protocols import Progress

VALIDATION_COUNT = 12
"""Validations in a whole run; fewer if they would take much of the budget."""
OVERFITTING_FACTOR = 1.02
"""The model overfits if the held-out loss is worse than the best one by this factor."""
OVERFITTED = "validation loss rose"
"""The reason for the end of a training whose model overfitted."""
ANNEAL_SHARE = 0.2
"""Steps in which the learning rate falls to zero after the model has overfitted, as a share of those that led to the
best weights, as in the WSD schedule (Hägele et al., 2024)."""
ANNEALED_RATE = 0.05
"""Share of the peak learning rate from which on weights count as annealed."""
STEPS_PER_GPU_FETCH = 16
"""Steps whose losses are fetched from a GPU together, so that it need not wait for the processor in between."""
RECENT_STEPS = 20
"""Steps over which the reported training loss is averaged."""
STATE_KEYS = {
    "recent_losses": "recent",
    "validations": "looks",
    "worse_validations": "worse",
    "is_overfitting": "turned",
    "stop_reason": "stopped",
}
"""Fields of `TrainingState` that have another name in checkpoints."""


@dataclass(slots=True)
class TrainingState:
    """How far a training is: what a checkpoint stores besides tensors and counts."""

    step: int = 0
    rows: int = 0
    tokens: int = 0
    """Tokens that were predicted."""
    seconds: float = 0.0
    recent_losses: list[float] = field(default_factory=list[float])
    """Losses of the last steps in bits per token."""
    validations: int = 0
    start: float | None = None
    """Held-out bits per byte before the first step, if training starts from weights that are trained already."""
    best: float | None = None
    """Lowest held-out bits per byte since then; the weights are those of `best_step`."""
    best_step: int = 0
    best_used: float = 0.0
    """The share of the budget that was used for these weights, or for the ones from which annealing began."""
    anneal_rate: float = 0.0
    """The learning rate from which it falls to zero after the model has overfitted; 0 before."""
    anneal_begin: float = 0.0
    """The share of the budget that was used when it began to fall."""
    worse_validations: int = 0
    """Validations since then."""
    is_overfitting: bool = False
    """Whether the user was told that the model overfits."""
    stop_reason: str = ""
    """`budget` or `OVERFITTED`; empty while training runs."""

    def as_values(self) -> dict[str, Any]:
        """Values for a checkpoint."""
        return {STATE_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> TrainingState:
        """Read the values of a checkpoint."""
        names = {key: name for name, key in STATE_KEYS.items()}
        return cls(**{names.get(key, key): value for key, value in values.items()})


@dataclass(slots=True)
class ValidationSet:
    """The held-out text for validation."""

    model: Network | NetworkWithContext
    """What reads it: the network that is trained, with contexts if it is trained with them."""
    documents: Sequence[Document]
    byte_count: int
    """Bytes of their text; 0 if nothing is held out."""
    validation_count: int = VALIDATION_COUNT
    """How often to validate in a whole run."""

    @property
    def token_count(self) -> int:
        """The tokens that a validation reads."""
        return sum(len(document.tokens) for document in self.documents)

    def measure(self) -> float:
        """The bits that the model needs for the text."""
        return float(document_bits(self.model, self.documents, self.model.end_token, parts=2).sum())


class TrainingLoop:
    """A training in progress."""

    def __init__(
        self,
        step_runner: StepRunner,
        plan: TrainingPlan,
        time_limit: float | None,
        validation_set: ValidationSet,
        metrics: MetricsLog | None,
        folder: Path,
        checkpoint_values: dict[str, Any],
        progress: Progress,
    ) -> None:
        """Prepare a training from its first step, with checkpoints in `folder`.

        `time_limit` is the budget in seconds, if it is a time. Only the first process has `metrics` and saves anything.
        `checkpoint_values` are constants of the run that every checkpoint stores.
        """
        self.step_runner, self.network, self.torch = step_runner, step_runner.network, step_runner.torch
        self.processes, self.config = step_runner.processes, step_runner.config
        self.plan, self.time_limit, self.validation_set = plan, time_limit, validation_set
        self.metrics, self.progress = metrics, progress
        self.folder, self.checkpoint_values = folder, checkpoint_values
        self.average = MovingAverage(self.torch, step_runner.parts, self.config.ema) if self.config.ema else None
        self.best_weights: dict[str, Any] = {}
        """Weights with the lowest held-out loss, on the CPU of the first process; if sharded, the parts of each."""
        self.start_weights: dict[str, Any] = {}
        """Those before the first step, until others have a lower loss."""
        self.state = TrainingState()
        self.counts = TokenCounts()
        """What was counted up to the last step, in the first process."""
        self.writer = CheckpointWriter()
        sharded_model = self.network.sharded_model
        self.writer_group = self.torch.distributed.new_group(backend="gloo") if sharded_model else None
        """How the checkpoint writers of all processes talk to each other while training does, too."""
        name = self.torch.cuda.get_device_name() if self.network.device == "cuda" else ""
        self.utilization = Utilization(self.network, peak_operations(name, self.network.precision))
        self.pending: list[StepResult] = []
        """Steps whose loss was not fetched from the device yet."""
        self.fetch_interval = 1 if self.network.device == "cpu" else STEPS_PER_GPU_FETCH
        self.start_time = 0.0
        self.interval_time = 0.0
        """When the steps that are pending began."""

    @property
    def token_counter(self) -> TokenCounter:
        """What has checked and counted the steps that were run."""
        return TokenCounter(self.plan, self.step_runner.corpus, self.counts)

    @property
    def is_reader(self) -> bool:
        """Whether this process takes part in what the network does besides training."""
        return self.processes.is_first or self.network.sharded_model is not None

    @property
    def budget_used(self) -> float:
        """The share of the budget that is used."""
        share = self.state.step / self.plan.step_count
        return share if self.time_limit is None else max(share, self.state.seconds / self.time_limit)

    @property
    def kept_step(self) -> int:
        """The step whose weights are the result if training ends now; 0 for the weights before training."""
        state = self.state
        if state.best is None:
            return 0 if state.start is not None else state.step
        return 0 if state.start is not None and state.start <= state.best else state.best_step

    @property
    def lowest_loss(self) -> float | None:
        """The held-out bits per byte of these weights; None if nothing is held out."""
        losses = [loss for loss in (self.state.start, self.state.best) if loss is not None]
        return min(losses, default=None)

    @property
    def anneal_end(self) -> float:
        """The share of the budget that is used when annealing ends."""
        return min(1.0, self.state.anneal_begin + ANNEAL_SHARE * self.state.best_used)

    def _learning_rate(self) -> float:
        """The learning rate of the next step."""
        state, used = self.state, self.budget_used
        if not state.anneal_rate:
            return learning_rate(self.config, used)
        left = max(0.0, self.anneal_end - used) / (self.anneal_end - state.anneal_begin)
        return state.anneal_rate * left

    def run(self, *, is_trained: bool = False) -> None:
        """Train until the budget is used up or the model has overfitted for long; then load the best weights.

        If the network is already trained, its weights may be the best, and are then the result.
        """
        state = self.state
        self.progress.begin("train", self.plan.step_count)
        self.progress.advance(state.step)
        self.start_time = time.perf_counter() - state.seconds
        saved_at, saved_step = state.seconds, state.step
        if is_trained and not state.step:
            self._validate_start()
        self.interval_time = time.perf_counter()
        try:
            with closing(self._packed_steps()) as steps:
                for index, packed in enumerate(steps):
                    self._run_step(packed)
                    if index == 0:  # what exists now stays, so the garbage collector need not scan it every time
                        gc.collect()
                        gc.freeze()
                    if state.step % self.fetch_interval and state.step < self.plan.step_count:
                        continue
                    self._end_interval()
                    if state.stop_reason or state.seconds - saved_at >= self.config.checkpoint_minutes * 60:
                        self._save_checkpoint()
                        saved_at, saved_step = state.seconds, state.step
                    if state.stop_reason:
                        break
                    self.interval_time = time.perf_counter()
            self.writer.wait()
        except KeyboardInterrupt:
            where = f"resumes after step {saved_step:,}" if saved_step else "starts anew: there is no checkpoint yet"
            self.progress.note(f"The same command {where}.")
            raise
        finally:
            gc.unfreeze()
            self.writer.join()  # after an error or Ctrl-C, so that the checkpoint is whole
        if state.start is not None and self.kept_step == 0:
            if self.is_reader:
                copy_weights(self.torch, self.step_runner.parts, self.start_weights)
            self.progress.note("No step lowered the validation loss. The weights are those before training.")
        elif self.best_weights:
            copy_weights(self.torch, self.step_runner.parts, self.best_weights)
        elif self.average:
            copy_weights(self.torch, self.step_runner.parts, self.average.tensors)
        self.progress.end("train", state.seconds, state.rows, state.rows, {})

    def _packed_steps(self) -> Generator[PackedStep]:
        """The steps that are left, packed on another thread. If micro-batches became smaller, it begins again."""
        runner = self.step_runner
        while not self.state.stop_reason and self.state.step < self.plan.step_count:
            size = runner.micro_batch_tokens
            counter = TokenCounter(self.plan, runner.corpus, replace(self.counts)) if self.processes.is_first else None
            steps = self.plan.steps_from(self.state.step)
            with PackingThread(steps, partial(runner.pack, self.plan), counter) as packed_steps:
                for packed in packed_steps:
                    yield packed
                    if runner.micro_batch_tokens != size:
                        break

    def _end_interval(self) -> None:
        """Record the pending steps, validate if it is time to, and decide whether training ends."""
        state = self.state
        self.writer.raise_error()
        self._record_losses()
        due = int(self.budget_used * self.validation_set.validation_count)
        is_annealed = state.anneal_rate > 0 and self.budget_used >= self.anneal_end
        if due > state.validations or self.budget_used >= 1.0 or is_annealed:
            state.validations = due
            self._validate()
        if is_annealed:
            state.stop_reason = OVERFITTED
        if self.budget_used >= 1.0 and not state.stop_reason:
            state.stop_reason = "budget"

    def _run_step(self, packed: PackedStep) -> None:
        step = packed.step
        result = self.step_runner.run_step(self.plan, step, self._learning_rate(), packed.micro_batches)
        self.state.step += 1
        self.state.rows += len(step.rows)
        self.state.tokens += result.target_count
        if result.micro_batches is packed.micro_batches:
            self.counts = packed.counts
        elif self.processes.is_first:  # memory did not suffice, and the step was packed again
            self.token_counter.add(step, result.micro_batches)
        self.utilization.add(result.micro_batches[self.processes.rank :: self.processes.world_size])
        if self.average:
            self.average.update(self.state.step)
        self.pending.append(result._replace(micro_batches=()))
        self.progress.advance(1)

    def _record_losses(self) -> None:
        """Fetch the losses of pending steps from the device, and the time from the first process, and log them."""
        state = self.state
        tensors = [tensor.float() for result in self.pending for tensor in (result.loss, result.gradient_norm)]
        values: list[float] = self.torch.stack(tensors).tolist()  # waits for the device once
        (state.seconds,) = self.processes.broadcast([time.perf_counter() - self.start_time])
        self.utilization.end_interval(time.perf_counter() - self.interval_time)
        mfu = self.utilization.mfu
        used = {} if mfu is None else {"mfu": round(mfu, 4)}
        tokens = state.tokens - sum(result.target_count for result in self.pending)
        for result, nats, norm in zip(self.pending, values[::2], values[1::2], strict=True):
            for name, value in (("loss", nats), ("norm of the gradient", norm)):
                if not isfinite(value):
                    numbers = [*map(str, result.step.rows[:4].tolist()), *["…"] * (len(result.step.rows) > 4)]
                    what = f"the {name} is {value} at step {result.step.number + 1}"
                    hint = "a smaller learning rate may help; --explain-step shows the rows of a step"
                    raise StarcoderError(what, where=f"rows {', '.join(numbers)} of the training split", hint=hint)
            tokens += result.target_count
            loss = nats / log(2)
            state.recent_losses = [*state.recent_losses[1 - RECENT_STEPS :], loss]
            if self.metrics:
                self.metrics.add(step=result.step.number + 1, seconds=round(state.seconds, 3), tokens=tokens,
                                 loss=loss, norm=norm, learning_rate=result.learning_rate, **used)  # fmt: skip
        self.pending = []
        if self.metrics:
            self.metrics.write()

    def _validate(self) -> None:
        """Measure the held-out loss, report progress, keep the best weights, and detect overfitting."""
        state = self.state
        held_out = self._held_out_bits_per_byte() if self.validation_set.byte_count else None
        shown = "" if held_out is None else f"validation {held_out:.3f} bits/byte · "
        left = state.seconds / self.budget_used * max(0.0, 1.0 - self.budget_used)
        used = "" if self.utilization.mfu is None else f"{self.utilization.mfu:.0%} MFU · "
        self.progress.note(
            f"step {state.step} · {state.tokens / state.seconds:,.0f} tokens/s · {used}"
            f"loss {np.mean(state.recent_losses):.2f} bits/token · {shown}{int(left) // 60}:{int(left) % 60:02} left"
        )
        if held_out is not None:
            self._compare_with_best(held_out)

    def _validate_start(self) -> None:
        """Measure the held-out loss before the first step. These weights are kept until others have a lower one.

        They do not count for early stopping: the first steps have the highest learning rate, and the loss after them is
        often higher than before training although training lowers it in the end.
        """
        if self.validation_set.byte_count:
            self.state.start = self._held_out_bits_per_byte()
            self.progress.note(f"step 0 · validation {self.state.start:.3f} bits/byte, before training")
            self._record_held_out(self.state.start)
            if self.is_reader:
                self.start_weights = copy_to_cpu(self.step_runner.parts)

    def _held_out_bits_per_byte(self) -> float:
        """The held-out loss, measured by the first process; if the weights are sharded, by all of them together."""
        value = 0.0
        if self.is_reader:
            with self.average.as_weights() if self.average else nullcontext():
                bits = self.validation_set.measure()
            value = bits / self.validation_set.byte_count
        (value,) = self.processes.broadcast([value])
        if not isfinite(value):
            hint = "a smaller learning rate may help; if not, please report this bug"
            raise StarcoderError(f"the held-out loss is {value} at step {self.state.step}", where="train", hint=hint)
        return value

    def _record_held_out(self, held_out: float) -> None:
        if self.metrics:
            self.metrics.add(step=self.state.step, seconds=round(self.state.seconds, 3), held_out=held_out)
            self.metrics.write()

    def _compare_with_best(self, held_out: float) -> None:
        """Keep the weights if their held-out loss is the lowest; if it is clearly higher, warn, and finally stop."""
        state = self.state
        self._record_held_out(held_out)
        if state.start is not None and held_out < state.start:
            self.start_weights = {}
        if state.best is None or held_out < state.best:
            state.best, state.best_step, state.worse_validations = held_out, state.step, 0
            if not state.anneal_rate:  # annealing must not move its own end
                state.best_used = self.budget_used
            if self.is_reader:
                weights = self.average.tensors if self.average else self.step_runner.parts
                self.best_weights = copy_to_cpu(weights)
            return
        state.worse_validations += 1
        if held_out <= OVERFITTING_FACTOR * state.best or state.anneal_rate:
            return
        if not state.is_overfitting:
            state.is_overfitting = True
            self.progress.note(
                f"Held-out loss has risen since step {state.best_step} (from {state.best:.3f} to {held_out:.3f} "
                f"bits/byte): the model overfits. Keeping the weights of step {state.best_step}."
            )
        if state.worse_validations >= self.config.patience:
            rate = learning_rate(self.config, state.best_used)
            if rate <= ANNEALED_RATE * self.config.peak_rate or self.budget_used >= 1.0:
                state.stop_reason = OVERFITTED
            else:
                self._begin_annealing(rate)

    def _begin_annealing(self, rate: float) -> None:
        """Go back to the best weights, and let the learning rate that they had fall to zero.

        Weights that were trained at a high rate are noisy: without this, stopping early would forgo what the end of
        every schedule gains. The state of the optimizer stays: it forgets in some dozens of steps.
        """
        state, weights = self.state, self.step_runner.parts
        state.anneal_rate, state.anneal_begin, state.worse_validations = rate, self.budget_used, 0
        for name, weight in weights.items():
            weight.copy_(self.best_weights[name]) if self.is_reader else weight.zero_()
        if not self.network.sharded_model:  # only the first process has the best weights; the others add nothing
            self.processes.sum_tensors([*weights.values()])
        if self.average:
            copy_weights(self.torch, self.average.tensors, weights)
        self.progress.note(
            f"Going back to the weights of step {state.best_step}, whose learning rate falls to zero now."
        )

    def _save_checkpoint(self) -> None:
        """Copy the state, and let the writer write it. Its error is raised after a later step, or at the end."""
        self.writer.wait()  # before anything is copied, so that there is one copy at a time
        is_sharded = self.network.sharded_model is not None
        if not self.metrics and not is_sharded:
            return
        changing = {
            "weights": self.step_runner.parts,
            "optimiser": self.step_runner.optimizer.state_tensors(),
            **({"average": self.average.tensors} if self.average else {}),
        }
        tensors = {name: copy_to_cpu(group) for name, group in changing.items()}
        kept = {"best": self.best_weights, "start": self.start_weights}  # which are replaced, and never changed
        tensors |= {group: weights for group, weights in kept.items() if weights}
        # Here, because the writer must not make groups of processes.
        divided = as_divided(tensors, self.step_runner.weights) if is_sharded else {}

        def write_shards(folder: Path) -> None:
            self.torch.distributed.barrier(self.writer_group)  # for the first process, which makes the folder
            write_parts(folder, divided, self.writer_group)

        if not self.metrics:
            self.writer.start(partial(write_shards, partial_folder(self.folder, self.state.step)))
            return
        whole = {**({} if is_sharded else tensors), "random": random_state(self.torch)}
        values = {
            **self.step_runner.optimizer.state_values(),
            **self.checkpoint_values,
            "micro_batch": self.step_runner.micro_batch_tokens,
            "metrics": self.metrics.sync(),
            "at": self.state.as_values(),
            "tally": asdict(self.counts),
        }
        checkpoint = Checkpoint(self.state.step, whole, values)
        shards = write_shards if is_sharded else None
        self.writer.start(partial(save_checkpoint, self.folder, checkpoint, shards))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        tensors = read_parts(self.torch, checkpoint, self.step_runner.weights)
        copy_weights(self.torch, self.step_runner.parts, tensors["weights"])
        self.step_runner.optimizer.restore_state(tensors["optimiser"], checkpoint.values)
        if self.average:
            copy_weights(self.torch, self.average.tensors, tensors["average"])
        self.best_weights, self.start_weights = tensors.get("best", {}), tensors.get("start", {})
        restore_random_state(self.torch, tensors["random"])
        self.state = TrainingState.from_values(checkpoint.values["at"])
        self.counts = TokenCounts(**checkpoint.values["tally"])
