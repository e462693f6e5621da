"""Next-ViT: convolutions in every block, attention in the last of each group. Li et al., 2022, arXiv:2207.05501

A convolution block mixes by grouped convolutions, a head of channels each; a transformer block attends, then mixes a
few channels more by convolution, and hands on both. Batch normalisation throughout, for deployment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import AverageDown, Conv, DropPath, ramp, relu
from ..layers.init import initialise, trunc02
from ..registry import about, family, rounded
from ..width import Concat, Groups, Width

HEAD = 32  # channels of a head


class HeadConv(nn.Module):
    """proj(act(norm(conv 3x3 in groups(x)))): "multi-head convolutional attention", a group of channels a head"""

    def __init__(self, dim: Groups):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim.parts[0], bias=False)
        self.norm, self.act = nn.BatchNorm2d(dim), relu()
        self.proj = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.act(self.norm(self.conv(x))))


class PooledAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v) over maps (B, C, H, W); keys and values from means of `pool` pixels

    A mean's pixels follow one another, row behind row; those left over at the end of the map do not count.
    """

    def __init__(self, dim: int, pool: int):
        super().__init__()
        self.heads = Width(dim // HEAD, "heads")
        inner = Groups(self.heads, HEAD)
        self.q, self.k, self.v = (nn.Linear(dim, inner) for _ in range(3))
        self.proj = nn.Linear(inner, dim)
        self.pool = nn.Sequential(nn.AvgPool1d(pool), nn.BatchNorm1d(dim)) if pool > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        grid, x = x.shape[2:], x.flatten(2)
        few = self.pool(x).mT
        q, k, v = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.q, x.mT), (self.k, few), (self.v, few))
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2)).mT.unflatten(2, grid)


class ConvBlock(nn.Module):
    """x + drop(mlp(norm(x))), x = z + drop(mixer(z)), z = enter(x)"""

    def __init__(self, enter: nn.Module, dim: Groups, drop: float = 0.0):
        super().__init__()
        self.enter, self.mixer, self.norm = enter, HeadConv(dim), nn.BatchNorm2d(dim)
        self.mlp, self.drop = conv_mlp(dim, 3), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        x = x + self.drop(self.mixer(x))
        return x + self.drop(self.mlp(self.norm(x)))


class TransformerBlock(nn.Module):
    """x + drop(mlp(norm2(x))), x = [a, c], a = z + drop(attn(norm1(z))), c = p + drop(mixer(p)), p = proj(a)

    `dim` lays out the channels of a and of c, `rate` is the branches' own share of `drop`.
    """

    def __init__(self, enter: nn.Module, dim: Concat, pool: int, drop: float = 0.0):
        super().__init__()
        first, second = dim.parts
        share = float(first) / float(dim)
        self.enter, self.norm1, self.attn = enter, nn.BatchNorm2d(first), PooledAttention(first, pool)
        self.proj, self.mixer = Conv(first, second, 1, act=None), HeadConv(second)
        self.norm2, self.mlp = nn.BatchNorm2d(dim), conv_mlp(dim, 2)
        self.drop_attn, self.drop_mixer = DropPath(drop * share), DropPath(drop * (1 - share))
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        x = x + self.drop_attn(self.attn(self.norm1(x)))
        y = self.proj(x)
        x = torch.cat([x, y + self.drop_mixer(self.mixer(y))], 1)
        return x + self.drop(self.mlp(self.norm2(x)))


def conv_mlp(dim: int, ratio: int) -> nn.Module:
    hidden = Width(dim * ratio, "hidden")
    return nn.Sequential(OrderedDict(fc1=nn.Conv2d(dim, hidden, 1), act=relu(), fc2=nn.Conv2d(hidden, dim, 1)))


def heads_of(size: int) -> Groups:
    return Groups(Width(size // HEAD, "heads"), HEAD)


def enter(cin: int, cout: int, stride: int = 1) -> nn.Module:
    down = AverageDown(stride) if stride > 1 else nn.Identity()
    return nn.Sequential(OrderedDict(down=down, conv=Conv(cin, cout, 1, act=None)))


def grouped(cin: int, size: int, convs: int, stride: int, drop: Iterator[float], pool: int) -> list[nn.Module]:
    """Convolution blocks, then a transformer block, a quarter of whose channels come from its convolution."""
    first = rounded(size * 0.75, HEAD)
    dim = heads_of(first)
    ways = [enter(cin, dim, stride), *[nn.Identity() for _ in range(convs)]]
    blocks: list[nn.Module] = [ConvBlock(way, dim, next(drop)) for way in ways[:-1]]
    return [*blocks, TransformerBlock(ways[-1], Concat(dim, heads_of(size - first)), pool, next(drop))]


@family(
    about(
        title="Next-ViT: Next Generation Vision Transformer for Efficient Deployment in Realistic Industrial Scenarios",
        arxiv="2207.05501",
        licence="Apache-2.0",
    ),
    nextvit_small=dict(groups=2),
    nextvit_base=dict(groups=4),
    nextvit_large=dict(groups=6),
)
def nextvit(
    groups: int,
    dims: Sequence[int] = (96, 256, 512, 1024),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`groups` of four convolution blocks and a transformer block at stride 16."""
    wide, thin, dim = Width(64, "stem"), Width(32, "stem"), heads_of(dims[0])
    out = Width(64, "stem")
    stem = nn.Sequential(Conv(in_chans, wide, 3, 2), Conv(wide, thin, 3), Conv(thin, out, 3), Conv(out, out, 3, 2))
    drop = ramp(drop_path_rate, 10 + 5 * groups)
    widths: list[int] = [out, dim]
    stages = [Stage(ConvBlock(nn.Identity() if i else enter(out, dim), dim, next(drop)) for i in range(3))]
    for size, convs, count, pool in zip(dims[1:], (3, 4, 2), (1, groups, 1), (16, 4, 1)):
        blocks: list[nn.Module] = []
        for i in range(count):
            blocks += grouped(widths[-1] if i == 0 else made(blocks[-1]), size, convs, 1 if i else 2, drop, pool)
        stages.append(Stage(blocks))
        widths.append(made(blocks[-1]))
    head = Classifier(widths[-1], num_classes, before=nn.BatchNorm2d(widths[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, widths, [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


def made(block: Any) -> int:
    """What a transformer block makes."""
    width: int = block.norm2.num_features
    return width


TIMM = """
    stem.{i}                                  -> backbone.stem.{i}
    stages.{s}.blocks.{b}.patch_embed.conv    -> backbone.stages.{s}.blocks.{b}.enter.conv.conv
    stages.{s}.blocks.{b}.patch_embed.norm    -> backbone.stages.{s}.blocks.{b}.enter.conv.norm
    stages.{s}.blocks.{b}.mhca.group_conv3x3  -> backbone.stages.{s}.blocks.{b}.mixer.conv
    stages.{s}.blocks.{b}.mhca.projection     -> backbone.stages.{s}.blocks.{b}.mixer.proj
    stages.{s}.blocks.{b}.mhca                -> backbone.stages.{s}.blocks.{b}.mixer
    stages.{s}.blocks.{b}.e_mhsa.norm         -> backbone.stages.{s}.blocks.{b}.attn.pool.1
    stages.{s}.blocks.{b}.e_mhsa              -> backbone.stages.{s}.blocks.{b}.attn
    stages.{s}.blocks.{b}.projection          -> backbone.stages.{s}.blocks.{b}.proj
    stages                                    -> backbone.stages
    norm                                      -> head.before
    head.fc                                   -> head.fc
"""
