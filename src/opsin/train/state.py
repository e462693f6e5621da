"""Where a run is, and how that is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import checkpoint, optim
from .ema import Ema

LAST, BEST, METRICS = "last.safetensors", "best.safetensors", "metrics.jsonl"


@dataclass
class State:
    """All of a run's state that is not tensors."""

    epoch: int = 0
    step: int = 0
    """Steps done of this epoch."""
    loss: float = 0.0
    """Sum over those steps."""
    seconds: float = 0.0
    lr_scale: float = 1.0
    done: bool = False
    best: dict[str, Any] = field(default_factory=dict)
    """Record of the best epoch."""
    epochs: list[dict[str, Any]] = field(default_factory=list)


def save(folder: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None) -> None:
    """Everything to `LAST`, and the records of the epochs to `METRICS`."""
    held = {f"model/{name}": t for name, t in model.state_dict().items()}
    held |= {f"optim/{name}": t for name, t in optim.tensors(optimizer).items()}
    if ema:
        held |= {f"ema/{name}": t for name, t in ema.model.state_dict().items()}
    checkpoint.write(folder / LAST, held, asdict(state))
    checkpoint.write_text(folder / METRICS, "".join(json.dumps(record) + "\n" for record in state.epochs))


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None) -> State:
    """Puts back what `save` kept; what was laid out in memory one way stays so."""
    held, state = checkpoint.read(folder / LAST)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optim": {}, "ema": {}}
    for name, t in held.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = t
    model.load_state_dict(parts["model"])
    optim.restore(optimizer, parts["optim"])
    if ema:
        ema.model.load_state_dict(parts["ema"])
    return State(**state)
