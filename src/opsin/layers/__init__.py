"""Parameters without opinions: the parts that every network shares."""

from .conv import Act, Conv, SameConv2d, relu, relu6, silu
from .downsample import AverageDown, AveragePool, BlurPool
from .drop import DropLayer, DropPath, ScheduledDropPath, advance, ramp
from .gate import NeighbourGate, SqueezeExcite
from .norm import LayerNorm
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
    "LayerNorm",
    "NeighbourGate",
    "SameConv2d",
    "Scale",
    "ScheduledDropPath",
    "SqueezeExcite",
    "advance",
    "ramp",
    "relu",
    "relu6",
    "silu",
]
