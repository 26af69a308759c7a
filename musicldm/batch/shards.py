"""Which rows are whose, when `torchrun` starts many processes: row i is made by process i mod N.

Nothing is exchanged while the work goes on, so that no process waits for another, and one that dies takes
its own rows with it alone; a rerun, with any number of processes, makes them. Only at the end do processes
count themselves in torchrun's own store: the last one writes the manifest and answers for all. (A process
that ended with an error any earlier would have torchrun stop the others.)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["Shard"]

log = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=60)  # for the store to answer


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
            store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
            return bool(store.add(f"musicldm/batch/{attempt}/finished", 1) == self.world)
        except RuntimeError as error:  # torchrun's first machine is gone
            log.warning("could not count this process as finished (%s)", error)
            return None
