"""Several workers that train one model: who does what, sums over all of them, and FSDP2.

Plain data parallelism keeps a whole model per worker and sums the gradients once per step; `shard` shards the model.
Either way the gradient is that of the whole step, up to the rounding of sums taken in another order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

_BUCKET_ELEMENTS = 2**25  # 128 MiB of float32 gradients in one message


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This worker's number among `world` workers."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this worker speaks and writes for all of them."""
        return self.rank == 0


def current_ranks() -> Ranks:
    """Of torch's process group; one worker without any."""
    if not dist.is_initialized():
        return Ranks()
    return Ranks(rank=dist.get_rank(), world=dist.get_world_size())


def sum_over_ranks(values: Sequence[float], ranks: Ranks, device: torch.device) -> list[float]:
    """Each value summed over the workers, in float64."""
    if ranks.world == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return cast("list[float]", tensor.tolist())


def sum_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Sum the gradients over the workers in place; a worker that had no rows adds zeros."""
    if ranks.world == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        start = 0
        for gradient in bucket:
            end = start + gradient.numel()
            gradient.copy_(flat[start:end].view_as(gradient))
            start = end


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        if bucket and sum(kept.numel() for kept in bucket) + tensor.numel() > _BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def shard(root: nn.Module, layers: Iterable[nn.Module], *, device: torch.device, dtype: torch.dtype) -> None:
    """Deal the weights out to the workers, each layer a group of its own and the rest with `root` (FSDP2).

    The optimiser sees float32 shards; passes gather and compute in `dtype`, and gradients are summed in float32.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32)
    for module in (*layers, root):
        module.to(dtype=torch.float32)
        fully_shard(module, mesh=mesh, mp_policy=policy)
    assert isinstance(root, FSDPModule)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # Sums, as the loss is a mean over the whole step already; without the second call gloo is asked for more.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This worker's shard of a sharded tensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a sharded tensor; every worker must ask at the same time. Any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
