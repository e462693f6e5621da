"""EfficientViM: a state space mixed in its hidden states, and heads that read them. Lee et al., 2024, arXiv:2411.15241

Each branch of a block is blended in by learned gates a channel. The hidden states of every stage's last block and the
last map are classified apart, and the logits weighed. The `dist` forms have a second set of heads, trained by a
teacher, and average both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Features, Network
from ..blocks.stage import Blocks
from ..layers import Conv, DropPath, LayerNorm, SqueezeExcite, ramp
from ..layers.init import initialise, trunc02
from ..mixers.hidden_state import HiddenStateMixer
from ..registry import about, family, rounded
from ..width import Concat, Width, each


def depthwise(dim: int) -> nn.Module:
    return Conv(dim, dim, 3, groups=dim, act=None)


class ViMBlock(nn.Module):
    """x <- x + a (f(x) - x) for f = dwconv, mixer(norm), dwconv, mlp, with a = sigmoid(gates); returns states, too"""

    axes = {"gates": (None, "dim")}
    no_decay = ("gates",)

    def __init__(self, dim: int, states: int, drop: float = 0.0, ratio: int = 4):
        super().__init__()
        hidden, self.dim = Width(ratio * dim, "hidden"), dim
        self.gates = nn.Parameter(torch.full((4, dim), 1e-4))
        self.dwconv1, self.dwconv2, self.norm = depthwise(dim), depthwise(dim), LayerNorm(dim, dim=1, eps=1e-5)
        self.mixer = HiddenStateMixer(dim, states)
        self.mlp = nn.Sequential(Conv(dim, hidden, 1), Conv(hidden, dim, 1, act=None))
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.gates.sigmoid()[:, :, None, None]
        x = x + self.drop(a[0] * (self.dwconv1(x) - x))
        y, states = self.mixer(self.norm(x))
        x = x + self.drop(a[1] * (y - x))
        x = x + self.drop(a[2] * (self.dwconv2(x) - x))
        return x + self.drop(a[3] * (self.mlp(x) - x)), states


class Merge(nn.Module):
    """y + dwconv2(y) with y = an inverted residual of stride 2 on x + dwconv1(x)"""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        hidden = Width(4 * cout, "hidden")
        self.dwconv1, self.dwconv2 = depthwise(cin), depthwise(cout)
        self.conv = nn.Sequential(
            Conv(cin, hidden, 1),
            Conv(hidden, hidden, 3, 2, groups=hidden),
            SqueezeExcite(hidden, rounded(hidden / 4)),
            Conv(hidden, cout, 1, act=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x + self.dwconv1(x))
        return y + self.dwconv2(y)


class StateStage(nn.Module):
    """blocks(down(x)), and the hidden states of the last block"""

    def __init__(self, blocks: Iterable[nn.Module], down: nn.Module | None = None):
        super().__init__()
        self.down, self.blocks = down or nn.Identity(), Blocks(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, states = self.down(x), x
        for block in self.blocks:
            x, states = self.blocks.run(block, x)
        return x, states


class StatePyramid(nn.Module):
    """Stem, then stages; the maps asked for, and the hidden states of every stage that was run"""

    def __init__(self, stem: nn.Module, stages: Iterable[nn.Module], widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.stem, self.stages = stem, nn.ModuleList(stages)
        self.widths, self.strides = list(widths), list(strides)

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        wanted, maps, states = [tap % len(self.stages) for tap in taps], [], []
        x = self.stem(x)
        for stage in self.stages[: max(wanted) + 1]:
            x, state = stage(x)
            maps.append(x)
            states.append(state)
        return Features([maps[i] for i in wanted], [self.strides[i] for i in wanted], states=states)


class WeightedHeads(nn.Module):
    """sum of softmax(weights)_i * head_i(x_i), x the parts of one vector laid end to end"""

    def __init__(self, widths: Sequence[int], num_classes: int):
        super().__init__()
        self.sizes, self.weights = list(widths), nn.Parameter(torch.ones(len(widths)))
        self.heads = nn.ModuleList(nn.Linear(width, num_classes) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split([int(size) for size in self.sizes], 1)
        return sum(w * head(part) for w, head, part in zip(self.weights.softmax(0), self.heads, parts))


class Mean(nn.Module):
    """The mean of two heads, one trained by labels and one by a teacher"""

    def __init__(self, widths: Sequence[int], num_classes: int):
        super().__init__()
        self.labels, self.teacher = WeightedHeads(widths, num_classes), WeightedHeads(widths, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return (self.labels(x) + self.teacher(x)) / 2


class StateClassifier(Classifier):
    """fc(drop([mean of norm_i(states_i), ..., mean of norm(last map)]))"""

    def __init__(self, widths: Sequence[int], num_classes: int, heads: Callable[..., nn.Module], drop: float = 0.0):
        self.parts, self.heads = [*widths, widths[-1]], heads
        super().__init__(Concat(*self.parts), 0, drop=drop)
        self.norms = nn.ModuleList(LayerNorm(width, eps=1e-5) for width in self.parts)
        self.reset(num_classes)

    def unpooled(self, features: Features) -> list[Tensor]:
        return [*features.states, features.maps[-1].flatten(2).mT]

    def pooled(self, x: list[Tensor]) -> Tensor:
        return torch.cat([norm(part).mean(1) for norm, part in zip(self.norms, x)], 1)

    def reset(self, num_classes: int) -> None:
        self.fc = self.heads(self.parts, num_classes) if num_classes else nn.Identity()


M1 = dict(dims=(128, 192, 320), depths=(2, 2, 2))
M2 = dict(dims=(128, 256, 512), depths=(2, 2, 2))
M3 = dict(dims=(224, 320, 512), depths=(2, 2, 2))
M4 = dict(dims=(224, 320, 512), depths=(3, 4, 2), states=(64, 32, 16), native=256)


@family(
    about(
        title="EfficientViM: Efficient Vision Mamba with Hidden State Mixer based State Space Duality",
        arxiv="2411.15241",
        licence="MIT",
    ),
    efficientvim_m1=dict(**M1),
    efficientvim_m2=dict(**M2),
    efficientvim_m3=dict(**M3),
    efficientvim_m4=dict(**M4),
    efficientvim_m1_dist=dict(**M1, heads=Mean),
    efficientvim_m2_dist=dict(**M2, heads=Mean),
    efficientvim_m3_dist=dict(**M3, heads=Mean),
    efficientvim_m4_dist=dict(**M4, heads=Mean),
)
def efficient_vim(
    dims: Sequence[int],
    depths: Sequence[int],
    states: Sequence[int] = (49, 25, 9),
    heads: Callable[..., nn.Module] = WeightedHeads,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    thin = [*[Width(dims[0] // n, "stem") for n in (8, 4, 2)], dims[0]]
    *first, last = pairwise([in_chans, *thin])
    stem = nn.Sequential(*[Conv(a, b, 3, 2) for a, b in first], Conv(*last, 3, 2, act=None))
    stages = [
        StateStage(
            [ViMBlock(dims[i], states[i], next(drop)) for _ in range(depth)], Merge(dims[i - 1], dims[i]) if i else None
        )
        for i, depth in enumerate(depths)
    ]
    backbone = StatePyramid(stem, stages, dims, [16, 32, 64])
    net = Network(backbone, StateClassifier(dims, num_classes, heads, drop_rate))
    initialise(net, linear=trunc02)
    return net


BODY = """
    patch_embed.conv                               -> backbone.stem
    stages.{s}.downsample.conv.2.fc1               -> backbone.stages.{s+1}.down.conv.2.reduce
    stages.{s}.downsample.conv.2.fc2               -> backbone.stages.{s+1}.down.conv.2.expand
    stages.{s}.downsample                          -> backbone.stages.{s+1}.down
    stages.{s}.blocks.{b}.alpha                    -> backbone.stages.{s}.blocks.{b}.gates
    stages.{s}.blocks.{b}.mixer.BCdt_proj.conv     -> backbone.stages.{s}.blocks.{b}.mixer.read
    stages.{s}.blocks.{b}.mixer.dw.conv            -> backbone.stages.{s}.blocks.{b}.mixer.near
    stages.{s}.blocks.{b}.mixer.hz_proj.conv       -> backbone.stages.{s}.blocks.{b}.mixer.proj
    stages.{s}.blocks.{b}.mixer.out_proj.conv      -> backbone.stages.{s}.blocks.{b}.mixer.out
    stages.{s}.blocks.{b}.mixer.A                  -> backbone.stages.{s}.blocks.{b}.mixer.decay
    stages.{s}.blocks.{b}.mixer.D                  -> backbone.stages.{s}.blocks.{b}.mixer.skip
    stages.{s}.blocks.{b}.ffn.fc{i}                -> backbone.stages.{s}.blocks.{b}.mlp.{i-1}
    stages.{s}.blocks.{b}                          -> backbone.stages.{s}.blocks.{b}
    norm                                           -> head.norms
"""
TIMM = (
    BODY
    + """
    weights                                        -> head.fc.weights
    heads                                          -> head.fc.heads
"""
)
TIMM_DIST = (
    BODY
    + """
    weights                                        -> head.fc.labels.weights
    heads                                          -> head.fc.labels.heads
    weights_dist                                   -> head.fc.teacher.weights
    heads_dist                                     -> head.fc.teacher.heads
"""
)
