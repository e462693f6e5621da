"""CvT: convolutions make the tokens of each stage, and the queries, keys and values. Wu et al., 2021, arXiv:2103.15808

Convolutions know where they are, so there are no positions and any size will do. A class token joins in the last stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Features, Network, PreNorm
from ..blocks.stage import Blocks
from ..blocks.tokens import FirstToken, Prefix, TokenClassifier
from ..channels.mlp import Mlp
from ..layers import Conv, LayerNorm, ramp
from ..layers.act import QuickGelu
from ..layers.init import initialise, trunc02
from ..registry import about, family
from ..width import Groups, Width, each


def dwconv(dim: int, stride: int) -> nn.Module:
    return Conv(dim, dim, 3, stride, groups=dim, act=None)


def average(dim: int, stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride, 1, ceil_mode=True) if stride > 1 else nn.Identity()


class ConvAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(C)) v), q, k, v = linear(local(map)); k and v at half the rows and columns

    Tokens on no grid go past `local(dim, stride)`. The scale is that of all channels, not of a head's.
    """

    def __init__(self, dim: int, heads: int, local: Callable[[int, int], nn.Module] = dwconv):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.local_q, self.local_k, self.local_v = local(dim, 1), local(dim, 2), local(dim, 2)
        self.q, self.k, self.v = (nn.Linear(dim, inner) for _ in range(3))
        self.proj, self.scale = nn.Linear(inner, dim), int(dim) ** -0.5

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        leading = x.shape[1] - grid[0] * grid[1]
        prefix, places = x[:, :leading], x[:, leading:].mT.unflatten(2, grid)

        def heads(local: nn.Module, linear: nn.Module) -> Tensor:
            tokens = torch.cat([prefix, local(places).flatten(2).mT], 1)
            return linear(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = heads(self.local_q, self.q), heads(self.local_k, self.k), heads(self.local_v, self.v)
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(y.transpose(1, 2).flatten(2))


class TokenStage(nn.Module):
    """blocks(prefix(down(map))): a map (B, C, H, W) to tokens (B, P + N, C), beside their grid"""

    def __init__(self, down: nn.Module, blocks: Iterable[nn.Module], prefix: nn.Module | None = None):
        super().__init__()
        self.down, self.prefix, self.blocks = down, prefix or nn.Identity(), Blocks(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.down(x)
        grid, x = (x.shape[2], x.shape[3]), self.prefix(x.flatten(2).mT)
        for block in self.blocks:
            x = self.blocks.run(block, x, grid)
        return x, grid


class TokenPyramid(nn.Module):
    """Stages from map to map; a tap is the map behind a stage, the sequence is the last stage's tokens"""

    def __init__(self, stages: Iterable[nn.Module], widths: Sequence[int]):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.widths, self.strides = list(widths), [4 * 2**i for i in range(len(widths))]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        wanted, made, tokens = [tap % len(self.stages) for tap in taps], {}, x
        for i, stage in enumerate(islice(self.stages, max(wanted) + 1)):
            tokens, grid = stage(x)
            leading = tokens.shape[1] - grid[0] * grid[1]
            made[i] = x = tokens[:, leading:].mT.unflatten(2, grid)
        return Features([made[i] for i in wanted], [self.strides[i] for i in wanted], tokens, leading)


@family(
    about(title="CvT: Introducing Convolutions to Vision Transformers", arxiv="2103.15808", licence="MIT"),
    cvt_13=dict(depths=(1, 2, 10), dims=(64, 192, 384), heads=(1, 3, 6)),
    cvt_21=dict(depths=(1, 4, 16), dims=(64, 192, 384), heads=(1, 3, 6)),
    cvt_w24=dict(depths=(2, 2, 20), dims=(192, 768, 1024), heads=(3, 12, 16), native=384),
)
def cvt(
    depths: Sequence[int],
    dims: Sequence[int],
    heads: Sequence[int],
    local: Sequence[Callable[[int, int], nn.Module]] = (dwconv, dwconv, dwconv),
    act: Callable[[], nn.Module] = QuickGelu,
    pool: Callable[[], nn.Module] = FirstToken,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`local` is what makes each stage's queries, keys and values; a class token exists for a `pool` that reads it.

    Only the last stage drops paths.
    """
    dims, last = each(*dims), len(depths) - 1

    def stage(i: int) -> nn.Module:
        kernel, stride, padding = (3, 2, 1) if i else (7, 4, 2)
        conv = nn.Conv2d(dims[i - 1] if i else in_chans, dims[i], kernel, stride, padding)
        mixer, mlp = partial(ConvAttention, dims[i], heads[i], local[i]), partial(Mlp, dims[i], act=act)
        rates = ramp(drop_path_rate if i == last else 0.0, depths[i])
        prefix = Prefix(dims[i], {"cls": 1}) if i == last and pool is FirstToken else None
        down = nn.Sequential(conv, LayerNorm(dims[i], dim=1, eps=1e-5))
        return TokenStage(down, [PreNorm(dims[i], mixer(), mlp(), rate, eps=1e-5) for rate in rates], prefix)

    head = TokenClassifier(dims[-1], num_classes, LayerNorm(dims[-1], eps=1e-5), pool(), drop=drop_rate)
    net = Network(TokenPyramid([stage(i) for i in range(len(depths))], dims), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


AUTHORS = (
    "".join(
        f"stage{{s}}.blocks.{{b}}.attn.conv_proj_{x}.{a} -> backbone.stages.{{s}}.blocks.{{b}}.mixer.local_{x}.{b}\n"
        f"stage{{s}}.blocks.{{b}}.attn.proj_{x} -> backbone.stages.{{s}}.blocks.{{b}}.mixer.{x}\n"
        for x in "qkv"
        for a, b in (("conv", "conv"), ("bn", "norm"))
    )
    + """
    stage{s}.patch_embed.proj       -> backbone.stages.{s}.down.0
    stage{s}.patch_embed.norm       -> backbone.stages.{s}.down.1
    stage{s}.cls_token              -> backbone.stages.{s}.prefix.cls
    stage{s}.blocks.{b}.attn.proj   -> backbone.stages.{s}.blocks.{b}.mixer.proj
    stage{s}.blocks.{b}             -> backbone.stages.{s}.blocks.{b}
    norm                            -> head.before
    head                            -> head.fc
"""
)
NAMES = {"q": "query", "k": "key", "v": "value"}
LAYER = "cvt.encoder.stages.{s}.layers.{b}"
OURS = "backbone.stages.{s}.blocks.{b}"
TRANSFORMERS = (
    "".join(
        f"{LAYER}.attention.attention.convolution_projection_{name}.convolution_projection.{a} -> "
        f"{OURS}.mixer.local_{x}.{b}\n"
        f"{LAYER}.attention.attention.projection_{name} -> {OURS}.mixer.{x}\n"
        for x, name in NAMES.items()
        for a, b in (("convolution", "conv"), ("normalization", "norm"))
    )
    + f"""
    {LAYER}.attention.output.dense  -> {OURS}.mixer.proj
    {LAYER}.intermediate.dense      -> {OURS}.mlp.fc1
    {LAYER}.output.dense            -> {OURS}.mlp.fc2
    {LAYER}.layernorm_before        -> {OURS}.norm1
    {LAYER}.layernorm_after         -> {OURS}.norm2
"""
    + """
    cvt.encoder.stages.{s}.embedding.convolution_embeddings.projection      -> backbone.stages.{s}.down.0
    cvt.encoder.stages.{s}.embedding.convolution_embeddings.normalization   -> backbone.stages.{s}.down.1
    cvt.encoder.stages.{s}.cls_token                                        -> backbone.stages.{s}.prefix.cls
    layernorm                                                               -> head.before
    classifier                                                              -> head.fc
"""
)
