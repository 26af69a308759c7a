"""Many processes, one training run: what they sum, gather and agree on. One process is a group of one.

Gradients are summed by a plain all-reduce after the last micro-batch, not by the DistributedDataParallel
wrapper: that one hooks into `forward` of a single module, while a stage calls `vae.encode`, has a
discriminator beside its generator, and takes turns. What the wrapper would hide, the exchange behind the
backward pass, is a small share of a step here; what it costs is that every stage would have to know of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from musicldm.batch.shards import Shard

__all__ = ["Group"]

T = TypeVar("T")

PATIENCE = timedelta(hours=2)  # for the first process to decode every file once
BUCKET = 1 << 25  # elements that are exchanged at once: 128 MiB of float32


@dataclass(frozen=True)
class Group:
    """This process among all: its rank, of world, and the device on which it computes."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    @contextmanager
    def opened(cls, device: str, environment: Mapping[str, str] = os.environ) -> Iterator[Group]:
        """The group that torchrun's environment describes, for the length of a block.

        device: "auto" (a GPU each, if there are any), "cpu", "cuda", "cuda:1", ...
        Raises ValueError if the environment makes no sense, or there are more processes than GPUs.
        """
        shard = Shard.from_environment(environment)
        place = torch.device(shard.device(device, torch.cuda.device_count()))
        if place.type == "cuda":
            torch.cuda.set_device(place)
        if shard.world == 1:
            yield cls(device=place)
            return
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
        try:
            yield cls(shard.rank, shard.world, place)
        finally:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Any tensor of one shape on all processes -> their sum, on all."""
        if self.world == 1:
            return tensor
        total = tensor.detach().clone().to(self.device)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over processes. Parameters without one have none anywhere."""
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def gather(self, x: Tensor) -> Tensor:
        """x: (b, ...) of one shape on all processes -> (world b, ...) in the order of ranks; differentiable.

        Every process then computes one and the same loss of all items. Its gradients are added up and
        weighted like those of any mean over items, so that N processes equal one.
        """
        return x if self.world == 1 else _Gather.apply(x, self.rank, self.world)  # type: ignore[no-untyped-call]

    def gather_objects(self, value: Any) -> list[Any]:
        """Anything that can be pickled -> everybody's, in the order of ranks. Slow: for what is rare."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def first_alone(self, make: Callable[[], T]) -> T:
        """What `make` returns, made by the first process before the others begin."""
        if self.first:
            made = make()
        self.gather_objects(None)
        if not self.first:
            made = make()
        return made

    def copy_from_first(self, module: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.world == 1:
            return
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """In order, tensors of one dtype together, up to BUCKET elements."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(held.numel() for held in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


class _Gather(torch.autograd.Function):
    """All-gather; the gradient of a part is the sum of what all processes have for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, world: int) -> Tensor:
        ctx.rank, ctx.world = rank, world
        parts = [torch.empty_like(x) for _ in range(world)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(ctx.world)[ctx.rank], None, None
