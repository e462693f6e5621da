"""LMUFormer: sequences by Legendre memories, in parallel or step by step, also in spikes. Liu et al., arXiv:2402.04882

Takes (B, N, C), such as a spectrogram's frames, and gives logits (B, classes). Inside, sequences are (B, C, N).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.spike import LeakyFire
from ..mixers.legendre import LegendreCell, SpikingCell

Make = Callable[[int], nn.Module]


def conv(cin: int, cout: int) -> nn.Module:
    return nn.Conv1d(cin, cout, 3, padding=1, bias=False)


def point(cin: int, cout: int, bias: bool = True) -> nn.Module:
    return nn.Conv1d(cin, cout, 1, bias=bias)


class Tokenizer(nn.Module):
    """y + place(y), y four times norm(relu(conv(x)))"""

    def __init__(self, cin: int, dim: int):
        super().__init__()
        self.convs = nn.ModuleList(conv(a, dim) for a in (cin, dim, dim, dim))
        self.norms, self.place = nn.ModuleList(nn.BatchNorm1d(dim) for _ in range(4)), conv(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms):
            x = norm(F.relu(conv(x)))
        return x + self.place(x)


class SpikingTokenizer(Tokenizer):
    """y + fire(norm(place(y))), y four times fire(norm(conv(x)))"""

    def __init__(self, cin: int, dim: int):
        super().__init__(cin, dim)
        self.last, self.fire = nn.BatchNorm1d(dim), LeakyFire()

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms):
            x = self.fire(norm(conv(x)))
        return x + self.fire(self.last(self.place(x)))


class MembraneTokenizer(Tokenizer):
    """y + place(fire(norm(y))), y = conv of three times fire(norm(conv(x))): the shortcut is no spike"""

    def __init__(self, cin: int, dim: int):
        super().__init__(cin, dim)
        self.fire = LeakyFire()

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs[:3], self.norms):
            x = self.fire(norm(conv(x)))
        x = self.convs[3](x)
        return x + self.place(self.fire(self.norms[3](x)))


class Memory(nn.Module):
    """norm(proj(cell(x)))"""

    def __init__(self, dim: int, theta: float = 128):
        super().__init__()
        self.cell, self.proj, self.norm = LegendreCell(dim, dim, dim, theta), point(dim, dim), nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(self.cell(x.mT).mT))


class SpikingMemory(Memory):
    """fire(norm(proj(cell(x)))), the cell in spikes and with twice the memory"""

    def __init__(self, dim: int, theta: float = 128):
        super().__init__(dim, theta)
        self.cell, self.fire = SpikingCell(dim, dim, 2 * dim, theta), LeakyFire()

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(super().forward(x))


class MembraneMemory(SpikingMemory):
    """norm(proj(cell(fire(before(x)))))"""

    def __init__(self, dim: int, theta: float = 128):
        super().__init__(dim, theta)
        self.before, self.fire = nn.BatchNorm1d(dim), LeakyFire(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return Memory.forward(self, self.fire(self.before(x)))


class SpikingAttention(nn.Module):
    """norm(proj(fire((q k^T) v / 4))), q, k, v = fire(norm(conv(fire(before(x))))), without softmax"""

    def __init__(self, dim: int, heads: int = 16):
        super().__init__()
        self.heads, self.before, self.fire, self.late = heads, nn.BatchNorm1d(dim), LeakyFire(), LeakyFire(0.5)
        self.qkv = nn.ModuleList(point(dim, dim, False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim) for _ in range(3))
        self.proj, self.norm = point(dim, dim), nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(self.before(x))
        q, k, v = (self.fire(n(p(x))).mT.unflatten(2, (self.heads, -1)).transpose(1, 2) for p, n in self.pairs())
        y = ((q @ k.mT) @ v * 0.25).mT.flatten(1, 2)
        return self.norm(self.proj(self.late(y)))

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return list(zip(self.qkv, self.norms))


class Ffn(nn.Module):
    """relu(norm2(fc2(gelu(norm1(fc1(x))))))"""

    def __init__(self, dim: int, ratio: float = 4):
        super().__init__()
        hidden = int(ratio * dim)
        self.fc1, self.norm1 = point(dim, hidden), nn.BatchNorm1d(hidden)
        self.fc2, self.norm2 = point(hidden, dim), nn.BatchNorm1d(dim)
        self.act1, self.act2 = self.acts()

    def acts(self) -> tuple[nn.Module, nn.Module]:
        return nn.GELU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(self.norm2(self.fc2(self.act1(self.norm1(self.fc1(x))))))


class SpikingFfn(Ffn):
    """fire(norm2(fc2(fire(norm1(fc1(x))))))"""

    def acts(self) -> tuple[nn.Module, nn.Module]:
        return LeakyFire(), LeakyFire()


class MembraneFfn(nn.Module):
    """fc2(fire(norm2(fc1(fire(norm1(x))))))"""

    def __init__(self, dim: int, ratio: float = 4):
        super().__init__()
        hidden = int(ratio * dim)
        self.fc1, self.fc2 = point(dim, hidden), point(hidden, dim)
        self.norm1, self.norm2, self.fire = nn.BatchNorm1d(dim), nn.BatchNorm1d(hidden), LeakyFire()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fire(self.norm2(self.fc1(self.fire(self.norm1(x))))))


class Block(nn.Module):
    """x + mixer(x), then x + mlp(x)"""

    def __init__(self, mixer: nn.Module, mlp: nn.Module):
        super().__init__()
        self.mixer, self.mlp = mixer, mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(x)
        return x + self.mlp(x)


class LMUFormer(nn.Module):
    """fc(mean over places of behind(blocks(tokens(x)))), (B, N, C) to (B, classes)

    `so_far` answers behind every place (N, B, classes).
    """

    def __init__(
        self,
        tokens: nn.Module,
        mixer: Make = Memory,
        mlp: Make = Ffn,
        dim: int = 256,
        depth: int = 1,
        classes: int = 35,
        behind: nn.Module | None = None,
    ):
        super().__init__()
        self.tokens, self.behind = tokens, behind or nn.Identity()
        self.blocks = nn.Sequential(*(Block(mixer(dim), mlp(dim)) for _ in range(depth)))
        self.fc = nn.Linear(dim, classes)

    def places(self, x: Tensor) -> Tensor:
        """Features (B, N, dim) of every place."""
        return self.behind(self.blocks(self.tokens(x.mT))).mT

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.places(x).mean(1))

    def so_far(self, x: Tensor) -> Tensor:
        x = self.places(x).transpose(0, 1)
        seen = torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device)
        return self.fc(x.cumsum(0) / seen[:, None, None])


def lmuformer(cin: int = 128, dim: int = 256, classes: int = 35) -> LMUFormer:
    return LMUFormer(Tokenizer(cin, dim), dim=dim, classes=classes)


def spiking_lmuformer(cin: int = 128, dim: int = 256, classes: int = 35, mixer: Make = MembraneMemory) -> LMUFormer:
    """In spikes, with shortcuts between membranes; `SpikingAttention` in place of memories is its baseline."""
    behind = nn.Sequential(nn.BatchNorm1d(dim), LeakyFire())
    return LMUFormer(MembraneTokenizer(cin, dim), mixer, MembraneFfn, dim, classes=classes, behind=behind)


CELL = """
    A ->
    B ->
    H ->
    fft_H ->
    W_u       -> read
    W_h       -> out
    bn_u      -> norms.0
    bn_m      -> norms.1
    bn_h      -> norms.2
"""
AUTHORS = """
    block.{b}.attn.lmu.A ->
    block.{b}.attn.lmu.B ->
    block.{b}.attn.lmu.H ->
    block.{b}.attn.lmu.fft_H ->
    patch_embed.conv_layers.{i}.0     -> tokens.convs.{i}
    patch_embed.conv_layers.{i}.3     -> tokens.norms.{i}
    patch_embed.proj_conv             -> tokens.convs.0
    patch_embed.proj_conv{i}          -> tokens.convs.{i}
    patch_embed.proj_bn               -> tokens.norms.0
    patch_embed.proj_bn{i}            -> tokens.norms.{i}
    patch_embed.rpe_conv              -> tokens.place
    patch_embed.rpe_bn                -> tokens.last
    block.{b}.attn.lmu.W_u            -> blocks.{b}.mixer.cell.read
    block.{b}.attn.lmu.W_h            -> blocks.{b}.mixer.cell.out
    block.{b}.attn.lmu.bn_u           -> blocks.{b}.mixer.cell.norms.0
    block.{b}.attn.lmu.bn_m           -> blocks.{b}.mixer.cell.norms.1
    block.{b}.attn.lmu.bn_h           -> blocks.{b}.mixer.cell.norms.2
    block.{b}.attn.prev_bn            -> blocks.{b}.mixer.before
    block.{b}.attn.pre_bn             -> blocks.{b}.mixer.before
    block.{b}.attn.q_conv             -> blocks.{b}.mixer.qkv.0
    block.{b}.attn.k_conv             -> blocks.{b}.mixer.qkv.1
    block.{b}.attn.v_conv             -> blocks.{b}.mixer.qkv.2
    block.{b}.attn.q_bn               -> blocks.{b}.mixer.norms.0
    block.{b}.attn.k_bn               -> blocks.{b}.mixer.norms.1
    block.{b}.attn.v_bn               -> blocks.{b}.mixer.norms.2
    block.{b}.attn.proj_conv          -> blocks.{b}.mixer.proj
    block.{b}.attn.proj_bn            -> blocks.{b}.mixer.norm
    block.{b}.mlp.fc{i}_conv          -> blocks.{b}.mlp.fc{i}
    block.{b}.mlp.fc{i}_bn            -> blocks.{b}.mlp.norm{i}
    head_bn                           -> behind.0
    head                              -> fc
"""
