"""DiS: a diffusion network of state spaces with long skips, all it is told being tokens. Fei et al., arXiv:2402.05608

Takes noisy images or latents (B, C, S, S), steps (B) and labels (B), row `classes` standing for none; predicts noise,
and its variance in as many channels more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..blocks import Features, Network
from ..blocks.dense import NoiseHead
from ..blocks.stage import Blocks
from ..layers import DropPath
from ..layers.norm import Flat, RMSNorm
from ..layers.position import Positions, grid
from ..layers.timestep import Labels, Modulate, Timestep, steps
from ..mixers.bidirectional import BidirectionalMamba
from ..registry import about, family
from ..width import Concat, Width

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
        self.skip = nn.Linear(Concat(dim, dim), dim)

    def forward(self, h: Tensor, r: Tensor, early: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(self.skip(torch.cat([h, early], -1)), r)  # type: ignore[list-item]


class PlainSkipBlock(Block):
    """A late block that does without the early one"""

    def forward(self, h: Tensor, r: Tensor, early: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(h, r)


class Unlabelled(nn.Module):
    """Tokens that tell the step t (B), and how the last ones are shifted and scaled: not at all"""

    tokens = 1

    def __init__(self, dim: int):
        super().__init__()
        self.time = Timestep(dim, Width(4 * dim, "hidden"), int(dim))

    def forward(self, x: Tensor, t: Tensor | None, labels: Tensor | None) -> list[Tensor]:
        if labels is not None:
            raise ValueError("this network was built with num_classes=0: it takes no labels")
        return [self.time(steps(x, t))]

    def modulate(self, x: Tensor, told: list[Tensor]) -> Tensor:
        return x


class Labelled(Unlabelled):
    """[label, step], and x (1 + scale) + shift read off their sum"""

    tokens = 2

    def __init__(self, dim: int, classes: int):
        super().__init__(dim)
        self.labels, self.read = Labels(classes, dim), Modulate(dim, dim, 2)

    def forward(self, x: Tensor, t: Tensor | None, labels: Tensor | None) -> list[Tensor]:
        return [self.labels(x, labels), *super().forward(x, t, None)]

    def modulate(self, x: Tensor, told: list[Tensor]) -> Tensor:
        shift, scale = self.read(told[0] + told[1])
        return x * (1 + scale[:, None]) + shift[:, None]


class DiS(nn.Module):
    """modulate(norm(blocks([told, patches] + positions))), (B, C, H, W) to a map of patches

    Told steps t (B), zero if none, and labels (B), the row behind the classes' if none. Taps: the patches behind every
    block, and the end.
    """

    def __init__(
        self, patches: nn.Conv2d, told: Unlabelled, positions: Positions, blocks: Sequence[nn.Module], norm: Make
    ):
        super().__init__()
        dim, patch = positions.dim, patches.kernel_size[0]
        self.patches, self.told, self.positions = patches, told, positions
        self.blocks, self.norm, self.flat = Blocks(*blocks), norm(dim), Flat(dim)
        self.widths, self.strides = [dim] * (len(blocks) + 1), [patch] * (len(blocks) + 1)

    def forward(
        self, x: Tensor, taps: Sequence[int] = (-1,), t: Tensor | None = None, labels: Tensor | None = None
    ) -> Features:
        told, x = self.told(x, t, labels), self.patches(x)
        grid = (x.shape[2], x.shape[3])
        h = self.positions(torch.cat([*(token[:, None] for token in told), x.flatten(2).mT], 1), grid)
        r = torch.zeros_like(h)
        made: list[Tensor] = []
        half = len(self.blocks) // 2
        for i, block in enumerate(self.blocks):
            early = [made[2 * half - i]] if i > half else []
            h, r = self.blocks.run(block, h, r, *early)
            made.append(h)
        last = self.told.modulate(self.flat(self.norm(r + h)[:, len(told) :]), told)
        sequences = [*(h[:, len(told) :] for h in made), last]
        maps = [x.mT.unflatten(2, grid) for x in sequences]
        return Features([maps[tap] for tap in taps], [self.strides[tap] for tap in taps])


SIZES = {"s": (368, 24), "b": (768, 24), "m": (768, 48), "l": (1024, 48), "h": (1536, 48)}


@family(
    about(
        title="Scalable Diffusion Models with State Space Backbone",
        arxiv="2402.05608",
        licence="CC-BY-NC-4.0",
        native=32,
        task="denoise",
    ),
    **{
        f"dis_{size}_{patch}": dict(dim=dim, depth=depth, patch=patch, in_chans=4, multiple=patch)
        for size, (dim, depth) in SIZES.items()
        for patch in (2, 4, 8)
    },
)
def dis(
    dim: int,
    depth: int,
    patch: int = 2,
    mixer: Make = partial(BidirectionalMamba, share=1.0),
    late: Callable[..., nn.Module] = SkipBlock,
    variance: bool = True,
    img_size: int = 32,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Noise, with `variance` that too (B, 2 in_chans, H, W), in images of `img_size` a side, for `num_classes` labels.

    `late` makes the blocks of the second half.
    """
    width = Width(dim, "dim")
    told = Labelled(width, num_classes) if num_classes else Unlabelled(width)
    positions = Positions(width, grid(img_size, patch), told.tokens)
    nn.init.zeros_(positions.table)
    half = depth // 2
    blocks: list[nn.Module] = [Block(width, mixer, norm, drop_path_rate) for _ in range(half + 1)]
    blocks += [late(width, mixer, norm, drop_path_rate) for _ in range(half)]
    backbone = DiS(nn.Conv2d(in_chans, width, patch, patch), told, positions, blocks, norm)
    return Network(backbone, NoiseHead(width, (2 if variance else 1) * in_chans, patch, drop_rate))


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


def authors(depth: int) -> str:
    """Rules for a network of so many blocks, whose two halves the authors number apart."""
    half = depth // 2
    return (
        block("in_blocks.{i}", "backbone.blocks.{i}")
        + block("mid_block", f"backbone.blocks.{half}")
        + block("out_blocks.{i}", f"backbone.blocks.{{i+{half + 1}}}")
        + """
    patch_embed.proj                   -> backbone.patches
    time_embed.0                       -> backbone.told.time.fc1
    time_embed.2                       -> backbone.told.time.fc2
    label_emb.embedding_table          -> backbone.told.labels
    pos_embed                          -> backbone.positions.table
    norm_f                             -> backbone.norm
    final_layer.adaLN_modulation.1     -> backbone.told.read.proj
    final_layer.linear                 -> head.fc
"""
    )
