"""GroupMamba: a quarter of the channels for each direction of a scan. Shaker et al., 2024, arXiv:2407.13772

The pyramid is PVT's. A second classifier, trained by a teacher, is averaged with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.classify import linear
from ..blocks.stage import LastBlocks
from ..channels.dwmlp import DepthwiseMlp
from ..channels.mlp import Mlp
from ..layers import Conv, DropPath, LayerNorm, ramp
from ..layers.init import initialise, kaiming_out, trunc02
from ..mixers.group_scan import GroupScan
from ..registry import about, family
from ..width import Groups, Width
from .vmamba import scan


class GroupBlock(nn.Module):
    """x + drop(mixer(x)), which norms x itself, then x + drop(mlp(norm(x))), over maps (B, H, W, C)"""

    def __init__(self, dim: Groups, ratio: float, drop: float = 0.0):
        super().__init__()
        self.mixer, self.norm, self.mlp = GroupScan(dim), LayerNorm(dim), DepthwiseMlp(dim, ratio)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.mixer(x))
        return x + self.drop(self.mlp(self.norm(x)))


class MeanBlock(nn.Module):
    """norm(y + mlp(norm2(y))), y = x + norm1(mixer(x)), of means (B, C) as maps of one place"""

    def __init__(self, dim: Groups, ratio: float):
        super().__init__()
        self.mixer, self.mlp = GroupScan(dim), Mlp(dim, ratio)
        self.norm1, self.norm2, self.norm = LayerNorm(dim), LayerNorm(dim), LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.mixer(x[:, None, None])[:, 0, 0])
        return self.norm(x + self.mlp(self.norm2(x)))


class NormedBlocks(LastBlocks):
    """norm(blocks(down(x)))"""

    def __init__(self, blocks: list[nn.Module], down: nn.Module, norm: nn.Module):
        super().__init__([*blocks, norm], down)


class Taught(nn.Module):
    """(fc(x) + distilled(x)) / 2, the second trained by a teacher"""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.fc, self.distilled = linear(width, num_classes), linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return (self.fc(x) + self.distilled(x)) / 2


class TaughtClassifier(Classifier):
    """A classifier for labels and one for a teacher, averaged"""

    def __init__(self, width: int, num_classes: int, after: nn.Module | None = None, drop: float = 0.0):
        super().__init__(width, 0, after=after, drop=drop)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        self.fc = Taught(self.width, num_classes) if num_classes else nn.Identity()


def stem(in_chans: int, hidden: int, dim: int) -> nn.Module:
    a, b, c = (Width(hidden, "stem") for _ in range(3))
    return nn.Sequential(Conv(in_chans, a, 7, 2), Conv(a, b), Conv(b, c), halve(c, dim))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), LayerNorm(cout, dim=1, eps=1e-5))


@family(
    about(
        title="GroupMamba: Parameter-Efficient and Accurate Group Visual State Space Model",
        arxiv="2407.13772",
        licence="MIT",
    ),
    groupmamba_tiny=dict(dims=(64, 128, 348, 448), depths=(3, 4, 9, 3), hidden=32),
    groupmamba_small=dict(dims=(64, 128, 348, 512), depths=(3, 4, 16, 3)),
    groupmamba_base=dict(dims=(96, 192, 424, 512), depths=(3, 6, 21, 3)),
)
def group_mamba(
    dims: Sequence[int],
    depths: Sequence[int],
    hidden: int = 64,
    ratios: Sequence[float] = (8, 8, 4, 4),
    classifier: Callable[..., Classifier] = TaughtClassifier,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    widths = [Groups(4, Width(d // 4, f"dim{i}")) for i, d in enumerate(dims, 1)]
    drop = ramp(drop_path_rate, sum(depths))
    downs = [nn.Identity(), *(halve(*pair) for pair in pairwise(widths))]
    norms = [*(LayerNorm(dim) for dim in widths[:-1]), nn.Identity()]
    stages = [
        NormedBlocks([GroupBlock(widths[i], ratios[i], next(drop)) for _ in range(depth)], downs[i], norms[i])
        for i, depth in enumerate(depths)
    ]
    head = classifier(widths[-1], num_classes, after=MeanBlock(widths[-1], ratios[-1]), drop=drop_rate)
    net = Network(Pyramid(stem(in_chans, hidden, widths[0]), stages, [widths[0], *widths], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=kaiming_out, linear=trunc02)
    return net


def group_scan(theirs: str, ours: str) -> str:
    """Rules for the authors' mixer."""
    return (
        "".join(scan(f"{theirs}.mamba_g{i + 1}", f"{ours}.scans.{i}") for i in range(4))
        + f"""
    {theirs}.fc1          -> {ours}.reduce
    {theirs}.fc2          -> {ours}.expand
    {theirs}.skip_scale   -> {ours}.scale
    {theirs}              -> {ours}
"""
    )


def authors(depths: Sequence[int]) -> str:
    """The authors' names; norms stand behind the blocks of their stage."""
    norms = "".join(f"\n    norm{i + 1} -> backbone.stages.{i}.blocks.{depth}" for i, depth in enumerate(depths[:-1]))
    return norms + group_scan("block{s}.{b}.attn", "backbone.stages.{s-1}.blocks.{b}.mixer") + ENDS


ENDS = (
    group_scan("post_network.0.attn", "head.after.mixer")
    + """
    patch_embed1.conv.0               -> backbone.stem.0.conv
    patch_embed1.conv.1               -> backbone.stem.0.norm
    patch_embed1.conv.3               -> backbone.stem.1.conv
    patch_embed1.conv.4               -> backbone.stem.1.norm
    patch_embed1.conv.6               -> backbone.stem.2.conv
    patch_embed1.conv.7               -> backbone.stem.2.norm
    patch_embed1.proj                 -> backbone.stem.3.0
    patch_embed1.norm                 -> backbone.stem.3.1
    patch_embed{s}.proj               -> backbone.stages.{s-1}.down.0
    patch_embed{s}.norm               -> backbone.stages.{s-1}.down.1
    block{s}.{b}.norm2                -> backbone.stages.{s-1}.blocks.{b}.norm
    block{s}.{b}.mlp.dwconv.dwconv    -> backbone.stages.{s-1}.blocks.{b}.mlp.dwconv
    block{s}.{b}                      -> backbone.stages.{s-1}.blocks.{b}
    post_network.0                    -> head.after
    norm4                             -> head.after.norm
    head                              -> head.fc.fc
    dist_head                         -> head.fc.distilled
"""
)
AUTHORS, AUTHORS_SMALL, AUTHORS_BASE = (authors(d) for d in ((3, 4, 9, 3), (3, 4, 16, 3), (3, 6, 21, 3)))
