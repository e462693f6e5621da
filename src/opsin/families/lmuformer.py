"""LMUFormer: sequences by Legendre memories, in parallel or step by step, also in spikes. Liu et al., arXiv:2402.04882

A sequence is a map of one row (B, C, 1, N), such as the N frames of a spectrogram of C bands; any other map is read row
by row, an image pixel by pixel. Inside, sequences are (B, C, N).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Features, Network
from ..blocks.stage import Blocks
from ..layers.act import GELU
from ..layers.spike import LeakyFire
from ..mixers.legendre import LegendreCell, SpikingCell
from ..registry import about, family
from ..width import Groups, Width, each

Make = Callable[[int], nn.Module]


def conv(cin: int, cout: int) -> nn.Module:
    return nn.Conv1d(cin, cout, 3, padding=1, bias=False)


def point(cin: int, cout: int, bias: bool = True) -> nn.Module:
    return nn.Conv1d(cin, cout, 1, bias=bias)


class Tokenizer(nn.Module):
    """y + place(y), y four times norm(relu(conv(x)))"""

    def __init__(self, cin: int, dim: int):
        super().__init__()
        widths = [*each(dim, dim, dim, name="stem"), dim]
        self.convs = nn.ModuleList(conv(a, b) for a, b in zip([cin, *widths], widths))
        self.norms, self.place = nn.ModuleList(map(nn.BatchNorm1d, widths)), conv(dim, dim)

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
        hidden = Width(dim, "hidden")
        self.cell, self.proj, self.norm = self.remembers(dim, hidden, theta), point(hidden, dim), nn.BatchNorm1d(dim)

    def remembers(self, dim: int, hidden: int, theta: float) -> nn.Module:
        return LegendreCell(dim, hidden, int(dim), theta)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(self.cell(x.mT).mT))


class SpikingMemory(Memory):
    """fire(norm(proj(cell(x)))), the cell in spikes and with twice the memory"""

    def __init__(self, dim: int, theta: float = 128):
        super().__init__(dim, theta)
        self.fire = LeakyFire()

    def remembers(self, dim: int, hidden: int, theta: float) -> nn.Module:
        return SpikingCell(dim, hidden, 2 * int(dim), theta)

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
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, Width(dim // heads, "head_dim"))
        self.before, self.fire, self.late = nn.BatchNorm1d(dim), LeakyFire(), LeakyFire(0.5)
        self.qkv = nn.ModuleList(point(dim, inner, False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(inner) for _ in range(3))
        self.proj, self.norm = point(inner, dim), nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(self.before(x))
        q, k, v = (self.fire(n(p(x))).mT.unflatten(2, (int(self.heads), -1)).transpose(1, 2) for p, n in self.pairs())
        y = ((q @ k.mT) @ v * 0.25).mT.flatten(1, 2)
        return self.norm(self.proj(self.late(y)))

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return list(zip(self.qkv, self.norms))


class Ffn(nn.Module):
    """relu(norm2(fc2(gelu(norm1(fc1(x))))))"""

    def __init__(self, dim: int, ratio: float = 4):
        super().__init__()
        hidden = Width(int(ratio * dim), "hidden")
        self.fc1, self.norm1 = point(dim, hidden), nn.BatchNorm1d(hidden)
        self.fc2, self.norm2 = point(hidden, dim), nn.BatchNorm1d(dim)
        self.act1, self.act2 = self.acts()

    def acts(self) -> tuple[nn.Module, nn.Module]:
        return GELU(), nn.ReLU()

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
        hidden = Width(int(ratio * dim), "hidden")
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


class Spoken(nn.Sequential):
    """fire(norm(x)): what is left of membranes"""

    def __init__(self, dim: int):
        super().__init__(nn.BatchNorm1d(dim), LeakyFire())


class Sequences(nn.Module):
    """behind(blocks(stem(x))), a map (B, C, H, W) read row by row as one sequence; a tap is the map behind a block"""

    def __init__(self, dim: int, stem: nn.Module, blocks: Sequence[nn.Module], behind: nn.Module):
        super().__init__()
        self.stem, self.blocks, self.behind = stem, Blocks(*blocks), behind
        self.widths, self.strides = [dim] * len(blocks), [1] * len(blocks)

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        grid, x, made = x.shape[2:], self.stem(x.flatten(2)), []
        for block in self.blocks:
            x = self.blocks.run(block, x)
            made.append(x)
        made[-1] = self.behind(x)
        return Features([made[tap].unflatten(2, grid) for tap in taps], [1] * len(taps))


SPIKING = dict(in_chans=128, tokens=MembraneTokenizer, mlp=MembraneFfn, behind=Spoken)


@family(
    about(
        title="LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units",
        arxiv="2402.04882",
        licence="MIT",
        native=16,
    ),
    lmuformer=dict(in_chans=128),
    spiking_lmuformer=dict(mixer=MembraneMemory, **SPIKING),
    spiking_attention=dict(mixer=SpikingAttention, **SPIKING),
)
def lmuformer(
    dim: int = 256,
    depth: int = 1,
    tokens: Callable[[int, int], nn.Module] = Tokenizer,
    mixer: Make = Memory,
    mlp: Make = Ffn,
    behind: Make = nn.Identity,
    num_classes: int = 35,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """In spikes, shortcuts run between membranes; `SpikingAttention` in place of memories is their baseline."""
    dim = Width(dim, "dim")
    blocks = [Block(mixer(dim), mlp(dim)) for _ in range(depth)]
    backbone = Sequences(dim, tokens(in_chans, dim), blocks, behind(dim))
    return Network(backbone, Classifier(dim, num_classes, drop=drop_rate))


def so_far(net: Network, x: Tensor) -> Tensor:
    """Logits (N, B, num_classes) behind every place of a sequence (B, C, 1, N): of all that was seen up to it."""
    x = net.forward_features(x).flatten(2).movedim(2, 0)
    seen = torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device)
    return net.get_classifier()(x.cumsum(0) / seen[:, None, None])


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
    patch_embed.conv_layers.{i}.0     -> backbone.stem.convs.{i}
    patch_embed.conv_layers.{i}.3     -> backbone.stem.norms.{i}
    patch_embed.proj_conv             -> backbone.stem.convs.0
    patch_embed.proj_conv{i}          -> backbone.stem.convs.{i}
    patch_embed.proj_bn               -> backbone.stem.norms.0
    patch_embed.proj_bn{i}            -> backbone.stem.norms.{i}
    patch_embed.rpe_conv              -> backbone.stem.place
    patch_embed.rpe_bn                -> backbone.stem.last
    block.{b}.attn.lmu.W_u            -> backbone.blocks.{b}.mixer.cell.read
    block.{b}.attn.lmu.W_h            -> backbone.blocks.{b}.mixer.cell.out
    block.{b}.attn.lmu.bn_u           -> backbone.blocks.{b}.mixer.cell.norms.0
    block.{b}.attn.lmu.bn_m           -> backbone.blocks.{b}.mixer.cell.norms.1
    block.{b}.attn.lmu.bn_h           -> backbone.blocks.{b}.mixer.cell.norms.2
    block.{b}.attn.prev_bn            -> backbone.blocks.{b}.mixer.before
    block.{b}.attn.pre_bn             -> backbone.blocks.{b}.mixer.before
    block.{b}.attn.q_conv             -> backbone.blocks.{b}.mixer.qkv.0
    block.{b}.attn.k_conv             -> backbone.blocks.{b}.mixer.qkv.1
    block.{b}.attn.v_conv             -> backbone.blocks.{b}.mixer.qkv.2
    block.{b}.attn.q_bn               -> backbone.blocks.{b}.mixer.norms.0
    block.{b}.attn.k_bn               -> backbone.blocks.{b}.mixer.norms.1
    block.{b}.attn.v_bn               -> backbone.blocks.{b}.mixer.norms.2
    block.{b}.attn.proj_conv          -> backbone.blocks.{b}.mixer.proj
    block.{b}.attn.proj_bn            -> backbone.blocks.{b}.mixer.norm
    block.{b}.mlp.fc{i}_conv          -> backbone.blocks.{b}.mlp.fc{i}
    block.{b}.mlp.fc{i}_bn            -> backbone.blocks.{b}.mlp.norm{i}
    head_bn                           -> backbone.behind.0
    head                              -> head.fc
"""
