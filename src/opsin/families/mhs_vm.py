"""MHS-VM: a U-Net for medical images whose heads scan along routes of their own. Ji, 2024, arXiv:2406.05992

The plan is VM-UNet's: what enters a level on the way down is added to what enters its mirror on the way up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from ..blocks.prenorm import PreMix
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.multi_head_scan import GatedSubspaceScan
from .lamamba_diff import PatchExpanding, unfolded
from .swin import PatchMerging

norm = partial(LayerNorm, eps=1e-5)


class CroppedMerging(PatchMerging):
    """`PatchMerging` that leaves out the last of an odd number of rows or columns"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


class MHSVM(nn.Module):
    """Images (B, 3 or 1, H, W), sides multiples of 32, to logits (B, classes, H, W)"""

    def __init__(
        self,
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 2, 2),
        depths_up: Sequence[int] = (2, 2, 2, 1),
        classes: int = 1,
        mixer: Callable[[int], nn.Module] = GatedSubspaceScan,
        drop_path_rate: float = 0.2,
    ):
        super().__init__()

        def level(dim: int, depth: int, drop: Sequence[float]) -> nn.Module:
            return nn.Sequential(*(PreMix(norm(dim), mixer(dim), rate) for _, rate in zip(range(depth), drop)))

        down = list(ramp(drop_path_rate, sum(depths)))
        up = list(ramp(drop_path_rate, sum(depths_up)))[::-1]
        ends, ends_up = ([sum(many[:i]) for i in range(len(many))] for many in (list(depths), list(depths_up)))
        self.patches, self.norm = nn.Conv2d(3, dims[0], 4, 4), norm(dims[0])
        self.down = nn.ModuleList(level(d, n, down[e:]) for d, n, e in zip(dims, depths, ends))
        self.merge = nn.ModuleList(CroppedMerging(dims[i], dims[i + 1]) for i in range(len(dims) - 1))
        self.up = nn.ModuleList(level(d, n, up[e:]) for d, n, e in zip(dims[::-1], depths_up, ends_up))
        self.expand = nn.ModuleList(PatchExpanding(dim) for dim in dims[:0:-1])
        self.widen, self.last = nn.Linear(dims[0], 4 * dims[0], bias=False), norm(dims[0] // 4)
        self.fc = nn.Conv2d(dims[0] // 4, classes, 1)
        initialise(self, linear=trunc02)

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        x = self.norm(self.patches(x).movedim(1, -1))
        entered = []
        for i, level in enumerate(self.down):
            entered.append(x)
            x = level(x)
            x = self.merge[i](x) if i < len(self.merge) else x
        for i, level in enumerate(self.up):
            x = level(self.expand[i - 1](x + entered.pop()) if i else x)
        return self.fc(self.last(unfolded(self.widen(x), 4)).movedim(-1, 1))


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
    mixer("vmunet.layers.{s}.blocks.{b}.self_attention", "down.{s}.{b}.mixer")
    + mixer("vmunet.layers_up.{s}.blocks.{b}.self_attention", "up.{s}.{b}.mixer")
    + """
    vmunet.layers.{s}.blocks.{b}.ln_1            -> down.{s}.{b}.norm
    vmunet.layers_up.{s}.blocks.{b}.ln_1         -> up.{s}.{b}.norm
    vmunet.patch_embed.proj                      -> patches
    vmunet.patch_embed.norm                      -> norm
    vmunet.layers.{s}.downsample.reduction       -> merge.{s}.proj
    vmunet.layers.{s}.downsample.norm            -> merge.{s}.norm
    vmunet.layers_up.{s}.upsample.expand         -> expand.{s-1}.proj
    vmunet.layers_up.{s}.upsample.norm           -> expand.{s-1}.norm
    vmunet.final_up.expand                       -> widen
    vmunet.final_up.norm                         -> last
    vmunet.final_conv                            -> fc
"""
)
