"""ConViT: heads that start as convolutions and may learn to look elsewhere. d'Ascoli et al., 2021, arXiv:2103.10697

The first ten blocks mix attention by content with attention by position, a gate a head; the class token joins behind.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..blocks import Network, PreNorm
from ..blocks.tokens import FirstToken, GridTokens, Prefix, TokenClassifier
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import Positions, grid
from ..mixers.attention import Attention
from ..registry import about, family
from ..width import Concat, Groups, Width


class GatedPositionalAttention(nn.Module):
    """proj(((1 - g) softmax(q k^T / sqrt(d)) + g softmax(where(dx, dy, dx^2 + dy^2))) v), g = sigmoid(gate) a head

    A new head looks only at the pixel one offset away, the offsets of all heads filling a square; v is the identity.
    """

    axes = {"gate": ("heads",)}

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.qk, self.v = nn.Linear(dim, Concat(inner, inner), bias=False), nn.Linear(dim, inner, bias=False)
        self.where, self.proj = nn.Linear(3, self.heads), nn.Linear(inner, dim)
        self.gate = nn.Parameter(torch.ones(self.heads))

    @torch.no_grad()
    def start(self) -> None:
        """Weights that make a convolution of a new attention."""
        nn.init.eye_(self.v.weight)
        for head, (dx, dy) in enumerate(square(int(self.heads))):
            self.where.weight[head] = torch.tensor([2 * dx, 2 * dy, -1.0])

    def weights(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Who looks at whom: (B, heads, N, N), rows that add up to one."""
        q, k = self.qk(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        content = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
        position = self.where(steps(grid).to(x)).permute(2, 0, 1).softmax(-1)
        return content.lerp(position, self.gate.sigmoid()[:, None, None])

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        v = self.v(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.proj((self.weights(x, grid) @ v).transpose(1, 2).flatten(2))


def square(heads: int) -> list[tuple[float, float]]:
    """Offsets (columns, rows) of the heads, filling a square around the pixel."""
    side = math.isqrt(heads)
    middle = (side - 1) / 2 if side % 2 == 0 else side // 2
    return [(j - middle, i - middle) for i in range(side) for j in range(side)]


def steps(grid: tuple[int, int]) -> Tensor:
    """From every pixel of a grid to every other: columns, rows, and the square of the distance (N, N, 3)."""
    rows, columns = grid
    y, x = (torch.arange(rows)[:, None].expand(grid).flatten(), torch.arange(columns).expand(grid).flatten())
    dx, dy = x - x[:, None], y - y[:, None]
    return torch.stack([dx, dy, dx**2 + dy**2], -1).float()


class Plain(PreNorm):
    """A block that does not ask where its tokens stand"""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return super().forward(x)


class Joined(nn.Module):
    """block(prefix(x))"""

    def __init__(self, prefix: nn.Module, block: nn.Module):
        super().__init__()
        self.prefix, self.block = prefix, block

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.block(self.prefix(x), grid)


@torch.no_grad()
def nonlocality(net: Network, images: Tensor) -> Tensor:
    """How far each head looks: mean distance in patches, weighed by attention, (gated blocks, heads); section 4.

    Args:
        net: a ConViT.
        images: (B, C, H, W).
    """
    x, grid = net.backbone.start(images)
    distance = steps(grid)[..., 2].sqrt().to(x)
    out = []
    for block in net.backbone.blocks:
        if isinstance(getattr(block, "mixer", None), GatedPositionalAttention):
            out.append((block.mixer.weights(block.norm1(x), grid) * distance).sum(-1).mean((0, 2)))
        x = block(x, grid)
    return torch.stack(out)


@family(
    about(
        title="ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases",
        arxiv="2103.10697",
        licence="Apache-2.0",
        multiple=16,
    ),
    convit_tiny=dict(heads=4),
    convit_small=dict(heads=9),
    convit_base=dict(heads=16),
)
def convit(
    heads: int,
    head_dim: int = 48,
    depth: int = 12,
    gated: int = 10,
    patch: int = 16,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`gated` blocks of positional attention, then plain ones with a class token."""
    dim, drop = Width(heads * head_dim, "dim"), ramp(drop_path_rate, depth)
    blocks: list[nn.Module] = [
        PreNorm(dim, GatedPositionalAttention(dim, heads), drop=next(drop)) for _ in range(min(gated, depth - 1))
    ]
    plain = [Plain(dim, Attention(dim, heads, qkv_bias=False), drop=rate) for rate in drop]
    blocks += [Joined(Prefix(dim, {"cls": 1}), plain[0]), *plain[1:]]
    backbone = GridTokens(
        nn.Conv2d(in_chans, dim, patch, patch), None, Positions(dim, grid(img_size, patch)), blocks, patch
    )
    head = TokenClassifier(dim, num_classes, before=LayerNorm(dim), pool=FirstToken(), drop=drop_rate)
    net = Network(backbone, head)
    initialise(net, linear=trunc02)
    for m in net.modules():
        if isinstance(m, GatedPositionalAttention):
            m.start()
    return net


TIMM = """
    cls_token                    -> backbone.blocks.10.prefix.cls
    pos_embed                    -> backbone.positions.table
    patch_embed.proj             -> backbone.patches
    blocks.{b}.attn.gating_param -> backbone.blocks.{b}.mixer.gate
    blocks.{b}.attn.pos_proj     -> backbone.blocks.{b}.mixer.where
    blocks.10.attn               -> backbone.blocks.10.block.mixer
    blocks.10                    -> backbone.blocks.10.block
    blocks.{b}.attn              -> backbone.blocks.{b}.mixer
    blocks.{b}                   -> backbone.blocks.{b}
    norm                         -> head.before
    head                         -> head.fc
"""
