"""ConvNeXt's blocks in a ViT's plan: one resolution and one width throughout. Liu et al., 2022, arXiv:2201.03545"""

from __future__ import annotations

from torch import nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..registry import about, family
from ..width import Width
from .convnext import ConvNeXtBlock


@family(
    about(title="A ConvNet for the 2020s", arxiv="2201.03545", licence="MIT"),
    convnext_isotropic_small=dict(dim=384, depth=18),
    convnext_isotropic_base=dict(dim=768, depth=18),
    convnext_isotropic_large=dict(dim=1024, depth=36),
)
def convnext_isotropic(
    dim: int,
    depth: int,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dim, drop = Width(dim, "dim"), ramp(drop_path_rate, depth)
    stage = Stage(ConvNeXtBlock(dim, drop=next(drop), scale=nn.Identity) for _ in range(depth))
    backbone = Pyramid(nn.Conv2d(in_chans, dim, 16, 16), [stage], [dim, dim], [16, 16])
    net = Network(backbone, Classifier(dim, num_classes, after=LayerNorm(dim), drop=drop_rate))
    initialise(net, conv=trunc02, linear=trunc02)
    return net


AUTHORS = """
    stem                -> backbone.stem
    blocks.{b}.dwconv   -> backbone.stages.0.blocks.{b}.dwconv
    blocks.{b}.norm     -> backbone.stages.0.blocks.{b}.norm
    blocks.{b}.pwconv{i} -> backbone.stages.0.blocks.{b}.mlp.fc{i}
    norm                -> head.after
    head                -> head.fc
"""
