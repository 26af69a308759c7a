"""Many processes of torchrun: who has which share of the work, and what they sum, gather and agree on.

A `Shard` exchanges nothing while the work goes on, so that no process waits for another, and one that dies
takes its own share with it alone; only at the end do processes count themselves in torchrun's own store: the
last one answers for all. (One that ended with an error any earlier would have torchrun stop the others.)
A `Group` works in step: one process is a group of one.

Gradients are summed by a plain all-reduce after the last micro-batch, not by the DistributedDataParallel
wrapper: that one hooks into `forward` of a single module, while a stage calls `vae.encode`, has a
discriminator beside its generator, and takes turns. What the wrapper would hide, the exchange behind the
backward pass, is a small share of a step here; what it costs is that every stage would have to know of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Group", "Shard"]

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = timedelta(hours=2)  # for the first process to decode every file once
ANSWER = timedelta(seconds=60)  # for torchrun's store
BUCKET = 1 << 25  # elements that are exchanged at once: 128 MiB of float32


@dataclass(frozen=True)
class Shard:
    """A process of many: its rank, of world. local_rank: which of its machine's GPUs is its own.

    store: host and port of torchrun's store, and the attempt that it counts for; None without torchrun.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    store: tuple[str, int, str] | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Shard:
        """From RANK, WORLD_SIZE and LOCAL_RANK, as torchrun sets them; without them, one process.

        Raises ValueError if they make no sense.
        """
        defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        given = {name: environment.get(name, default) for name, default in defaults.items()}
        try:
            rank, world, local = map(int, given.values())
            if not 0 <= rank < world or local < 0:
                raise ValueError
        except ValueError:
            raise ValueError(f"got {given} in the environment, expected 0 <= RANK < WORLD_SIZE") from None
        store = None
        if world > 1 and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = (environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), attempt)
        return cls(rank, world, local, store)

    def has(self, index: int) -> bool:
        """Whether the row is this process's."""
        return index % self.world == self.rank

    def device(self, name: str, gpus: int) -> str:
        """The device for "auto" and "cuda": a GPU each.

        Raises ValueError if there are more processes here than GPUs.
        """
        if name not in ("auto", "cuda") or not gpus:
            return "cpu" if name == "auto" else name
        if self.local_rank >= gpus:
            raise ValueError(
                f"process {self.local_rank} of this machine has no GPU of its own ({gpus} found); start "
                f"{gpus} with --nproc-per-node, or name a device for all, such as --device cuda:0"
            )
        return f"cuda:{self.local_rank}"

    def is_last(self) -> bool | None:
        """Count this process as finished: whether all others were before it. None if nobody counts."""
        if self.world == 1:
            return True
        if self.store is None:
            return None
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        host, port, attempt = self.store
        try:
            store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=ANSWER)
            return bool(store.add(f"musicldm/batch/{attempt}/finished", 1) == self.world)
        except RuntimeError as error:  # torchrun's first machine is gone
            log.warning("could not count this process as finished (%s)", error)
            return None


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
