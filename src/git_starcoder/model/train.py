"""Train a small decoder from scratch on the rows of a dataset, within a budget of time or of steps.

A budget of steps gives the same weights again on the same machine. A budget of time does not: how far it gets depends
on the clock, and so do the learning rate and the stage of the curriculum, which follow the share of the budget used.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from math import isfinite, log
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from git_starcoder.errors import OutputError, StarcoderError, UsageError
from git_starcoder.evals import documents, sample, surprise
from git_starcoder.model import curve
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.load import SCHEMA, TRAINING, fresh, save
from git_starcoder.model.network import pieces
from git_starcoder.model.optimise import Optimiser, Settings
from git_starcoder.model.plan import Plan
from git_starcoder.publish import Kind, whole
from git_starcoder.seams import SILENT, Watch
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from git_starcoder.dataset import Dataset
    from git_starcoder.evals import Document
    from git_starcoder.model.network import Network

Order = Literal["curriculum", "shuffled"]
METRICS = "metrics.jsonl"
ENDLESS = 1 << 30
"""Steps of the plan where the budget is time: more than there will be."""
HELD_OUT = 12_288
"""Tokens of the validation split that are asked about while training."""
LOOKS = 12
"""How often they are, in a whole budget."""
PATIENCE = 3
"""Looks without a better one after which training ends,"""
TURNED = 1.02
"""if the last is worse than the best by this factor."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training."""

    folder: Path
    steps: int
    rows: int
    tokens: int
    """Tokens that were predicted."""
    seconds: float
    loss: float
    """Bits per token of the last steps."""
    held_out: float | None
    """Bits per byte of the validation sample with the weights that were kept; None without a validation split."""
    stopped: str
    """`budget`, or `held-out loss turned`."""


def train(
    dataset: Dataset,
    out: str | Path,
    *,
    minutes: float = 8.0,
    steps: int | None = None,
    size: str = "tiny",
    seed: int = 0,
    settings: Settings | None = None,
    order: Order | None = None,
    watch: Watch = SILENT,
    force: bool = False,
) -> TrainResult:
    """Train a model of a size on the training split and write its folder, which appears whole or not at all.

    `minutes` is the budget, reading the rows included, unless `steps` is given. One step is made in any case. The
    weights that are kept are those that did best on a fixed sample of the `base` text of the validation split, which
    decides nothing else. `order` is what the dataset says, or `shuffled`: all rows are drawn from all the time, also
    where there is a curriculum. That is the control for it.

    Raises:
        UsageError: a budget or a size that cannot be, or a curriculum that the dataset does not have.
        DatasetError: no training rows, or a damaged dataset.
        OutputError: the folder cannot be written, or exists (unless it is a model and `force` is given).
        MissingExtraError: torch, transformers or matplotlib is not installed.
        StarcoderError: the loss is not a number any more.

    """
    if (minutes if steps is None else steps) <= 0:
        raise UsageError("a budget must be above 0", where="--minutes" if steps is None else "--steps")
    ordered = dataset.metadata.get("learning_strategy") == "curriculum"
    if order == "curriculum" and not ordered:
        hint = "build it with --set order.by=curriculum"
        raise UsageError("the dataset has no curriculum", where="--order", hint=hint)
    entered = time.perf_counter()
    settings = settings or Settings()
    tokenizer = tokenizers.load(dataset.tokenizer_folder)

    def finished(model: Path) -> None:
        if not force:
            raise OutputError(f"'{model}' holds a model", where="--out", hint="--force replaces it")

    with whole(Path(out), Kind("model", "training", TRAINING), finished) as (folder, _):
        corpus = Corpus.read(dataset, tokenizer)
        plan = Plan(
            corpus.keys,
            corpus.lengths,
            corpus.weights,
            seed,
            settings.batch,
            ENDLESS if steps is None else steps,
            curriculum=ordered and order != "shuffled",
        )
        network = fresh(size, tokenizer, int(dataset.metadata["max_tokens_per_sequence"]), seed)
        held_out = sample(documents(dataset, "val"), HELD_OUT, seed)
        if not held_out:
            watch.note("no held-out text: the last weights are kept, whatever they are worth")
        sizes = [len(tokenizer.decode(each.tokens[each.tokens != tokenizer.end])) for each in held_out]
        run = _Run(network, plan, corpus, settings, held_out, sum(sizes), watch)
        metrics = run.go(max(1e-6, minutes * 60 - (time.perf_counter() - entered)), steps)
        result = run.result(Path(out))
        save(network, dataset.tokenizer_folder, folder)
        (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in metrics), encoding="utf-8")
        curve.draw(metrics, folder / "loss_curve.png")
        record = {
            "schema": SCHEMA,
            "dataset": dataset.digest,
            "plan": plan.sha,
            "order": "curriculum" if plan.curriculum else "shuffled",
            "size": size,
            "seed": seed,
            "budget": {"steps": steps} if steps is not None else {"minutes": minutes},
            "settings": asdict(settings),
            "parameters": sum(weight.numel() for weight in network.model.parameters()),
            "device": network.device,
            "precision": network.precision,
            "versions": _versions(),
            "result": {key: value for key, value in asdict(result).items() if key != "folder"},
        }
        (folder / TRAINING).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return result


class _Run:
    """One training in progress."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        corpus: Corpus,
        settings: Settings,
        held_out: list[Document],
        held_out_bytes: int,
        watch: Watch,
    ) -> None:
        self.network = network
        self.plan = plan
        self.corpus = corpus
        self.given = corpus.given
        self.held_out = held_out
        self.held_out_bytes = held_out_bytes
        self.watch = watch
        self.optimiser = Optimiser(network, settings)
        self.step = self.rows = self.tokens = 0
        self.seconds = 0.0
        self.recent: list[float] = []
        self.best: float | None = None
        self.best_weights: dict[str, Any] = {}
        self.worse = 0
        self.stopped = "budget"

    def go(self, seconds: float, steps: int | None) -> list[dict[str, float]]:
        """Step until the budget is used up; returns the metrics, one line per step and per look."""
        stages = [self.plan.begin(stage.begin) for stage in self.plan.stages]
        metrics: list[dict[str, float]] = []
        looks = 0
        total = steps if steps is not None else max(1, round(seconds))
        self.watch.begin("train", total)
        begun = time.perf_counter()
        used = told = 0.0
        while used < 1.0:
            loss, rate = self.learn(next(stages[int(used * len(stages))]).rows, used)
            self.seconds = time.perf_counter() - begun
            used = self.step / steps if steps is not None else self.seconds / seconds
            metrics.append({"step": self.step, "seconds": round(self.seconds, 3), "tokens": self.tokens,
                            "loss": loss, "learning_rate": rate})  # fmt: skip
            now = min(total, int(used * total))
            self.watch.advance(int(now - told))
            told = now
            if int(used * LOOKS) > looks or used >= 1.0:
                looks = int(used * LOOKS)
                value = self.look(used)
                if value is not None:
                    metrics.append({"step": self.step, "seconds": round(self.seconds, 3), "held_out": value})
                if self.worse >= PATIENCE and value is not None and value > TURNED * (self.best or value):
                    self.stopped = "held-out loss turned"
                    break
        if self.best_weights:
            self.network.model.load_state_dict(self.best_weights)
        self.watch.end("train", self.seconds, self.rows, self.rows, {})
        return metrics

    def learn(self, batch: np.ndarray[Any, Any], used: float) -> tuple[float, float]:
        """One step; gives its loss in bits per token and its learning rate."""
        rows = [self.corpus.row(index) for index in batch.tolist()]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        given = self.given[batch]
        targets = int((lengths - given).sum())
        self.network.model.train()
        nats = 0.0
        for piece in pieces(lengths):
            loss = self.network.loss([rows[index] for index in piece], given[piece]).sum() / max(1, targets)
            loss.backward()
            nats += float(loss.detach())
        self.step += 1
        if not isfinite(nats):
            hint = "a smaller learning rate may help; if not, this is our bug"
            raise StarcoderError(f"the loss is {nats} at step {self.step}", where="train", hint=hint)
        rate = self.optimiser.step(used)
        self.rows += len(rows)
        self.tokens += targets
        self.recent = [*self.recent[-19:], nats / log(2)]
        return nats / log(2), rate

    def look(self, used: float) -> float | None:
        """Ask about the held-out sample, keep the best weights, and tell."""
        value = None
        if self.held_out_bytes:
            bits = surprise(self.network, self.held_out, self.network.end, parts=2).sum()
            value = float(bits) / self.held_out_bytes
            self.worse += 1
            if self.best is None or value < self.best:
                self.best, self.worse = value, 0
                weights = self.network.model.state_dict().items()
                self.best_weights = {name: weight.detach().clone() for name, weight in weights}
        held_out = f"held-out {value:.3f} bits/byte · " if value is not None else ""
        left = self.seconds / used * max(0.0, 1.0 - used)
        self.watch.note(
            f"step {self.step} · {self.tokens / self.seconds:,.0f} tokens/s · "
            f"loss {np.mean(self.recent):.2f} bits/token · {held_out}{int(left) // 60}:{int(left) % 60:02} left"
        )
        return value

    def result(self, folder: Path) -> TrainResult:
        """What came of it."""
        loss = float(np.mean(self.recent))
        return TrainResult(folder, self.step, self.rows, self.tokens, self.seconds, loss, self.best, self.stopped)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "transformers", "numpy")}}
