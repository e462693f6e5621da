"""Other pools for finished networks: `pool="gem"` means the same in all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..layers.pool import GeM, GGeM, GlobalAverage, GlobalMax
from ..registry import UnsupportedArgument, parse_call
from .classify import Classifier, LevelClassifier
from .latent_pool import LatentPool
from .network import Network
from .tokens import FirstToken, MeanToken, TokenClassifier

MAPS: dict[str, Callable[..., nn.Module]] = {
    "avg": lambda dim: GlobalAverage(),
    "max": lambda dim: GlobalMax(),
    "gem": lambda dim, **settings: GeM(**settings),
    "ggem": GGeM,
    "map": LatentPool,
}
OWN: dict[type[nn.Module], str] = {GlobalAverage: "avg", FirstToken: "token", MeanToken: "avg"}


class OnGrid(nn.Module):
    """(B, P + N, C) -> (B, C), pool of the tokens behind the first `leading` = P, as a map of N pixels"""

    def __init__(self, pool: nn.Module, leading: int):
        super().__init__()
        self.pool, self.leading = pool, leading

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x[:, self.leading :].mT.unsqueeze(-1))


def pools(net: Network) -> list[str]:
    """The pools that a network can take, its own one first."""
    if type(net.head) not in (Classifier, TokenClassifier):
        return ["own"]
    own = OWN.get(type(net.head.pool), "own")
    levels = ["levels"] if type(net.head) is Classifier else []
    return [own, *(kind for kind in MAPS if kind != own), *levels]


def pool(net: Network, name: str, call: str) -> None:
    """Give a finished network another pool: "avg", "max", "gem", "ggem(groups=8)", "map", and "levels" for maps.

    "levels" reads the maps of every stage, "map" is attention pooling. Token networks pool the tokens of their grid;
    behind a mean or a maximum the head's norm comes after the pooling, as in the ViTs that are trained so.

    Raises:
        UnsupportedArgument: a pool that the network cannot take, or settings that the pool cannot mean.
    """
    kind, settings = parse_call(call)
    allowed = pools(net)
    if kind not in allowed:
        raise UnsupportedArgument(f"{name} has no pool {call!r}: it takes {' or '.join(allowed)}")
    head = net.head
    if kind == allowed[0] and not settings:
        return
    if kind == "levels":
        net.head = LevelClassifier(head, list(net.backbone.widths), getattr(head.fc, "out_features", 0))
        return
    try:
        made = MAPS[kind](head.reads, **settings)
    except (TypeError, ValueError) as error:
        raise UnsupportedArgument(f"pool {call!r} of {name}: {error}") from error
    head.pool = made if type(head) is Classifier else OnGrid(made, leading(net.backbone))
    if type(head) is TokenClassifier and kind in ("avg", "max") and isinstance(head.after, nn.Identity):
        head.before, head.after = nn.Identity(), head.before


def leading(backbone: Any) -> int:
    """How many tokens stand before those of the grid."""
    return sum(p.shape[1] for p in backbone.prefix.parameters())
