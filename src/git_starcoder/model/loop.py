"""The loop of a training: steps of the plan, looks at held-out text, and checkpoints from which it goes on exactly.

The clock decides something only where the budget is time: when to end, and how far the learning rate has fallen.
"""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from math import isfinite, log
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import StarcoderError
from git_starcoder.model import checkpoint
from git_starcoder.model.checkpoint import Checkpoint
from git_starcoder.model.ledger import Counts, Tally
from git_starcoder.model.optimise import Average, put
from git_starcoder.scoring import document_bits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.model.learner import Learned, Learner
    from git_starcoder.model.metrics import Metrics
    from git_starcoder.model.plan import Plan, Step
    from git_starcoder.protocols import Progress

LOOKS = 12
"""How often held-out text is asked about, in a whole budget; less often where that would take much of its time."""
TURNED = 1.02
"""The held-out loss has turned where it is worse than the best by this factor."""
TOGETHER = 16
"""Steps whose losses are fetched from a GPU at once, which need not wait for the processor in between."""
RECENT = 20
"""Steps whose mean loss is told."""


@dataclass(slots=True)
class Standing:
    """How far a training is: what a checkpoint says of it besides tensors."""

    step: int = 0
    rows: int = 0
    tokens: int = 0
    """Predicted."""
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list[float])
    """Losses of the last steps, bits per token."""
    looks: int = 0
    best: float | None = None
    """Bits per byte of held-out text, with the weights of step `best_step`."""
    best_step: int = 0
    worse: int = 0
    """Looks since then."""
    turned: bool = False
    """Whether it was told that the held-out loss has turned."""
    stopped: str = ""
    """Why it has ended."""


@dataclass(slots=True)
class Exam:
    """The held-out text that is asked about while training."""

    documents: Sequence[Document]
    bytes: int
    looks: int = LOOKS
    """How often, in a whole budget."""


class Loop:
    """One training in progress. `metrics` are the first process's, None in the others."""

    def __init__(
        self,
        learner: Learner,
        plan: Plan,
        limit: float | None,
        exam: Exam,
        metrics: Metrics | None,
        folder: Path,
        said: dict[str, Any],
        watch: Progress,
    ) -> None:
        """`limit` is the budget in seconds, if it is time. `said` goes into every checkpoint in `folder`."""
        self.learner = learner
        self.network = learner.network
        self.torch = learner.torch
        self.processes = learner.processes
        self.config = learner.config
        self.plan = plan
        self.limit = limit
        self.exam = exam
        self.metrics = metrics
        self.folder = folder
        self.said = said
        self.watch = watch
        self.average = Average(self.torch, learner.weights, self.config.ema) if self.config.ema else None
        self.best: dict[str, Any] = {}
        """The weights that did best."""
        self.at = Standing()
        self.tally = Tally(plan, learner.corpus)
        self.learned: list[Learned] = []
        """Steps whose figures were not fetched yet."""
        self.together = 1 if self.network.device == "cpu" else TOGETHER

    @property
    def used(self) -> float:
        """The share of the budget that is used."""
        share = self.at.step / self.plan.steps
        return share if self.limit is None else max(share, self.at.seconds / self.limit)

    def go(self) -> None:
        """Step until the budget is used up or the held-out loss has turned for good; the model has the best weights."""
        at = self.at
        self.watch.begin("train", self.plan.steps)
        self.watch.advance(at.step)
        self.begun = time.perf_counter() - at.seconds
        saved = time.perf_counter()
        steps = iter(()) if at.stopped else self.plan.begin(at.step)
        try:
            for number, step in enumerate(steps):
                self.advance(step)
                if number == 0:  # what is there now stays: the collector need not go through it every time
                    gc.collect()
                    gc.freeze()
                if at.step % self.together and at.step < self.plan.steps:
                    continue
                self.fetch()
                if int(self.used * self.exam.looks) > at.looks or self.used >= 1.0:
                    at.looks = int(self.used * self.exam.looks)
                    self.look()
                if self.used >= 1.0 and not at.stopped:
                    at.stopped = "budget"
                if at.stopped or time.perf_counter() - saved >= self.config.checkpoint_minutes * 60:
                    self.save()
                    saved = time.perf_counter()
                if at.stopped:
                    break
        finally:
            gc.unfreeze()
        if self.best:
            put(self.torch, self.learner.weights, self.best)
        elif self.average:
            put(self.torch, self.learner.weights, self.average.tensors)
        self.watch.end("train", at.seconds, at.rows, at.rows, {})

    def advance(self, step: Step) -> None:
        """Make a step."""
        found = self.learner.learn(self.plan, step, self.used)
        self.at.step += 1
        self.at.rows += len(step.rows)
        self.at.tokens += found.targets
        if self.processes.first:
            self.tally.add(step, found.pieces)
        if self.average:
            self.average.follow(self.at.step)
        self.learned.append(found._replace(pieces=()))
        self.watch.advance(1)

    def fetch(self) -> None:
        """Fetch the figures of the last steps from the device, and the time from the first process.

        Raises:
            StarcoderError: a loss or a gradient is not a number any more.

        """
        at = self.at
        figures = self.torch.stack([each.float() for found in self.learned for each in (found.nats, found.norm)])
        values: list[float] = figures.tolist()
        (at.seconds,) = self.processes.told([time.perf_counter() - self.begun])
        tokens = at.tokens - sum(found.targets for found in self.learned)
        for found, nats, norm in zip(self.learned, values[::2], values[1::2], strict=True):
            if not (isfinite(nats) and isfinite(norm)):
                kind = "loss" if not isfinite(nats) else "norm of the gradient"
                rows = ", ".join(map(str, found.step.rows[:4].tolist())) + (", …" if len(found.step.rows) > 4 else "")
                what = f"the {kind} is {nats if kind == 'loss' else norm} at step {found.step.number + 1}"
                hint = "a smaller learning rate may help; --explain-step shows the rows of a step"
                raise StarcoderError(what, where=f"rows {rows} of the training split", hint=hint)
            tokens += found.targets
            at.recent = [*at.recent[1 - RECENT :], nats / log(2)]
            if self.metrics:
                self.metrics.add(step=found.step.number + 1, seconds=round(at.seconds, 3), tokens=tokens,
                                 loss=nats / log(2), norm=norm, learning_rate=found.rate)  # fmt: skip
        self.learned = []
        if self.metrics:
            self.metrics.write()

    def look(self) -> None:
        """Ask about the held-out sample, keep the best weights, see whether it gets worse, and tell."""
        at = self.at
        value = self.bits_per_byte() if self.exam.bytes else None
        told = "" if value is None else f"held-out {value:.3f} bits/byte · "
        left = at.seconds / self.used * max(0.0, 1.0 - self.used)
        self.watch.note(
            f"step {at.step} · {at.tokens / at.seconds:,.0f} tokens/s · "
            f"loss {np.mean(at.recent):.2f} bits/token · {told}{int(left) // 60}:{int(left) % 60:02} left"
        )
        if value is not None:
            self.judge(value)

    def judge(self, value: float) -> None:
        """Keep the weights if they did best, in bits per byte; say so if they did clearly worse, and end by that."""
        at = self.at
        if self.metrics:
            self.metrics.add(step=at.step, seconds=round(at.seconds, 3), held_out=value)
            self.metrics.write()
        if at.best is None or value < at.best:
            at.best, at.best_step, at.worse = value, at.step, 0
            if self.processes.first:
                kept = self.average.tensors if self.average else self.learner.weights
                self.best = {name: weight.detach().to("cpu", copy=True) for name, weight in kept.items()}
            return
        at.worse += 1
        if value <= TURNED * at.best:
            return
        if not at.turned:
            at.turned = True
            self.watch.note(
                f"unseen text gets harder for it since step {at.best_step} ({at.best:.3f} bits/byte then, "
                f"{value:.3f} now): it learns its rows by heart; the weights of that step are kept"
            )
        if at.worse >= self.config.patience:
            at.stopped = "held-out loss turned"

    def bits_per_byte(self) -> float:
        """What the held-out sample costs, asked by the first process."""
        value = 0.0
        if self.processes.first:
            with self.average.shown() if self.average else nullcontext():
                bits = document_bits(self.network, self.exam.documents, self.network.end, parts=2).sum()
            value = float(bits) / self.exam.bytes
        (value,) = self.processes.told([value])
        if not isfinite(value):
            raise StarcoderError(f"the held-out loss is {value} at step {self.at.step}", where="train",
                                 hint="a smaller learning rate may help; if not, this is our bug")  # fmt: skip
        return value

    def save(self) -> None:
        """Write a checkpoint."""
        if not self.metrics:
            return
        tensors = {
            "weights": self.learner.weights,
            "optimiser": self.learner.optimiser.state(),
            "random": checkpoint.random_state(self.torch),
            **({"average": self.average.tensors} if self.average else {}),
            **({"best": self.best} if self.best else {}),
        }
        values = {**self.said, "piece": self.learner.piece, "metrics": self.metrics.keep(), "at": asdict(self.at),
                  "tally": asdict(self.tally.counts)}  # fmt: skip
        checkpoint.save(self.folder, Checkpoint(self.at.step, tensors, values))

    def restore(self, found: Checkpoint) -> None:
        """Go on from a checkpoint."""
        put(self.torch, self.learner.weights, found.tensors["weights"])
        self.learner.optimiser.restore(found.tensors["optimiser"])
        if self.average:
            put(self.torch, self.average.tensors, found.tensors["average"])
        self.best = dict(found.tensors.get("best", {}))
        checkpoint.set_random_state(self.torch, found.tensors["random"])
        self.at = Standing(**found.values["at"])
        self.tally = Tally(self.plan, self.learner.corpus, Counts(**found.values["tally"]))
