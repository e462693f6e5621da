"""Batch norm folded into the convolution before it: the same function with fewer operators."""

import copy
from collections import Counter
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Model = TypeVar("Model", bound=nn.Module)


def fuse(model: Model) -> Model:
    """A copy for inference in which each BatchNorm2d right behind a convolution in a Sequential is folded into it.

    Exact in eval mode up to rounding. Left alone: norms without running statistics, and modules that occur twice.
    """
    model = copy.deepcopy(model).eval()
    uses = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    for parent in model.modules():
        if type(parent).forward is not nn.Sequential.forward:
            continue
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if _folds(conv, norm) and uses[id(conv)] == uses[id(norm)] == 1:
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
    return model


@torch.no_grad()
def unfused(fused: nn.Module, model: Model) -> Model:
    """A copy of `model` that computes what its `fused` copy does by now: how a network is trained without its norms.

    Each folded norm passes on what it gets: statistics 0 and 1, gain 1, and the fused convolution's bias.
    """
    model = copy.deepcopy(model)
    state = fused.state_dict()
    for path, m in model.named_modules():
        prefix = f"{path}." if path else ""
        for (conv, _), (norm, held) in pairwise(list(m.named_children())):
            bias = state.get(f"{prefix}{conv}.bias")
            if isinstance(held, nn.BatchNorm2d) and f"{prefix}{norm}.weight" not in state and bias is not None:
                state |= {f"{prefix}{norm}.{name}": t for name, t in passing(held, bias).items()}
    own = model.state_dict()
    model.load_state_dict({name: state.get(name, t) for name, t in own.items()})
    return model


def passing(norm: nn.BatchNorm2d, bias: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state of a norm that adds `bias` and nothing else."""
    one = torch.ones_like(bias)
    told = {"weight": one, "bias": bias, "running_mean": torch.zeros_like(bias), "running_var": one - norm.eps}
    return {name: t for name, t in told.items() if getattr(norm, name) is not None}


def _folds(conv: nn.Module, norm: nn.Module) -> bool:
    return isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None


@torch.no_grad()
def _fold(conv: Any, norm: Any) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
