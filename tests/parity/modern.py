"""How the authors' modern convolutional networks and hybrids are rebuilt here."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from opsin.families import hornet as hor
from opsin.heads.horfpn import GnConvModule, HorFPN
from opsin.mixers.gnconv import GlobalNear, GnConv, Near
from opsin.registry import BUILDERS

from .harness import Rebuilt


def single(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {"out": module(*given)}


def numbered(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """A list of outputs as out0, out1, ..."""
    return {f"out{i}": y for i, y in enumerate(module(*given))}


class Named(nn.ModuleDict):
    """Modules side by side, each given the same input"""

    def forward(self, *given: Tensor) -> dict[str, Tensor]:
        return {name: module(*given) for name, module in self.items()}


def official(build: dict, family: Any, **names: str) -> tuple[Any, dict]:
    """The builder and the arguments of a variant, or the bare builder where none is named; other names for ours."""
    if "variant" in build:
        return BUILDERS[names.get(build["variant"], build["variant"])]
    return family, {}


# ---------------------------------------------------- HorNet ----------------------------------------------------


def hornet(build: dict, case: str) -> Rebuilt:
    if "orders" in build:
        convs = Named({f"order{n}": GnConv(build["dim"], n, scale=build.get("s", 1.0)) for n in build["orders"]})
        table = "".join(hor.gnconv(f"gn.{n - 1}", f"order{n}") for n in build["orders"])
        return Rebuilt(convs, table, lambda module, given: module(*given))
    if "in_channels" in build:
        return horfpn(build)
    make, given = official(build, hor.hornet)
    if not given:
        given = dict(dim=build["base_dim"], depths=build["depths"], mixers=[mixer(c) for c in build["gnconv"]])
    more = {"num_classes": build["num_classes"]} if "num_classes" in build else {}
    return Rebuilt(make(**given, **more), hor.AUTHORS, single)


def spread(conv: dict) -> Any:
    """What lets the factors of a gated convolution see other places, from the authors' settings."""
    if conv.get("gflayer") or conv.get("type") == "gngf":
        return partial(GlobalNear, grid=(conv.get("h", 32), conv.get("w", 17)))
    return partial(Near, kernel=conv.get("kernel_size", 7))


def mixer(conv: dict) -> Any:
    return partial(GnConv, order=conv.get("order", 5), spread=spread(conv), scale=conv.get("s", 1.0))


def horfpn(build: dict) -> Rebuilt:
    conv = build["gn_conv_cfg"]
    given = {"order": conv.get("order", 2), "ratio": conv.get("dim_ratio", 1), "proj": conv.get("proj_out", False)}
    smooth = partial(GnConvModule, spread=spread(conv), **given)
    net = HorFPN(build["in_channels"], build["out_channels"], build["num_outs"], smooth)
    table = "lateral_convs.{i}.conv -> lateral.{i}" + hor.gnconv("fpn_convs.{k}", "smooth.{k}")
    return Rebuilt(net, table, lambda module, maps: numbered(module, [maps]))


MODERN = {"hornet": hornet}
