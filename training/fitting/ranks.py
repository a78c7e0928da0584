"""Several processes that train one network together, as `torchrun` starts them.

    torchrun --nproc-per-node 2 -m inspection.cli train knuckles --preset full

Each of them works on its share of every batch; the first one, the leader, alone writes anything.
Without `torchrun` there is one process, and it is the leader.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed

from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's place among those that train together.

    Attributes:
        rank: of this process; 0 leads.
        world: how many there are.
        device: that this process computes on.
    """

    rank: int = 0
    world: int = 1
    device: torch.device

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch, as large as everyone else's."""
        return batch[self.rank :: self.world]


def place() -> tuple[int, int, int]:
    """(rank, world, local rank) as `torchrun` says; (0, 1, 0) without it.

    Raises:
        ConfigurationError: the environment says nonsense.
    """
    try:
        rank, world, local = (
            int(os.environ.get(name, default))
            for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
        )
    except ValueError as error:
        raise ConfigurationError(
            f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}",
            remedy="Start several processes with `torchrun`, which sets them.",
        ) from error
    return rank, world, local


def is_leader() -> bool:
    """Whether this process is the one that writes checkpoints, packages and figures."""
    return place()[0] == 0


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes, when there are any; part from them afterwards."""
    rank, world, local = place()
    device = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if world == 1:
        yield Ranks(device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(rank=rank, world=world, device=device)
    finally:
        torch.distributed.destroy_process_group()
