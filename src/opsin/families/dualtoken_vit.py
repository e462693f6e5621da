"""DualToken-ViT: local tokens of convolutions and global ones of attention, fused. Chu et al., 2023, arXiv:2309.12424

No code was published. The network follows the paper's description: a map and 7x7 position-aware global tokens run
through all stages; the map attends to a copy of itself that is shrunk step by step, and to the global tokens. Depths,
widths and the tokens' update are ours, chosen for the paper's 0.5 and 1.0 G multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Features, Network
from ..blocks.stage import Blocks
from ..layers import Conv, DropPath, LayerNorm, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.dual_token import GlobalAttention, TokenUpdate
from ..registry import about, family
from ..width import Concat, Width, each

SIDE = 7  # rows and columns of the global tokens


class LocalEncoder(nn.Module):
    """x + drop(fc2(gelu(fc1(norm(dwconv(x)))))): what is near"""

    def __init__(self, dim: int, drop: float = 0.0):
        super().__init__()
        hidden = Width(2 * dim, "hidden")
        self.dwconv, self.norm = nn.Conv2d(dim, dim, 5, padding=2, groups=dim), nn.BatchNorm2d(dim)
        self.fc1, self.act, self.fc2 = nn.Conv2d(dim, hidden, 1), GELU(), nn.Conv2d(hidden, dim, 1)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.fc2(self.act(self.fc1(self.norm(self.dwconv(x))))))


class DualTokenBlock(nn.Module):
    """x = x + drop(fuse[local, attention(local, g)]) , then x + drop(mlp(norm(x))); g = update(g, local)"""

    def __init__(self, dim: int, heads: int, steps: int, drop: float = 0.0):
        super().__init__()
        hidden = Width(4 * dim, "hidden")
        self.local, self.update, self.norm1 = LocalEncoder(dim, drop), TokenUpdate(SIDE), LayerNorm(dim, dim=1)
        self.mixer, self.fuse = GlobalAttention(dim, heads, steps, SIDE), nn.Conv2d(Concat(dim, dim), dim, 1)
        self.norm2, self.drop = LayerNorm(dim, dim=1), DropPath(drop)
        self.mlp = nn.Sequential(nn.Conv2d(dim, hidden, 1), GELU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        local = self.local(x)
        g = self.update(g, local)
        x = x + self.drop(self.fuse(torch.cat([local, self.mixer(self.norm1(local), g)], 1)))
        return x + self.drop(self.mlp(self.norm2(x))), g


class DualStage(nn.Module):
    """blocks(down(x), turn(g)): to the next resolution and width, then blocks on the map and the global tokens"""

    def __init__(self, blocks: Iterable[nn.Module], down: nn.Module, turn: nn.Module):
        super().__init__()
        self.down, self.turn, self.blocks = down, turn, Blocks(*blocks)

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        x, g = self.down(x), self.turn(g)
        for block in self.blocks:
            x, g = self.blocks.run(block, x, g)
        return x, g


class GlobalTokens(nn.Module):
    """The first global tokens (B, 49, C), learned, one for each part of a 7x7 grid"""

    axes = {"table": (None, None, "dim")}
    no_decay = ("table",)

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.table = dim, nn.Parameter(0.02 * torch.randn(1, SIDE**2, dim))

    def forward(self, batch: int) -> Tensor:
        return 1.0 * self.table.expand(batch, -1, -1)


class DualPyramid(nn.Module):
    """Stem, then stages of a map and the global tokens; taps are the maps, `states` the tokens behind each stage"""

    def __init__(self, stem: nn.Module, stages: Iterable[nn.Module], widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.stem, self.positions, self.stages = stem, GlobalTokens(widths[0]), nn.ModuleList(stages)
        self.widths, self.strides = list(widths), list(strides)

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        wanted = [tap % len(self.stages) for tap in taps]
        x, g = self.stem(x), self.positions(len(x))
        maps, states = [], []
        for stage in self.stages[: max(wanted) + 1]:
            x, g = stage(x, g)
            maps.append(x)
            states.append(g)
        return Features([maps[i] for i in wanted], [self.strides[i] for i in wanted], states=states)


@family(
    about(
        title="DualToken-ViT: Position-aware Efficient Vision Transformer with Dual Token Fusion",
        arxiv="2309.12424",
        licence="MIT",
    ),
    dualtoken_vit_t=dict(depths=(2, 3, 2), dims=(64, 128, 256), heads=(2, 4, 8)),
    dualtoken_vit_s=dict(depths=(1, 3, 2), dims=(96, 192, 384), heads=(3, 6, 12)),
)
def dualtoken_vit(
    depths: Sequence[int],
    dims: Sequence[int],
    heads: Sequence[int],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    thin, half = Width(dims[0] // 4, "stem"), Width(dims[0] // 2, "stem")
    stem = nn.Sequential(Conv(in_chans, thin, 3, 2), Conv(thin, half, 3, 2), Conv(half, dims[0], 3, 2, act=None))
    last = len(depths) - 1

    def stage(i: int) -> nn.Module:
        blocks = [DualTokenBlock(dims[i], heads[i], last - i, next(drop)) for _ in range(depths[i])]
        if i == 0:
            return DualStage(blocks, nn.Identity(), nn.Identity())
        return DualStage(blocks, Conv(dims[i - 1], dims[i], 3, 2, act=None), nn.Linear(dims[i - 1], dims[i]))

    backbone = DualPyramid(stem, [stage(i) for i in range(len(depths))], dims, [8 * 2**i for i in range(len(depths))])
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1), drop=drop_rate)
    net = Network(backbone, head)
    initialise(net, linear=trunc02)
    return net
