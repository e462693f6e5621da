"""A model as it will be used: in eval mode, without gradients, at its own input size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from opsin.errors import OpsinError
from opsin.registry import input_channels

Size = int | Sequence[int] | None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode and without gradients; afterwards every module is in the mode it was in."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for m, mode in modes.items():
            m.training = mode


def input_shape(model: nn.Module, size: Size = None) -> tuple[int, int, int]:
    """(C, H, W) of one input: `size` is a side, (H, W) or (C, H, W); what it leaves open the model's config says."""
    config = getattr(model, "config", None) or {}
    pixels = config.get("preprocessing") or {}
    if size is None and not pixels.get("size"):
        raise OpsinError(f"{type(model).__name__} does not say its input size: give size=224 or size=(H, W)")
    sides = [size, size] if isinstance(size, int) else list(pixels["size"] if size is None else size)
    told = (config.get("arguments") or {}).get("in_chans") or pixels.get("channels")
    channels = told or input_channels(config.get("architecture"))
    shape = tuple(int(n) for n in ([channels, *sides] if len(sides) == 2 else sides))
    if len(shape) != 3 or min(shape) < 1:
        raise OpsinError(f"size {size!r} is no input size: give a side, (H, W) or (C, H, W), all at least 1")
    return shape
