"""Xception: every convolution is depthwise, then pointwise. Chollet, 2016, arXiv:1610.02357

Inception's branches taken to their limit, with residual connections. The newer forms are in `xception_aligned`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.branches import part
from ..layers import Conv, DropPath, ramp
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Width


def depthwise(dim: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, 3, stride, 1, groups=dim, bias=False)


def pointwise(cin: int, cout: int) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 1, bias=False)


def unit(cin: int, cout: int, stride: int = 1, inplace: bool = True) -> nn.Module:
    """norm(pointwise(dwconv(act(x))))"""
    parts = dict(act=nn.ReLU(inplace), dwconv=depthwise(cin, stride), conv=pointwise(cin, cout))
    return nn.Sequential(OrderedDict(**parts, norm=nn.BatchNorm2d(cout)))


class Block(nn.Module):
    """drop(body(x)) + shortcut(x), the body a row of units to the channels `dims`, the last with the stride"""

    def __init__(
        self,
        cin: int,
        dims: Sequence[int],
        stride: int = 1,
        drop: float = 0.0,
        unit: Callable[..., nn.Module] = unit,
        project: Callable[[int, int, int], nn.Module] | None = None,
    ):
        super().__init__()
        strides = [1] * (len(dims) - 1) + [stride]
        pairs = zip([cin, *dims], dims, strides)
        self.body = nn.Sequential(*[unit(a, b, s, inplace=i > 0) for i, (a, b, s) in enumerate(pairs)])
        self.shortcut = project(cin, dims[-1], stride) if project else nn.Identity()
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.body(x)) + self.shortcut(x)


def pooled(cin: int, dims: Sequence[int], drop: float) -> Block:
    """A block of the original form: a pooling takes the stride."""
    made = Block(cin, dims, 1, drop, unit, lambda a, b, s: Conv(a, b, 1, 2, act=None))
    made.body.append(nn.MaxPool2d(3, 2, 1))
    return made


@family(
    about(
        title="Xception: Deep Learning with Depthwise Separable Convolutions",
        arxiv="1610.02357",
        licence="MIT",
        native=299,
    ),
    legacy_xception=dict(depth=8),
)
def xception(
    depth: int,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`depth` blocks in the middle flow."""
    a, b, c, d, e = (Width(size, "dim") for size in (64, 128, 256, 728, 1024))
    low, f, out = Width(32, "stem"), Width(1536, "dim"), Width(2048, "dim")
    drop = ramp(drop_path_rate, depth + 4)
    norm: Any = nn.BatchNorm2d
    stem = nn.Sequential(part(in_chans, low, 3, 2, 0, norm), part(low, a, 3, 1, 0, norm))
    first = pooled(a, [Width(128, "hidden"), b], next(drop))
    first.body[0].act = nn.Identity()  # the stem has ended in one
    second = pooled(b, [Width(256, "hidden"), c], next(drop))
    third = pooled(c, [Width(728, "hidden"), d], next(drop))
    middle = [Block(d, [Width(728, "h1"), Width(728, "h2"), d], 1, next(drop), unit) for _ in range(depth)]
    last = pooled(d, [Width(728, "hidden"), e], next(drop))
    tail = [unit(e, f), unit(f, out)]
    tail[0].act, tail[1].act = nn.Identity(), nn.ReLU()
    stages = [Stage([first]), Stage([second]), Stage([third, *middle]), Stage([last, *tail, nn.ReLU()])]
    backbone = Pyramid(stem, stages, [a, b, c, d, out], [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(out, num_classes, drop=drop_rate))
    initialise(net.backbone, conv=kaiming_out)
    return net


LEGACY = "\n".join(
    [
        """
        conv1           -> backbone.stem.0.conv
        bn1             -> backbone.stem.0.norm
        conv2           -> backbone.stem.1.conv
        bn2             -> backbone.stem.1.norm
        conv3.conv1     -> backbone.stages.3.blocks.1.dwconv
        conv3.pointwise -> backbone.stages.3.blocks.1.conv
        bn3             -> backbone.stages.3.blocks.1.norm
        conv4.conv1     -> backbone.stages.3.blocks.2.dwconv
        conv4.pointwise -> backbone.stages.3.blocks.2.conv
        bn4             -> backbone.stages.3.blocks.2.norm
        fc              -> head.fc""",
        *[
            f"""
        block{{b}}.skip     -> {place}.shortcut.conv
        block{{b}}.skipbn   -> {place}.shortcut.norm
        """.replace("{b}", str(b))
            + "\n".join(
                f"block{b}.rep.{3 * i + at + (b > 1)}{theirs} -> {place}.body.{i}.{ours}"
                for i in range(3)
                for at, theirs, ours in ((0, ".conv1", "dwconv"), (0, ".pointwise", "conv"), (1, "", "norm"))
            )
            for b, place in enumerate(
                [
                    *[f"backbone.stages.{s}.blocks.0" for s in range(2)],
                    *[f"backbone.stages.2.blocks.{b}" for b in range(9)],
                    "backbone.stages.3.blocks.0",
                ],
                1,
            )
        ],
    ]
)
