"""MixNet: depthwise convolutions of several kernel sizes side by side. Tan & Le, 2019, arXiv:1907.09595

A searched relative of EfficientNet. Many of its 1x1 convolutions are split in halves, too. Names in `tf_` pad as
TensorFlow does, as the authors' checkpoints need.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import DropPath, SameConv2d, SqueezeExcite, ramp, relu, silu
from ..layers.conv import Act
from ..layers.mixconv import MixConv2d, divide, whole
from ..registry import about, family, rounded
from ..width import Width, same
from .efficientnet import GATES, initialise_by_groups
from .mobilenet_v2 import TIMM as MOBILENET

Shares = Sequence[Width]


class MixInverted(nn.Module):
    """x + drop(project(gate(dwconv(expand(x))))), of the given parts; the input is added where its shape is kept"""

    def __init__(
        self, expand: nn.Module, dwconv: nn.Module, gate: nn.Module, project: nn.Module, drop: float, residual: bool
    ):
        super().__init__()
        self.expand, self.dwconv, self.gate, self.project = expand, dwconv, gate, project
        self.drop, self.residual = DropPath(drop), residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.gate(self.dwconv(self.expand(x))))
        return x + self.drop(y) if self.residual else y


def mixed(
    cin: Shares,
    cout: Shares,
    stride: int,
    drop: float,
    part: Callable[..., nn.Module],
    kernels: Sequence[int] = (3,),
    ratio: int = 6,
    expand: int = 1,
    project: int = 1,
    gate: float = 0.0,
    act: Act = silu,
) -> nn.Module:
    """A block. 1x1 convolutions have `expand` and `project` shares, the gate `gate` times the input's channels."""
    x, y = whole(cin), whole(cout)
    if ratio == 1:
        return MixInverted(
            nn.Identity(), part([x], [x], kernels, stride, act), nn.Identity(), part([x], [y]), drop, stride == 1
        )
    a, b, c = divide(int(x) * ratio, expand, len(kernels), project, name="hidden")
    return MixInverted(
        part(cin if expand > 1 else [x], a, (1,) * expand, 1, act),
        part(b, b, kernels, stride, act),
        SqueezeExcite(whole(b), int(int(x) * gate), act) if gate else nn.Identity(),
        part(c, cout if project > 1 else [y], (1,) * project),
        drop,
        stride == 1 and same(x, y),
    )


def conv_norm_act(
    cins: Shares,
    couts: Shares,
    kernels: Sequence[int] = (1,),
    stride: int = 1,
    act: Act | None = None,
    conv: type[nn.Conv2d] = nn.Conv2d,
    eps: float = 1e-5,
) -> nn.Module:
    """A convolution, mixed where there are several kernels; depthwise where the shares are the same."""
    k, cout = kernels[0], whole(couts)
    if len(kernels) > 1:
        made: nn.Module = MixConv2d(cins, couts, kernels, stride, conv)
    else:
        groups = cout if k > 1 and same(whole(cins), cout) else 1
        made = conv(whole(cins), cout, k, stride, 0 if conv is SameConv2d else k // 2, groups=groups, bias=False)
    parts = [("conv", made), ("norm", nn.BatchNorm2d(cout, eps)), *([("act", act())] if act else [])]
    return nn.Sequential(OrderedDict(parts))


# A stage: channels, stride, blocks, what is said of the first of them, and of the others.
Table = Sequence[tuple[int, int, int, dict[str, Any], dict[str, Any]]]
FIRST: tuple[int, dict[str, Any], dict[str, Any]] = (1, dict(ratio=1, act=relu), {})
K35, K357, K3579, K357911 = (3, 5), (3, 5, 7), (3, 5, 7, 9), (3, 5, 7, 9, 11)
SPLIT, GATED, SLIGHT = dict(expand=2, project=2), dict(gate=0.5), dict(gate=0.25)
RELU = dict(act=relu, **SPLIT)
SMALL: Table = (
    (16, 1, *FIRST),
    (24, 2, 2, RELU, dict(ratio=3, **RELU)),
    (40, 2, 4, dict(kernels=K357, **GATED), dict(kernels=K35, **SPLIT, **GATED)),
    (80, 2, 3, dict(kernels=K357, project=2, **SLIGHT), dict(kernels=K35, project=2, **SLIGHT)),
    (120, 1, 3, dict(kernels=K357, **SPLIT, **GATED), dict(kernels=K3579, ratio=3, **SPLIT, **GATED)),
    (200, 2, 3, dict(kernels=K357911, **GATED), dict(kernels=K3579, project=2, **GATED)),
)
MEDIUM: Table = (
    (24, 1, *FIRST),
    (32, 2, 2, dict(kernels=K357, **RELU), dict(ratio=3, **RELU)),
    (40, 2, 4, dict(kernels=K3579, **GATED), dict(kernels=K35, **SPLIT, **GATED)),
    (80, 2, 4, dict(kernels=K357, **SLIGHT), dict(kernels=K3579, **SPLIT, **SLIGHT)),
    (120, 1, 4, GATED, dict(kernels=K3579, ratio=3, **SPLIT, **GATED)),
    (200, 2, 4, dict(kernels=K3579, **GATED), dict(kernels=K3579, project=2, **GATED)),
)
TENSORFLOW = dict(part=partial(conv_norm_act, conv=SameConv2d, eps=1e-3))


@family(
    about(title="MixConv: Mixed Depthwise Convolutional Kernels", arxiv="1907.09595", licence="Apache-2.0"),
    mixnet_s=dict(rows=SMALL),
    mixnet_m=dict(rows=MEDIUM),
    mixnet_l=dict(rows=MEDIUM, wide=1.3),
    mixnet_xl=dict(rows=MEDIUM, wide=1.6, deep=1.2),
    mixnet_xxl=dict(rows=MEDIUM, wide=2.4, deep=1.3),
    tf_mixnet_s=dict(rows=SMALL, **TENSORFLOW),
    tf_mixnet_m=dict(rows=MEDIUM, **TENSORFLOW),
    tf_mixnet_l=dict(rows=MEDIUM, wide=1.3, **TENSORFLOW),
)
def mixnet(
    rows: Table,
    wide: float = 1.0,
    deep: float = 1.0,
    part: Callable[..., nn.Module] = conv_norm_act,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The stem is as wide as the first stage. Channels that residuals carry are in halves, which 1x1s may split."""
    depths = [round(depth * deep) for _, _, depth, _, _ in rows]
    drop, cin = ramp(drop_path_rate, sum(depths)), divide(rounded(rows[0][0] * wide), 2)[0]
    stages: list[nn.Module] = []
    stem, widths, strides = part([in_chans], cin, (3,), 2, relu), [whole(cin)], [2]
    for (size, stride, _, first, others), depth in zip(rows, depths):
        dim = cin if stride == 1 and len(stages) == 0 else divide(rounded(size * wide), 2)[0]
        kinds = [(cin, stride, first), *[(dim, 1, others)] * (depth - 1)]
        stages.append(Stage(mixed(a, dim, step, next(drop), part, **kind) for a, step, kind in kinds))
        cin = dim
        widths.append(whole(cin))
        strides.append(strides[-1] * stride)
    head = Width(1536, "head")
    classify = Classifier(head, num_classes, before=part([widths[-1]], [head], act=relu), drop=drop_rate)
    net = Network(Pyramid(stem, stages, widths, strides), classify)
    initialise_by_groups(net)
    return net


TIMM = (
    """
    blocks.0.{b}.conv_dw          -> backbone.stages.0.blocks.{b}.dwconv.conv
    blocks.{s}.{b}.conv_pw.{i}    -> backbone.stages.{s}.blocks.{b}.expand.conv.convs.{i}
    blocks.{s}.{b}.conv_dw.{i}    -> backbone.stages.{s}.blocks.{b}.dwconv.conv.convs.{i}
    blocks.{s}.{b}.conv_pwl.{i}   -> backbone.stages.{s}.blocks.{b}.project.conv.convs.{i}
"""
    + GATES
    + MOBILENET
)
