"""DiS: a diffusion network of state spaces with long skips, all it is told being tokens. Fei et al., arXiv:2402.05608

Takes noisy images or latents (B, C, S, S), steps (B) and labels (B), row `classes` standing for none; predicts noise,
and its variance in as many channels more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import DropPath
from ..layers.norm import RMSNorm
from ..layers.timestep import Modulate, Timestep
from ..mixers.bidirectional import BidirectionalMamba

norm = partial(RMSNorm, eps=1e-5)
Make = Callable[[int], nn.Module]


class Block(nn.Module):
    """(h, r) -> (mixer(norm(r')), r') with r' = r + drop(h)"""

    def __init__(self, dim: int, mixer: Make, norm: Make, drop: float):
        super().__init__()
        self.mixer, self.norm, self.drop = mixer(dim), norm(dim), DropPath(drop)

    def forward(self, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        r = r + self.drop(h)
        return self.mixer(self.norm(r)), r


class SkipBlock(Block):
    """A block behind h <- skip([h, what an early block made])"""

    def __init__(self, dim: int, mixer: Make, norm: Make, drop: float):
        super().__init__(dim, mixer, norm, drop)
        self.skip = nn.Linear(2 * dim, dim)

    def forward(self, h: Tensor, r: Tensor, early: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(self.skip(torch.cat([h, early], -1)), r)  # type: ignore[list-item]


class PlainSkipBlock(Block):
    """A late block that does without the early one"""

    def forward(self, h: Tensor, r: Tensor, early: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(h, r)


class DiS(nn.Module):
    """to pixels(norm(blocks([label, time, patches] + positions))), (B, C, S, S) to (B, C or 2 C, S, S)

    `channels` in and out; `late` makes the blocks of the second half.
    """

    no_decay = ("positions",)

    def __init__(
        self,
        dim: int,
        depth: int,
        patch: int = 2,
        classes: int = 1000,
        size: int = 32,
        channels: tuple[int, int] = (4, 8),
        mixer: Make = partial(BidirectionalMamba, share=1.0),
        late: Callable[..., nn.Module] = SkipBlock,
    ):
        super().__init__()
        self.patch, self.out = patch, channels[1]
        self.patches, self.time = nn.Conv2d(channels[0], dim, patch, patch), Timestep(dim, 4 * dim, dim)
        self.labels = nn.Embedding(classes + 1, dim) if classes else None
        self.told = 2 if classes else 1
        self.positions = nn.Parameter(torch.zeros(1, self.told + (size // patch) ** 2, dim))
        self.early = nn.ModuleList(Block(dim, mixer, norm, 0.0) for _ in range(depth // 2))
        self.middle = Block(dim, mixer, norm, 0.0)
        self.late = nn.ModuleList(late(dim, mixer, norm, 0.0) for _ in range(depth // 2))
        self.norm, self.modulate = norm(dim), Modulate(dim, dim, 2) if classes else None
        self.proj = nn.Linear(dim, patch * patch * self.out)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise in images x (B, C, S, S) at steps t (B), for labels (B) where the network has classes.

        Raises:
            ValueError: labels for a network without classes, or none for one with them.
        """
        if (labels is None) != (self.labels is None):
            raise ValueError("a class-conditional DiS takes labels (B), another one none")
        told = [self.time(t)] if self.labels is None else [self.labels(labels), self.time(t)]
        x = self.patches(x)
        grid = x.shape[2:]
        x = torch.cat([*(token[:, None] for token in told), x.flatten(2).mT], 1) + self.positions
        x = self.norm(self.through(x))[:, self.told :]
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        if self.modulate is not None:
            shift, scale = self.modulate(sum(told))
            x = x * (1 + scale[:, None]) + shift[:, None]
        x = self.proj(x).unflatten(-1, (self.patch, self.patch, self.out)).unflatten(1, grid)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def through(self, h: Tensor) -> Tensor:
        r, kept = torch.zeros_like(h), []
        for block in self.early:
            h, r = block(h, r)
            kept.append(h)
        h, r = self.middle(h, r)
        for block in self.late:
            h, r = block(h, r, kept.pop())
        return r + h


SIZES = {"s": (368, 24), "b": (768, 24), "m": (768, 48), "l": (1024, 48), "h": (1536, 48)}


def dis(name: str) -> DiS:
    """An official network: "s_2" to "h_4" (size, patch), for latents of 32 x 32 and 1000 classes."""
    size, patch = name.split("_")
    return DiS(*SIZES[size], patch=int(patch))


def block(theirs: str, ours: str) -> str:
    """Rules for the authors' block."""
    return (
        "".join(
            f"""
    {theirs}.mixer.conv1d{tag}   -> {ours}.mixer.convs.{i}
    {theirs}.mixer.x_proj{tag}   -> {ours}.mixer.spaces.{i}.read
    {theirs}.mixer.dt_proj{tag}  -> {ours}.mixer.spaces.{i}.dt
    {theirs}.mixer.A{tag}_log    -> {ours}.mixer.spaces.{i}.log_decay
    {theirs}.mixer.D{tag}        -> {ours}.mixer.spaces.{i}.skip"""
            for i, tag in enumerate(("", "_b"))
        )
        + f"""
    {theirs}.mixer.in_proj       -> {ours}.mixer.proj
    {theirs}.mixer.out_proj      -> {ours}.mixer.out
    {theirs}.skip_linear         -> {ours}.skip
    {theirs}.norm                -> {ours}.norm
"""
    )


AUTHORS = (
    block("in_blocks.{i}", "early.{i}")
    + block("mid_block", "middle")
    + block("out_blocks.{i}", "late.{i}")
    + """
    patch_embed.proj                   -> patches
    time_embed.0                       -> time.fc1
    time_embed.2                       -> time.fc2
    label_emb.embedding_table          -> labels
    pos_embed                          -> positions
    norm_f                             -> norm
    final_layer.adaLN_modulation.1     -> modulate.proj
    final_layer.linear                 -> proj
"""
)
