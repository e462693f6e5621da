"""CAS-ViT: a transformer for phones whose attention adds and convolves. Zhang et al., 2024, arXiv:2408.03703

Each block sees its neighbours, then mixes by additive attention, then mixes channels; all norms are batch norms. Two
classifiers are averaged, of which a teacher may train one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.two_heads import TwoHeadClassifier
from ..layers import DropPath, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.additive import AdditiveAttention
from ..registry import about, family
from ..width import Width, each


def mlp(dim: int, ratio: float) -> nn.Module:
    """fc2(gelu(fc1(x))) over maps (B, C, H, W)"""
    hidden = Width(int(ratio * dim), "hidden")
    return nn.Sequential(OrderedDict(fc1=nn.Conv2d(dim, hidden, 1), act=GELU(), fc2=nn.Conv2d(hidden, dim, 1)))


class AdditiveBlock(nn.Module):
    """x + near(x), then x + drop(mixer(norm1(x))), then x + drop(mlp(norm2(x))); maps (B, C, H, W)"""

    def __init__(self, dim: int, ratio: float = 4.0, bias: bool = False, drop: float = 0.0):
        super().__init__()
        local = Width(int(dim), "near")
        dwconv = nn.Conv2d(local, local, 3, padding=1, groups=local)
        self.near = nn.Sequential(
            nn.Conv2d(dim, local, 1), nn.BatchNorm2d(local), dwconv, GELU(), nn.Conv2d(local, dim, 1)
        )
        self.norm1, self.mixer = nn.BatchNorm2d(dim), AdditiveAttention(dim, bias)
        self.norm2, self.mlp = nn.BatchNorm2d(dim), mlp(dim, ratio)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.near(x)
        x = x + self.drop(self.mixer(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


def halve(cin: int, cout: int) -> list[nn.Module]:
    return [nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout)]


def two(dim: int, num_classes: int, drop: float) -> nn.Module:
    return TwoHeadClassifier(dim, num_classes, before=nn.BatchNorm2d(dim), drop=drop)


def one(dim: int, num_classes: int, drop: float) -> nn.Module:
    return Classifier(dim, num_classes, before=nn.BatchNorm2d(dim), drop=drop)


@family(
    about(
        title="CAS-ViT: Convolutional Additive Self-attention Vision Transformers for Efficient Mobile Applications",
        arxiv="2408.03703",
        licence="MIT",
    ),
    rcvit_xs=dict(depths=(2, 2, 4, 2), dims=(48, 56, 112, 220)),
    rcvit_s=dict(depths=(3, 3, 6, 3), dims=(48, 64, 128, 256)),
    rcvit_m=dict(depths=(3, 3, 6, 3), dims=(64, 96, 192, 384)),
    rcvit_t=dict(depths=(3, 3, 6, 3), dims=(96, 128, 256, 512)),
)
def cas_vit(
    depths: Sequence[int],
    dims: Sequence[int],
    ratio: float = 4.0,
    bias: bool = False,
    head: Callable[..., nn.Module] = two,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`bias` is that of queries, keys and values."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    hidden = Width(dims[0] // 2, "stem")
    stem = nn.Sequential(*halve(in_chans, hidden), nn.ReLU(), *halve(hidden, dims[0]), nn.ReLU())
    stages = [
        Stage(
            [AdditiveBlock(dims[i], ratio, bias, next(drop)) for _ in range(depth)],
            nn.Sequential(*halve(dims[i - 1], dims[i])) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32])
    net = Network(backbone, head(dims[-1], num_classes, drop_rate))
    initialise(net.head, linear=trunc02)
    return net


def stage(s: int) -> str:
    """Rules for a stage, which is entry 2s of the published list, behind its change of resolution."""
    theirs, ours = f"network.{2 * s}.{{b}}", f"backbone.stages.{s}.blocks.{{b}}"
    gates = "".join(
        f"""
    {theirs}.attn.oper_{z}.0.block          -> {ours}.mixer.{z}.0.weigh
    {theirs}.attn.oper_{z}.1.block.1        -> {ours}.mixer.{z}.1.conv"""
        for z in "qk"
    )
    return f"""
    network.{2 * s - 1}.proj                -> backbone.stages.{s}.down.0
    network.{2 * s - 1}.norm                -> backbone.stages.{s}.down.1
    {theirs}.local_perception.network -> {ours}.near
    {theirs}.attn.dwc                 -> {ours}.mixer.near
    {gates}
    {theirs}.attn                     -> {ours}.mixer
    {theirs}                          -> {ours}
"""


BODY = "patch_embed -> backbone.stem" + "".join(map(stage, range(4)))
AUTHORS = (
    BODY
    + """
    norm                              -> head.before
    head                              -> head.fc.labels
    dist_head                         -> head.fc.teacher
"""
)
AUTHORS_ONE_HEAD = (
    BODY
    + """
    norm                              -> head.before
    head                              -> head.fc
"""
)
