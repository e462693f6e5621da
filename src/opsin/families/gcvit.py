"""GC ViT: windows that ask the whole image's questions. Hatamizadeh et al., 2022, arXiv:2206.09959

Every second block takes its queries from a summary of the stage's map, one for all windows of an image; keys and values
are each window's own. Convolutions with squeeze and excitation make the summary and stand between stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.stage import Stage
from ..channels.mlp import Mlp
from ..layers import LayerNorm, SqueezeExcite, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.position import RelativeBias
from ..mixers.attention import attend
from ..mixers.window import WindowAttention, parted, whole
from ..registry import about, family
from ..width import Concat, Groups, each

SHRINKS = (3, 2, 0, 0)  # how often each stage's map is halved to the size of its windows
SHARES = (32, 32, 16, 32)  # pixels of the image a pixel of the stage's window


class FusedConv(nn.Module):
    """x + pointwise(excite(gelu(dwconv(x))))"""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv, self.act = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False), GELU()
        self.excite = SqueezeExcite(dim, dim // 4, GELU, bias=False)
        self.pointwise = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(self.excite(self.act(self.dwconv(x))))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(
        LayerNorm(cin, dim=1, eps=1e-5),
        FusedConv(cin),
        nn.Conv2d(cin, cout, 3, 2, 1, bias=False),
        LayerNorm(cout, dim=1, eps=1e-5),
    )


class Summary(nn.Module):
    """A map (B, C, H, W) as one of a window's size (B, C, n, n): `times` convolutions with pooling, or one without

    Where the image's size leaves another number of pixels, they are interpolated.
    """

    def __init__(self, dim: int, times: int, window: int):
        super().__init__()
        self.window = window
        self.convs = nn.ModuleList(FusedConv(dim) for _ in range(max(times, 1)))
        self.pool = nn.MaxPool2d(3, 2, 1) if times else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = self.pool(conv(x))
        size = (self.window, self.window)
        return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear")


class GlobalQueryAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d) + bias) v) inside windows of a (B, H, W, C) map, q (B, C, n, n) the same in all

    Maps that windows do not fill are padded below and right with zeros, which take part in the attention. `dim` is
    Groups of `heads`, whose channels the query already has.
    """

    def __init__(self, dim: int, heads: int, window: int):
        super().__init__()
        self.window, self.heads = window, heads
        self.bias, self.kv, self.proj = (
            RelativeBias(heads, window),
            nn.Linear(dim, Concat(dim, dim)),
            nn.Linear(dim, dim),
        )

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        (_, h, w, _), n = x.shape, self.window
        windows, grid = parted(F.pad(x, (0, 0, 0, -w % n, 0, -h % n)), n)
        k, v = self.kv(windows).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = query.flatten(2).unflatten(1, (self.heads, -1)).mT.repeat_interleave(grid[0] * grid[1], 0)
        y = attend(q, k, v, self.bias()[None])
        return whole(self.proj(y.transpose(1, 2).flatten(2)), n, grid)[:, :h, :w]


class GlobalStage(Stage):
    """blocks(down(x)), every second of which is given the stage's queries"""

    def __init__(self, blocks: Iterable[nn.Module], down: nn.Module | None, summary: nn.Module):
        super().__init__(blocks, down)
        self.summary = summary

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        query, x = self.summary(x), x.movedim(1, -1)
        for i, block in enumerate(self.blocks):
            x = self.blocks.run(block, x, query) if i % 2 else self.blocks.run(block, x)
        return x.movedim(-1, 1)


SMALL: dict[str, Any] = dict(ratio=2.0, scale=1e-5)


@family(
    about(
        title="Global Context Vision Transformers",
        arxiv="2206.09959",
        licence="LicenseRef-NVIDIA-Source-Code",
        multiple=4,
    ),
    gcvit_xxtiny=dict(depths=(2, 2, 6, 2), dim=64, heads=(2, 4, 8, 16)),
    gcvit_xtiny=dict(depths=(3, 4, 6, 5), dim=64, heads=(2, 4, 8, 16)),
    gcvit_tiny=dict(depths=(3, 4, 19, 5), dim=64, heads=(2, 4, 8, 16)),
    gcvit_small=dict(depths=(3, 4, 19, 5), dim=96, heads=(3, 6, 12, 24), **SMALL),
    gcvit_base=dict(depths=(3, 4, 19, 5), dim=128, heads=(4, 8, 16, 32), **SMALL),
)
def gcvit(
    depths: Sequence[int],
    dim: int,
    heads: Sequence[int],
    ratio: float = 3.0,
    scale: float | None = None,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Windows are a share of `img_size`; `scale` starts LayerScale."""
    heads, drop = each(*heads, name="heads"), ramp(drop_path_rate, sum(depths))
    dims = [Groups(h, dim * 2**i // h) for i, h in enumerate(heads)]  # the summary's channels are the heads' queries

    def block(i: int, j: int, window: int) -> nn.Module:
        kind = GlobalQueryAttention if j % 2 else WindowAttention
        mixer = kind(dims[i], heads[i], window)
        return PreNorm(dims[i], mixer, Mlp(dims[i], ratio), next(drop), eps=1e-5, scale=scale)

    def stage(i: int) -> nn.Module:
        window = img_size // SHARES[i]
        blocks = [block(i, j, window) for j in range(depths[i])]
        down = halve(dims[i - 1], dims[i]) if i else None
        return GlobalStage(blocks, down, Summary(dims[i], SHRINKS[i], window))

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 3, 2, 1), halve(dims[0], dims[0]))
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1, eps=1e-5), drop=drop_rate)
    net = Network(Pyramid(stem, [stage(i) for i in range(4)], [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


FUSED = {"conv_dw": "dwconv", "se.fc1": "excite.reduce", "se.fc2": "excite.expand", "conv_pw": "pointwise"}


def halving(theirs: str, ours: str) -> str:
    """Rules for the step between two stages."""
    parts = {"norm1": "0", "reduction": "2", "norm2": "3"} | {f"conv_block.{k}": f"1.{v}" for k, v in FUSED.items()}
    return "".join(f"{theirs}.{a} -> {ours}.{b}\n" for a, b in parts.items())


TIMM = (
    halving("stem.down", "backbone.stem.1")
    + halving("stages.{s}.downsample", "backbone.stages.{s}.down")
    + "".join(
        f"stages.{{s}}.global_block.blocks.conv{{i}}.{a} -> backbone.stages.{{s}}.summary.convs.{{i-1}}.{b}\n"
        for a, b in FUSED.items()
    )
    + "".join(
        f"stages.{{s}}.blocks.{j}.attn.{a} -> backbone.stages.{{s}}.blocks.{j}.mixer.{b}\n"
        for j in range(1, 19, 2)
        for a, b in {"qkv": "kv", "proj": "proj"}.items()
    )
    + """
    stem.conv1                                                  -> backbone.stem.0
    stages.{s}.blocks.{b}.attn.rel_pos.relative_position_bias_table -> backbone.stages.{s}.blocks.{b}.mixer.bias.table
    stages.{s}.blocks.{b}.attn                                  -> backbone.stages.{s}.blocks.{b}.mixer.attn
    stages.{s}.blocks.{b}.ls{i}.gamma                           -> backbone.stages.{s}.blocks.{b}.scale{i}.gamma
    stages.{s}.blocks.{b}                                       -> backbone.stages.{s}.blocks.{b}
    stages.{s}.norm                                             -> head.before
    head.fc                                                     -> head.fc
"""
)
