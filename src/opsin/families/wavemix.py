"""WaveMix: wavelet bands mix places, at a cost linear in the pixels. Jeevan et al., 2022, arXiv:2205.14375

One resolution and one width throughout. The Lite form has one level of the transform. The same blocks between other
ends segment pictures and double their sides.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import DropPath, ramp
from ..layers.act import GELU
from ..mixers.wave import WaveMix
from ..registry import about, family
from ..width import Width


class WaveBlock(nn.Module):
    """x + drop(mixer(x))"""

    def __init__(self, mixer: nn.Module, drop: float = 0.0):
        super().__init__()
        self.mixer, self.drop = mixer, DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.mixer(x))


@family(
    about(title="WaveMix: A Resource-efficient Neural Network for Image Analysis", arxiv="2205.14375", licence="MIT"),
    wavemix_lite_192_16=dict(dim=192, depth=16),
    wavemix_192_16=dict(dim=192, depth=16, levels=3),
    wavemix_192_16_level2=dict(dim=192, depth=16, levels=2),
    wavemix_192_16_level4=dict(dim=192, depth=16, levels=4),
)
def wavemix(
    dim: int,
    depth: int,
    levels: int = 1,
    ratio: int = 2,
    inner: int | None = None,
    patch: int = 4,
    stride: int | None = None,
    dropout: float = 0.5,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Patches of `patch` pixels, or two strided convolutions if a `stride` is given; `dropout` inside blocks."""
    dim, half, drop = Width(dim, "dim"), Width(dim // 2, "stem"), ramp(drop_path_rate, depth)
    if stride:
        stem, down = strided(in_chans, half, dim, stride)
        strides = [stride, stride**2]
    else:
        quarter = Width(int(dim) // 4, "stem")
        stem = nn.Sequential(nn.Conv2d(in_chans, quarter, 3, 1, 1), nn.Conv2d(quarter, half, 3, 1, 1))
        down = nn.Sequential(nn.Conv2d(half, dim, patch, patch), GELU(), nn.BatchNorm2d(dim))
        strides = [1, patch]
    blocks = [WaveBlock(WaveMix(dim, levels, ratio, inner, dropout), next(drop)) for _ in range(depth)]
    backbone = Pyramid(stem, [Stage(blocks, down)], [half, dim], strides)
    return Network(backbone, Classifier(dim, num_classes, drop=drop_rate))


def strided(in_chans: int, half: int, dim: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_chans, half, 3, stride, 1), nn.Conv2d(half, dim, 3, stride, 1)


class WaveMixDense(nn.Module):
    """expand(blocks(convs(x))): pictures (B, C, H, W) to maps"""

    def __init__(self, convs: Sequence[nn.Module], blocks: Sequence[nn.Module], expand: Sequence[nn.Module]):
        super().__init__()
        self.convs, self.blocks, self.expand = (nn.Sequential(*part) for part in (convs, blocks, expand))

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.blocks(self.convs(x)))


def wavemix_segmenter(
    num_classes: int = 20, dim: int = 256, depth: int = 16, levels: int = 4, ratio: int = 2, inner: int | None = None
) -> nn.Module:
    """Pictures to logits (B, num_classes, H, W), for sides that are multiples of four."""
    dim, half, quarter = Width(dim, "dim"), Width(dim // 2, "half"), Width(dim // 4, "quarter")
    grow = nn.ConvTranspose2d(dim, half, 4, 2, 1), nn.ConvTranspose2d(half, quarter, 4, 2, 1)
    blocks = [WaveBlock(WaveMix(dim, levels, ratio, inner)) for _ in range(depth)]
    return WaveMixDense(
        strided(3, Width(dim // 2, "stem"), dim, 2), blocks, [*grow, nn.Conv2d(quarter, num_classes, 1)]
    )


def wavemix_sr(dim: int = 144, depth: int = 4, levels: int = 1, ratio: int = 2, inner: int | None = None) -> nn.Module:
    """Pictures (B, 3, H, W) to ones of twice the sides."""
    dim, half = Width(dim, "dim"), Width(dim // 2, "half")
    blocks = [WaveBlock(WaveMix(dim, levels, ratio, inner)) for _ in range(depth)]
    expand = nn.ConvTranspose2d(dim, half, 4, 2, 1), nn.Conv2d(half, 3, 1)
    return WaveMixDense(strided(3, Width(dim // 2, "stem"), dim, 1), blocks, expand)


def mixing(ours: str) -> str:
    """Rules for the blocks, which are called `ours` here."""
    parts = {"0": "fc1", "3": "fc2", "4": "conv", "5": "norm"}
    rules = [f"layers.{{b}}.reduction -> {ours}.{{b}}.mixer.reduce"]
    for theirs, part in parts.items():
        rules.append(f"layers.{{b}}.feedforward.{theirs} -> {ours}.{{b}}.mixer.ups.0.{part}")
        rules += [f"layers.{{b}}.feedforward{i}.{theirs} -> {ours}.{{b}}.mixer.ups.{i - 1}.{part}" for i in range(1, 5)]
    return "\n" + "\n".join(rules)


AUTHORS = (
    mixing("backbone.stages.0.blocks")
    + """
    conv.0  -> backbone.stem.0
    conv.1  -> backbone.stem.1
    conv.2  -> backbone.stages.0.down.0
    conv.4  -> backbone.stages.0.down.2
    pool.2  -> head.fc
"""
)
AUTHORS_STRIDED = (
    mixing("backbone.stages.0.blocks")
    + """
    conv.0  -> backbone.stem
    conv.1  -> backbone.stages.0.down
    pool.2  -> head.fc
"""
)
AUTHORS_DENSE = (
    mixing("blocks")
    + """
    conv    -> convs
    expand  -> expand
"""
)
