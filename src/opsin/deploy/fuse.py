"""Batch norm folded into the convolution before it: the same function with fewer operators."""

import copy
from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fuse(model: nn.Module) -> nn.Module:
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


def _folds(conv: nn.Module, norm: nn.Module) -> bool:
    return isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None


@torch.no_grad()
def _fold(conv: Any, norm: Any) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
