"""From ResNet-50 to ConvNeXt-T, one change at a time. Liu et al., 2022, section 2, arXiv:2201.03545

Each network differs from the one before it by what its name says; the first starts from `resnet50`, and the last step
behind them, downsampling apart from the blocks, is `convnext_tiny`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.residual import shortcut
from ..layers import Conv, DropPath, LayerNorm, ramp, relu
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..registry import about, family
from ..width import Width, each

Act = Callable[[], nn.Module]


def seven(in_chans: int, dim: int) -> nn.Module:
    return nn.Sequential(Conv(in_chans, dim, 7, 2), nn.MaxPool2d(3, 2, 1))


def patchify(in_chans: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, dim, 4, 4, bias=False), nn.BatchNorm2d(dim))


def dense(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    a, b = Width(cout // 4, "reduced"), Width(cout // 4, "mixed")
    return [Conv(cin, a, 1, act=act), Conv(a, b, kernel, stride, act=act), Conv(b, cout, 1, act=None)]


def depthwise(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    return narrow_or_wide(cin, Width(cout // 4, "reduced"), cout, stride, act, kernel)


def inverted(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    return narrow_or_wide(cin, Width(cout * 4, "hidden"), cout, stride, act, kernel)


def narrow_or_wide(cin: int, hidden: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    middle = Conv(hidden, hidden, kernel, stride, groups=hidden, act=act)
    return [Conv(cin, hidden, 1, act=act), middle, Conv(hidden, cout, 1, act=None)]


def moved_up(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    hidden = Width(cout * 4, "hidden")
    first = Conv(cin, cin, kernel, stride, groups=cin, act=act)
    return [first, Conv(cin, hidden, 1, act=act), Conv(hidden, cout, 1, act=None)]


def one_act(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    hidden = Width(cout * 4, "hidden")
    first = Conv(cin, cin, kernel, stride, groups=cin, act=None)
    return [first, Conv(cin, hidden, 1, act=act), Conv(hidden, cout, 1, act=None)]


def one_norm(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    return one_norm_of(nn.BatchNorm2d(cin), cin, cout, stride, act, kernel)


def layer_norm(cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    return one_norm_of(LayerNorm(cin, dim=1), cin, cout, stride, act, kernel)


def one_norm_of(norm: nn.Module, cin: int, cout: int, stride: int, act: Act, kernel: int) -> list[nn.Module]:
    hidden = Width(cout * 4, "hidden")
    first = nn.Conv2d(cin, cin, kernel, stride, kernel // 2, groups=cin)
    return [first, norm, nn.Conv2d(cin, hidden, 1), act(), nn.Conv2d(hidden, cout, 1)]


class StepBlock(nn.Module):
    """act(drop(body(x)) + shortcut(x))"""

    def __init__(self, body: list[nn.Module], shortcut: nn.Module, act: nn.Module, drop: float = 0.0):
        super().__init__()
        self.body, self.shortcut, self.act, self.drop = nn.Sequential(*body), shortcut, act, DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.body(x)) + self.shortcut(x))


DEEP = (256, 512, 1024, 2048)
WIDE = (384, 768, 1536, 3072)
FLAT: dict[str, Any] = dict(dims=(96, 192, 384, 768), stem=patchify)
BARE: dict[str, Any] = dict(**FLAT, kernel=7, act=GELU, last=nn.Identity)


@family(
    about(title="A ConvNet for the 2020s", arxiv="2201.03545", licence="MIT"),
    convnext_step1_ratio=dict(dims=DEEP, body=dense),
    convnext_step2_patchify=dict(dims=DEEP, body=dense, stem=patchify),
    convnext_step3_depthwise=dict(dims=DEEP, body=depthwise, stem=patchify),
    convnext_step4_width=dict(dims=WIDE, first=96, body=depthwise, stem=patchify),
    convnext_step5_inverted=dict(**FLAT, body=inverted),
    convnext_step6_moved_up=dict(**FLAT, body=moved_up),
    convnext_step7_kernel7=dict(**FLAT, body=moved_up, kernel=7),
    convnext_step8_gelu=dict(**FLAT, body=moved_up, kernel=7, act=GELU, last=GELU),
    convnext_step9_one_act=dict(**BARE, body=one_act),
    convnext_step10_one_norm=dict(**BARE, body=one_norm),
    convnext_step11_layer_norm=dict(**BARE, body=layer_norm),
)
def convnext_steps(
    dims: Sequence[int],
    body: Callable[..., list[nn.Module]],
    depths: Sequence[int] = (3, 3, 9, 3),
    first: int = 64,
    stem: Callable[[int, int], nn.Module] = seven,
    kernel: int = 3,
    act: Act = relu,
    last: Act = relu,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`body(cin, cout, stride, act, kernel)` makes a block's residual branch, `last` what follows its sum."""
    widths, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    widths.insert(0, widths[0] if dims[0] < 256 else Width(first, "stem"))

    def block(cin: int, cout: int, stride: int) -> nn.Module:
        return StepBlock(body(cin, cout, stride, act, kernel), shortcut(cin, cout, stride), last(), next(drop))

    def stage(i: int) -> nn.Module:
        cin, cout = widths[i], widths[i + 1]
        return Stage(block(cout if j else cin, cout, 1 if j or not i else 2) for j in range(depths[i]))

    backbone = Pyramid(stem(in_chans, widths[0]), [stage(i) for i in range(4)], widths, [4, 4, 8, 16, 32])
    net = Network(backbone, Classifier(widths[-1], num_classes, drop=drop_rate))
    initialise(net, conv=trunc02, linear=trunc02)
    return net
