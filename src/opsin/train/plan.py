"""How much training fits into the time: a few steps are measured, then undone."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import checkpoint
from .settings import TrainError, TrainSettings

PLAN = "plan.json"

SPARE = 0.92
"""Share of the time that is planned: steps vary, checkpoints are written."""

FASTER = 0.9
"""bf16 is taken where a step takes less than this share of a step in fp32."""

LONG = 2.0
"""Seconds of work that is not repeated to measure it well."""

Step = Callable[[Tensor, Tensor, bool], None]


@dataclass(frozen=True)
class Plan:
    """What was decided once for a run, and holds when it is resumed."""

    epochs: int
    steps: int
    """Training steps an epoch."""
    bf16: bool
    deadline: float | None
    """Seconds in all, when given."""
    measured: dict[str, float]
    """Seconds of a training step by precision, of the data for one, and of one validation."""

    @property
    def total(self) -> int:
        return self.epochs * self.steps

    def __str__(self) -> str:
        times = ", ".join(f"{name} {value:.3g} s" for name, value in self.measured.items())
        return f"{self.epochs} epochs of {self.steps} steps in {'bf16' if self.bf16 else 'fp32'} (measured: {times})"


def kept(folder: Path, told: dict[str, Any]) -> Plan | None:
    """The plan in a folder, if there is one. Raises `TrainError` where it is not of the run that is `told`."""
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        differ = [name for name, value in told.items() if held["run"].get(name) != value]
        found = Plan(**held["plan"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainError(f"{path} is no plan of a training run ({error}); remove {folder} to start over") from error
    if differ:
        raise TrainError(f"{folder} holds a run with other {', '.join(differ)}; give those, or another folder")
    return found


def keep(folder: Path, told: dict[str, Any], plan: Plan) -> None:
    """Writes the plan, and which run it is of."""
    checkpoint.write_text(folder / PLAN, json.dumps({"plan": asdict(plan), "run": told}, indent=1))


def digest(images: NDArray[Any], labels: NDArray[Any]) -> str:
    """Tells one set of images from another: by shape, labels, and the pixels of a few."""
    state = hashlib.blake2b(f"{images.shape} {images.dtype}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(labels, dtype=np.int64).data)
    for i in np.linspace(0, len(images) - 1, min(len(images), 16)).astype(int):
        state.update(np.ascontiguousarray(images[i]).data)
    return state.hexdigest()


def fitted(settings: TrainSettings, steps: int, bf16: bool, measured: dict[str, float], deadline: float | None) -> Plan:
    """As many whole epochs as fit, at most those of the settings; part of one where not even one fits."""
    epochs = settings.epochs
    if deadline is not None:
        step = measured["bf16" if bf16 else "fp32"] + measured["data"]
        left = deadline * SPARE
        epochs = min(epochs, int(left / (steps * step + measured["validation"])))
        if epochs < 1:
            epochs, steps = 1, max(1, min(steps, int((left - measured["validation"]) / step)))
    return Plan(epochs, steps, bf16, deadline, {k: round(v, 5) for k, v in measured.items()})


def precision(settings: TrainSettings, step: Step, x: Tensor, y: Tensor) -> tuple[bool, dict[str, float]]:
    """Whether to train in bf16, and the seconds of a step in what was measured; `step(x, y, bf16)` is one."""
    tried = {"auto": (False, True) if quick_bf16() else (False,), "fp32": (False,), "bf16": (True,)}[settings.precision]
    found = {"bf16" if bf16 else "fp32": steady(lambda bf16=bf16: step(x, y, bf16)) for bf16 in tried}  # type: ignore[misc]
    return found.get("bf16", inf) < FASTER * found.get("fp32", inf), found


def quick_bf16() -> bool:
    """Whether bf16 is worth a trial: a processor without instructions for it takes many times as long."""
    if torch.cuda.is_available():
        return True
    told = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # x86 alone is asked
    return told is None or platform.machine() not in ("x86_64", "AMD64") or bool(told())


def steady(work: Callable[[], object]) -> float:
    """Median seconds of three calls after a first one, which is always slower; of one call where that took long."""
    repeats = 1 if seconds(work) > LONG else 3
    return median(seconds(work) for _ in range(repeats))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, with what it left running on an accelerator."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
