"""Weights that are divided among processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

Each process keeps a part of the rows of every weight, and the same part of its gradient, of the optimizer's state and
of all copies. `parts_of` and `part_of` give these parts. All weights of a layer are gathered when the layer is needed,
and given up again after it.

What gathers weights, gradients or whole tensors needs all processes: they have to call it together, in one order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_starcoder.model.processes import ProcessGroup


def part_of(tensor: Any) -> Any:
    """What this process has of a tensor, without its gradient: the tensor itself if it is not sharded."""
    tensor = tensor.detach()
    return tensor.to_local() if is_sharded(tensor) else tensor


def parts_of(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What this process has of each tensor. The parts share the memory of the tensors."""
    return {name: part_of(tensor) for name, tensor in tensors.items()}


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is divided among processes: a `DTensor`."""
    return hasattr(tensor, "to_local")


def as_sharded(part: Any, weight: Any) -> Any:
    """A tensor divided like a weight, of which this process has `part`. Numbers for the whole weight stay as they are.

    The part may be on the CPU, with the weight on a GPU.
    """
    if weight is None or not is_sharded(weight) or not part.ndim:
        return part
    from torch.distributed.tensor import DTensor

    mesh = weight.device_mesh
    if part.device.type != mesh.device_type:
        mesh = _mesh(part.device.type, mesh.size())
    create: Any = DTensor.from_local
    return create(part, mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride())


def rows_of_part(weight: Any) -> slice:
    """The rows of a sharded weight that this process has."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    return slice(offset[0], offset[0] + shape[0])


@cache
def _mesh(device: str, size: int) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (size,))


@dataclass(frozen=True)
class ShardedModel:
    """A model of transformers whose weights are divided among all processes of a training."""

    root: Any
    """The module that gathers the weights outside of layers, such as embeddings."""
    layers: list[Any]

    @classmethod
    def divide(cls, torch: Any, model: Any, processes: ProcessGroup, device: str, precision: str) -> ShardedModel:
        """Divide the weights of a model on the CPU, and move the part of this process to the device.

        The layers are those modules that transformers never splits between devices. If it names none, all weights are
        gathered at once.

        The weights of layers are gathered in `precision`: autocast would keep a copy of each in that precision until
        the backward pass. Products are the same; only the weights of norms are rounded in addition.
        """
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        names: Any = getattr(model, "_no_split_modules", None) or ()
        layers = [module for module in model.modules() if type(module).__name__ in names]
        layer_dtype = None if precision == "float32" else getattr(torch, precision)
        root, mesh = torch.nn.Sequential(model), _mesh(device, processes.world_size)
        root.forward = _call  # the network calls parts of the model, not the whole
        shard: Any = fully_shard
        for module in [*layers, root]:
            param_dtype = None if module is root else layer_dtype
            policy = MixedPrecisionPolicy(param_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
            shard(module, mesh=mesh, mp_policy=policy)
            # Gradients are summed, not averaged: the loss of a micro-batch is its part of the loss of the step.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction
        return cls(root, layers)

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function that runs the model, and return its tensors, in all processes together."""
        import torch

        result = self.root(function)
        if not torch.is_grad_enabled():
            self.reshard()
        return result

    def reshard(self) -> None:
        """Give up the weights that a forward pass gathered for a backward pass that will not come."""
        self.root.reshard()

    def gathered_bytes(self) -> int:
        """About the bytes that are gathered at once: the weights outside of layers, and two layers.

        Two, because the next layer is gathered while one is computed. Gradients are gathered for one.
        """
        layers = [sum(map(_whole_bytes, layer.parameters())) for layer in self.layers]
        everything = sum(map(_whole_bytes, self.root.parameters()))
        return everything - sum(layers) + 2 * max(layers, default=0)

    def gather(self, *, keep: bool) -> None:
        """Make all weights whole again, on the CPU of the processes that `keep` them. The model cannot be run then.

        One weight at a time is on the device.
        """
        import torch

        self.reshard()
        wholes: dict[Any, Any] = {}  # tied weights stay tied
        for module in self.root.modules():
            for name, weight in module._parameters.items():  # noqa: SLF001 - setattr would refuse some names
                if weight is None or not is_sharded(weight):
                    continue
                whole = wholes.get(weight)
                if whole is None:
                    whole = weight.detach().full_tensor()
                    whole = whole.to("cpu") if keep else torch.empty(0)
                    whole = wholes[weight] = torch.nn.Parameter(whole, requires_grad=weight.requires_grad)
                module._parameters[name] = whole  # noqa: SLF001


def _call(function: Callable[[], Any]) -> Any:
    return function()


def _whole_bytes(weight: Any) -> int:
    return weight.numel() * weight.element_size()


def share_out(torch: Any, matrices: Any, function: Callable[[Any], Any], processes: ProcessGroup) -> Any:
    """Apply a function to matrices that all processes have, shape (matrices, rows, columns); each computes a share.

    Each result is sent once to all, so no matrix is computed twice. The function keeps the shape.
    """
    share = -(-len(matrices) // processes.world_size)
    own = matrices[processes.rank * share : (processes.rank + 1) * share]
    sent = matrices.new_zeros((share, *matrices.shape[1:]))
    if len(own):
        sent[: len(own)] = function(own)
    received = matrices.new_empty((processes.world_size, *sent.shape))
    torch.distributed.all_gather(list(received.unbind()), sent)
    return received.flatten(0, 1)[: len(matrices)]


def exchange_rows(torch: Any, shards: Any, rows: int, function: Callable[[Any], Any], group: Any) -> Any:
    """Apply a function to whole matrices of one shape, of which each process has some rows, and return these rows.

    Each process receives all rows of its share of the matrices, computes the function of them, and sends the rows back.
    So no matrix is computed twice, and each number of them is sent twice. `shards` has the shape (matrices, rows of
    this process, columns), `rows` is the number of rows of a whole matrix, and the function keeps the shape.
    """
    size = torch.distributed.get_world_size(group)
    count, own_rows, columns = shards.shape
    # As FSDP divides rows: 10 rows over 4 processes are 3, 3, 3 and 1. All are filled up to the same number.
    part_rows, share = -(-rows // size), -(-count // size)
    pad = partial(torch.nn.functional.pad, mode="constant", value=0.0)
    sent = pad(shards, (0, 0, 0, part_rows - own_rows, 0, share * size - count))
    received = torch.empty_like(sent)
    torch.distributed.all_to_all_single(received, sent, group=group)
    # From (process, matrix, rows of the process, columns) to whole matrices, and back.
    matrices = received.view(size, share, part_rows, columns).transpose(0, 1).reshape(share, -1, columns)
    results = pad(function(matrices[:, :rows]), (0, 0, 0, part_rows * size - rows))
    sent = results.view(share, size, part_rows, columns).transpose(0, 1).reshape(sent.shape).contiguous()
    torch.distributed.all_to_all_single(received, sent, group=group)
    return received[:count, :own_rows]
