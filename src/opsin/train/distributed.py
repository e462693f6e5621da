"""One process, or one of several that torchrun started."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


class World:
    """The processes that train together: `rank` of `size`; alone unless torchrun's variables are there."""

    def __init__(self) -> None:
        self.started = False
        if "RANK" in os.environ and not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            self.started = True
        together = distributed.is_available() and distributed.is_initialized()
        self.rank, self.size = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages gradients over all processes."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def share(self, value: T) -> T:
        """What the first process has, in all of them."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def close(self) -> None:
        """Ends the group if this object began it."""
        if self.started:
            distributed.destroy_process_group()
