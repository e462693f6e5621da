"""Parameters without opinions: the parts that every network shares."""

from .act import StarReLU
from .conv import Act, Conv, SameConv2d, hard_swish, relu, relu6, silu
from .drop import DropPath, ramp
from .gate import SqueezeExcite
from .norm import ImageNorm, LayerNorm
from .pool import GlobalAverage
from .scale import Scale

__all__ = [
    "Act",
    "Conv",
    "DropPath",
    "GlobalAverage",
    "ImageNorm",
    "LayerNorm",
    "SameConv2d",
    "Scale",
    "SqueezeExcite",
    "StarReLU",
    "hard_swish",
    "ramp",
    "relu",
    "relu6",
    "silu",
]
