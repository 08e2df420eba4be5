"""Train a model on the rows of a dataset, as a config says. The same command goes on where a killed one was.

A training with a budget of steps, epochs or tokens gives the same weights again on the same machine, killed or not. One
with a budget of time does not: how many steps it plans, and whether the clock ends it before, depends on the machine.
"""

from __future__ import annotations

import json
import platform
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder import pictures
from git_starcoder.dataset.held_out import draw_documents, load_documents
from git_starcoder.errors import OutputError, UsageError
from git_starcoder.machine import threads
from git_starcoder.model import checkpoint, curve, load
from git_starcoder.model.config import Config
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.distributed import joined
from git_starcoder.model.evaluate import SCHEMA as SCORED
from git_starcoder.model.evaluate import SCORES
from git_starcoder.model.learner import Learner
from git_starcoder.model.load import SCHEMA, TRAINING, save
from git_starcoder.model.loop import LOOKS, Exam, Loop
from git_starcoder.model.metrics import METRICS, Metrics
from git_starcoder.model.network import device as best_device
from git_starcoder.model.network import libraries
from git_starcoder.model.pack import MARKS
from git_starcoder.model.plan import Plan, steps_of
from git_starcoder.model.preflight import examine, require
from git_starcoder.model.trial import trial
from git_starcoder.output import Kind, listing
from git_starcoder.places import is_utf8
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.publish import whole
from git_starcoder.scoring import document_bits
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.checkpoint import Checkpoint
    from git_starcoder.model.distributed import Processes
    from git_starcoder.model.network import Network
    from git_starcoder.text.tokenizer import Tokenizer

MINUTES = 8.0
"""The budget where none is given."""
CONFIG = "training.yaml"
"""The config of a model with what was measured: `--config` takes it, and gives the same weights on the same machine."""
CURVE = "loss_curve.png"
KIND = Kind(
    "model",
    "training",
    TRAINING,
    SCHEMA.rstrip("0123456789"),
    frozenset({
        TRAINING, CONFIG, METRICS, CURVE, "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }),
    {SCORES: SCORED.rstrip("0123456789")},
)  # fmt: skip
LOOKING = 0.15
"""Of a budget of time, what looks at held-out text may take."""
HELD_OUT = 12_288
"""Tokens of the validation split that are asked about while training."""


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
    config: Config | None = None,
    *,
    progress: Progress = NO_PROGRESS,
    force: bool = False,
    fresh: bool = False,
) -> TrainResult:
    """Train on the training split as the config says and write the model's folder, which appears whole or not at all.

    Until then a hidden folder beside it holds checkpoints. If there is one of the same training, this goes on from it,
    unless `fresh` is set. The weights that are kept are those that did best on a fixed sample of the `base` text of the
    validation split, which decides nothing else. A budget of time includes reading the rows.

    Under `torchrun`, each process calls this with the same arguments, and the first one alone writes.

    Raises:
        UsageError: a config that cannot be, a curriculum that the dataset does not have, or checkpoints of another
            training.
        DatasetError: no training rows, or a damaged dataset or base.
        OutputError: a folder cannot be written, or exists (unless it is a model and `force` is given).
        MissingExtraError: torch, transformers, matplotlib or another library that the config needs is not installed.
        StarcoderError: the loss is not a number any more, memory does not suffice, or another process has ended.

    """
    entered = time.perf_counter()
    config = config or Config()
    if config.tensorboard and not is_utf8(Path(out)):
        hint = "give the folder, or a link to it, another name"
        raise UsageError(f"'{out}' is not UTF-8, and TensorBoard takes no other names", where="--out", hint=hint)
    pictures.require("train")  # missing, it should be missed now and not after all the work
    staged = curriculum(dataset, config)
    out = Path(out)
    tokenizer = tokenizers.load(dataset.tokenizer_folder)

    def finished(model: Path) -> None:
        if not force:
            raise OutputError(f"'{model}' holds a model", where="--out", hint="--force replaces it")

    with joined(config.device or best_device()) as processes, _exact(config), ExitStack() as held:
        training = _Training(dataset, out, config, tokenizer, processes, progress, entered, staged=staged)
        if not processes.first:
            training.run()
            return training.result()
        folder = held.enter_context(checkpoint.kept(out, fresh=fresh))
        with whole(out, KIND, finished, force=force) as (model, _):
            training.run()
            training.publish(model)
        checkpoint.clear(folder)
    return training.result()


def curriculum(dataset: Dataset, config: Config) -> bool:
    """Whether a training follows a curriculum.

    Raises:
        UsageError: it is to, but the dataset has none.

    """
    ordered = dataset.metadata.get("learning_strategy") == "curriculum"
    if config.order == "curriculum" and not ordered:
        hint = "build it with --set order.by=curriculum"
        raise UsageError("the dataset has no curriculum", where="--order", hint=hint)
    return ordered and config.order != "shuffled"


def made(dataset: Dataset, config: Config, tokenizer: Tokenizer) -> Network:
    """The network that a config says, untrained or as its base is, for the rows of a dataset.

    Raises:
        UsageError, DatasetError, MissingExtraError: as `train`.

    """
    # A row whose middle is to be filled in has control tokens more.
    context = int(dataset.metadata["max_tokens_per_sequence"]) + (MARKS if config.fim else 0)
    return load.network(config, tokenizer, context)


class _Training:
    """What a call of `train` puts together."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        config: Config,
        tokenizer: Tokenizer,
        processes: Processes,
        watch: Progress,
        entered: float,
        *,
        staged: bool,
    ) -> None:
        self.dataset = dataset
        self.out = out
        self.folder = checkpoint.place(out)
        self.config = config
        self.tokenizer = tokenizer
        self.processes = processes
        self.watch = watch if processes.first else NO_PROGRESS
        self.entered = entered
        self.staged = staged

    def run(self) -> None:
        """Train, from the beginning or from the newest checkpoint."""
        config, processes, watch = self.config, self.processes, self.watch
        corpus = Corpus.read(self.dataset, self.tokenizer)
        found = self.found()
        if found:  # what was measured stays
            config = config.model_copy(update={"precision": found.values["precision"]})
        network = made(self.dataset, config, self.tokenizer)
        if processes.beside > 1:
            network.torch.set_num_threads(max(1, threads() // processes.beside))
        held_out = draw_documents(load_documents(self.dataset, "val"), HELD_OUT, config.seed)
        if not held_out:
            watch.note("no held-out text: the last weights are kept, whatever they are worth")
        decoded = (self.tokenizer.decode(each.tokens[each.tokens != self.tokenizer.end]) for each in held_out)
        exam = Exam(held_out, sum(map(len, decoded)))
        for line in network.notes:
            watch.note(line)
        if processes.first and not found:
            self.examine(corpus, network)
        learner = Learner(network, corpus, config, processes)
        if found:
            steps, limit, exam.looks = (found.values[key] for key in ("steps", "limit", "looks"))
            learner.piece = found.values["piece"]
            if found.values["processes"] != processes.world:  # they share a step in other pieces
                trial(learner, curriculum=self.staged, seconds=None)
        else:
            steps, limit = self.budget(learner, exam)
        self.plan = Plan.of(corpus, config, steps, curriculum=self.staged)
        if found and found.values["plan"] != self.plan.sha:
            self.refuse("plan of the rows")
        metrics = None
        if processes.first:
            size, step = (found.values["metrics"], found.step) if found else (0, 0)
            metrics = Metrics(self.folder, size=size, step=step, tensorboard=config.tensorboard)
        said = {
            **self.identity(),
            "plan": self.plan.sha,
            "steps": steps,
            "limit": limit,
            "precision": network.precision,
            "looks": exam.looks,
            "processes": processes.world,
        }
        self.loop = Loop(learner, self.plan, limit, exam, metrics, self.folder, said, watch)
        if found:
            self.loop.restore(found)
            watch.note(f"going on after step {found.step:,} of {steps:,}; --fresh would begin anew")
        self.loop.go()

    def examine(self, corpus: Corpus, network: Network) -> None:
        """End here if it cannot work."""
        for line in examine(self.dataset, corpus, network, self.tokenizer, self.config, self.out):
            if require(line).result == "note":
                self.watch.note(f"{line.what}: {line.figure}")

    def identity(self) -> dict[str, str]:
        """What a checkpoint must have in common with this training."""
        return {"dataset": self.dataset.digest, "config": self.config.sha()}

    def found(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, which must be of this training."""
        step = -1
        found = None
        if self.processes.first and (found := checkpoint.newest(self.folder, self.watch.note)):
            step = found.step
            for key, value in self.identity().items():
                if found.values[key] != value:
                    self.refuse(key)
        (step,) = map(int, self.processes.told([step]))
        if self.processes.first or step < 0:
            return found
        return checkpoint.at(self.folder, step)

    def refuse(self, what: str) -> None:
        """End because of a checkpoint."""
        what = f"the checkpoints beside '{self.out}' are of another training: its {what} differs"
        raise UsageError(what, where=str(self.folder), hint="--fresh begins anew and removes them")

    def budget(self, learner: Learner, exam: Exam) -> tuple[int, float | None]:
        """Steps, and seconds if they are limited: what is said, or what is found to fit."""
        config = self.config
        steps = steps_of(config, learner.corpus)
        whole = None if steps else 60 * (config.minutes or MINUTES)

        def left() -> float | None:
            return None if whole is None else max(1e-3, whole - (time.perf_counter() - self.entered))

        seconds = left()
        if seconds is not None:
            begun = time.perf_counter()
            if self.processes.first and exam.bytes:
                document_bits(learner.network, exam.documents, learner.network.end, parts=2)
            (looking,) = self.processes.told([time.perf_counter() - begun])
            exam.looks = max(1, min(LOOKS, int(LOOKING * seconds / looking)))
            seconds = max(1e-3, (left() or 0.0) - exam.looks * looking)
        fits = trial(learner, curriculum=self.staged, seconds=seconds)
        return steps or fits or 1, left()

    def result(self) -> TrainResult:
        """What came of it."""
        at = self.loop.at
        loss = float(np.mean(at.recent))
        return TrainResult(self.out, at.step, at.rows, at.tokens, at.seconds, loss, at.best, at.stopped)

    def publish(self, folder: Path) -> None:
        """Fill the folder of the model."""
        loop, network, config = self.loop, self.loop.network, self.config
        save(network, self.dataset.tokenizer_folder, folder)
        if loop.metrics:
            loop.metrics.publish(folder)
            curve.draw(loop.metrics.lines, folder / CURVE)
        values = config.model_dump()
        budget = {key: values[key] for key in ("minutes", "steps", "epochs", "tokens") if values[key] is not None}
        record = {
            "schema": SCHEMA,
            "dataset": self.dataset.digest,
            "plan": self.plan.sha,
            "steps": self.plan.steps,
            "order": "curriculum" if self.staged else "shuffled",
            "size": config.size if config.base is None else config.base,
            "seed": config.seed,
            "budget": budget or {"minutes": MINUTES},
            "config": {**values, "piece": loop.learner.piece},
            "parameters": sum(weight.numel() for weight in network.model.parameters()),
            "device": network.device,
            "precision": network.precision,
            "processes": self.processes.world,
            "versions": _versions(),
            "ledger": loop.tally.close().as_values(),
            "result": {key: value for key, value in asdict(self.result()).items() if key != "folder"},
        }
        measured = {"precision": network.precision, "piece": loop.learner.piece}
        (folder / CONFIG).write_text(config.model_copy(update=measured).yaml(), encoding="utf-8")
        record["files"] = listing(folder)
        (folder / TRAINING).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _exact(config: Config) -> Generator[None]:
    """Within it, torch computes the same again on a processor, where that costs nothing."""
    torch, _ = libraries()
    if (config.device or best_device()) != "cpu":
        yield
        return
    memory = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # it costs, and we read nothing that was not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "transformers", "numpy")}}
