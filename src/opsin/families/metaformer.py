"""MetaFormer: the body of a transformer, with any token mixer in it. Yu et al., 2021, arXiv:2111.11418

PoolFormer mixes by pooling alone. The baselines (Yu et al., 2022, arXiv:2210.13452) mix by nothing (IdentityFormer), a
frozen random matrix (RandFormer), pooling (PoolFormerV2), separable convolutions (ConvFormer), and those below with
attention above (CAFormer); they bring StarReLU, norms without bias, and a gain on the shortcut of the last two stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.layouts import named
from ..blocks.stage import LastBlocks
from ..channels.mlp import Mlp
from ..layers import DropPath, ImageNorm, LayerNorm, Scale, StarReLU, ramp
from ..layers.act import SquaredReLU
from ..layers.init import initialise, trunc02
from ..layers.position import grid
from ..mixers.attention import MapAttention
from ..mixers.identity import Identity
from ..mixers.pooling import Pooling
from ..mixers.random import RandomMixing
from ..mixers.separable import SeparableConv
from ..registry import UnsupportedArgument, about, family
from ..width import Width, each

Make = Callable[[int], nn.Module]


class MetaFormerBlock(nn.Module):
    """x = keep1(x) + drop(scale1(mixer(norm1(x)))), then the same with mlp; channels last"""

    def __init__(self, dim: int, mixer: Make, mlp: Make, norm: Make, scale: Make, keep: Make, drop: float = 0.0):
        super().__init__()
        self.norm1, self.mixer, self.scale1, self.keep1 = norm(dim), mixer(dim), scale(dim), keep(dim)
        self.norm2, self.mlp, self.scale2, self.keep2 = norm(dim), mlp(dim), scale(dim), keep(dim)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.keep1(x) + self.drop(self.scale1(self.mixer(self.norm1(x))))
        return self.keep2(x) + self.drop(self.scale2(self.mlp(self.norm2(x))))


def attention(dim: int) -> nn.Module:
    return MapAttention(dim, dim // 32, qkv_bias=False, proj_bias=False)


def plain(dim: int, num_classes: int, drop: float) -> nn.Module:
    return Classifier(dim, num_classes, after=LayerNorm(dim), drop=drop)


def widened(dim: int, num_classes: int, drop: float) -> nn.Module:
    """A hidden layer of four times the width in front of the classifier."""
    hidden = Width(4 * dim, "hidden")
    after = nn.Sequential(LayerNorm(dim), nn.Linear(dim, hidden), SquaredReLU(), LayerNorm(hidden, eps=1e-5))
    return Classifier(hidden, num_classes, after=after, drop=drop)


POOL, WIDE = (
    ((64, 128, 320, 512), (96, 192, 384, 768)),
    ((64, 128, 320, 512), (96, 192, 384, 576), (128, 256, 512, 768)),
)
SMALL: dict[str, dict[str, Any]] = {
    "s12": dict(depths=(2, 2, 6, 2), dims=POOL[0]),
    "s24": dict(depths=(4, 4, 12, 4), dims=POOL[0]),
    "s36": dict(depths=(6, 6, 18, 6), dims=POOL[0]),
    "m36": dict(depths=(6, 6, 18, 6), dims=POOL[1]),
    "m48": dict(depths=(8, 8, 24, 8), dims=POOL[1]),
}
LARGE: dict[str, dict[str, Any]] = {
    "s18": dict(depths=(3, 3, 9, 3), dims=WIDE[0]),
    "s36": dict(depths=(3, 12, 18, 3), dims=WIDE[0]),
    "m36": dict(depths=(3, 12, 18, 3), dims=WIDE[1]),
    "b36": dict(depths=(3, 12, 18, 3), dims=WIDE[2]),
}
channels: Make = partial(LayerNorm, bias=False)
channels_first: Make = partial(LayerNorm, dim=1, bias=False)
image: Make = partial(ImageNorm, bias=False)
star: Make = partial(Mlp, act=StarReLU, bias=False)
one: Make = partial(Scale, init=1.0)
BASELINES = dict(arxiv="2210.13452", title="MetaFormer Baselines for Vision")
POOLFORMER = dict(norm=partial(ImageNorm, eps=1e-5), mlp=Mlp, between=nn.Identity, keeps=(nn.Identity,) * 4)
CONVFORMER = dict(mixers=(SeparableConv,) * 4, norm=channels, head=widened, **BASELINES)
CAFORMER = dict(mixers=(SeparableConv, SeparableConv, attention, attention), norm=channels, head=widened, **BASELINES)


def sizes(prefix: str, table: dict[str, dict[str, Any]], **more: Any) -> dict[str, dict[str, Any]]:
    return {f"{prefix}_{size}": {**entry, **more} for size, entry in table.items()}


PAPER = about(title="MetaFormer Is Actually What You Need for Vision", arxiv="2111.11418", licence="Apache-2.0")


@family(
    PAPER,
    **{
        name: {**entry, "scale": partial(Scale, init=1e-5 if name[-3:] in ("s12", "s24") else 1e-6)}
        for name, entry in sizes("poolformer", SMALL, **POOLFORMER).items()
    },
    **sizes("poolformerv2", SMALL, **BASELINES),
    **sizes("identityformer", SMALL, mixers=(Identity,) * 4, **BASELINES),
    **sizes("convformer", LARGE, **CONVFORMER),
    **sizes("caformer", LARGE, **CAFORMER),
    metaformer=dict(**SMALL["s12"], mixers=("separable", "separable", "attention", "attention"), **BASELINES),
)
def metaformer(
    depths: Sequence[int],
    dims: Sequence[int],
    mixers: Sequence[str | Make] = (Pooling,) * 4,
    norm: str | Make = image,
    mlp: str | Make = star,
    between: Make = channels_first,
    scale: Make = nn.Identity,
    keeps: Sequence[Make] = (nn.Identity, nn.Identity, one, one),
    head: Callable[..., nn.Module] = plain,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """A mixer for each stage; `norm` in blocks, `between` stages; gains on branches (`scale`) and shortcuts.

    Mixers, mlp and norm may be operators as text: `mixers=("pooling", "separable(kernel=5)", "attention", "window")`.
    """
    if len(mixers) != len(depths) or len(dims) != len(depths):
        raise UnsupportedArgument(f"depths {depths}, dims {dims} and mixers {mixers} should have one entry a stage")
    made, norm, mlp = [named(mixer) for mixer in mixers], named(norm), named(mlp)
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))

    def down(i: int) -> nn.Module:
        return nn.Sequential(between(dims[i - 1]), nn.Conv2d(dims[i - 1], dims[i], 3, 2, 1))

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 7, 4, 2), between(dims[0]))
    stages = [
        LastBlocks(
            [MetaFormerBlock(dims[i], made[i], mlp, norm, scale, keeps[i], next(drop)) for _ in range(depth)],
            down(i) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head(dims[-1], num_classes, drop_rate))
    initialise(net, conv=trunc02, linear=trunc02)
    return net


@family(PAPER, **sizes("randformer", SMALL, img_size=224, **BASELINES))
def randformer(
    depths: Sequence[int],
    dims: Sequence[int],
    img_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Nothing mixes in the first two stages, where a matrix over all places would be large."""
    random = [partial(RandomMixing, grid=grid(img_size, stride)) for stride in (16, 32)]
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return metaformer(depths, dims, (Identity, Identity, *random), **more)


def table(block: str, rest: str) -> str:
    """Rules for published blocks under the name `block`, and for the rest."""
    ours = "backbone.stages.{s}.blocks.{b}"
    return f"""
    {block}.token_mixer.pwconv1          -> {ours}.mixer.proj_in
    {block}.token_mixer.pwconv2          -> {ours}.mixer.proj_out
    {block}.token_mixer.act1             -> {ours}.mixer.act
    {block}.token_mixer.dwconv           -> {ours}.mixer.dwconv
    {block}.token_mixer.random_matrix    -> {ours}.mixer.matrix
    {block}.token_mixer                  -> {ours}.mixer.attn
    {block}.layer_scale{{i}}.scale       -> {ours}.scale{{i}}.gamma
    {block}.res_scale{{i}}.scale         -> {ours}.keep{{i}}.gamma
    {block}                              -> {ours}
    {rest}"""


STEM = """
    stem.conv                            -> backbone.stem.0
    stem.norm                            -> backbone.stem.1
    stages.{s}.downsample.norm           -> backbone.stages.{s}.down.0
    stages.{s}.downsample.conv           -> backbone.stages.{s}.down.1
"""
TIMM = table(
    "stages.{s}.blocks.{b}",
    STEM
    + """
    head.norm                            -> head.after
    head.fc                              -> head.fc
""",
)
TIMM_WIDENED = table(
    "stages.{s}.blocks.{b}",
    STEM
    + """
    head.norm                            -> head.after.0
    head.fc.fc1                          -> head.after.1
    head.fc.norm                         -> head.after.3
    head.fc.fc2                          -> head.fc
""",
)
DOWN = """
    downsample_layers.0.conv             -> backbone.stem.0
    downsample_layers.0.post_norm        -> backbone.stem.1
    downsample_layers.{s}.pre_norm       -> backbone.stages.{s}.down.0
    downsample_layers.{s}.conv           -> backbone.stages.{s}.down.1
"""
AUTHORS = table(
    "stages.{s}.{b}",
    DOWN
    + """
    norm                                 -> head.after
    head                                 -> head.fc
""",
)
AUTHORS_WIDENED = table(
    "stages.{s}.{b}",
    DOWN
    + """
    norm                                 -> head.after.0
    head.fc1                             -> head.after.1
    head.norm                            -> head.after.3
    head.fc2                             -> head.fc
""",
)
