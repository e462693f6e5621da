"""ChangeMamba: what changed between two images of one place. Chen et al., 2024, arXiv:2404.03425

One VMamba reads both dates. Decoders arrange their features in three ways for state spaces: channel beside channel,
column beside column, image beside image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Conv, LayerNorm
from ..mixers.cross_scan import CrossScan, dwconv
from .vmamba import AUTHORS as VMAMBA
from .vmamba import block, scan, vmamba

Mixer = Callable[[int], nn.Module]
WIDTH = 128
SCAN: Mixer = partial(CrossScan, states=1, expand=2.0, conv=dwconv)


class Encoder(nn.Module):
    """The normed maps of VMamba's four stages"""

    def __init__(self, dims: Sequence[int], depths: Sequence[int], mixer: Mixer = SCAN, drop: float = 0.0):
        super().__init__()
        self.backbone = vmamba(depths, mixer, dims, 0, drop_path_rate=drop).backbone
        self.norms = nn.ModuleList(LayerNorm(int(dim), dim=1, eps=1e-5) for dim in dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [norm(m) for norm, m in zip(self.norms, self.backbone(x, range(4)).maps)]


class Scanned(nn.Module):
    """block(conv(x)), over maps (B, C, H, W)"""

    def __init__(self, cin: int, mixer: Mixer):
        super().__init__()
        self.conv = nn.Conv2d(cin, WIDTH, 1) if cin else nn.Identity()
        self.block = block(WIDTH, mixer(WIDTH), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.conv(x).movedim(1, -1)).movedim(-1, 1)


class Smooth(nn.Module):
    """relu(x + conv2(conv1(x)))"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(WIDTH, WIDTH), Conv(WIDTH, WIDTH, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.conv1(x)))


class Pointwise(nn.Sequential):
    """relu(norm(conv(x))), the convolution with a bias"""

    def __init__(self, cin: int):
        super().__init__(nn.Conv2d(cin, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True))


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def interleaved(a: Tensor, b: Tensor) -> Tensor:
    """Columns of both maps in turn (B, C, H, 2 W)."""
    return torch.stack([a, b], -1).flatten(3)


class Exchange(nn.Module):
    """What three arrangements of two maps (B, C, H, W) tell, fused: (B, 128, H, W)"""

    def __init__(self, dim: int, mixer: Mixer):
        super().__init__()
        self.parallel, self.cross, self.sequence = (Scanned(n, mixer) for n in (2 * dim, dim, dim))
        self.fuse = Pointwise(5 * WIDTH)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        crossed, beside = self.cross(interleaved(a, b)), self.sequence(torch.cat([a, b], 3))
        made = [self.parallel(torch.cat([a, b], 1)), *crossed.unflatten(3, (-1, 2)).unbind(-1), *beside.chunk(2, 3)]
        return self.fuse(torch.cat(made, 1))


class ChangeDecoder(nn.Module):
    """From the maps of both dates to one (B, 128, H / 4, W / 4), the coarsest first"""

    def __init__(self, dims: Sequence[int], mixer: Mixer = SCAN):
        super().__init__()
        self.levels = nn.ModuleList(Exchange(dim, mixer) for dim in dims)
        self.smooth = nn.ModuleList(Smooth() for _ in range(3))

    def forward(self, pre: list[Tensor], post: list[Tensor]) -> Tensor:
        x = self.levels[3](pre[3], post[3])
        for i in (2, 1, 0):
            here = self.levels[i](pre[i], post[i])
            x = self.smooth[i](resized(x, here) + here)
        return x


class SemanticDecoder(nn.Module):
    """From the maps of one date to one (B, 128, H / 4, W / 4), the coarsest first"""

    def __init__(self, dims: Sequence[int], mixer: Mixer = SCAN):
        super().__init__()
        self.scans = nn.ModuleList([*(Scanned(0, mixer) for _ in range(3)), Scanned(dims[3], mixer)])
        self.lateral = nn.ModuleList(Pointwise(dim) for dim in dims[:3])
        self.smooth = nn.ModuleList(Smooth() for _ in range(4))

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.scans[3](maps[3])
        for i in (2, 1, 0):
            here = self.lateral[i](maps[i])
            x = self.scans[i](self.smooth[i + 1](here + resized(x, here)))
        return self.smooth[0](x)


class BinaryChange(nn.Module):
    """Two images (B, 3, H, W) to logits of no change and change (B, 2, H, W)"""

    def __init__(self, encoder: Encoder, dims: Sequence[int], mixer: Mixer = SCAN, classes: int = 2):
        super().__init__()
        self.encoder, self.change, self.fc = encoder, ChangeDecoder(dims, mixer), nn.Conv2d(WIDTH, classes, 1)

    def forward(self, pre: Tensor, post: Tensor) -> Tensor:
        return resized(self.fc(self.change(self.encoder(pre), self.encoder(post))), pre)


class SemanticChange(BinaryChange):
    """Two images to logits of change, and of the classes at both dates"""

    def __init__(self, encoder: Encoder, dims: Sequence[int], mixer: Mixer = SCAN, classes: int = 7):
        super().__init__(encoder, dims, mixer)
        self.dates = nn.ModuleList(SemanticDecoder(dims, mixer) for _ in range(2))
        self.kinds = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, pre: Tensor, post: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        first, second = self.encoder(pre), self.encoder(post)
        maps = [self.fc(self.change(first, second)), *(self.kinds(d(m)) for d, m in zip(self.dates, (first, second)))]
        return tuple(resized(m, pre) for m in maps)


class Damage(BinaryChange):
    """Images before and after a disaster to logits of buildings, and of the damage to them"""

    def __init__(self, encoder: Encoder, dims: Sequence[int], mixer: Mixer = SCAN, classes: tuple[int, int] = (2, 5)):
        super().__init__(encoder, dims, mixer, classes[1])
        self.building, self.kinds = SemanticDecoder(dims, mixer), nn.Conv2d(WIDTH, classes[0], 1)

    def forward(self, pre: Tensor, post: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        first, second = self.encoder(pre), self.encoder(post)
        maps = self.kinds(self.building(first)), self.fc(self.change(first, second))
        return tuple(resized(m, pre) for m in maps)


SIZES = {
    "tiny": ((96, 192, 384, 768), (2, 2, 4, 2), 0.2),
    "small": ((96, 192, 384, 768), (2, 2, 15, 2), 0.3),
    "base": ((128, 256, 512, 1024), (2, 2, 15, 2), 0.6),
}


def change_mamba(task: Callable[..., BinaryChange], size: str = "tiny") -> BinaryChange:
    """`BinaryChange`, `SemanticChange` or `Damage` in an official size: tiny, small or base."""
    dims, depths, drop = SIZES[size]
    return task(Encoder(dims, depths, drop=drop), dims)


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
    "".join(
        f"encoder.{line.strip().replace('-> ', '-> encoder.')}\n"
        for line in VMAMBA.strip().splitlines()
        if line.strip()
    )
    + "encoder.outnorm{i} -> encoder.norms.{i}\n"
    + change("decoder", "change")
    + change("decoder_bcd", "change")
    + change("decoder_damage", "change")
    + semantic("decoder_T1", "dates.0")
    + semantic("decoder_T2", "dates.1")
    + semantic("decoder_building", "building")
    + """
    main_clf                   -> fc
    main_clf_cd                -> fc
    aux_clf                    -> kinds
"""
)
