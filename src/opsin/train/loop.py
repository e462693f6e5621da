"""The training loop: fits the time it is given, and survives being killed at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import Mix, Preprocess, augmentation, batches
from ..kernels.depthwise import quick
from ..layers import advance
from ..progress import duration, quiet, say, track
from . import checkpoint, optim, plan
from .distributed import World
from .ema import Ema
from .freeze import freeze
from .loss import class_weights, soft_cross_entropy
from .plan import Plan
from .schedule import rate
from .score import score
from .settings import TrainError, TrainSettings
from .state import BEST, LAST, State, load, save

Images = tuple[NDArray[Any], NDArray[Any]]

LATE = 1.1
"""A run that takes this many times its time stops at the end of an epoch, its schedule unfinished."""

RETRY = 0.1
"""Factor on the rate with which a run that diverged starts again, once."""


class Diverged(Exception):
    """The loss or its gradient is not finite."""


def finetune(
    model: nn.Module,
    train: Images,
    val: Images,
    settings: TrainSettings,
    *,
    run_folder: str | Path,
    resume: bool = False,
    seed: int = 0,
    deadline: float | None = None,
    log: Callable[[str], None] = say,
) -> dict[str, Any]:
    """Trains a network on cached images and leaves in it the weights that did best on the validation images.

    After each epoch, and every `settings.checkpoint_seconds` within one, the whole state is in `run_folder`. A run that
    was killed and is resumed (on the same machine) ends with the same weights, bit for bit, as one that was not. Under
    torchrun the processes share each step's images, `batch_size` each.

    Args:
        model: a `Network`, with its preprocessing in `model.config["preprocessing"]`.
        train, val: images (N, H, W, C), as `opsin.data.cached` gives them, and class indices (N,). Training images may
            be larger than the input.
        resume: go on from what is in `run_folder`; from the beginning if nothing is.
        deadline: seconds for all of it. A few steps are measured, and as many epochs planned as fit.
        log: told one line an epoch.

    Returns:
        Plain JSON: "epochs" (a record each, also in `metrics.jsonl`), "best" (the one kept), "plan", "seconds".

    Raises:
        TrainError: nothing to resume from that fits, divergence, no room on the disk, no memory.
    """
    world = World()
    try:
        with torch.random.fork_rng(), quiet(world.rank > 0):
            run = Run(model, train, val, settings, Path(run_folder), seed, world, log)
            return run.all(resume, deadline)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        smaller = max(1, settings.batch_size // 2)
        raise TrainError(f"no memory for batches of {settings.batch_size}; set batch_size={smaller}") from error
    finally:
        world.close()


class Run:
    """One training run: what stays the same over it, and its state."""

    state: State
    plan: Plan
    optim: torch.optim.Optimizer
    ema: Ema | None
    parallel: nn.Module
    """The model, or what averages its gradients over all processes."""

    def __init__(
        self, model: nn.Module, train: Images, val: Images, settings: TrainSettings, folder: Path, seed: int,
        world: World, log: Callable[[str], None],
    ):  # fmt: skip
        self.model, self.settings, self.folder, self.seed, self.world = model, settings, folder, seed, world
        self.log = log if world.rank == 0 else lambda text: None
        self.device = next(model.parameters()).device
        freeze(model, settings.freeze)
        preprocess = Preprocess.from_dict(cast(Any, model).config["preprocessing"])
        labels, classes = np.asarray(train[1], dtype=np.int64), self._classes(preprocess)
        self.train = batches(
            train[0], labels, preprocess, batch_size=settings.batch_size, classes=classes,
            augment=augmentation(settings.augment, preprocess.size), mix=Mix(settings.mixup, settings.cutmix),
            balanced=settings.balance == "sampling", seed=seed, rank=world.rank, world=world.size,
        )  # fmt: skip
        self.val = batches(val[0], val[1], preprocess, batch_size=settings.batch_size, classes=classes)
        weights = class_weights(labels, classes, settings.balance)
        weights = None if weights is None else weights.to(self.device)
        self.loss = partial(soft_cross_entropy, smoothing=settings.label_smoothing, weights=weights)
        self.told = {"settings": asdict(settings), "seed": seed, "processes": world.size}
        self.told |= {"training images": plan.digest(*train), "validation images": plan.digest(*val)}

    def _classes(self, preprocess: Preprocess) -> int:
        self.model.eval()
        with torch.inference_mode():
            logits = self.model(torch.zeros(1, preprocess.channels, *preprocess.size, device=self.device))
        return int(logits.shape[1])

    # ------------------------------------------ from start to end ------------------------------------------

    def all(self, resume: bool, deadline: float | None) -> dict[str, Any]:
        """Plan, train, and once more at a lower rate if that diverged; the history."""
        if not resume and any((self.folder / name).exists() for name in (LAST, plan.PLAN)):
            raise TrainError(f"{self.folder} holds a training run already; resume it, or give another folder")
        self.world.wait()  # nobody writes before everybody has looked
        self.first = deepcopy(self.model.state_dict())
        self.plan = self.world.share(plan.kept(self.folder, self.told) or self.measured(deadline))
        if self.world.rank == 0:
            plan.keep(self.folder, self.told, self.plan)
        self.log(f"   {self.plan}")
        self.fresh(1.0)
        if (self.folder / LAST).is_file():
            self.state = load(self.folder, self.model, self.optim, self.ema)
            self.log(f"   going on after epoch {self.state.epoch}, step {self.state.step}")
        self.world.wait()
        try:
            self.go()
        except Diverged as error:
            self.log(f"   {error}: starting again at {RETRY} of the rate")
            self.fresh(RETRY)
            self.go()
        return self.finish()

    def fresh(self, lr_scale: float) -> None:
        """Back to the weights that were given."""
        self.model.load_state_dict(self.first)
        self.state = State(lr_scale=lr_scale)
        self.optim = optim.optimizer(self.model, self.settings)
        self.ema = Ema(self.model, self.settings.ema) if self.settings.ema else None
        self.parallel = self.world.wrap(self.model)

    def go(self) -> None:
        try:
            while not self.state.done:
                self.epoch()
        except Diverged as error:
            if self.state.lr_scale < 1:
                raise TrainError(f"{error}; set a lower lr, and look for extreme values in the images") from error
            raise

    def finish(self) -> dict[str, Any]:
        """The best weights into the model."""
        held, _ = checkpoint.read(self.folder / BEST)
        self.model.load_state_dict(held)
        self.model.eval().requires_grad_()
        history = {"epochs": self.state.epochs, "best": self.state.best, "plan": asdict(self.plan)}
        return {**history, "seconds": round(self.state.seconds, 1)}

    # ------------------------------------------ one epoch ------------------------------------------

    def epoch(self) -> None:
        state, steps = self.state, self.plan.steps
        start = time.monotonic() - state.seconds
        saved = time.monotonic()
        left = steps - state.step
        label = lambda: f"epoch {state.epoch + 1} of {self.plan.epochs}, loss {state.loss / max(1, state.step):.3f}"
        for x, y in track(islice(self.train.epoch(state.epoch, state.step), left), label, left):
            self.step(x, y)
            state.seconds = time.monotonic() - start
            if time.monotonic() - saved > self.settings.checkpoint_seconds and state.step < steps:
                self.save()
                saved = time.monotonic()
        self.validated()
        state.seconds = time.monotonic() - start
        late = self.plan.deadline is not None and state.seconds > LATE * self.plan.deadline
        state.done = self.world.share(state.epoch >= self.plan.epochs or late)
        self.save()

    def step(self, x: Tensor, y: Tensor) -> None:
        """One training step. What is random in it depends on the seed and the step's number alone."""
        state, settings = self.state, self.settings
        done = state.epoch * self.plan.steps + state.step
        lr = settings.lr * state.lr_scale * rate(done, self.plan.total, settings.warmup, settings.min_lr)
        optim.set_rate(self.optim, lr)
        advance(self.model, done / self.plan.total)
        torch.manual_seed(int(np.random.SeedSequence((self.seed, done, self.world.rank)).generate_state(1)[0]))
        loss, norm = self.gradient(x, y, self.plan.bf16)
        if not math.isfinite(norm):
            raise Diverged(f"step {done}: loss {loss:.4g}, gradient {norm:.4g}, at a learning rate of {lr:.2g}")
        self.optim.step()
        if self.ema:
            self.ema.update(done)
        state.loss += loss
        state.step += 1

    def gradient(self, x: Tensor, y: Tensor, bf16: bool) -> tuple[float, float]:
        """The loss, and the norm that its gradient had before it was scaled down."""
        self.training()
        self.optim.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16), quick():
            logits = self.parallel(x.to(self.device))
        loss = self.loss(logits, y.to(self.device))
        torch.autograd.backward(loss)
        parameters = [p for group in self.optim.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip or math.inf)
        return loss.item(), norm.item()

    def training(self) -> None:
        self.model.train()
        if self.settings.freeze_norm:
            for m in self.model.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm):
                    m.eval()

    def validated(self) -> None:
        """Scores the epoch, keeps the weights if they are the best so far, and moves on to the next epoch."""
        state, scored = self.state, self.ema.model if self.ema else self.model
        accuracy, log_loss = self.world.share(
            score(scored, self.val, self.device) if self.world.rank == 0 else (0.0, 0.0)
        )
        record = {"epoch": state.epoch + 1, "loss": state.loss / state.step, "seconds": round(state.seconds, 2)}
        record |= {"val_accuracy": accuracy, "val_log_loss": log_loss}
        state.epochs.append(record)
        state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0
        best = not state.best or (accuracy, -log_loss) > (state.best["val_accuracy"], -state.best["val_log_loss"])
        if best:
            state.best = record
            if self.world.rank == 0:
                checkpoint.write(self.folder / BEST, scored.state_dict(), record)
        self.log(
            f"   epoch {state.epoch} of {self.plan.epochs}: loss {record['loss']:.3f}, validation accuracy "
            f"{accuracy:.1%}, log loss {log_loss:.3f}{' (best)' if best else ''}, {duration(state.seconds)}"
        )

    def save(self) -> None:
        if self.world.rank == 0:
            save(self.folder, self.state, self.model, self.optim, self.ema)

    # ------------------------------------------ what fits into the time ------------------------------------------

    def measured(self, deadline: float | None) -> Plan:
        """Times a few steps; the caller puts the weights back."""
        began = time.monotonic()
        self.fresh(1.0)
        self.parallel = self.model  # processes may measure unequal numbers of steps
        optim.set_rate(self.optim, 0.0)
        x, y = self.train.batch(0, 0)
        bf16, found = plan.precision(self.settings, self.trial, x, y)
        found["data"] = plan.seconds(lambda: self.train.batch(0, 0))
        found["validation"] = plan.seconds(lambda: self.validate_one(x)) * len(self.val)
        left = None if deadline is None else deadline - (time.monotonic() - began)
        return plan.fitted(self.settings, len(self.train), bf16, found, left)

    def trial(self, x: Tensor, y: Tensor, bf16: bool) -> None:
        self.gradient(x, y, bf16)
        self.optim.step()

    def validate_one(self, x: Tensor) -> None:
        self.model.eval()
        with torch.inference_mode():
            self.model(x.to(self.device))
