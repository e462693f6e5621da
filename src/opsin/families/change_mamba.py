"""ChangeMamba: what changed between two images of one place. Chen et al., 2024, arXiv:2404.03425

One VMamba reads both dates. Decoders arrange their features in three ways for state spaces: channel beside channel,
column beside column, image beside image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..blocks import Features, Network, Pyramid
from ..blocks.dense import MapHead
from ..blocks.stage import LastBlocks
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.cross_scan import CrossScan, dwconv
from ..registry import about, family
from ..width import Concat, each
from .change_decoders import ChangeDecoder, Mixer, SemanticDecoder
from .vmamba import AUTHORS as VMAMBA
from .vmamba import block, halve, scan, stem

SCAN: Mixer = partial(CrossScan, states=1, expand=2.0, conv=dwconv)


class Siamese(Pyramid):
    """VMamba on two images (B, C, H, W), a norm behind each stage, and a decoder of what changed

    The second image is the first where there is none. Taps: the stages' maps of the first image (1/4 to 1/32), those
    of `dates`, decoders of its and of the second image's maps in turn, and the change (1/4).
    """

    def __init__(
        self, dims: Sequence[int], depths: Sequence[int], mixer: Mixer, in_chans: int, drop: float, dates: int = 0
    ):
        rates, downs = ramp(drop, sum(depths)), [None, *(halve(*pair) for pair in pairwise(dims))]
        stages = [
            LastBlocks([block(dim, mixer(dim), next(rates)) for _ in range(n)], down)
            for dim, n, down in zip(dims, depths, downs, strict=True)
        ]
        super().__init__(stem(in_chans, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32])
        self.norms = nn.ModuleList(LayerNorm(dim, dim=1, eps=1e-5) for dim in dims)
        self.change = ChangeDecoder(dims, mixer)
        first = [SemanticDecoder(dims, mixer)] if dates else []
        self.dates = nn.ModuleList([*first, *(SemanticDecoder(dims, mixer, first[0].width) for _ in range(dates - 1))])
        more = [*(part.width for part in first * dates), self.change.width]
        self.widths, self.strides = [*dims, *more], [4, 8, 16, 32, *[4] * len(more)]

    def encoded(self, x: Tensor) -> list[Tensor]:
        maps = super().forward(x, range(4)).maps
        return [norm(m) for norm, m in zip(self.norms, maps)]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,), post: Tensor | None = None) -> Features:
        wanted = [tap % len(self.widths) for tap in taps]
        first = self.encoded(x)
        made = dict(enumerate(first))
        if max(wanted) > 3:
            second = first if post is None else self.encoded(post)
            told = [decoder(maps) for decoder, maps in zip(self.dates, (first, second))]
            made |= dict(enumerate([*told, self.change(first, second)], 4))
        return Features([made[tap] for tap in wanted], [self.strides[tap] for tap in wanted])


def enlarged(width: int, num_classes: int) -> nn.Module:
    """Logits at the size of the images."""
    return nn.Sequential(nn.Conv2d(width, num_classes, 1), nn.Upsample(scale_factor=4, mode="bilinear"))


class Apart(nn.Module):
    """[layer(map)] of several maps; the layers given may be one"""

    def __init__(self, change: nn.Module, kinds: nn.Module, order: Sequence[bool]):
        super().__init__()
        self.change, self.kinds, self.order = change, kinds, tuple(order)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple((self.change if change else self.kinds)(m) for change, m in zip(self.order, maps))


class Dates(MapHead):
    """Several maps' logits, a tuple: of change, and of what the classes of each date are

    `taps` says in which order; `classes` are those of change, where `num_classes` are the others', or the reverse.
    """

    def __init__(
        self, backbone: Siamese, num_classes: int, other: int, taps: Sequence[int], changes: bool, drop: float
    ):
        self.taps, self.other, self.changes = tuple(taps), other, changes
        self.widths = backbone.widths[-2], backbone.widths[-1]
        super().__init__(Concat(*(backbone.widths[tap] for tap in taps)), num_classes)
        self.drop, self.each = nn.Identity(), nn.Dropout(drop)  # type: ignore[assignment]  # of every map

    def unpooled(self, features: Features) -> list[Tensor]:
        return features.maps

    def pooled(self, x: list[Tensor]) -> list[Tensor]:
        return [self.each(m) for m in x]

    def vector(self, x: list[Tensor]) -> Tensor:
        return torch.cat([m.mean((2, 3)) for m in self.pooled(x)], 1)

    def reset(self, num_classes: int) -> None:
        change, kinds = (num_classes, self.other) if self.changes else (self.other, num_classes)
        parts = enlarged(self.widths[1], change), enlarged(self.widths[0], kinds)
        self.fc = Apart(*parts, [tap == -1 for tap in self.taps]) if num_classes else nn.Identity()


ABOUT = about(
    title="ChangeMamba: Remote Sensing Change Detection With Spatiotemporal State Space Model",
    arxiv="2404.03425",
    licence="Apache-2.0",
    native=256,
    multiple=32,
    task="change",
)
TINY: dict[str, Sequence[int]] = dict(depths=(2, 2, 4, 2))
SMALL: dict[str, Sequence[int]] = dict(depths=(2, 2, 15, 2))
BASE: dict[str, Sequence[int]] = dict(depths=(2, 2, 15, 2), dims=(128, 256, 512, 1024))


@family(ABOUT, mambabcd_tiny=TINY, mambabcd_small=SMALL, mambabcd_base=BASE)
def mamba_bcd(
    depths: Sequence[int],
    dims: Sequence[int] = (96, 192, 384, 768),
    mixer: Mixer = SCAN,
    num_classes: int = 2,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """net(pre, post): two images (B, C, H, W) to logits of no change and change (B, 2, H, W)."""
    backbone = Siamese(each(*dims), depths, mixer, in_chans, drop_path_rate)
    return begun(Network(backbone, MapHead(backbone.widths[-1], num_classes, layer=enlarged, drop=drop_rate)))


@family(ABOUT, mambascd_tiny=TINY, mambascd_small=SMALL, mambascd_base=BASE)
def mamba_scd(
    depths: Sequence[int],
    dims: Sequence[int] = (96, 192, 384, 768),
    mixer: Mixer = SCAN,
    num_classes: int = 7,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """net(pre, post): logits of change (B, 2, H, W), and of the classes of both dates (B, num_classes, H, W)."""
    backbone = Siamese(each(*dims), depths, mixer, in_chans, drop_path_rate, dates=2)
    return begun(Network(backbone, Dates(backbone, num_classes, 2, (-1, -3, -2), False, drop_rate)))


@family(ABOUT, mambabda_tiny=TINY, mambabda_small=SMALL, mambabda_base=BASE)
def mamba_bda(
    depths: Sequence[int],
    dims: Sequence[int] = (96, 192, 384, 768),
    mixer: Mixer = SCAN,
    num_classes: int = 5,
    buildings: int = 2,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """net(pre, post) around a disaster: logits of `buildings` and of the damage to them (B, num_classes, H, W)."""
    backbone = Siamese(each(*dims), depths, mixer, in_chans, drop_path_rate, dates=1)
    return begun(Network(backbone, Dates(backbone, num_classes, buildings, (-2, -1), True, drop_rate)))


def begun(net: Network) -> Network:
    initialise(net, linear=trunc02)
    return net


def scanned(theirs: str, ours: str) -> str:
    """Rules for the authors' block."""
    return scan(f"{theirs}.op", f"{ours}.mixer") + f"    {theirs}.norm -> {ours}.norm1\n    {theirs} -> {ours}\n"


def change(theirs: str, ours: str) -> str:
    """Rules for the authors' decoder of changes."""
    kinds = {1: "parallel", 2: "cross", 3: "sequence"}
    return "".join(
        "".join(
            scanned(f"{theirs}.st_block_{i}{k}.2", f"{ours}.levels.{i - 1}.{kind}.block")
            + f"    {theirs}.st_block_{i}{k}.0 -> {ours}.levels.{i - 1}.{kind}.conv\n"
            for k, kind in kinds.items()
        )
        + f"    {theirs}.fuse_layer_{i} -> {ours}.levels.{i - 1}.fuse\n"
        + smooth(f"{theirs}.smooth_layer_{i}", f"{ours}.smooth.{i - 1}")
        for i in (4, 3, 2, 1)
    )


def smooth(theirs: str, ours: str) -> str:
    return f"    {theirs}.conv{{i}} -> {ours}.conv{{i}}.conv\n    {theirs}.bn{{i}} -> {ours}.conv{{i}}.norm\n"


def semantic(theirs: str, ours: str) -> str:
    """Rules for the authors' decoder of one date."""
    return "".join(
        f"    {theirs}.st_block_4_semantic.0 -> {ours}.scans.3.conv\n"
        + scanned(f"{theirs}.st_block_{i + 1}_semantic.{2 if i == 3 else 1}", f"{ours}.scans.{i}.block")
        + f"    {theirs}.trans_layer_{i + 1} -> {ours}.lateral.{i}\n"
        + smooth(f"{theirs}.smooth_layer_{i}_semantic", f"{ours}.smooth.{i}")
        for i in range(4)
    )


AUTHORS = (
    "".join(f"encoder.{line.strip()}\n" for line in VMAMBA.strip().splitlines() if line.strip())
    + "encoder.outnorm{i} -> backbone.norms.{i}\n"
    + change("decoder", "backbone.change")
    + change("decoder_bcd", "backbone.change")
    + change("decoder_damage", "backbone.change")
    + semantic("decoder_T1", "backbone.dates.0")
    + semantic("decoder_T2", "backbone.dates.1")
    + semantic("decoder_building", "backbone.dates.0")
    + "aux_clf -> head.fc.kinds.0\n"
)
AUTHORS_BINARY = AUTHORS + "main_clf -> head.fc.0\n"
AUTHORS_SEVERAL = AUTHORS + "main_clf -> head.fc.change.0\nmain_clf_cd -> head.fc.change.0\n"
