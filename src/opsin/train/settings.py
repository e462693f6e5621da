"""What decides a training run, with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from ..errors import OpsinError

BALANCES = ("auto", "none", "weights", "sampling")
OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("auto", "fp32", "bf16")


class TrainError(OpsinError):
    """Training that cannot start, go on or be resumed; the message says what to do."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of `opsin.train.finetune`; recipes are functions that return them."""

    epochs: int = 20
    """Passes over the training images; fewer where a deadline leaves no time for so many."""
    batch_size: int = 32
    """Images a step, for each process."""
    optimizer: str = "adamw"
    """"adamw" (arXiv:1711.05101) or "sgd" (Nesterov momentum 0.9)."""
    lr: float = 3e-4
    """Highest learning rate, that of the head; it is not scaled with the batch."""
    layer_decay: float = 0.8
    """Each layer group's rate is this factor of the rate of the group after it (arXiv:1801.06146, arXiv:2106.08254)."""
    head_lr: float = 1.0
    """Factor on the rate of the last group alone; below 1 for a head that is trained already."""
    weight_decay: float = 0.05
    """Not applied to biases, norms and what the network names in `no_weight_decay`."""
    warmup: float = 0.1
    """Share of all steps in which the rate grows from 0."""
    min_lr: float = 0.01
    """Where the cosine ends (arXiv:1608.03983), as a share of the highest rate."""
    clip: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down. 0 switches it off."""
    label_smoothing: float = 0.1
    """Share of each label that is spread over all classes (arXiv:1512.00567)."""
    balance: str = "auto"
    """"weights": a class counts in the loss by the inverse root of its frequency; "sampling": classes are drawn equally
    often; "auto": weights where one class has over 5 times as many images as another; "none"."""
    augment: str = "random_resized_crop(scale=(0.5, 1))|hflip"
    """Chain of steps, see `opsin.data.augmentation`."""
    mixup: float = 0.0
    cutmix: float = 0.0
    """Parameters of `opsin.data.Mix`; 0 switches them off."""
    ema: float = 0.998
    """Decay of the running average of the weights, which is what is validated and kept; 0 switches it off."""
    freeze_norm: bool = False
    """Batch norms keep the statistics that they came with: better for few steps with small batches."""
    freeze: int = 0
    """Stages whose maps have at most this stride, and the stem, stay as they are: most of a step's time for features
    that few pictures do not better. 0: everything is trained."""
    precision: str = "auto"
    """"fp32", "bf16" (autocast), or whichever a short measurement finds faster here."""
    checkpoint_seconds: float = 60.0
    """At most so much work is lost when the process is killed."""

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("balance", BALANCES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise TrainError(f"{name}={getattr(self, name)!r} is none of {', '.join(known)}")
        for name in ("epochs", "batch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise TrainError(f"{name}={getattr(self, name)!r} must be a whole number, 1 or more")
        positive = ("lr", "layer_decay", "head_lr", "checkpoint_seconds")
        shares = ("warmup", "min_lr", "label_smoothing", "ema")
        for name in (f.name for f in fields(self) if f.type == "float"):
            value, most = getattr(self, name), 1 if name in shares else float("inf")
            if not isinstance(value, (int, float)) or not 0 <= value < most or (name in positive and not value):
                bounds = f"{'above 0' if name in positive else '0 or more'}{' and below 1' if name in shares else ''}"
                raise TrainError(f"{name}={value!r} must be a number {bounds}")

    def changed(self, changes: Mapping[str, Any]) -> TrainSettings:
        """These settings with some of them replaced. Raises `TrainError` for unknown names."""
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                near = get_close_matches(name, known, 3, 0.5) or known
                raise TrainError(f"no training setting {name!r}; there are {', '.join(near)}")
        return replace(self, **changes)
