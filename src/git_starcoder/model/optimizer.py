"""One optimizer step: gradients of micro-batches are added up, clipped, and move the weights along a schedule.

`torchrun` starts several processes of one training, which divide the micro-batches of a step. All have the same weights
and move them by the same gradient, which is summed over all of them. Or each has a part of the weights (see
`sharding`), receives the sum of that part of the gradient, and moves it.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from math import cos, pi
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import StarcoderError
from git_starcoder.model.loss_scale import LossScale
from git_starcoder.model.muon import Muon
from git_starcoder.model.packing import TILE_TOKENS, max_row_tokens, pack_step, replace_inputs
from git_starcoder.model.sharding import as_sharded, is_sharded, part_of, parts_of
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.network import Network
    from git_starcoder.model.packing import PackedRows
    from git_starcoder.model.plan import PlannedStep, TrainingPlan
    from git_starcoder.model.processes import ProcessGroup

WARMUP_OFFSET = 1e-3
"""Share of the budget that counts as used before the first step of a warmup, so that its learning rate is not 0."""
WSD_DECAY_SHARE = 0.2
"""Share of the budget in which the WSD schedule falls to zero (Hägele et al., 2024)."""
RATE_FACTOR = "rate_factor"
"""Key of a group of weights whose learning rate is a multiple of that of the schedule."""
EIGHT_BIT_TABLES = {"qmap1": "dynamic", "qmap2": "udynamic"}
"""Keys of the state of 8-bit AdamW with tables that all weights share, and the names of the tables in bitsandbytes."""


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
    return config.peak_rate * share


def group_weights(network: Network, config: TrainConfig) -> tuple[list[Any], list[Any], list[Any]]:
    """The weights that Muon trains, those that AdamW trains with decay, and those that it trains without.

    A step moves only some rows of the embeddings, which are often shared by input and output. They are not decayed: a
    rare token would forget what it has learned before it occurs again.
    """
    model = network.model
    embeddings = [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    inner_matrices: list[Any] = []
    other_matrices: list[Any] = []
    undecayed: list[Any] = []
    for name, weight in network.trainable_weights().items():
        is_embedding = any(weight is each for each in embeddings) or "trainable_tokens" in name
        if weight.ndim < 2 or is_embedding:
            undecayed.append(weight)
        elif weight.ndim == 2 and config.optimizer == "muon":
            inner_matrices.append(weight)
        else:
            other_matrices.append(weight)
    return inner_matrices, other_matrices, undecayed


class Optimizer:
    """AdamW (Loshchilov and Hutter, 2019), or Muon (Jordan et al., 2024) for inner matrices and AdamW for the rest.

    The state of AdamW may have 8 bits for each number (Dettmers et al., 2021), with a factor for each 256 of them.
    """

    def __init__(self, network: Network, config: TrainConfig, processes: ProcessGroup) -> None:
        self.torch = torch = network.torch
        self.config = config
        self._processes = processes
        self.weights = network.trainable_weights()
        inner_matrices, other_matrices, undecayed = group_weights(network, config)
        rate, decay = config.peak_rate, config.weight_decay
        self.optimizers: list[Any] = []
        if inner_matrices:
            # Scaled so that both optimizers move weights equally fast: one learning rate serves both.
            self.optimizers.append(Muon(torch, inner_matrices, network.precision, decay, processes))
        groups = [
            {"params": other_matrices, "weight_decay": decay},
            {"params": undecayed, "weight_decay": 0.0, RATE_FACTOR: config.embedding_rate},
        ]
        if groups := [group for group in groups if group["params"]]:
            if config.optimizer == "adamw8bit":
                library: Any = import_module("bitsandbytes")
                self.optimizers.append(library.optim.AdamW8bit(groups, lr=rate, betas=(0.9, 0.95)))
            else:
                self.optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True))
        self.loss_scale = LossScale() if network.precision == "float16" else None

    def update_weights(self, rate: float) -> Any:
        """Move the weights along the clipped gradient and clear it; return the norm it had."""
        norm = self._clip_gradient()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get(RATE_FACTOR, 1.0)
            optimizer.step()
        self.clear_gradient()
        return norm

    def _clip_gradient(self) -> Any:
        """Scale the gradient down to the largest norm that it may have; return the norm that it had.

        On a CPU, torch's norm of 3 million numbers is too small by 6e-5, and by less if processes divide them. Its sum
        adds in pairs, which is exact to 1e-7.
        """
        torch = self.torch
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        parts = [part_of(gradient) for gradient in gradients]
        if parts[0].device.type == "cpu":
            square = torch.stack([part.square().sum() for part in parts]).sum()
        else:
            square = torch.nn.utils.get_total_norm(parts).square()
        if is_sharded(gradients[0]):
            self._processes.sum_tensors([square])
        norm = square.sqrt()
        torch._foreach_mul_(parts, (self.config.clip / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def clear_gradient(self) -> None:
        """Remove the gradient."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Any]:
        """All tensors of the state, or this process's parts, by `name of the weight/name of the tensor`."""
        states = {weight: state for optimizer in self.optimizers for weight, state in optimizer.state.items()}
        named = [(name, states.get(weight, {})) for name, weight in self.weights.items()]
        # The 8-bit AdamW of bitsandbytes counts steps as a plain number.
        return {
            f"{name}/{key}": part_of(self.torch.as_tensor(value))
            for name, state in named
            for key, value in state.items()
            if key not in EIGHT_BIT_TABLES
        }

    def state_values(self) -> dict[str, Any]:
        """The rest of the state, as values for JSON."""
        return {"loss_scale": [self.loss_scale.value, self.loss_scale.good_steps]} if self.loss_scale else {}

    def restore_state(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Restore what `state_tensors` and `state_values` returned."""
        if self.loss_scale:
            self.loss_scale.value, self.loss_scale.good_steps = values["loss_scale"]
        groups = [(optimizer, group) for optimizer in self.optimizers for group in optimizer.param_groups]
        owners = {weight: optimizer for optimizer, group in groups for weight in group["params"]}
        for path, tensor in tensors.items():
            name, _, key = path.rpartition("/")
            weight = self.weights[name]
            state = owners[weight].state[weight]
            if hasattr(owners[weight], "name2qmap"):  # of bitsandbytes
                state[key] = int(tensor) if key == "step" else tensor.to(weight.device, copy=True)
                if "state1" in state and state["state1"].dtype == self.torch.uint8:
                    tables = owners[weight].name2qmap
                    state |= {key: tables[table].to(weight.device) for key, table in EIGHT_BIT_TABLES.items()}
            else:
                state[key] = as_sharded(tensor.to(weight.device, copy=True), weight)


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
        self.parts = parts_of(self.weights)
        """What this process has of the weights, in the same memory: all of them, unless they are sharded."""
        self.optimizer = Optimizer(network, config, processes)
        self.micro_batch_tokens = 0
        """Most tokens of a micro-batch, except for a single row that is longer. The batch-size search sets it."""
        self._packing_lock = Lock()

    def pack(self, plan: TrainingPlan, step: PlannedStep) -> Sequence[PackedRows]:
        """The micro-batches of a step. Any thread may call this."""
        size = self.micro_batch_tokens
        multiple = size if self.network.has_fixed_shapes else TILE_TOKENS
        with self._packing_lock:  # one parser serves all threads
            return pack_step(self.corpus, plan, step, size, multiple, self.config.attend)

    def run_step(
        self, plan: TrainingPlan, step: PlannedStep, rate: float, micro_batches: Sequence[PackedRows] | None = None
    ) -> StepResult:
        """Run a step with a learning rate. If memory does not suffice, micro-batches become smaller.

        `micro_batches` are those of `pack`, if it was called before. In float16, a step whose gradient overflows is
        repeated with a smaller `LossScale`.

        Raises:
            StarcoderError: Memory does not even suffice for the longest row, or another process has ended.
        """
        micro_batches = self.pack(plan, step) if micro_batches is None else micro_batches
        scale = self.optimizer.loss_scale
        while True:
            try:
                loss = self._accumulate_gradient(step, micro_batches, scale.value if scale else 1.0)
                if not scale or scale.unscale(self.torch, self.weights.values()):
                    break
                self.optimizer.clear_gradient()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_micro_batches(error)
                micro_batches = self.pack(plan, step)
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
            hint = "a smaller `micro_batch`, a smaller model, or a dataset of smaller windows"
            raise StarcoderError(what, where="train", hint=hint) from error
        self.micro_batch_tokens = max(least, self.micro_batch_tokens // 2)

    def _accumulate_gradient(self, step: PlannedStep, micro_batches: Sequence[PackedRows], scale: float) -> Any:
        """Add up the gradient of a step over micro-batches and processes, times `scale`; return the loss."""
        torch = self.torch
        target_count = sum(packed.target_count for packed in micro_batches)
        self.network.model.train()
        total = torch.zeros((), device=self.network.device)
        count, world_size = len(micro_batches), self.processes.world_size
        if self.network.sharded_model:  # all processes gather the weights equally often
            count = -(-count // world_size) * world_size
        for index in range(self.processes.rank, count, world_size):
            torch.manual_seed(int(content_id(self.config.seed, step.number, index)[:15], 16))
            is_needed = index < len(micro_batches)
            packed = micro_batches[index if is_needed else -1]
            if self.config.noise:
                noise_seed = int(content_id("noise", self.config.seed, step.number, index)[:15], 16)
                packed = replace_inputs(packed, self.config.noise, self.corpus.text_tokens, noise_seed)
            loss = self.network.token_losses(packed).sum() / max(1, target_count)
            loss = loss if is_needed else 0 * loss
            (loss if scale == 1.0 else loss * scale).backward()
            total += loss.detach()
        if self.network.sharded_model:  # which has summed the gradient
            self.processes.sum_tensors([total])
        elif world_size > 1:
            for weight in self.weights.values():
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            self.processes.sum_tensors([total, *(weight.grad for weight in self.weights.values())])
        return total


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says by this error that a device, or the machine, has no memory left."""
    return "out of memory" in str(error) or "can't allocate memory" in str(error)
