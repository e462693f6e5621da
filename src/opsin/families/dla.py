"""DLA: trees that aggregate layers, shallow and deep, at every resolution. Yu et al., 2017, arXiv:1707.06484

Pairs of blocks meet in a root, a 1x1 over all that its tree has made; a deeper tree is two trees, of which the second
root also reads what the first made. `c` are compact, `x` have grouped 3x3s, Res2Net's (arXiv:1904.01169) split them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.residual import inner
from ..layers import Conv, relu
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Concat, Groups, Width


class Unit(nn.Module):
    """act(body(x) + shortcut): what is added comes from the tree"""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body, self.act = body, relu()

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.act(self.body(x) + shortcut)


class Cascade(nn.Module):
    """Slices y_i = conv_i(x_i + y_(i-1)), the last one as it is. Res2Net, Gao et al., 2019, arXiv:1904.01169"""

    def __init__(self, dim: int, scales: int, groups: int = 1):
        super().__init__()
        self.scales = scales
        self.convs = nn.ModuleList(Conv(dim, dim, groups=groups) for _ in range(scales - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = x.chunk(self.scales, 1)
        made = [self.convs[0](first)]
        for conv, part in zip(self.convs[1:], others):
            made.append(conv(part + made[-1]))
        return torch.cat([*made, others[-1]], 1)


class StridedSlices(nn.Module):
    """Slices y_i = conv_i(x_i), the last one averaged: a cascade's form where the resolution changes"""

    def __init__(self, dim: int, scales: int, stride: int, groups: int = 1):
        super().__init__()
        self.scales, self.pool = scales, nn.AvgPool2d(3, stride, 1)
        self.convs = nn.ModuleList(Conv(dim, dim, 3, stride, groups) for _ in range(scales - 1))

    def forward(self, x: Tensor) -> Tensor:
        *others, last = x.chunk(self.scales, 1)
        return torch.cat([*[conv(part) for conv, part in zip(self.convs, others)], self.pool(last)], 1)


def basic(cin: int, cout: int, stride: int) -> nn.Module:
    hidden = Width(cout, "hidden")
    return nn.Sequential(Conv(cin, hidden, 3, stride), Conv(hidden, cout, act=None))


def bottleneck(cin: int, cout: int, stride: int, groups: int = 1) -> nn.Module:
    """Half as wide inside, or with groups `groups` / 32 as wide."""
    a, b, groups = inner(cout // 2 if groups == 1 else cout * groups // 32, groups)
    return nn.Sequential(Conv(cin, a, 1), Conv(a, b, 3, stride, groups), Conv(b, cout, 1, act=None))


def sliced(cin: int, cout: int, stride: int, base: int, groups: int = 1, scales: int = 4) -> nn.Module:
    """A bottleneck whose 3x3 works on slices, `base` / 128 of the output wide for each group."""
    size = cout * base * groups // 128
    one = Width(size, "slice")
    if groups > 1:
        groups = Width(groups, "groups")
        one = Groups(groups, size // groups)
    every = Groups(scales, one)
    middle = Cascade(one, scales, groups) if stride == 1 else StridedSlices(one, scales, stride, groups)
    return nn.Sequential(Conv(cin, every, 1), middle, Conv(every, cout, 1, act=None))


class Root(nn.Module):
    """act(norm(conv([x2, x1, *passed])))"""

    def __init__(self, widths: Sequence[int], dim: int):
        super().__init__()
        self.part, self.act = Conv(Concat(*widths), dim, 1, act=None), relu()

    def forward(self, x: list[Tensor]) -> Tensor:
        return self.act(self.part(torch.cat(x, 1)))


class ResidualRoot(Root):
    """act(norm(conv([x2, x1, *passed])) + x2)"""

    def forward(self, x: list[Tensor]) -> Tensor:
        return self.act(self.part(torch.cat(x, 1)) + x[0])


class Pair(nn.Module):
    """root([x2, x1, *passed]) of x1 = tree1(x, shortcut), x2 = tree2(x1, x1)"""

    def __init__(self, cin: int, dim: int, stride: int, block: Callable[..., nn.Module], root: nn.Module):
        super().__init__()
        self.tree1, self.tree2 = Unit(block(cin, dim, stride)), Unit(block(dim, dim, 1))
        self.down = nn.MaxPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.project = nn.Identity() if cin is dim else Conv(cin, dim, 1, act=None)
        self.root = root

    def forward(self, x: Tensor, passed: Sequence[Tensor] = ()) -> Tensor:
        one = self.tree1(x, self.project(self.down(x)))
        two = self.tree2(one, one)
        return self.root([two, one, *passed])


class Tree(nn.Module):
    """tree2(y, [*passed, y]) of y = tree1(x)"""

    def __init__(self, tree1: nn.Module, tree2: nn.Module):
        super().__init__()
        self.tree1, self.tree2 = tree1, tree2

    def forward(self, x: Tensor, passed: Sequence[Tensor] = ()) -> Tensor:
        one = self.tree1(x)
        return self.tree2(one, [*passed, one])


class Level(nn.Module):
    """tree(x), whose last root also reads the pooled input if there is a `pool`"""

    def __init__(self, tree: nn.Module, pool: nn.Module | None = None):
        super().__init__()
        self.tree, self.pool = tree, pool

    def forward(self, x: Tensor) -> Tensor:
        return self.tree(x, [self.pool(x)] if self.pool else [])


def grow(
    depth: int,
    cin: int,
    dim: int,
    stride: int,
    block: Callable[..., nn.Module],
    root: Callable[..., nn.Module],
    passed: Sequence[int] = (),
) -> nn.Module:
    """A tree of 2^depth blocks whose last root reads maps of the widths `passed` too."""
    if depth == 1:
        return Pair(cin, dim, stride, block, root([dim, dim, *passed], dim))
    return Tree(
        grow(depth - 1, cin, dim, stride, block, root), grow(depth - 1, dim, dim, 1, block, root, [*passed, dim])
    )


COMPACT = (16, 32, 64, 64, 128, 256)
DIMS = (16, 32, 128, 256, 512, 1024)
X, X2 = partial(bottleneck, groups=32), partial(bottleneck, groups=64)


@family(
    about(title="Deep Layer Aggregation", arxiv="1707.06484", licence="BSD-3-Clause"),
    dla34=dict(depths=(1, 2, 2, 1), dims=(16, 32, 64, 128, 256, 512), block=basic),
    dla46_c=dict(depths=(1, 2, 2, 1), dims=COMPACT),
    dla46x_c=dict(depths=(1, 2, 2, 1), dims=COMPACT, block=X),
    dla60x_c=dict(depths=(1, 2, 3, 1), dims=COMPACT, block=X),
    dla60=dict(depths=(1, 2, 3, 1)),
    dla60x=dict(depths=(1, 2, 3, 1), block=X),
    dla102=dict(depths=(1, 3, 4, 1), root=ResidualRoot),
    dla102x=dict(depths=(1, 3, 4, 1), root=ResidualRoot, block=X),
    dla102x2=dict(depths=(1, 3, 4, 1), root=ResidualRoot, block=X2),
    dla169=dict(depths=(2, 3, 5, 1), root=ResidualRoot),
    dla60_res2net=dict(depths=(1, 2, 3, 1), block=partial(sliced, base=28)),
    dla60_res2next=dict(depths=(1, 2, 3, 1), block=partial(sliced, base=4, groups=8)),
)
def dla(
    depths: Sequence[int],
    dims: Sequence[int] = DIMS,
    block: Callable[..., nn.Module] = bottleneck,
    root: Callable[..., nn.Module] = Root,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """`depths` of the trees at strides 4 to 32, `dims` of the maps at strides 1 to 32."""
    wide: list[int] = []
    for size in dims:  # where the channels stay, blocks add what comes in
        wide.append(wide[-1] if wide and wide[-1] == size else Width(size, "dim"))
    low = Width(dims[0], "stem")
    stem = nn.Sequential(Conv(in_chans, low, 7), Conv(low, wide[0]))
    levels: list[nn.Module] = [Conv(wide[0], wide[1], 3, 2)]
    for i, (cin, dim, depth) in enumerate(zip(wide[1:], wide[2:], depths)):
        tree = grow(depth, cin, dim, 2, block, root, [cin] if i else [])
        levels.append(Level(tree, nn.MaxPool2d(2, 2, ceil_mode=True) if i else None))
    backbone = Pyramid(stem, [Stage([level]) for level in levels], wide, [1, 2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(wide[-1], num_classes, drop=drop_rate))
    initialise(net.backbone, conv=kaiming_out)
    return net


PATHS = ["".join(f".tree{i}" for i in path) for depth in range(6) for path in product((1, 2), repeat=depth)]
INSIDE = {
    "conv1": "body.0.conv",
    "bn1": "body.0.norm",
    "conv2": "body.1.conv",
    "bn2": "body.1.norm",
    "conv3": "body.2.conv",
    "bn3": "body.2.norm",
    "convs.{i}": "body.1.convs.{i}.conv",
    "bns.{i}": "body.1.convs.{i}.norm",
    "root.conv": "root.part.conv",
    "root.bn": "root.part.norm",
    "project.0": "project.conv",
    "project.1": "project.norm",
}
TIMM = """
    base_layer.0     -> backbone.stem.0.conv
    base_layer.1     -> backbone.stem.0.norm
    level0.0         -> backbone.stem.1.conv
    level0.1         -> backbone.stem.1.norm
    level1.0         -> backbone.stages.0.blocks.0.conv
    level1.1         -> backbone.stages.0.blocks.0.norm
    fc               -> head.fc
""" + "\n".join(
    f"level{{s}}{path}.{theirs} -> backbone.stages.{{s-1}}.blocks.0.tree{path}.{ours}"
    for path in PATHS
    for theirs, ours in INSIDE.items()
)


def authors(depths: Sequence[int]) -> str:
    """Rules for the authors' checkpoints, whose deeper trees hold a projection that nothing reads."""
    dead = [
        f"level{s}{path}.project ->"
        for s, depth in enumerate(depths, 2)
        for path in PATHS
        if path.count(".") < depth - 1
    ]
    return "\n".join(dead) + TIMM
