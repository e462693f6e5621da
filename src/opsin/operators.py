"""Every operator by name, with what it takes: what a settings file, a builder or `graft` can call for.

    "gelu"   "attention(heads=4)"   "separable(kernel=5, ratio=3)"

To make one more callable by name, add its line here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from .channels.dwmlp import DepthwiseMlp
from .channels.glu import SwiGlu
from .channels.mlp import Mlp
from .layers import ImageNorm, LayerNorm, NeighbourGate, SqueezeExcite, StarReLU
from .layers.act import GELU, QuickGelu, SquaredReLU
from .layers.norm import GlobalResponseNorm, RMSNorm
from .layers.prepbn import ProgressiveNorm, RepBN
from .mixers.additive import AdditiveAttention
from .mixers.attention import Attention
from .mixers.bidirectional import BidirectionalMamba
from .mixers.cosine import CosineAttention
from .mixers.covariance import CrossCovariance
from .mixers.cross_scan import CrossScan
from .mixers.dilated_sum import DilatedSum
from .mixers.distance import DistanceAttention
from .mixers.dual_token import GlobalAttention
from .mixers.ffnified import FfnifiedAttention
from .mixers.glmix import GLMix
from .mixers.gnconv import GnConv
from .mixers.halo import HaloAttention
from .mixers.identity import Identity
from .mixers.inception import InceptionConv
from .mixers.levit import LevitAttention
from .mixers.local_attention import LocalValueAttention
from .mixers.mix_shift import MixShift
from .mixers.modulation import ScaleAwareModulation
from .mixers.multi_scale_scan import MultiScaleScan
from .mixers.non_local import NonLocal
from .mixers.partial_conv import PartialConv
from .mixers.pooling import Pooling
from .mixers.random import RandomMixing
from .mixers.recattn import RecAttention
from .mixers.recconv import RecConv
from .mixers.reduction import ReducedAttention, strided
from .mixers.separable import SeparableConv
from .mixers.sla import SimplifiedAttention
from .mixers.smpconv import SMPConv
from .mixers.spanning import SpanningAttention
from .mixers.spectral import SpectralModulation
from .mixers.spectrum import DynamicSpectrum
from .mixers.wave import WaveMix
from .mixers.wavelet_scan import WaveletScan
from .mixers.window import WindowAttention
from .mixers.window_mlp import WindowMlp
from .registry import OPERATORS
from .width import Groups, Width

Make = Callable[..., nn.Module]
SHARES = "its convolutions see fixed shares of the channels, and a body's width may lose any of them"
HEAD = 32  # channels of a head, where the operator is not told how many heads it has


@dataclass(frozen=True)
class Operator:
    """A constructor awaiting its dim, and the layout that what it makes works on

    `takes` is "tokens" (B, N, C), "last" (B, H, W, C), "first" (B, C, H, W), "ends" (..., C) or "any"; `role` is what
    it is for: "mixer", "mlp", "norm", "act" or "gate". `stiff` says why a body that holds it cannot be narrowed.
    """

    make: Make
    takes: str
    role: str = "mixer"
    stiff: str = ""

    def __call__(self, dim: int, **settings: Any) -> nn.Module:
        return self.make(dim, **settings)


def without_dim(make: Make) -> Make:
    """A constructor that is handed a dim it has no use for."""
    return lambda dim, **settings: make(**settings)


def with_heads(make: Make) -> Make:
    """A constructor whose `heads` are of 32 channels each, or one, if their number is not given."""
    return lambda dim, heads=None, **settings: make(dim, heads or heads_of(dim), **settings)


def heads_of(dim: int) -> int:
    return dim // HEAD if dim >= HEAD and dim % HEAD == 0 else 1


def depthwise(dim: int, kernel: int = 7) -> nn.Module:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)


def conv(dim: int, kernel: int = 3) -> nn.Module:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2)


def halo(dim: int, heads: int, **settings: Any) -> nn.Module:
    mixer = HaloAttention(dim, heads, **settings)
    return nn.Sequential(OrderedDict(mixer=mixer, proj_out=nn.Conv2d(mixer.width, dim, 1)))


def levit(dim: int, heads: int, key: int = 16, ratio: float = 2.0, grid: tuple[int, int] = (14, 14)) -> nn.Module:
    return LevitAttention(dim, heads, key, ratio, grid)


def reduced(dim: int, heads: int, stride: int = 2) -> nn.Module:
    return ReducedAttention(dim, heads, strided(dim, stride))


def window_mlp(dim: int, heads: int, **settings: Any) -> nn.Module:
    """Heads stay as wide as they are: the matrices over places are theirs."""
    inner = Groups(Width(heads, "heads"), dim // heads)
    parts = dict(proj_in=nn.Linear(dim, inner), mixer=WindowMlp(inner.parts[0], **settings))
    return nn.Sequential(OrderedDict(**parts, proj_out=nn.Linear(inner, dim)))


def random(dim: int, grid: tuple[int, int] = (14, 14)) -> nn.Module:
    return RandomMixing(dim, (grid[0], grid[1]))


def spanning(dim: int, head_dim: int = HEAD, **settings: Any) -> nn.Module:
    mixer = SpanningAttention(dim, dim // heads_of(dim) if dim % head_dim else head_dim, **settings)
    return nn.Sequential(OrderedDict(mixer=mixer, proj_out=nn.Conv2d(mixer.width, dim, 1)))


def squeeze(dim: int, ratio: float = 0.25) -> nn.Module:
    return SqueezeExcite(dim, max(1, int(dim * ratio)))


OPERATORS |= {
    "additive": Operator(AdditiveAttention, "first"),
    "attention": Operator(with_heads(Attention), "tokens"),
    "bimamba": Operator(BidirectionalMamba, "tokens"),
    "conv": Operator(conv, "first"),
    "cosine": Operator(with_heads(CosineAttention), "tokens"),
    "covariance": Operator(with_heads(CrossCovariance), "tokens"),
    "cross_scan": Operator(CrossScan, "last"),
    "depthwise": Operator(depthwise, "first"),
    "dilated": Operator(DilatedSum, "first"),
    "distance": Operator(with_heads(DistanceAttention), "last"),
    "dual": Operator(with_heads(GlobalAttention), "first"),
    "ffnified": Operator(FfnifiedAttention, "first"),
    "glmix": Operator(with_heads(GLMix), "first"),
    "gnconv": Operator(GnConv, "first"),
    "halo": Operator(with_heads(halo), "first"),
    "identity": Operator(Identity, "any"),
    "inception": Operator(InceptionConv, "first", stiff=SHARES),
    "levit": Operator(with_heads(levit), "last"),
    "local": Operator(with_heads(LocalValueAttention), "last"),
    "mix_shift": Operator(MixShift, "first", stiff=SHARES),
    "modulation": Operator(ScaleAwareModulation, "last"),
    "multi_scale_scan": Operator(MultiScaleScan, "last"),
    "non_local": Operator(NonLocal, "first"),
    "partial": Operator(PartialConv, "first", stiff=SHARES),
    "pooling": Operator(Pooling, "last"),
    "random": Operator(random, "last"),
    "recattn": Operator(partial(RecAttention, groups=1), "first"),
    "recconv": Operator(RecConv, "first"),
    "reduced": Operator(with_heads(reduced), "last"),
    "separable": Operator(SeparableConv, "last"),
    "sla": Operator(with_heads(SimplifiedAttention), "last"),
    "smpconv": Operator(SMPConv, "first"),
    "spanning": Operator(spanning, "first"),
    "spectral": Operator(SpectralModulation, "last"),
    "spectrum": Operator(DynamicSpectrum, "first"),
    "wave": Operator(WaveMix, "first"),
    "wavelet_scan": Operator(WaveletScan, "first"),
    "window": Operator(with_heads(WindowAttention), "last"),
    "window_mlp": Operator(with_heads(window_mlp), "last"),
    # channels
    "mlp": Operator(Mlp, "ends", "mlp"),
    "swiglu": Operator(SwiGlu, "ends", "mlp"),
    "dwmlp": Operator(DepthwiseMlp, "last", "mlp"),
    # norms
    "batchnorm": Operator(nn.BatchNorm2d, "first", "norm"),
    "imagenorm": Operator(ImageNorm, "last", "norm"),
    "layernorm": Operator(LayerNorm, "ends", "norm"),
    "prepbn": Operator(ProgressiveNorm, "ends", "norm"),
    "repbn": Operator(RepBN, "ends", "norm"),
    "response": Operator(GlobalResponseNorm, "last", "norm"),
    "rmsnorm": Operator(RMSNorm, "ends", "norm"),
    # activations
    "gelu": Operator(without_dim(GELU), "any", "act"),
    "hardswish": Operator(without_dim(nn.Hardswish), "any", "act"),
    "quick_gelu": Operator(without_dim(QuickGelu), "any", "act"),
    "relu": Operator(without_dim(nn.ReLU), "any", "act"),
    "silu": Operator(without_dim(nn.SiLU), "any", "act"),
    "squared_relu": Operator(without_dim(SquaredReLU), "any", "act"),
    "star_relu": Operator(without_dim(StarReLU), "any", "act"),
    # gates on channels
    "eca": Operator(NeighbourGate, "first", "gate"),
    "se": Operator(squeeze, "first", "gate"),
}


def takes(make: Any) -> str | None:
    """The layout of what a constructor makes, where the table above tells."""
    told = make.func if isinstance(make, partial) else make
    return told.takes if isinstance(told, Operator) else None


__all__ = ["OPERATORS", "Operator", "takes"]
