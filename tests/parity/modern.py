"""How the authors' modern convolutional networks and hybrids are rebuilt here."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from opsin.blocks.maps import NormedMaps
from opsin.blocks.modality import ClipToImage
from opsin.blocks.points import PointsToImages
from opsin.deploy.fuse import fuse
from opsin.families import hornet as hor
from opsin.families import recnext as rec
from opsin.families import recnext_tsb as tsb
from opsin.families import unireplknet as uni
from opsin.heads.horfpn import GnConvModule, HorFPN
from opsin.layers import LayerNorm
from opsin.layers.reparam import reparameterize
from opsin.mixers.gnconv import GlobalNear, GnConv, Near
from opsin.mixers.recconv import RecConv
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


# -------------------------------------------------- UniRepLKNet --------------------------------------------------


def unireplknet(build: dict, case: str) -> Rebuilt:
    if "local_size" in build:
        return points(build)
    if "kernel_size" in build:
        return Rebuilt(uni.UniRepLKBlock(build["dim"], build["kernel_size"]), uni.block(uni.BLOCK, "", ""), merging)
    make, given = official(build, uni.unireplknet)
    given = {**given, **{ours: build[theirs] for theirs, ours in UNIREPLKNET.items() if theirs in build}}
    net = make(**{**given, "num_classes": build.get("num_classes", 1000) or 0, "in_chans": build.get("in_chans", 3)})
    if build.get("deploy"):
        return Rebuilt(reparameterize(net), uni.AUTHORS_MERGED, images)
    if "init_cfg" in build or build.get("num_classes", 1000) is None:
        return Rebuilt(NormedMaps(net, partial(LayerNorm, dim=1)), uni.AUTHORS + SIDE, numbered)
    return Rebuilt(net, uni.AUTHORS, images)


UNIREPLKNET = {"depths": "depths", "dims": "dims", "kernel_sizes": "kernels"}
SIDE = "norm{i} -> norms.{i}"


def images(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """Clips go through as images of all their frames."""
    return {"out": net(*[ClipToImage()(x) if x.ndim == 5 else x for x in given])}


def merging(block: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """A block's output, and what merging leaves of it."""
    merged = block.merged()
    conv, fc2 = merged.mixer, merged.mlp.fc2
    made = {"lk_weight": conv.weight, "lk_bias": conv.bias, "pw2_weight": fc2.weight, "pw2_bias": fc2.bias}
    return {name: t.detach() for name, t in {"out": block(*given), **made}.items()}


POINTS = """
    enc.input_trans                              -> neighbours.embed
    enc.graph_layer.0                            -> neighbours.conv
    enc.graph_layer.1                            -> neighbours.norm
    enc.proj_layer                               -> neighbours.proj
    enc.img_block.0.conv{i}                      -> conv.0.conv{i}.conv
    enc.img_block.0.bn{i}                        -> conv.0.conv{i}.norm
    enc.img_block.1                              -> conv.1
    enc.fusion.conv1                             -> fusion.patches
    enc.fusion.transformer.layers.0.0.norm       -> fusion.block.norm1
    enc.fusion.transformer.layers.0.0.fn.to_qkv  -> fusion.block.mixer.qkv
    enc.fusion.transformer.layers.0.0.fn.to_out.0 -> fusion.block.mixer.proj
    enc.fusion.transformer.layers.0.1.norm       -> fusion.block.norm2
    enc.fusion.transformer.layers.0.1.fn.net.0   -> fusion.block.mlp.fc1
    enc.fusion.transformer.layers.0.1.fn.net.3   -> fusion.block.mlp.fc2
    enc.fusion.conv2                             -> fusion.spread
    enc.fusion.conv3                             -> fusion.merge
    enc.img_layer                                -> proj
"""


def points(build: dict) -> Rebuilt:
    names = {"num_views": "views", "img_size": "side", "local_size": "k", "trans_dim": "hidden", "graph_dim": "dim"}
    given = {ours: build[theirs] for theirs, ours in {**names, "obj_size": "extent"}.items() if theirs in build}
    return Rebuilt(PointsToImages(**given), POINTS, single)


# ---------------------------------------------------- RecNeXt ----------------------------------------------------


def recnext(build: dict, case: str) -> Rebuilt:
    if "channels" in build:
        return recconvs(build)
    if "mlp_ratios" in build or build.get("variant", "").startswith(("recnext_t", "recnext_s", "recnext_b")):
        return recnext_tsb(build)
    attention = case.startswith("a_") or "mlp_ratio" in build or build.get("series") == "a"
    make, given = BUILDERS[build.get("variant") or ("recnext_a0" if attention else "recnext_m0")]
    if "embed_dim" in build:
        given = {**given, "dim": build["embed_dim"][0], "depths": build["depth"], "ratio": build.get("mlp_ratio", 2)}
    net = make(**{**given, "num_classes": build.get("num_classes", 1000)})
    if build.get("fuse"):
        return Rebuilt(fuse(reparameterize(net)), rec.AUTHORS_FUSED, single)
    return Rebuilt(net, rec.AUTHORS, heads if build.get("distillation") else single)


def recnext_tsb(build: dict) -> Rebuilt:
    share = "_share_channel" if build.get("share_stage") else ""
    make, given = BUILDERS[build.get("variant") or f"recnext_t{share}"]
    if "embed_dim" in build:
        given = {**given, "dims": build["embed_dim"], "depths": build["depth"], "ratios": build["mlp_ratios"]}
    return Rebuilt(make(**{**given, "num_classes": build.get("num_classes", 1000)}), tsb.AUTHORS, single)


def recconvs(build: dict) -> Rebuilt:
    settings = build["kernel_level_bias_mode"]
    convs = Named({f"k{k}_l{level}": RecConv(build["channels"], k, level, *more) for k, level, *more in settings})
    unused = [f"rec.{i}.down ->" for i, (_, level, *_) in enumerate(settings) if not level]
    table = [*unused, *[f"rec.{i} -> {name}" for i, name in enumerate(convs)]]
    return Rebuilt(convs, "\n".join(table), lambda module, given: module(*given))


def heads(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """The two classifiers apart, and their mean."""
    labels, teacher = net.head.fc.both(net.forward_head(net.forward_features(*given), pre_logits=True))
    mean = net(*given)
    return {"head": labels, "head_dist": teacher, "dist_head": teacher, "mean": mean, "out": mean}


MODERN = {"hornet": hornet, "recnext": recnext, "unireplknet": unireplknet}
