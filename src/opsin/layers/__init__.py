"""Parameters without opinions: the parts that every network shares."""

from .act import StarReLU
from .conv import Act, Conv, SameConv2d, hard_swish, relu, relu6, silu
from .downsample import AverageDown, AveragePool, BlurPool
from .drop import DropLayer, DropPath, ScheduledDropPath, advance, ramp
from .gate import NeighbourGate, SqueezeExcite
from .norm import ImageNorm, LayerNorm
from .pool import GlobalAverage
from .scale import Scale

__all__ = [
    "Act",
    "AverageDown",
    "AveragePool",
    "BlurPool",
    "Conv",
    "DropLayer",
    "DropPath",
    "GlobalAverage",
    "ImageNorm",
    "LayerNorm",
    "NeighbourGate",
    "SameConv2d",
    "Scale",
    "ScheduledDropPath",
    "SqueezeExcite",
    "StarReLU",
    "advance",
    "hard_swish",
    "ramp",
    "relu",
    "relu6",
    "silu",
]
