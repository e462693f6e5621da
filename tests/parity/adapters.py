"""How each authors' network is rebuilt here: one entry a system, `rebuild(build, case) -> Rebuilt`."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from opsin.blocks.tokens import FirstToken, MeanToken
from opsin.families import cvt as conv
from opsin.families import ddrnet as ddr
from opsin.families import densenet_cifar as dense
from opsin.families import dla as dla_family
from opsin.families import glnet as gl
from opsin.families import metaformer as meta
from opsin.families import metamixer as ffnet_family
from opsin.families import metamixer_seg as seg
from opsin.families import mvit as mv
from opsin.families import resnet_cifar as res
from opsin.families import slab as slab_family
from opsin.families import wavemix as wave
from opsin.families.densenet import DenseLayer
from opsin.families.wide_resnet import AUTHORS as WIDE
from opsin.families.wide_resnet import wide_resnet
from opsin.heads.dla_up import AUTHORS, AUTHORS_IDA, DlaUp, IdaUp
from opsin.heads.ffnet import FFNetHead
from opsin.layers import LayerNorm
from opsin.layers.haar import Haar
from opsin.layers.prepbn import ProgressiveNorm
from opsin.layers.reparam import reparameterize
from opsin.mixers.glmix import GLMix, LearnedSlots, PooledSlots
from opsin.mixers.non_local import Affine, Concatenation, DotProduct, Embedded, Gaussian, InPieces, NonLocal
from opsin.registry import BUILDERS

from .harness import Rebuilt
from .modern import MODERN
from .state_spaces import STATE_SPACES


def numbered(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """A list of outputs as out0, out1, ...; a single one as out0."""
    made = module(*given)
    return {f"out{i}": y for i, y in enumerate(made if isinstance(made, list | tuple) else [made])}


DDRNETS = {"DDRNet_23_slim": "ddrnet23_slim", "DDRNet_23": "ddrnet23", "DDRNet_39": "ddrnet39"}


def ddrnet(build: dict, case: str) -> Rebuilt:
    make, variant = BUILDERS[DDRNETS[build["variant"].replace("-", "_")]]
    names = {"layers": "depths", "planes": "dim", "spp_planes": "context", "head_planes": "hidden"}
    same = {"num_classes": "num_classes", "augment": "auxiliary"}
    given = {ours: build[theirs] for theirs, ours in {**names, **same}.items() if theirs in build}
    net = make(**{**variant, **given})
    return Rebuilt(net, ddr.AUTHORS_39 if variant.get("halves") == 2 else ddr.AUTHORS_23, numbered)


def dla(build: dict, case: str) -> Rebuilt:
    if "scales" in build:
        return Rebuilt(DlaUp(build["channels"], build["scales"]), AUTHORS, lambda net, x: {"out": net(x)})
    if "up_factors" in build:
        net = IdaUp(build["channels"], build["out_dim"], build["up_factors"])
        return Rebuilt(net, AUTHORS_IDA, lambda net, x: dict(zip(("y0", "y1", "out"), [*(y := net(x)), y[-1]])))
    if "variant" in build:
        make, given = BUILDERS[build["variant"]]
    else:
        make, blocks = dla_family.dla, {"BasicBlock": dla_family.basic, "Bottleneck": dla_family.bottleneck}
        grouped = partial(dla_family.bottleneck, groups=build["cardinality"])
        root = dla_family.ResidualRoot if build.get("residual_root") else dla_family.Root
        given = dict(depths=build["levels"][2:], dims=build["channels"], root=root)
        given |= dict(block=blocks.get(build["block"], grouped), num_classes=build["num_classes"])
    return Rebuilt(make(**given), dla_family.authors(given["depths"]), lambda net, x: {"out": net(*x)})


NON_LOCAL = """
    {at}g      -> {at}value
    {at}out    -> {at}proj_out
    {at}theta  -> {at}affinity.query
    {at}phi    -> {at}affinity.key
    {at}wf     -> {at}affinity.weigh
    {at}bn     -> {at}norm
    {at}bn_s   -> {at}norm.weight
    {at}bn_b   -> {at}norm.bias
"""


def non_local(build: dict, case: str) -> Rebuilt:
    frames, space = build.get("group_size"), build.get("nd", 3 if build.get("group_size") else 2)
    forms = {"embedded": Embedded, "gaussian": Gaussian, "dot": DotProduct, "concat": Concatenation}
    affinity = forms[build.get("mode", "embedded")]
    if affinity is Embedded and not build.get("scale", True):
        affinity = partial(Embedded, scale=1.0)
    pool = {2: nn.MaxPool2d(2), 3: nn.MaxPool3d((1, 2, 2))}[space] if build.get("pool", True) else None
    norm = {"bn": BATCH, "affine": Affine, "none": nn.Identity}[build.get("norm", "bn")]
    block: nn.Module = NonLocal(build["dim"], affinity=affinity, pool=pool, norm=norm)
    table = NON_LOCAL.replace("{at}", "block." if frames else "")
    return Rebuilt(InPieces(block, frames) if frames else block, table, backwards)


BATCH = partial(nn.BatchNorm1d, eps=1.0000001e-5)
OURS = {"theta": "affinity.query", "out": "proj_out", "wf": "affinity.weigh"}


def backwards(block: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """The block's output, the affinities, and gradients of sum(output * dy)."""
    x, dy = given
    with torch.enable_grad():
        out = block(x.requires_grad_())
        (out * dy).sum().backward()
    made = {"out": out, "d_x": x.grad}
    parts = dict(block.named_parameters())
    made |= {
        f"d:{theirs}.weight": parts[f"{o}.weight"].grad[..., None]
        for theirs, o in OURS.items()
        if f"{o}.weight" in parts
    }
    if isinstance(block, NonLocal):
        made["weights"] = block.affinity(x.flatten(2), block.pool(x).flatten(2))
    return {name: t.detach() for name, t in made.items()}


def mvit(build: dict, case: str) -> Rebuilt:
    depth, changes = build.get("MVIT.DEPTH", 16), [at for at, _ in build.get("MVIT.DIM_MUL", [[1, 2], [3, 2], [14, 2]])]
    depths = [b - a for a, b in pairwise([0, *changes, depth])]
    names = {"MVIT.EMBED_DIM": "dim", "MODEL.NUM_CLASSES": "num_classes", "DATA.TRAIN_CROP_SIZE": "img_size"}
    given = {ours: build[theirs] for theirs, ours in names.items() if theirs in build}
    if "MVIT.POOL_KV_STRIDE_ADAPTIVE" in build:
        given["shrink"] = build["MVIT.POOL_KV_STRIDE_ADAPTIVE"][-1]
    if build["base"].startswith("ImageNet"):
        return Rebuilt(mv.mvit(depths, **given), mv.ENDS + mv.IMAGE + mv.numbered(depths, mv.BLOCK), single)
    net = mv.mvit_video(depths, frames=build.get("DATA.NUM_FRAMES", 16), **given)
    return Rebuilt(net, mv.ENDS + mv.VIDEO + mv.numbered(depths, mv.BLOCK), single)


def single(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {"out": module(*given)}


def cvt(build: dict, case: str) -> Rebuilt:
    spec = build["spec"]
    given = {ours: tuple(spec[theirs]) for theirs, ours in CVT_SIZES.items()}
    local = [{"dw_bn": conv.dwconv, "avg": conv.average}[method] for method in spec["QKV_PROJ_METHOD"]]
    pool = FirstToken if spec["CLS_TOKEN"][-1] else MeanToken
    net = conv.cvt(**given, local=local, pool=pool, num_classes=build["num_classes"])
    return Rebuilt(net, conv.AUTHORS, single)


CVT_SIZES = {"DEPTH": "depths", "DIM_EMBED": "dims", "NUM_HEADS": "heads"}


def metaformer(build: dict, case: str) -> Rebuilt:
    kind = build.get("kind", "")
    wide = kind in ("convformer", "caformer") or build.get("variant", "").startswith(("conv", "ca"))
    make, variant = BUILDERS[build.get("variant") or f"{kind}_{'s18' if wide else 's12'}"]
    given = {k: build[k] for k in ("depths", "dims", "num_classes") if k in build}
    if "random_tokens" in build:
        tokens = build["random_tokens"][-1]
        rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0)
        given["img_size"] = (32 * rows, 32 * tokens // rows)
    return Rebuilt(make(**{**variant, **given}), meta.AUTHORS_WIDENED if wide else meta.AUTHORS, single)


PROGRESSIVE = """
    norm1       -> layer
    norm2.alpha -> batch.alpha
    norm2.bn    -> batch.norm
    warm        ->
    iter        ->
    total_step  ->
"""


def slab(build: dict, case: str) -> Rebuilt:
    if "mode" in build:
        norm = ProgressiveNorm(build["dim"], begin=build["warm"], over=build["step"])
        return Rebuilt(norm, PROGRESSIVE, schedule)
    variant = BUILDERS[build["variant"]][1] if "variant" in build else {}
    names = {"embed_dim": "dim", "depth": "depth", "depths": "depths", "num_heads": "heads", "patch_size": "patch"}
    names |= {"img_size": "img_size", "num_classes": "num_classes", "window_size": "reach"}
    given = {**variant, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    if "depths" not in given:
        return Rebuilt(slab_family.slab_deit(**given), slab_family.AUTHORS_DEIT, single)
    given.pop("patch", None)
    if "attn_type" in build:
        given["linear"] = linear_blocks(build["attn_type"], given["depths"])
    given["window"] = 12 if given.get("reach", 56) > 56 else 7
    net = slab_family.slab_swin(**given)
    return Rebuilt(net, slab_family.authors_swin(given["linear"], given["depths"]), single)


def linear_blocks(text: str, depths: list[int]) -> list[int]:
    """Linear blocks of each stage: all for L, none for S, so many for M with a number behind the letters."""
    letters, number = text.rstrip("0123456789"), text[len(text.rstrip("0123456789")) :]
    return [{"L": depth, "S": 0, "M": int(number or 0)}[kind] for kind, depth in zip(letters, depths)]


def schedule(norm: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """The norm's answers to one batch after the other, in training."""
    norm.train()
    made = {}
    for i, x in enumerate(given):
        norm.progress = i
        made[f"out{i}"] = norm(x)
    made["eval"] = norm.eval()(given[0])
    return made | {k: getattr(norm.batch.norm, k) for k in ("running_mean", "running_var")}


def metamixer(build: dict, case: str) -> Rebuilt:
    if "scale" in build:
        norm = {None: nn.Identity, "LN": ffnet_family.channels}[build["norm"]]
        net = ffnet_family.FFNetSR(build["scale"], build["dim"], build["depth"], build["expansion_ratio"], norm)
        return Rebuilt(net, ffnet_family.AUTHORS_SR if build["norm"] else ffnet_family.AUTHORS_SR_BARE, single)
    if "backbone" in build:
        return ffnet_segmenter(build["backbone"], build["head"])
    variant = BUILDERS[build["variant"].lower().replace("-", "_")][1] if "variant" in build else {}
    names = {"depth": "depths", "kernel_sizes": "kernels", "kernel_sizes1": "keys", "kernel_sizes2": "values"}
    names |= {"in_dim": "stem", "expansion_ratios": "ratios", "use_ses": "gates", "num_classes": "num_classes"}
    given = {**variant, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    if "embed_dim" in build:
        dims = build["embed_dim"]
        given |= {"dim": dims[0], "widen": [b // a for a, b in pairwise(dims)]}
    if build.get("use_layer_scale"):
        given["scale"] = 1e-6
    if build.get("layer_norm_last"):
        given["norm"] = ffnet_family.channels
    if not build.get("use_gelus", True):
        given["act"] = nn.ReLU
    net = ffnet_family.ffnet(**given)
    if case == "dense_features":
        norms = nn.ModuleList(LayerNorm(int(width), dim=1) for width in net.backbone.widths)
        dense = nn.ModuleDict({"net": net, "norms": norms})
        net.reset_classifier(0)
        net.head.before = nn.Identity()
        table = ffnet_family.BODY.replace("backbone", "net.backbone") + "\n    norm{i} -> norms.{i}\n"
        return Rebuilt(dense, table, normed_maps)
    return Rebuilt(reparameterize(net) if build.get("fuse") else net, ffnet_family.AUTHORS, single)


FFNET_SEG = {
    "depth": "depths",
    "embed_dim": "dims",
    "in_dim": "stem",
    "kernel_sizes1": "keys",
    "kernel_sizes2": "values",
}
FFNET_HEAD = {"num_classes": "classes", "head_width": "dim", "head_depth": "depth", "spatial_ks": "kernel"}


def ffnet_segmenter(backbone: dict, head: dict) -> Rebuilt:
    make, given = BUILDERS["ffnet_seg"]
    names = {**FFNET_SEG, "expansion_ratios": "ratios"}
    given = {**given, **{ours: backbone[theirs] for theirs, ours in names.items() if theirs in backbone}}
    told = {ours: head[theirs] for theirs, ours in {**FFNET_HEAD, "expansion_ratio": "ratio"}.items() if theirs in head}
    net = make(**given, num_classes=0, **({} if backbone.get("use_layer_scale", True) else {"scale": None}))
    told |= {"hidden": head["channels"]} if "channels" in head else {}
    model = nn.ModuleDict({"backbone": net.backbone, "head": FFNetHead(net.backbone.widths[1:], **told)})
    kernels = [given[key] for key in ("keys", "values") if key in given]
    table = seg.body(*kernels, at="backbone.") + seg.head("decode_head.", "head.", told.get("kernel", 9))
    return Rebuilt(model, table, pixels)


def pixels(model: nn.ModuleDict, given: list[Tensor]) -> dict[str, Tensor]:
    return {"out": model["head"](model["backbone"](given[0], (1, 2, 3)).maps)}


def normed_maps(parts: nn.ModuleDict, given: list[Tensor]) -> dict[str, Tensor]:
    maps = parts["net"].forward_intermediates(given[0])
    return {f"out{i}": norm(m) for i, (norm, m) in enumerate(zip(parts["norms"], maps))}


def wavemix(build: dict, case: str) -> Rebuilt:
    names = {"final_dim": "dim", "depth": "depth", "level": "levels", "mult": "ratio", "ff_channel": "inner"}
    names |= {"num_classes": "num_classes"}
    given = {ours: build[theirs] for theirs, ours in names.items() if theirs in build}
    if "levels" in build:
        return Rebuilt(Haar(), "m ->", partial(haar_levels, build["levels"]))
    if case.startswith("superres"):
        return Rebuilt(wave.wavemix_sr(**given), wave.AUTHORS_DENSE, single)
    if case.startswith("segment"):
        return Rebuilt(wave.wavemix_segmenter(**given), wave.AUTHORS_DENSE, single)
    variant = BUILDERS[build["variant"]][1] if "variant" in build else {}
    if build.get("initial_conv", "pachify") == "strided":
        net = wave.wavemix(**{**variant, **given}, stride=build.get("stride", 2))
        return Rebuilt(net, wave.AUTHORS_STRIDED, single)
    return Rebuilt(wave.wavemix(**{**variant, **given}, patch=build.get("patch_size", 4)), wave.AUTHORS, single)


def haar_levels(levels: list[int], haar: Haar, given: list[Tensor]) -> dict[str, Tensor]:
    made, low = {}, given[0]
    for level in range(1, max(levels) + 1):
        low, made[f"high{level}"] = haar(low)
        made[f"low{level}"] = low
    return made


def glnet(build: dict, case: str) -> Rebuilt:
    if "slot_scale" in build:
        return glmix_block(build)
    variant = BUILDERS[build["variant"]][1] if "variant" in build else {}
    names = {"depth": "depths", "embed_dim": "dims", "mlp_ratios": "ratio", "head_dim": "size", "num_slots": "slots"}
    names |= {"local_dw_ks": "kernel", "num_classes": "num_classes"}
    given = {**variant, **{ours: build[theirs] for theirs, ours in names.items() if theirs in build}}
    if "variant" not in build:
        modes = {"glmix": 1, "glmix.mha_nchw": 2, "mha_nchw": 0, "mha": 0}
        plain = build.get("transition_layout") == "norm.proj"
        given |= {"every": [modes[mode] for mode in build["mixing_modes"]]}
        given |= {"stem": gl.patches, "down": gl.halve, "near": gl.no_place} if plain else {}
        given["first"] = LearnedSlots if build.get("slot_init") == "param" else PooledSlots
        given["scale"] = build["layerscale"] if build.get("layerscale", -1) > 0 else None
    if case == "token_label" or build.get("variant", "").endswith("tklb"):
        given["head"] = gl.PlaceClassifier
        return Rebuilt(gl.glnet(**given), gl.AUTHORS_LABELS, single)
    return Rebuilt(gl.glnet(**given), gl.AUTHORS_PLAIN if given.get("stem") else gl.AUTHORS, single)


def glmix_block(build: dict) -> Rebuilt:
    dim, near = build["embed_dim"], gl.Near if build["mlp_dw"] else gl.no_place
    mixer = GLMix(dim, build["num_heads"], build["num_slots"])
    del mixer.scale
    mixer.register_buffer("scale", torch.tensor(build["slot_scale"]))
    block = gl.GLBlock(dim, mixer, build["mlp_ratio"], near, None)
    return Rebuilt(nn.ModuleDict({"b": block}), gl.BLOCK.replace("{at}", "b").replace("{ours}", "b"), looked_into)


def looked_into(parts: nn.ModuleDict, given: list[Tensor]) -> dict[str, Tensor]:
    block, x = parts["b"], given[0]
    seen = block.norm1(block.near(x))
    logits = block.mixer.affinity(seen, x)
    ungroup = block.mixer.maps(seen, x).flatten(2).mT
    return {"out": block(x), "logits": logits, "group": logits.softmax(2), "ungroup": ungroup}


def resnet_cifar(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        make, given = BUILDERS[build["variant"]]
        return Rebuilt(make(**given), res.PYTORCHCV if given.get("grow") is res.free else res.AKAMASTER, out)
    if "blocks" in build:
        option = {} if build["shortcut"] == "A" else dict(block=res.option_b, grow=res.free)
        return Rebuilt(
            res.resnet_cifar(build["blocks"], num_classes=build["num_classes"], **option), res.AKAMASTER, out
        )
    block = res.bottleneck if build["bottleneck"] else res.option_b
    return staged(build, block)


def resnext_cifar(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        make, given = BUILDERS[build["variant"]]
        return Rebuilt(make(**given), res.PYTORCHCV, out)
    block = partial(res.grouped, groups=build["cardinality"], base=build["bottleneck_width"])
    if "stride" in build:
        return Rebuilt(block(build["in_channels"], build["out_channels"], build["stride"]), res.UNIT, out)
    return staged(build, block)


def staged(build: dict, block) -> Rebuilt:
    """pytorchcv's networks: a list of channels a stage."""
    depths, dims = [len(stage) for stage in build["channels"]], [stage[0] for stage in build["channels"]]
    stem, classes = build["init_block_channels"], build["num_classes"]
    return Rebuilt(res.resnet_cifar(depths, dims, stem, block, res.free, classes), res.PYTORCHCV, out)


def wide_resnet_cifar(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        make, given = BUILDERS[build["variant"]]
        return Rebuilt(make(**given), WIDE, out)
    return Rebuilt(wide_resnet(build["depth"], build["width"], num_classes=build["num_classes"]), WIDE, out)


def densenet_cifar(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        make, given = BUILDERS[build["variant"]]
        return Rebuilt(make(**given), dense.SPARSENET, out)
    layer = DenseLayer if build["bottleneck"] else dense.PlainLayer
    if "blocks" in build:
        given = dict(layers=build["blocks"], growth=build["growth_rate"], num_classes=build["num_classes"])
        return Rebuilt(dense.densenet_cifar(layer=layer, **given), dense.PYTORCHCV, out)
    given = dict(layers=build["depth"], growth=build["growthRate"], num_classes=build["nClasses"])
    net = dense.densenet_cifar(layer=layer, keeps=build["reduction"] if build["bottleneck"] else 1.0, **given)
    return Rebuilt(net, dense.SPARSENET, with_features)


def out(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {"out": module(*given)}


def with_features(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """The last map behind norm and activation, too."""
    [x] = given
    return {"out": module(x), "features": module.forward_features(x)}


SYSTEMS = {
    **MODERN,
    "cvt": cvt,
    "ddrnet": ddrnet,
    "densenet_cifar": densenet_cifar,
    "dla": dla,
    "glnet": glnet,
    "metaformer": metaformer,
    "metamixer_ffnet": metamixer,
    "mvit": mvit,
    "non_local": non_local,
    "slab": slab,
    "wavemix": wavemix,
    "resnet_cifar": resnet_cifar,
    "resnext_cifar": resnext_cifar,
    "wide_resnet_cifar": wide_resnet_cifar,
    **STATE_SPACES,
}
