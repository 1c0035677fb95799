"""One process or several under ``torchrun``: who this is, and what only the first one does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from evit_edge.errors import RequestError
from evit_edge.training.config import TrainConfig


@dataclass(frozen=True)
class Process:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


def leads() -> bool:
    """Whether this process is the first or only one, by the environment that ``torchrun`` sets."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(config: TrainConfig) -> Iterator[Process]:
    """Join the group that ``torchrun`` describes in the environment, or stand alone.

    Raises:
        RequestError: CUDA is asked for and there is none, or the batch does not split over the processes.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise RequestError("device cuda given, but torch sees no CUDA device; use cpu or install a CUDA build")
    if config.batch_size % world:
        raise RequestError(f"batch size {config.batch_size} does not split over {world} processes; use a multiple")
    use_cuda = cuda and config.device != "cpu"
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Process(0, 1, device)
        return
    dist.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield Process(rank, world, device)
    finally:
        dist.destroy_process_group()


def mean_over(process: Process, value: torch.Tensor) -> torch.Tensor:
    """Average a scalar over all processes."""
    if process.world > 1:
        dist.all_reduce(value)
        value /= process.world
    return value
