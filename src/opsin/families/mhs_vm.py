"""MHS-VM: a U-Net for medical images whose heads scan along routes of their own. Ji, 2024, arXiv:2406.05992

The plan is VM-UNet's: what enters a level on the way down is added to what enters its mirror on the way up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from ..blocks import Features, Network
from ..blocks.dense import MapHead, unfolded
from ..blocks.prenorm import PreMix
from ..blocks.stage import Blocks, Stage
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.multi_head_scan import GatedSubspaceScan
from ..registry import about, family
from ..width import Groups, Width, each
from .swin import PatchMerging

norm = partial(LayerNorm, eps=1e-5)


class CroppedMerging(PatchMerging):
    """`PatchMerging` that leaves out the last of an odd number of rows or columns"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


class PatchExpanding(nn.Module):
    """norm(proj(x) as `by` x `by` places), over maps (B, H, W, C)"""

    def __init__(self, cin: int, cout: int, by: int = 2):
        super().__init__()
        self.by, self.proj, self.norm = by, nn.Linear(cin, Groups(by * by, cout), bias=False), norm(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(unfolded(self.proj(x), self.by))


class FinalExpanding(PatchExpanding):
    """To four times the sides, of maps (B, C, H, W)"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ScanUNet(nn.Module):
    """Levels of blocks down to 1/32 and up to 1/4; what enters one on the way down is added to what enters its mirror

    Taps: the map behind every level on the way down (1/4 to 1/32), and the last one (1/4).
    """

    def __init__(self, dims: Sequence[int], down: Sequence[Blocks], up: Sequence[Blocks], in_chans: int):
        super().__init__()
        self.in_chans, self.patches, self.norm = in_chans, nn.Conv2d(in_chans, dims[0], 4, 4), norm(dims[0])
        fall = [None, *(CroppedMerging(*pair) for pair in pairwise(dims))]
        rise = [None, *(PatchExpanding(*pair) for pair in pairwise(dims[::-1]))]
        self.stages = nn.ModuleList(Stage(blocks, turn) for blocks, turn in zip([*down, *up], [*fall, *rise]))
        self.widths, self.strides = [*dims, dims[0]], [*(4 * 2**i for i in range(len(dims))), 4]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        x = x.expand(-1, self.in_chans, -1, -1) if x.shape[1] == 1 else x
        x = self.norm(self.patches(x).movedim(1, -1))
        half, entered, made = len(self.stages) // 2, [], []
        for stage in cast(list[Stage], self.stages[:half]):
            x = stage.down(x)
            entered.append(x)
            x = stage.blocks(x)
            made.append(x)
        x = cast(Stage, self.stages[half])(x)
        for stage in cast(list[Stage], self.stages[half + 1 :]):
            x = stage(x + entered.pop())
        maps = [m.movedim(-1, 1) for m in (*made, x)]
        return Features([maps[tap] for tap in taps], [self.strides[tap] for tap in taps])


@family(
    about(
        title="MHS-VM: Multi-Head Scanning in Parallel Subspaces for Vision Mamba",
        arxiv="2406.05992",
        licence="Apache-2.0",
        native=256,
        multiple=32,
        task="segment",
    ),
    mhs_vm_unet={},
)
def mhs_vm(
    dims: Sequence[int] = (96, 192, 384, 768),
    depths: Sequence[int] = (2, 2, 2, 2),
    depths_up: Sequence[int] = (2, 2, 2, 1),
    mixer: Callable[[int], nn.Module] = GatedSubspaceScan,
    num_classes: int = 1,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Logits (B, num_classes, H, W); one class is a mask. Images of one channel count as grey ones of `in_chans`."""
    dims = each(*dims)
    drop, drop_up = list(ramp(drop_path_rate, sum(depths))), list(ramp(drop_path_rate, sum(depths_up)))[::-1]

    def level(dim: int, depth: int, rates: Sequence[float]) -> Blocks:
        return Blocks(*(PreMix(norm(dim), mixer(dim), rate) for _, rate in zip(range(depth), rates)))

    down = [level(dim, n, drop[sum(depths[:i]) :]) for i, (dim, n) in enumerate(zip(dims, depths))]
    up = [level(dim, n, drop_up[sum(depths_up[:i]) :]) for i, (dim, n) in enumerate(zip(dims[::-1], depths_up))]
    last = Width(dims[0] // 4, "last")
    head = MapHead(last, num_classes, FinalExpanding(dims[0], last, 4), drop=drop_rate)
    net = Network(ScanUNet(dims, down, up, in_chans), head)
    initialise(net, linear=trunc02)
    return net


def mixer(theirs: str, ours: str) -> str:
    """Rules for the authors' block of scans, where some tensors have two names."""
    heads = "".join(
        f"""
    {theirs}.mhs.scanhead_{name}.scanning                ->
    {theirs}.mhs.scanhead_{name}.mambaeng.x_proj_weight   -> {ours}.scan.heads.{i}.spaces.read
    {theirs}.mhs.scanhead_{name}.mambaeng.dt_projs_weight -> {ours}.scan.heads.{i}.spaces.dt
    {theirs}.mhs.scanhead_{name}.mambaeng.dt_projs_bias   -> {ours}.scan.heads.{i}.spaces.dt_bias
    {theirs}.mhs.scanhead_{name}.mambaeng.A_logs          -> {ours}.scan.heads.{i}.spaces.log_decay
    {theirs}.mhs.scanhead_{name}.mambaeng.Ds              -> {ours}.scan.heads.{i}.spaces.skip"""
        for i, name in enumerate("CXSZ")
    )
    return f"""{heads}
    {theirs}.mhs.x_ssproj_W     ->
    {theirs}.mhs.x_ssproj       -> {ours}.scan.proj
    {theirs}.mhs.cat_norm       -> {ours}.scan.norm
    {theirs}.mhs.y_proj         -> {ours}.scan.out
    {theirs}.in_proj            -> {ours}.proj
    {theirs}.conv2d             -> {ours}.conv
    {theirs}.out_norm           -> {ours}.norm
"""


AUTHORS = (
    mixer("vmunet.layers.{s}.blocks.{b}.self_attention", "backbone.stages.{s}.blocks.{b}.mixer")
    + mixer("vmunet.layers_up.{s}.blocks.{b}.self_attention", "backbone.stages.{s+4}.blocks.{b}.mixer")
    + """
    vmunet.layers.{s}.blocks.{b}.ln_1            -> backbone.stages.{s}.blocks.{b}.norm
    vmunet.layers_up.{s}.blocks.{b}.ln_1         -> backbone.stages.{s+4}.blocks.{b}.norm
    vmunet.patch_embed.proj                      -> backbone.patches
    vmunet.patch_embed.norm                      -> backbone.norm
    vmunet.layers.{s}.downsample.reduction       -> backbone.stages.{s+1}.down.proj
    vmunet.layers.{s}.downsample.norm            -> backbone.stages.{s+1}.down.norm
    vmunet.layers_up.{s}.upsample.expand         -> backbone.stages.{s+4}.down.proj
    vmunet.layers_up.{s}.upsample.norm           -> backbone.stages.{s+4}.down.norm
    vmunet.final_up.expand                       -> head.before.proj
    vmunet.final_up.norm                         -> head.before.norm
    vmunet.final_conv                            -> head.fc
"""
)
