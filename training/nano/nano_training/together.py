"""Processes that train one model together, each with steps of its own.

Every few steps all take the mean of their weights, and go on with momenta of their own (local SGD:
S. Stich, "Local SGD converges fast and communicates little", 2019). Unlike processes that wait for
each other at every step they lose little where steps differ in length, and unlike threads they
share no small products. A run that goes on does so with the first process's momenta in all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

EVERY = 8
"""Steps of a process between two means."""


@dataclass(frozen=True)
class Group:
    """The processes of a run.

    Attributes:
        number: Which of them this one is, from 0.
        count: How many there are.
    """

    number: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Group:
        """The group that `torchrun` started, or of this process alone."""
        if "RANK" not in os.environ:
            return cls()
        distributed.init_process_group("gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    @torch.no_grad()
    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean of all processes into each tensor."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.count > 1:
            distributed.barrier()

    def agree(self, value: float) -> float:
        """The first process's value, in all."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(told, 0)
        return float(told)
