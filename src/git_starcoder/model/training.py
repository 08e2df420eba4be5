"""Trains a model on the rows of a dataset. The same command resumes a training that was interrupted.

A training with a budget of steps, epochs or tokens gives the same weights on the same machine, interrupted or not. With
a budget of time it does not: how many steps are planned, and whether the clock ends it earlier, depends on the machine.
"""

from __future__ import annotations

import json
import platform
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

import numpy as np

from git_starcoder import user_paths
from git_starcoder.bases import find_base
from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import draw_documents, load_documents
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import OutputError, UsageError
from git_starcoder.machine import limit_library_threads
from git_starcoder.model.adapters import merge_published_adapters
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.base_model import BaseModel
from git_starcoder.model.building import build_network
from git_starcoder.model.card import CARD_FILE, render_card
from git_starcoder.model.checkpoint import (
    LOCK_FILE,
    METRICS_FILE,
    MetricsLog,
    checkpoint_folder,
    clear_folder,
    draw_loss_curve,
    load_checkpoint,
    load_newest_checkpoint,
    locked_checkpoint_folder,
)
from git_starcoder.model.config import BUDGET_KEYS, DEFAULT_FIM_SHARE, Precision, TrainConfig, own_base_rate
from git_starcoder.model.continuation import copy_serving_choice
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.devices import best_device, best_precision, import_libraries
from git_starcoder.model.evaluate import SCORES_FILE, SCORES_SCHEMA
from git_starcoder.model.extras import require_libraries
from git_starcoder.model.loading import (
    MODEL_SCHEMA,
    SERVING_FILE,
    SERVING_SCHEMA,
    TRAINING_RECORD,
    read_training_record,
    save_model,
    saved_number_type,
)
from git_starcoder.model.loop import VALIDATION_COUNT, TrainingLoop, ValidationSet
from git_starcoder.model.optimizer import StepRunner
from git_starcoder.model.packing import FIM_TOKEN_COUNT
from git_starcoder.model.plan import TrainingPlan, budget_steps, epoch_steps
from git_starcoder.model.preflight import choose_recomputation, raise_if_wrong, run_preflight, search_batch_size
from git_starcoder.model.processes import connect_processes
from git_starcoder.model.weight_files import MODEL_CONFIG
from git_starcoder.model.with_context import (
    CONTEXT_FOLDER,
    NetworkWithContext,
    add_contexts,
    repository_context,
    training_context,
)
from git_starcoder.model.with_memory import MEMORY_FOLDER, add_memory
from git_starcoder.output.contents import OutputKind, describe_files
from git_starcoder.output.folder import atomic_folder
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.user_paths import is_utf8_path

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset
    from git_starcoder.memory.repository_memory import RepositoryMemory
    from git_starcoder.model.checkpoint import Checkpoint
    from git_starcoder.model.context import ContextComposer
    from git_starcoder.model.continuation import Continuation
    from git_starcoder.model.network import Network
    from git_starcoder.model.processes import ProcessGroup
    from git_starcoder.protocols import Engine
    from git_starcoder.text.tokenizer import Tokenizer

DEFAULT_MINUTES = 8.0
"""The budget if the config has none."""
CONFIG_FILE = "training.yaml"
"""The config of a model with what was measured, for `--config`. If the budget was a time, it has the steps instead.

It gives the same weights on the same machine, unless the clock had cut the training short.
"""
LOSS_CURVE_FILE = "loss_curve.png"
LATE_FILES = {SCORES_FILE: SCORES_SCHEMA, SERVING_FILE: SERVING_SCHEMA}
"""Files that are added to a model after its training, and their schemas."""
MODEL_KIND = OutputKind(
    "model",
    "training",
    TRAINING_RECORD,
    MODEL_SCHEMA.rstrip("0123456789"),
    frozenset({
        TRAINING_RECORD, CONFIG_FILE, METRICS_FILE, LOSS_CURVE_FILE, CARD_FILE, "config.json",
        "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }),
    {name: schema.rstrip("0123456789") for name, schema in LATE_FILES.items()},
)  # fmt: skip
VALIDATION_SHARE = 0.15
"""Share of the budget that validations may take, of its time or of its computation."""
READING_COST = 1 / 3
"""The computation of reading a token, as a share of that of training on it, which has a backward pass, too."""
FEW_STEPS = 10
"""If the time suffices for fewer steps, a note says so."""
VALIDATION_TOKENS = 12_288
"""Tokens of the val split that are used for validation."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a training. The names, except `folder`, are keys of `training.json`."""

    folder: Path
    """The model folder."""
    steps: int
    rows: int
    tokens: int
    """Tokens that were predicted."""
    seconds: float
    loss: float
    """Mean training loss of the last steps in bits per token."""
    held_out: float | None
    """Bits per byte of the validation text with the weights that were kept; None without a val split."""
    kept_step: int
    """The step after which the weights were those that were kept; 0 if training started from them."""
    stopped: str
    """Why training ended: `budget`, or `validation loss rose` if the model overfitted."""


def train(
    dataset: Dataset,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    progress: Progress = NO_PROGRESS,
    force: bool = False,
    fresh: bool = False,
    continuation: Continuation | None = None,
    with_memory: bool = True,
) -> TrainResult:
    """Train a model on the training split of a dataset.

    The model folder appears complete or not at all. Until then, a hidden folder beside it has checkpoints. If that has
    checkpoints of the same training, training resumes from the newest one.

    The saved weights are those with the lowest loss on a fixed sample of the `base` text of the val split. Under
    `torchrun`, each process calls this function with the same arguments, and only the first one writes. Files that the
    base of the config has read are no held-out text, so the sample does not have them.

    Args:
        dataset: The dataset to train on.
        out: The model folder to write.
        config: The training keys. By default, the smallest model is trained from scratch for 8 minutes.
        progress: Receives the progress of the training.
        force: Whether an existing model in `out` is replaced.
        fresh: Whether training starts from the beginning, even if there are checkpoints.
        continuation: The model that training goes on from, and the rows that it has read. It may be that in `out`.
        with_memory: Whether the model gets a memory of the repository. Its gates are trained on the val split.

    Raises:
        UsageError: The config cannot be used with this dataset, or the checkpoints are of another training.
        DatasetError: There are no training rows, or the dataset or the base model is damaged.
        OutputError: The folder cannot be written, or it exists (and is not a model, or `force` is not given).
        MissingExtraError: torch, transformers, matplotlib or another library that the config needs is not installed.
        StarcoderError: The loss is not finite, memory does not suffice, or another process has ended.
    """
    start_time = time.perf_counter()  # a time budget includes reading the rows
    config = config or TrainConfig()
    out = Path(out)
    if config.tensorboard and not is_utf8_path(out):
        hint = "rename the folder, or use a link with another name"
        raise UsageError(f"'{out}' is not UTF-8, and TensorBoard takes no other names", where="--out", hint=hint)
    user_paths.require_matplotlib("train")  # better to fail now than after all the work
    is_curriculum = follows_curriculum(dataset, config)
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    config = resolve_fim(config, dataset, tokenizer)

    def refuse_existing(model: Path) -> None:
        if not force:
            raise OutputError(f"'{model}' holds a model", where="--out", hint="--force replaces it")

    device, folder = config.device or best_device(), checkpoint_folder(out)
    require_libraries(config, device)
    if config.base is not None and find_base(config.base) is None:
        BaseModel.open(config.base)  # what is wrong with it is said before any work
    with connect_processes(device) as processes, _deterministic_torch(device), ExitStack() as stack:
        progress = progress if processes.is_first else NO_PROGRESS
        engine = stack.enter_context(LocalEngine(1)) if config.fim else None
        if continuation is not None:  # what the base of the model has read, and not that it is a model
            lineage = BaseLineage.of_model(continuation.model, dict(continuation.record))
        else:
            lineage = None if config.base is None else BaseLineage.trace(config.base, dataset.digest)
        settings = (
            config,
            tokenizer,
            device,
            processes,
            progress,
            start_time,
            is_curriculum,
            with_memory,
            engine,
            lineage,
            continuation,
        )
        run = _TrainingRun(dataset, out, folder, *settings)
        if not processes.is_first:
            loop = run.finished_loop()
            if loop.network.sharded_model:
                run.gather_model(loop)
            return run.result(loop)
        stack.enter_context(locked_checkpoint_folder(out, fresh=fresh))
        with atomic_folder(out, MODEL_KIND, refuse_existing, force=force) as (model_folder, _):
            loop = run.finished_loop()
            run.publish(loop, model_folder)
        if config.merge:
            _merge(out, loop)
        clear_folder(folder)
    return run.result(loop)


def _merge(out: Path, loop: TrainingLoop) -> None:
    """Replace a model that has adapters by one that has the merged weights, too."""
    number_type = json.loads((out / MODEL_CONFIG).read_text(encoding="utf-8"))["dtype"]
    loop.network.model = loop.network.adapter = None  # the weights are read from the disk, and need the memory
    with atomic_folder(out, MODEL_KIND, lambda _: None, force=True) as (folder, _):
        merge_published_adapters(out, folder, number_type)
        record = read_training_record(folder)
        record["files"] = {name: each for name, each in describe_files(folder).items() if name != TRAINING_RECORD}
        (folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def follows_curriculum(dataset: Dataset, config: TrainConfig) -> bool:
    """Whether training follows the curriculum of the dataset. A config that wants it needs a dataset that has one."""
    has_curriculum = dataset.metadata.get("learning_strategy") == "curriculum"
    if config.order == "curriculum" and not has_curriculum:
        hint = "build it with --set order.by=curriculum"
        raise UsageError("the dataset has no curriculum", where="--order", hint=hint)
    return has_curriculum and config.order != "shuffled"


def resolve_fim(config: TrainConfig, dataset: Dataset, tokenizer: Tokenizer) -> TrainConfig:
    """The config with the share of fill-in-the-middle rows that this dataset has by default."""
    if config.fim is not None:
        return config
    is_natural = "repository" in dataset.metadata and tokenizer.fim_ids is not None
    return replace(config, fim=DEFAULT_FIM_SHARE if is_natural else 0.0)


def resolve_rates(config: TrainConfig, corpus: Corpus) -> TrainConfig:
    """The config with the learning rate that suits the dataset, and the weight decay that follows from `decay_epochs`.

    Decay multiplies a weight by 1 - rate * decay in every step, so it is 1/e after 1 / (rate * decay) steps.
    """
    if config.learning_rate is None:
        size = min(float(corpus.weights @ corpus.lengths), corpus.text_token_count or inf)
        config = replace(config, learning_rate=own_base_rate(size))
    if config.decay_epochs is None:
        return config
    decay_steps = config.decay_epochs * epoch_steps(config, corpus)
    return replace(config, weight_decay=1 / (config.peak_rate * decay_steps))


def read_corpus(
    dataset: Dataset,
    config: TrainConfig,
    tokenizer: Tokenizer,
    engine: Engine | None = None,
    continuation: Continuation | None = None,
) -> tuple[Corpus, ContextComposer | None]:
    """Read the training rows, with the contexts that the config wants, and return what composes them, if anything."""
    corpus = Corpus.read(dataset, tokenizer, engine)
    if continuation is not None:
        corpus = continuation.weigh(corpus, dataset)
    if not config.context_tokens:
        return corpus, None
    composer = training_context(dataset, tokenizer)
    return add_contexts(corpus, composer, dataset, config), composer


def build_network_for(
    dataset: Dataset,
    config: TrainConfig,
    tokenizer: Tokenizer,
    processes: ProcessGroup | None = None,
    start: Path | None = None,
) -> Network:
    """Build the network of a config with a context that fits the rows of a dataset. Raises the errors of `train`."""
    # A fill-in-the-middle row has additional control tokens.
    row_tokens = int(dataset.metadata["max_tokens_per_sequence"]) + (FIM_TOKEN_COUNT if config.fim else 0)
    return build_network(config, tokenizer, row_tokens + config.context_tokens, processes, start)


@dataclass(frozen=True)
class _TrainingRun:
    """One call of `train`: `finished_loop` trains, and `publish` writes the model."""

    dataset: Dataset
    out: Path
    folder: Path
    """The folder of the checkpoints."""
    config: TrainConfig
    tokenizer: Tokenizer
    device: str
    processes: ProcessGroup
    progress: Progress
    start_time: float
    is_curriculum: bool
    with_memory: bool
    engine: Engine | None
    """Where rows are parsed; None if they need not be."""
    lineage: BaseLineage | None
    """What training starts from; None from scratch."""
    continuation: Continuation | None = None
    """The model that training goes on from, if it does."""

    def finished_loop(self) -> TrainingLoop:
        """Run the training loop, from the first step or from the newest checkpoint."""
        config, processes = self.config, self.processes
        corpus, composer = read_corpus(self.dataset, config, self.tokenizer, self.engine, self.continuation)
        config = resolve_rates(config, corpus)
        checkpoint = self._find_checkpoint()
        config = replace(config, precision=checkpoint.values["precision"] if checkpoint else self._agreed_precision())
        start = None if self.continuation is None else self.continuation.model
        network = build_network_for(self.dataset, config, self.tokenizer, processes, start)
        if processes.local_world_size > 1:
            network.torch.set_num_threads(max(1, limit_library_threads() // processes.local_world_size))
        reader = network if composer is None else NetworkWithContext(network, composer, config.context_tokens)
        validation_set = self._sample_validation_set(reader)
        choose_recomputation(corpus, network, config, processes)
        for note in network.notes:
            self.progress.note(note)
        if not checkpoint and (processes.is_first or network.sharded_model):
            checked = (self.dataset, corpus, network, self.tokenizer, config, self.out, processes.world_size)
            for result in run_preflight(*checked):
                if raise_if_wrong(result).result == "note":
                    self.progress.note(f"{result.what}: {result.figure}")
        runner = StepRunner(network, corpus, config, processes)
        if checkpoint:
            values = checkpoint.values
            steps, time_limit, validation_set.validation_count = (values[key] for key in ("steps", "limit", "looks"))
            runner.micro_batch_tokens = values["micro_batch"]
            if values["processes"] != processes.world_size:  # another number of micro-batches shares a step evenly
                search_batch_size(runner, is_curriculum=self.is_curriculum, seconds=None)
        else:
            steps, time_limit = self._plan_budget(runner, validation_set)
        plan = TrainingPlan.build(corpus, config, steps, is_curriculum=self.is_curriculum)
        if checkpoint and checkpoint.values["plan"] != plan.digest:
            self._refuse_checkpoint("plan of the rows")
        metrics = None
        if processes.is_first:
            size, step = (checkpoint.values["metrics"], checkpoint.step) if checkpoint else (0, 0)
            metrics = MetricsLog(self.folder, size=size, step=step, tensorboard=config.tensorboard)
        values = {
            **self._identity(),
            "plan": plan.digest,
            "steps": steps,
            "limit": time_limit,
            "precision": network.precision,
            "looks": validation_set.validation_count,
            "processes": processes.world_size,
        }
        loop = TrainingLoop(runner, plan, time_limit, validation_set, metrics, self.folder, values, self.progress)
        if checkpoint:
            loop.restore(checkpoint)
            self.progress.note(f"resuming after step {checkpoint.step:,} of {steps:,}; use --fresh to start over")
        loop.run(is_trained=config.base is not None or self.continuation is not None)
        return loop

    def _sample_validation_set(self, model: Network | NetworkWithContext) -> ValidationSet:
        held_out = load_documents(self.dataset, "val")
        unread = drop_read(held_out, self.lineage.blobs if self.lineage else None)
        if len(unread) < len(held_out):
            count, kept = (len({document.path for document in texts}) for texts in (held_out, unread))
            self.progress.note(f"the base has read {count - kept} of {count} val files, which are left out")
        texts = draw_documents(unread, VALIDATION_TOKENS)
        if not texts:
            self.progress.note("no held-out text: the weights of the last step are kept, however good they are")
        end = self.tokenizer.end_id
        byte_count = sum(len(self.tokenizer.decode(text.scored[text.scored != end])) for text in texts)
        return ValidationSet(model, texts, byte_count)

    def _agreed_precision(self) -> Precision:
        """The precision of the config, or the one that the first process finds faster."""
        if self.config.precision:
            return self.config.precision
        choices: tuple[Precision, ...] = get_args(Precision)
        (index,) = self.processes.broadcast([choices.index(best_precision(self.device))])
        precision = choices[int(index)]
        # A process that sees an overflow in its part of a gradient would have to tell the others.
        return "float32" if precision == "float16" and self.config.shard else precision

    def _identity(self) -> dict[str, str]:
        """What a checkpoint must have in common with this training."""
        identity = {"dataset": self.dataset.digest, "config": self.config.fingerprint()}
        return identity | ({} if self.continuation is None else {"model": self.continuation.digest})

    def _find_checkpoint(self) -> Checkpoint | None:
        """Load the newest valid checkpoint, the same in all processes. One of another training is an error."""
        checkpoint = None
        if self.processes.is_first and (checkpoint := load_newest_checkpoint(self.folder, self.progress.note)):
            different = [key for key, value in self._identity().items() if checkpoint.values.get(key) != value]
            if different and self.continuation is None:
                self._refuse_checkpoint(different[0])
            if different:  # an interrupted update to another commit, or with another budget: nobody will finish it
                self.progress.note(f"checkpoints of another update are removed: its {different[0]} differs")
                clear_folder(self.folder, except_names=(LOCK_FILE,))
                checkpoint = None
        (step,) = map(int, self.processes.broadcast([checkpoint.step if checkpoint else -1]))
        if self.processes.is_first or step < 0:
            return checkpoint
        return load_checkpoint(self.folder, step)

    def _refuse_checkpoint(self, difference: str) -> NoReturn:
        what = f"the checkpoints beside '{self.out}' are of another training: its {difference} differs"
        raise UsageError(what, where=str(self.folder), hint="--fresh removes them and starts over")

    def _plan_budget(self, runner: StepRunner, validation_set: ValidationSet) -> tuple[int, float | None]:
        """Search the batch size, and determine the number of steps, and the seconds if the budget is a time.

        This also limits the number of validations.
        """
        config = self.config
        steps = budget_steps(config, runner.corpus)
        if steps:
            # 50 steps of 2,048 tokens cost as much as reading 307,200. 15 % of these are 3 readings of 12,288 tokens.
            affordable = VALIDATION_SHARE * steps * config.batch / (READING_COST * max(1, validation_set.token_count))
            validation_set.validation_count = max(1, min(VALIDATION_COUNT, int(affordable)))
            search_batch_size(runner, is_curriculum=self.is_curriculum, seconds=None)
            return steps, None

        def seconds_left() -> float:
            return max(1e-3, 60 * (config.minutes or DEFAULT_MINUTES) - (time.perf_counter() - self.start_time))

        seconds = seconds_left()
        is_reader = bool(validation_set.byte_count and (self.processes.is_first or runner.network.sharded_model))
        if is_reader and runner.network.is_compiled:
            validation_set.measure()  # which compiles it
        start = time.perf_counter()
        if is_reader:
            validation_set.measure()
        (validation_seconds,) = self.processes.broadcast([time.perf_counter() - start])
        affordable = int(VALIDATION_SHARE * seconds / validation_seconds)
        validation_set.validation_count = max(1, min(VALIDATION_COUNT, affordable))
        training_seconds = max(1e-3, seconds_left() - validation_set.validation_count * validation_seconds)
        steps = search_batch_size(runner, is_curriculum=self.is_curriculum, seconds=training_seconds) or 1
        if steps < FEW_STEPS:
            what = f"the time suffices for {steps} step{'s' * (steps > 1)}, which change the model little"
            self.progress.note(f"{what}: give it more minutes")
        return steps, seconds_left()

    def result(self, loop: TrainingLoop) -> TrainResult:
        """The result of a finished loop."""
        state = loop.state
        counts = state.step, state.rows, state.tokens, state.seconds
        loss = float(np.mean(state.recent_losses))
        return TrainResult(self.out, *counts, loss, loop.lowest_loss, loop.kept_step, state.stop_reason)

    def gather_model(self, loop: TrainingLoop) -> RepositoryMemory | None:
        """Make the memory for a trained network, which has all weights on the CPU of the first process afterwards.

        If the weights are sharded, all processes have to do this together. Returns None if no memory is wanted.
        """
        memory = None
        if self.with_memory:
            blobs = self.lineage.blobs if self.lineage else None
            memory = add_memory(loop.validation_set.model, self.dataset, self.tokenizer, blobs, self.progress)
        if loop.network.sharded_model:
            loop.network.sharded_model.gather(keep=self.processes.is_first)
        return memory

    def publish(self, loop: TrainingLoop, folder: Path) -> None:
        """Write the model of a finished loop, and what is known about its training, into a folder."""
        network, config = loop.network, loop.config
        if memory := self.gather_model(loop):
            memory.save(folder / MEMORY_FOLDER)
        if config.context_tokens:
            repository_context(self.dataset, self.tokenizer).save(folder / CONTEXT_FOLDER)
        if self.lineage:
            self.lineage.save(folder)
        save_model(network, self.dataset.tokenizer_folder, folder, saved_number_type(config))
        if loop.metrics:
            loop.metrics.copy_to(folder)
            draw_loss_curve(loop.metrics.lines, folder / LOSS_CURVE_FILE)
        values = asdict(config)
        budget = {key: values[key] for key in BUDGET_KEYS if values[key] is not None}
        versions = {name: version(name) for name in ("torch", "transformers", "numpy")}
        measured = {"precision": network.precision, "micro_batch": loop.step_runner.micro_batch_tokens}
        steps = {} if loop.time_limit is None else {"minutes": None, "steps": loop.plan.step_count}
        record = {
            "schema": MODEL_SCHEMA,
            "dataset": self.dataset.digest,
            "commit": self.dataset.training_commit,
            "plan": loop.plan.digest,
            "steps": loop.plan.step_count,
            "order": "curriculum" if self.is_curriculum else "shuffled",
            "size": config.size if config.base is None else config.base,
            "base": self.lineage.as_values() if self.lineage else None,
            "seed": config.seed,
            "repository": self.dataset.metadata.get("repository"),
            "budget": budget or {"minutes": DEFAULT_MINUTES},
            "config": {**values, "micro_batch": measured["micro_batch"]},
            "parameters": sum(weight.numel() for weight in network.model.parameters()),
            "device": network.device,
            "precision": network.precision,
            "processes": self.processes.world_size,
            "versions": {"python": platform.python_version(), **versions},
            "ledger": loop.token_counter.close().as_values(),
            "result": {key: value for key, value in asdict(self.result(loop)).items() if key != "folder"},
        }
        (folder / CONFIG_FILE).write_text(replace(config, **measured, **steps).to_yaml(), encoding="utf-8")
        (folder / CARD_FILE).write_text(render_card(record, self.lineage), encoding="utf-8")
        if self.continuation is not None:
            record["updates"] = [*self.continuation.record.get("updates", []), {"tokens": loop.state.tokens}]
        record["files"] = describe_files(folder)
        (folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if self.continuation is not None:
            copy_serving_choice(self.continuation.model, folder)


@contextmanager
def _deterministic_torch(device: str) -> Generator[None]:
    """Let torch compute the same every time on a CPU, where that costs nothing, until the context ends."""
    torch, _ = import_libraries()
    memory = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # it takes time, and we read no uninitialized memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]
