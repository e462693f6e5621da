"""Initialisations that papers name, applied to a finished network."""

from collections.abc import Callable

from torch import nn

Init = Callable[..., object]


def initialise(net: nn.Module, conv: Init | None = None, linear: Init | None = None) -> None:
    """Draw every convolution and linear weight of a network with the given functions; biases become zero."""
    for m in net.modules():
        draw = conv if isinstance(m, nn.modules.conv._ConvNd) else linear if isinstance(m, nn.Linear) else None
        if draw is None:
            continue
        draw(m.weight)
        if isinstance(m.bias, nn.Parameter):
            nn.init.zeros_(m.bias)


def kaiming_out(weight: nn.Parameter) -> None:
    """He et al., 2015, arXiv:1502.01852, by fan-out, for ReLU."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def trunc02(weight: nn.Parameter) -> None:
    """Normal of deviation 0.02 cut at two deviations of the unit normal: the transformers' habit."""
    nn.init.trunc_normal_(weight, std=0.02)
