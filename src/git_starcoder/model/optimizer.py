"""One optimizer step: gradients of micro-batches are added up, clipped, and move the weights along a schedule.

`torchrun` starts several processes of one training. All have the same weights and move them by the same gradient, which
is summed over all of them. Only the first process validates, reads the clock, writes files and publishes; it broadcasts
what the others need to know.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from math import cos, pi
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import StarcoderError, UsageError
from git_starcoder.model.muon import Muon
from git_starcoder.model.packing import TILE_TOKENS, max_row_tokens, pack_step, replace_inputs
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.network import Network
    from git_starcoder.model.packing import PackedRows
    from git_starcoder.model.plan import PlannedStep, TrainingPlan

WARMUP_OFFSET = 1e-3
"""Share of the budget that counts as used before the first step of a warmup, so that its learning rate is not 0."""
WSD_DECAY_SHARE = 0.2
"""Share of the budget in which the WSD schedule falls to zero (Hägele et al., 2024)."""
REDUCE_BUCKET_NUMBERS = 1 << 25
"""Numbers that are summed over the processes in one operation; larger buckets would need more memory for their copy."""
RATE_FACTOR = "rate_factor"
"""Key of a group of weights whose learning rate is a multiple of that of the schedule."""
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Environment variables of `torchrun`, in the order of the fields of `ProcessGroup`."""


def learning_rate(config: TrainConfig, budget_used: float) -> float:
    """The learning rate of the schedule when this share of the budget is used."""
    warmup = config.warmup
    if budget_used < warmup:
        share = min(1.0, (budget_used + WARMUP_OFFSET) / warmup)
    else:
        progress = min(1.0, (budget_used - warmup) / (1.0 - warmup))
        shares = {
            "linear": 1.0 - progress,
            "cosine": (1.0 + cos(pi * progress)) / 2,
            "wsd": min(1.0, (1.0 - budget_used) / WSD_DECAY_SHARE),
        }
        share = max(0.0, shares[config.schedule])
    return config.learning_rate * share


class Optimizer:
    """AdamW (Loshchilov and Hutter, 2019), or Muon (Jordan et al., 2024) for inner matrices and AdamW for the rest."""

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self.torch = torch = network.torch
        self.config = config
        self.weights = network.trainable_weights()
        # A step moves only some rows of the embeddings, which are often shared by input and output. They are not
        # decayed: a rare token would forget what it has learned before it occurs again.
        model = network.model
        embeddings = [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
        inner_matrices: list[Any] = []
        other_matrices: list[Any] = []
        undecayed: list[Any] = []
        for name, weight in self.weights.items():
            is_embedding = any(weight is each for each in embeddings) or "trainable_tokens" in name
            if weight.ndim < 2 or is_embedding:
                undecayed.append(weight)
            elif weight.ndim == 2 and config.optimizer == "muon":
                inner_matrices.append(weight)
            else:
                other_matrices.append(weight)
        rate, decay = config.learning_rate, config.weight_decay
        self.optimizers: list[Any] = []
        if inner_matrices:
            # Scaled so that both optimizers move weights equally fast: one learning rate serves both.
            self.optimizers.append(Muon(torch, inner_matrices, network.precision, decay))
        groups = [
            {"params": other_matrices, "weight_decay": decay},
            {"params": undecayed, "weight_decay": 0.0, RATE_FACTOR: config.embedding_rate},
        ]
        if groups := [group for group in groups if group["params"]]:
            self.optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True))

    def update_weights(self, rate: float) -> Any:
        """Move the weights along the clipped gradient and clear it; return the norm it had."""
        norm = self.torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.config.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get(RATE_FACTOR, 1.0)
            optimizer.step()
        self.clear_gradient()
        return norm

    def clear_gradient(self) -> None:
        """Remove the gradient."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Any]:
        """All tensors of the state, by `name of the weight/name of the tensor`."""
        states = {weight: state for optimizer in self.optimizers for weight, state in optimizer.state.items()}
        named = [(name, states.get(weight, {})) for name, weight in self.weights.items()]
        return {f"{name}/{key}": tensor for name, state in named for key, tensor in state.items()}

    def restore_state(self, tensors: Mapping[str, Any]) -> None:
        """Restore what `state_tensors` returned."""
        groups = [(optimizer, group) for optimizer in self.optimizers for group in optimizer.param_groups]
        owners = {weight: optimizer for optimizer, group in groups for weight in group["params"]}
        for path, tensor in tensors.items():
            name, _, key = path.rpartition("/")
            weight = self.weights[name]
            owners[weight].state[weight][key] = tensor.to(weight.device, copy=True)


class MovingAverage:
    """The moving average of weights over the steps (Polyak and Juditsky, 1992)."""

    def __init__(self, torch: Any, weights: Mapping[str, Any], decay: float) -> None:
        self.torch = torch
        self.decay = decay
        self.weights = weights
        self.tensors = {name: weight.detach().clone() for name, weight in weights.items()}

    def update(self, step: int) -> None:
        """Add the weights after a step, counted from 1. The decay rises slowly, to forget the random start."""
        decay = min(self.decay, step / (10 + step))
        with self.torch.no_grad():
            current = [weight.detach() for weight in self.weights.values()]
            self.torch._foreach_lerp_(list(self.tensors.values()), current, 1.0 - decay)

    @contextmanager
    def as_weights(self) -> Generator[None]:
        """Let the model have the average as its weights until the context ends."""
        own = {name: weight.detach().clone() for name, weight in self.weights.items()}
        copy_weights(self.torch, self.weights, self.tensors)
        try:
            yield
        finally:
            copy_weights(self.torch, self.weights, own)


def copy_weights(torch: Any, weights: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Copy values into weights in place."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])


class StepResult(NamedTuple):
    """An optimizer step that was run. Its loss and norm may still be on the device."""

    step: PlannedStep
    loss: Any
    """Mean loss in nats per target token."""
    gradient_norm: Any
    """Norm of the gradient before it was clipped."""
    learning_rate: float
    target_count: int
    """Tokens that were predicted."""
    micro_batches: Sequence[PackedRows]
    """The micro-batches of all processes."""


class StepRunner:
    """Runs optimizer steps of a network.

    A step is a function of the weights, the state of the optimizer and the planned step alone. Dropout, too, is drawn
    from the number of the step.
    """

    def __init__(self, network: Network, corpus: Corpus, config: TrainConfig, processes: ProcessGroup) -> None:
        self.network = network
        self.torch = network.torch
        self.corpus = corpus
        self.config = config
        self.processes = processes
        self.weights = network.trainable_weights()
        self.optimizer = Optimizer(network, config)
        self.micro_batch_tokens = 0
        """Most tokens of a micro-batch, except for a single row that is longer. The batch-size search sets it."""

    def run_step(self, plan: TrainingPlan, step: PlannedStep, rate: float) -> StepResult:
        """Run a step with a learning rate. If memory does not suffice, micro-batches become smaller.

        Raises:
            StarcoderError: Memory does not even suffice for the longest row, or another process has ended.
        """
        while True:
            try:
                loss, micro_batches = self._accumulate_gradient(plan, step)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_micro_batches(error)
        norm = self.optimizer.update_weights(rate)
        target_count = sum(packed.target_count for packed in micro_batches)
        return StepResult(step, loss, norm, rate, target_count, micro_batches)

    def _halve_micro_batches(self, error: RuntimeError) -> None:
        """Make micro-batches smaller from now on, unless they hold one row or other processes use the same size."""
        self.optimizer.clear_gradient()
        if self.network.device == "cuda":
            self.torch.cuda.empty_cache()
        least = max_row_tokens(self.corpus, self.config.fim or 0.0)
        if self.micro_batch_tokens <= least or self.processes.world_size > 1:
            size = f"{self.micro_batch_tokens:,} tokens"
            what = f"the memory of '{self.network.device}' does not suffice for micro-batches of {size}"
            hint = "a smaller `piece`, a smaller model, or a dataset of smaller windows"
            raise StarcoderError(what, where="train", hint=hint) from error
        self.micro_batch_tokens = max(least, self.micro_batch_tokens // 2)

    def _accumulate_gradient(self, plan: TrainingPlan, step: PlannedStep) -> tuple[Any, Sequence[PackedRows]]:
        """Add up the gradient of a step over micro-batches and processes; return the loss and the micro-batches."""
        torch = self.torch
        multiple = self.micro_batch_tokens if self.network.has_fixed_shapes else TILE_TOKENS
        micro_batches = pack_step(self.corpus, plan, step, self.micro_batch_tokens, multiple, self.config.attend)
        target_count = sum(packed.target_count for packed in micro_batches)
        self.network.model.train()
        total = torch.zeros((), device=self.network.device)
        for index in range(self.processes.rank, len(micro_batches), self.processes.world_size):
            torch.manual_seed(int(content_id(self.config.seed, step.number, index)[:15], 16))
            packed = micro_batches[index]
            if self.config.noise:
                noise_seed = int(content_id("noise", self.config.seed, step.number, index)[:15], 16)
                packed = replace_inputs(packed, self.config.noise, self.corpus.text_tokens, noise_seed)
            loss = self.network.token_losses(packed).sum() / max(1, target_count)
            loss.backward()
            total += loss.detach()
        if self.processes.world_size > 1:
            for weight in self.weights.values():
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            self.processes.sum_tensors([total, *(weight.grad for weight in self.weights.values())])
        return total, micro_batches


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says by this error that a device, or the machine, has no memory left."""
    return "out of memory" in str(error) or "can't allocate memory" in str(error)


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The place of this process among all processes of its training."""

    rank: int = 0
    world_size: int = 1
    """Processes on all machines."""
    local_rank: int = 0
    """Number of this process on its machine."""
    local_world_size: int = 1
    """Processes on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    def sum_tensors(self, tensors: Sequence[Any]) -> None:
        """Replace each tensor by its sum over all processes, which must pass the same number of tensors and shapes."""
        if self.world_size == 1:
            return
        torch: Any = import_module("torch")
        bucket: list[Any] = []
        size = 0
        with _report_lost_process():
            for index, tensor in enumerate(tensors):
                bucket.append(tensor)
                size += tensor.numel()
                if size >= REDUCE_BUCKET_NUMBERS or index == len(tensors) - 1:
                    joined = torch.cat([each.reshape(-1) for each in bucket])
                    torch.distributed.all_reduce(joined)
                    for each, part in zip(bucket, joined.split([each.numel() for each in bucket]), strict=True):
                        each.copy_(part.view_as(each))
                    bucket, size = [], 0

    def broadcast(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers of the first process. The others pass as many numbers, which are ignored."""
        if self.world_size == 1:
            return list(numbers)
        torch: Any = import_module("torch")
        with _report_lost_process():
            tensor = torch.tensor(numbers, dtype=torch.float64)
            torch.distributed.broadcast(tensor, 0)
        return tensor.tolist()


def read_process_group() -> ProcessGroup:
    """Read from the environment which process of `torchrun` this is; without `torchrun`, it is the only one.

    Raises:
        UsageError: Some of the variables are missing or not numbers.
    """
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size == "1":
        return ProcessGroup()
    hint = "torchrun --nproc-per-node N -m git_starcoder train …"
    missing = [name for name in (*TORCHRUN_VARIABLES, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE is {world_size}, but {missing[0]} is not there", where="environment", hint=hint)
    try:
        return ProcessGroup(*(int(os.environ[name]) for name in TORCHRUN_VARIABLES))
    except ValueError as error:
        raise UsageError(str(error), where=", ".join(TORCHRUN_VARIABLES), hint=hint) from error


@contextmanager
def connect_processes(device: str) -> Generator[ProcessGroup]:
    """Connect the processes of this training: by NCCL for tensors on `cuda`, else by gloo.

    Raises:
        UsageError: The environment is incomplete, or the device cannot be shared by the processes.
        StarcoderError: The other processes cannot be reached.
    """
    group = read_process_group()
    if group.world_size == 1:
        yield group
        return
    torch: Any = import_module("torch")
    if device == "mps":
        hint = "start one without torchrun"
        raise UsageError("several processes cannot share one 'mps'", where="torchrun", hint=hint)
    if device == "cuda":
        if group.local_rank >= torch.cuda.device_count():
            what = f"there are {torch.cuda.device_count()} GPUs here for {group.local_world_size} processes"
            raise UsageError(what, where="torchrun", hint="--nproc-per-node as many as GPUs")
        torch.cuda.set_device(group.local_rank)
    with _report_lost_process():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    yield group  # after an error the process ends, and the others notice
    torch.distributed.destroy_process_group()


@contextmanager
def _report_lost_process() -> Generator[None]:
    """Turn the failure of an operation among processes into an error of ours."""
    try:
        yield
    except RuntimeError as error:
        hint = "its own output says why; the same command continues from the newest checkpoint"
        raise StarcoderError("another process of this training has ended", where="torchrun", hint=hint) from error
