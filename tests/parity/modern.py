"""How the authors' modern convolutional networks and hybrids are rebuilt here."""

from __future__ import annotations

import functools
import re
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opsin.blocks.maps import NormedMaps
from opsin.blocks.modality import ClipToImage
from opsin.blocks.points import PointsToImages
from opsin.deploy.fuse import fuse
from opsin.families import cas_vit as cas
from opsin.families import emov2 as emo
from opsin.families import hornet as hor
from opsin.families import i_revnet as irev
from opsin.families import ms_mlp as ms
from opsin.families import recnext as rec
from opsin.families import recnext_tsb as tsb
from opsin.families import revcol as rev
from opsin.families import revcol_supervision as supervise
from opsin.families import smp_continuous as ck
from opsin.families import smpnet as smp
from opsin.families import smt as sm
from opsin.families import spanet as spa
from opsin.families import unireplknet as uni
from opsin.heads.horfpn import GnConvModule, HorFPN
from opsin.layers import LayerNorm, silu
from opsin.layers.reparam import reparameterize
from opsin.mixers.additive import AdditiveAttention
from opsin.mixers.gnconv import GlobalNear, GnConv, Near
from opsin.mixers.local_attention import LocalValueAttention
from opsin.mixers.modulation import ScaleAwareModulation
from opsin.mixers.point_conv import PointConv1d, PointConv2d
from opsin.mixers.recconv import RecConv
from opsin.mixers.smpconv import tents
from opsin.mixers.spanning import SpanningAttention, close, remote
from opsin.mixers.spectral import SpectralFilter, SpectralModulation
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


def official(build: dict, prefix: str, family: Any = None) -> tuple[Any, dict]:
    """The builder and the arguments of a variant by its published name, or the bare builder where none is told."""
    if "variant" not in build:
        return family, {}
    name = build["variant"].lower().replace("-", "_").removeprefix("cas_vit_")
    return next(
        BUILDERS[known] for known in (name, f"{prefix}_{name}", f"{prefix}_{LONG.get(name)}") if known in BUILDERS
    )


LONG = {"s": "small", "m": "medium", "mx": "mediumx", "b": "base", "bx": "basex", "t": "tiny", "l": "large"}


# ---------------------------------------------------- HorNet ----------------------------------------------------


def hornet(build: dict, case: str) -> Rebuilt:
    if "orders" in build:
        convs = Named({f"order{n}": GnConv(build["dim"], n, scale=build.get("s", 1.0)) for n in build["orders"]})
        table = "".join(hor.gnconv(f"gn.{n - 1}", f"order{n}") for n in build["orders"])
        return Rebuilt(convs, table, lambda module, given: module(*given))
    if "in_channels" in build:
        return horfpn(build)
    make, given = official(build, "hornet", hor.hornet)
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
    make, given = official(build, "unireplknet", uni.unireplknet)
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
    attention = case.startswith("a_") or "mlp_ratio" in build
    make, given = official({"variant": "a0" if attention else "m0", **build}, "recnext")
    if "mlp_ratios" in build or make is tsb.recnext_tsb:
        return recnext_tsb(build)
    if "embed_dim" in build:
        given = {**given, "dim": build["embed_dim"][0], "depths": build["depth"], "ratio": build.get("mlp_ratio", 2)}
    net = make(**{**given, "num_classes": build.get("num_classes", 1000)})
    if build.get("fuse"):
        return Rebuilt(fuse(reparameterize(net)), rec.AUTHORS_FUSED, single)
    return Rebuilt(net, rec.AUTHORS, heads if build.get("distillation") else single)


def recnext_tsb(build: dict) -> Rebuilt:
    share = "_share_channel" if build.get("share_stage") else ""
    make, given = official({"variant": f"t{share}", **build}, "recnext")
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


# ---------------------------------------------------- EMOv2 ----------------------------------------------------

LAYOUTS = {1: (remote,), 2: (close,), 3: (remote, close)}
EMO_ACTS, EMO_NORMS = {"silu": silu, "gelu": nn.GELU}, {"bn_2d": emo.batch, "ln_2d": emo.layer}


def spanning(layouts: Any, dim: int, ratio: float, head_dim: int, window: int, act: Any) -> nn.Module:
    return SpanningAttention(dim, head_dim, window, layouts, int(dim * ratio), act)


def emov2(build: dict, case: str) -> Rebuilt:
    if "dim_mid" in build:
        return windows(build)
    if "variant" in build:
        make, given = official(build, "emo2")
        return Rebuilt(make(**given), emo.AUTHORS, single)
    names = {"depths": "depths", "embed_dims": "dims", "exp_ratios": "ratios", "dw_kss": "kernels"}
    names |= {"dim_heads": "head_dims", "window_sizes": "window", "num_classes": "num_classes"}
    given = {ours: build[theirs] for theirs, ours in names.items() if theirs in build}
    given["mixers"] = [partial(spanning, LAYOUTS[op]) if op else emo.expand for [op] in build["hybrid_eopss"]]
    given["acts"] = [EMO_ACTS[name] for name in build["act_layers"]]
    given["norms"] = [EMO_NORMS[name] for name in build["norm_layers"]]
    return Rebuilt(emo.emov2(**given), emo.AUTHORS, single)


def windows(build: dict) -> Rebuilt:
    given = dict(head_dim=build["dim_head"], window=build["window_size"], bias=build["qkv_bias"])
    given |= dict(cout=build["dim_mid"], act=EMO_ACTS[build["act"]])
    named = {"remote": 1, "close": 2, "hybrid": 3}
    sides = Named({k: SpanningAttention(build["dim_in"], layouts=LAYOUTS[i], **given) for k, i in named.items()})
    table = "\n".join(f"{name}.{part}.conv -> {name}.{part}" for name in named for part in ("qk", "v"))
    return Rebuilt(sides, table, lambda module, given: module(*given))


# ----------------------------------------------------- SMT -----------------------------------------------------


def smt(build: dict, case: str) -> Rebuilt:
    if "ca_attention" in build:
        dim, ca, bias = build["dim"], build["ca_attention"], build.get("qkv_bias", False)
        mixer = (
            ScaleAwareModulation(dim, build["ca_num_heads"], build.get("expand_ratio", 2), bias)
            if ca
            else LocalValueAttention(dim, build["sa_num_heads"], bias)
        )
        return Rebuilt(mixer, SMT_MIXER, partial(on_grid, grid=(build["H"], build["W"])))
    make, given = official(build, "smt", sm.smt)
    names = {"embed_dims": "dims", "depths": "depths", "mlp_ratios": "ratios", "head_conv": "first"}
    given = {**given, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    if "ca_attentions" in build:
        given["mixers"] = [turns(build, i) for i in range(4)]
    scale = {"scale": 1e-4} if build.get("use_layerscale") else {}
    return Rebuilt(make(**given, **scale, num_classes=build.get("num_classes", 1000)), sm.AUTHORS, single)


SMT_MIXER = """
    a.local_conv_{i} -> convs.{i-1}
    a.local_conv     -> dwconv
    a.proj0          -> mix.0
    a.bn             -> mix.1
    a.proj1          -> mix.3
    a.proj           -> proj
    a.kv             -> kv
    a.q              -> q
    a.v              -> v
    a.s              -> s
"""


def turns(build: dict, i: int) -> list[Any]:
    """The mixers of a stage that take turns; the third alternates whatever it is told."""
    bias, expand = build.get("qkv_bias", False), build.get("expand_ratio", 2)
    modulate = partial(ScaleAwareModulation, heads=build["ca_num_heads"][i], expand=expand, bias=bias)
    attend = partial(LocalValueAttention, heads=build["sa_num_heads"][i], bias=bias)
    first = modulate if build["ca_attentions"][i] else attend
    return [first, attend] if i == 2 else [first]


def on_grid(mixer: nn.Module, given: list[Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Tokens through what mixes maps with channels last."""
    return {"out": mixer(given[0].unflatten(1, grid)).flatten(1, 2)}


# ---------------------------------------------------- CAS-ViT ----------------------------------------------------

SIDES = "\n".join(f"norm{2 * i} -> norms.{i}" for i in range(4))


def cas_vit(build: dict, case: str) -> Rebuilt:
    if "dim" in build:
        return Rebuilt(AdditiveAttention(build["dim"], build.get("attn_bias", False)), CAS_MIXER, single)
    make, given = official(build, "rcvit", cas.cas_vit)
    names = {"layers": "depths", "embed_dims": "dims", "mlp_ratios": "ratio", "attn_bias": "bias"}
    given = {**given, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    two = build.get("distillation", True)
    net = make(**given, head=cas.two if two else cas.one, num_classes=build.get("num_classes", 1000))
    if build.get("fork_feat"):
        return Rebuilt(NormedMaps(net, nn.BatchNorm2d), cas.BODY + "\n" + SIDES, numbered)
    return Rebuilt(net, cas.AUTHORS if two else cas.AUTHORS_ONE_HEAD, heads if "two_heads" in case else single)


CAS_MIXER = """
    m.oper_q.0.block   -> q.0.weigh
    m.oper_q.1.block.1 -> q.1.conv
    m.oper_k.0.block   -> k.0.weigh
    m.oper_k.1.block.1 -> k.1.conv
    m.dwc              -> near
    m.qkv              -> qkv
    m.proj             -> proj
"""

# ----------------------------------------------------- SPANet -----------------------------------------------------


def spanet(build: dict, case: str) -> Rebuilt:
    if "h_w_radius_lambda" in build:
        rows = build["h_w_radius_lambda"]
        return Rebuilt(nn.ModuleList(SpectralFilter((h, w), r, share) for h, w, r, share in rows), "", filtered)
    if "k_size" in build:
        mixer = SpectralModulation(build["dim"], build["k_size"], build["r"], (build["H"], build["W"]))
        table = spa.MIXER.replace("{at}", "m").replace("{to}", "")
        return Rebuilt(mixer, table, lambda module, given: {"out": module(given[0].movedim(1, -1)).movedim(-1, 1)})
    make, given = official(build, "spanet", spa.spanet)
    names = {"layers": "depths", "embed_dims": "dims", "radius": "radii", "mlp_ratios": "ratios"}
    given = {**given, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    if "patch_dims" in build:
        given["img_size"] = 4 * build["patch_dims"][0]
    net = make(**given, num_classes=build.get("num_classes", 1000))
    if build.get("fork_feat"):
        return Rebuilt(NormedMaps(net, partial(nn.GroupNorm, 1)), spa.BODY + "\n" + SIDES, numbered)
    return Rebuilt(net, spa.AUTHORS, single)


def filtered(filters: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """The weights of frequencies, and the first map through them."""
    size = given[0].shape[-2:]
    made = {f"filter{i}": one.weights(*size, given[0].dtype)[None] for i, one in enumerate(filters)}
    return made | {f"a{i}": one(given[0]) for i, one in enumerate(filters)}


# ----------------------------------------------------- MS-MLP -----------------------------------------------------


def ms_mlp(build: dict, case: str) -> Rebuilt:
    if "dim" in build:
        block = ms.MixShiftBlock(build["dim"], build["mix_size"], build["shift_dist"])
        return Rebuilt(block, ms.BLOCK.replace("{at}", "b").replace("{to}", ""), single)
    make, given = official(build, "ms_mlp", ms.ms_mlp)
    names = {"embed_dim": "dim", "depths": "depths", "mix_size": "kernels", "shift_dist": "shifts"}
    given = {**given, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    return Rebuilt(make(**given, num_classes=build.get("num_classes", 1000)), ms.AUTHORS, single)


# ----------------------------------------------------- RevCol -----------------------------------------------------

REVCOL = {"channels": "dims", "layers": "depths", "num_subnet": "columns", "kernel_size": "kernel"}


def revcol(build: dict, case: str) -> Rebuilt:
    make, given = official(build, "revcol", rev.revcol)
    given = {**given, **{ours: build[theirs] for theirs, ours in REVCOL.items() if theirs in build}}
    if "huge" in case:
        given["above"] = rev.last_too
    net = make(**given, num_classes=build.get("num_classes", 1000))
    if build.get("inter_supv"):
        table = supervise.AUTHORS if build["num_classes"] <= 1000 else supervise.AUTHORS_PAINTED
        return Rebuilt(supervise.Supervised(net, build["num_classes"]), table, supervised)
    runs = {"features": maps, "gradients": gradients}
    return Rebuilt(net, rev.AUTHORS, runs.get(case.rstrip("0123456789"), classes))


def maps(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {f"c{i}": m for i, m in enumerate(net.forward_intermediates(*given))}


def classes(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {"cls0": net(*given)}


def supervised(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    logits, images = net(*given)
    return {f"cls{i}": y for i, y in enumerate(logits)} | {f"img{i}": y for i, y in enumerate(images)}


def gradients(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """Half the sum of squares of the logits, and its gradients by the reversible backward pass."""
    [x], net = given, net.train()
    with torch.enable_grad():
        loss = net(x.requires_grad_()).square().sum() / 2
        loss.backward()
    weights = {name: p.grad for name, p in net.named_parameters()}
    made = {f"grad:{published(name)}": grad for name, grad in weights.items()}
    made = {name: grad[:, None, None].unsqueeze(0) if ".alpha" in name else grad for name, grad in made.items()}
    return {"loss": torch.stack([loss, -loss]).detach(), "input": x.grad, **made}


PUBLISHED = (
    (r"backbone.stem", "stem"),
    (r"backbone.blocks.(\d+).keeps.(\d).gamma", r"subnet\1.alpha\2"),
    (r"backbone.blocks.(\d+).levels.(\d).(down|ups)", r"subnet\1.level\2.fusion.\3"),
    (r"backbone.blocks.(\d+).levels.(\d)", r"subnet\1.level\2"),
    (r"ups.0.proj", "up.channel_reschedule.0"),
    (r"ups.0.norm", "up.channel_reschedule.1"),
    (r"mlp.fc", "pwconv"),
    (r"scale.gamma", "gamma"),
    (r"head.after", "cls.classifier.0"),
    (r"head.fc", "cls.classifier.1"),
)


def published(name: str) -> str:
    """The authors' name of one of our parameters."""
    for ours, theirs in PUBLISHED:
        name = re.sub(ours, theirs, name)
    return name


# ---------------------------------------------------- i-RevNet ----------------------------------------------------

I_REVNETS = {"ImageNet bijective (b)": "i_revnet_b", "CIFAR-10 injective": "i_revnet_cifar"}
I_REVNET = {"nBlocks": "depths", "nStrides": "strides", "nChannels": "dims", "nClasses": "num_classes", "mult": "share"}


def i_revnet(build: dict, case: str) -> Rebuilt:
    name, size = build.get("variant"), build.get("in_shape", (3,))
    squeeze, channels = build.get("init_ds", 2) or 1, size[0] * 2 ** build.get("init_ds", 2) // 2
    plain = {"dims": [channels * 4**i for i in range(4)], "squeeze": squeeze}
    make, given = BUILDERS[I_REVNETS.get(name, name)] if name else (irev.i_revnet, plain)
    given = {**given, **{ours: build[theirs] for theirs, ours in I_REVNET.items() if theirs in build}}
    return Rebuilt(make(**given, in_chans=size[0]), irev.AUTHORS, there_and_back)


def there_and_back(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    [features] = net.forward_intermediates(*given, indices=1)
    images = {"of_features": features, "of_other": 0.9 * features.roll(3, 1)}
    made = {f"inverse_{name}": net.backbone.inverse(m) for name, m in images.items()}
    return {"logits": net(*given), "features": features, **made}


# ----------------------------------------------------- SMPNet -----------------------------------------------------


def in_double(rebuild: Any) -> Any:
    """Built in float64, for what the constructor fixes and no checkpoint holds."""

    @functools.wraps(rebuild)
    def rebuilt(build: dict, case: str) -> Rebuilt:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return rebuild(build, case)
        finally:
            torch.set_default_dtype(before)

    return rebuilt


@in_double
def smpnet(build: dict, case: str) -> Rebuilt:
    if "kind" in build:
        return continuous(build)
    if "planes" in build:
        return Rebuilt(nn.Identity(), "", partial(point_kernel, size=build["kernel_size"]))
    if "horizon" in build:
        return Rebuilt(nn.Identity(), "", partial(dense_kernel, horizon=build["horizon"]))
    make, given = official(build, "smpconv", smp.smpnet)
    names = {"large_kernel_sizes": "kernels", "layers": "depths", "channels": "dims", "n_points_divide": "share"}
    given = {**given, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    given["ratios"] = (build.get("dw_ratio", 1), build.get("ffn_ratio", 4))
    net = make(**given, num_classes=build.get("num_classes", 1000) or 0)
    if build.get("out_indices") is None:
        return Rebuilt(net, smp.AUTHORS, single)
    norm = nn.BatchNorm2d if build.get("norm_intermediate_features") else nn.Identity
    return Rebuilt(NormedMaps(net, norm, build["out_indices"]), smp.BODY + "stages.{s}.norm -> norms.{s}", numbered)


def point_kernel(_: nn.Module, given: list[Tensor], size: int) -> dict[str, Tensor]:
    coords, radius, weights, x = given
    kernel = weights[0] @ tents(coords[0] / 2, 0.05 + radius.flatten(), size).flatten(1)
    kernel = kernel.unflatten(1, (size, size))
    return {"kernel": kernel, "out": F.conv2d(x, kernel[:, None], padding=size // 2, groups=len(kernel))}


def dense_kernel(_: nn.Module, given: list[Tensor], horizon: str) -> dict[str, Tensor]:
    coords, radius, weights, x = given
    (cout, cin, count), plane = weights.shape, coords.shape[-1] == 2
    size = {"same": x.shape[-1], "full": 2 * x.shape[-1] - 1}.get(horizon) or int(horizon)
    conv = (PointConv2d(cin, cout, size, count) if plane else PointConv1d(cin, cout, count)).double()
    values = {"coords": coords / 2, "radius": 0.05 + radius.reshape(cout, count), "weights": weights}
    conv.load_state_dict({**values, "bias": torch.zeros(cout)}, strict=False)
    if not plane:
        conv.length.fill_(size)
    return {"kernel": conv.drawn(size), "out": conv(x)}


def continuous(build: dict) -> Rebuilt:
    factors = build["block_width_factors"]
    if not factors[0]:
        factors = [1, build["no_blocks"]]
    wide = [f for f, n in zip(factors[::2], factors[1::2]) for _ in range(int(n))]
    dims, kernel, conv = [int(build["no_hidden"] * f) for f in wide], build["kernel"], build["conv"]
    given = (build["in_channels"], dims, build["out_channels"])
    points = dict(points=kernel["n_points"], radius=kernel["radius"])
    if build["kind"] == "SeqData_TCN":
        return Rebuilt(ck.SeriesNet(*given, **points, small=conv["small_kernel_size"]), ck.AUTHORS_SERIES, single)
    return Rebuilt(ck.PictureNet(*given, int(conv["horizon"]), **points), ck.AUTHORS_PICTURES, single)


MODERN = {
    "cas_vit": cas_vit,
    "emov2": emov2,
    "hornet": hornet,
    "i_revnet": i_revnet,
    "ms_mlp": ms_mlp,
    "recnext": recnext,
    "revcol": revcol,
    "smt": smt,
    "smpnet": smpnet,
    "spanet": spanet,
    "unireplknet": unireplknet,
}
