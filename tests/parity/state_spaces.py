"""How the authors' state-space operators and networks are rebuilt here."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from opsin.blocks import Classifier
from opsin.blocks.prenorm import PreMix
from opsin.blocks.stage import Blocks
from opsin.blocks.tokens import FirstToken, MeanToken, TokenClassifier
from opsin.channels.mlp import Mlp
from opsin.families import change_mamba as chm
from opsin.families import dis as dism
from opsin.families import efficient_vmamba as evm
from opsin.families import group_mamba as grp
from opsin.families import lamamba_diff as lam
from opsin.families import lmuformer as lmu
from opsin.families import mhs_vm as mhs
from opsin.families import mobile_mamba as mob
from opsin.families import msvmamba as msv
from opsin.families import plain_mamba as plainm
from opsin.families import vision_mamba as vim
from opsin.families import vmamba as vm
from opsin.kernels.selective_scan import selective_scan
from opsin.kernels.ssd import ssd
from opsin.layers import LayerNorm, Scale
from opsin.layers.norm import RMSNorm
from opsin.layers.position import Rotary
from opsin.layers.scan_order import both_ways, cross, forward_only, windings
from opsin.layers.spike import LeakyFire
from opsin.layers.timestep import guided
from opsin.mixers.bidirectional import BidirectionalMamba, TwoDecays
from opsin.mixers.cross_scan import CascadeScan, CrossScan, DualCrossScan, GatedCrossScan, biased, dwconv
from opsin.mixers.group_scan import GroupScan
from opsin.mixers.legendre import LegendreCell, SpikingCell, discretised, impulse
from opsin.mixers.mamba import LearnedStates, Mamba, Mamba2, StateSpace, ZeroStates
from opsin.mixers.multi_head_scan import HEADS, GatedSubspaceScan, MultiHeadScan, ProjectedScan, SubspaceScan
from opsin.mixers.multi_scale_scan import Excite, FirstMultiScaleScan, GatedMultiScaleScan, MultiScaleScan
from opsin.mixers.snake_scan import SnakeMamba
from opsin.mixers.wavelet_scan import WaveletScan
from opsin.registry import BUILDERS
from opsin.width import Groups, Width

from .harness import Rebuilt


def single(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {"out": module(*given)}


# ----------------------------------------------- operators -----------------------------------------------


def operator(build: dict, case: str) -> Rebuilt:
    if "op" not in build:
        return mixer(build)
    run = {"selective_scan": run_s6, "ssd": run_ssd}[build["op"]]
    return Rebuilt(nn.Identity(), "", lambda _, given: run(build, dict(zip(build["inputs"], given))))


def leaves(given: dict[str, Tensor]) -> dict[str, Tensor]:
    given["A"] = -given.pop("A_raw").exp()
    return {k: v.requires_grad_() for k, v in given.items() if k not in ("dy", "d_final")}


def run_s6(build: dict, given: dict[str, Tensor]) -> dict[str, Tensor]:
    given["delta"] = given["delta"] * build["delta_scale"]
    own = leaves(given)
    with torch.enable_grad():
        y, last = selective_scan(**own, delta_softplus=build["delta_softplus"])
        grads = torch.autograd.grad((y * given["dy"]).sum(), list(own.values()))
    return {"y": y.detach(), "last_state": last.detach(), **{f"d_{k}": g for k, g in zip(own, grads)}}


def run_ssd(build: dict, given: dict[str, Tensor]) -> dict[str, Tensor]:
    low, high = build["dt_limit"]
    own = leaves(given)
    with torch.enable_grad():
        limit = (low, math.inf if high is None else high)
        y, last = ssd(**own, dt_softplus=build["dt_softplus"], dt_limit=limit)
        total = (y * given["dy"]).sum() + ((last * given["d_final"]).sum() if "d_final" in given else 0)
        grads = torch.autograd.grad(total, list(own.values()))
    return {"y": y.detach(), "final_state": last.detach(), **{f"d_{k}": g for k, g in zip(own, grads)}}


MAMBA = """
    A_log        -> space.log_decay
    D            -> space.skip
    in_proj      -> proj
    conv1d       -> conv
    x_proj       -> space.read
    dt_proj      -> space.dt
    out_proj     -> out
"""
MAMBA2 = """
    A_log        -> log_decay
    D            -> skip
    dt_bias      -> dt_bias
    init_states  -> start.table
    in_proj      -> proj
    conv1d       -> conv
    norm         -> norm
    out_proj     -> out
"""


def mixer(build: dict) -> Rebuilt:
    if "headdim" not in build:
        names = {"d_state": "states", "d_conv": "kernel", "expand": "expand", "dt_rank": "rank"}
        return Rebuilt(
            Mamba(build["d_model"], **{names[k]: v for k, v in build.items() if k in names}), MAMBA, stepwise
        )
    names = {"d_state": "states", "headdim": "head_dim", "ngroups": "groups", "d_conv": "kernel", "expand": "expand"}
    start = LearnedStates if build.get("learnable_init_states") else ZeroStates
    given = {names[k]: v for k, v in build.items() if k in names}
    return Rebuilt(Mamba2(build["d_model"], **given, bias=build.get("bias", False), start=start), MAMBA2, single)


def stepwise(module: Mamba, given: list[Tensor]) -> dict[str, Tensor]:
    """The whole sequence at once, which must equal token by token, and the states that this ends with."""
    (x,) = given
    seen, state = module.start(len(x))
    made = []
    for token in x.unbind(1):
        y, seen, state = module.step(token, seen, state)
        made.append(y)
    out = module(x)
    assert float((torch.stack(made, 1) - out).abs().max()) < 1e-10
    return {"out": out, "conv_state": seen, "ssm_state": state.mT}


# ----------------------------------------------- VMamba -----------------------------------------------


def dims_of(build: dict) -> tuple[int, ...]:
    """Widths of the stages: given one by one, or the first, which doubles."""
    dims = build.get("dims", 96)
    return tuple(dims) if isinstance(dims, list) else tuple(dims * 2**i for i in range(len(build["depths"])))


def ss2d(build: dict) -> Callable[[int], nn.Module]:
    """The authors' scan as a constructor that waits for its width."""
    kind, *tags = build["forward_type"].split("_")
    forms = {
        "m0": {"make": DualCrossScan},
        "v051d": {"order": forward_only},
        "v052d": {"order": both_ways},
        "v052dc": {"make": CascadeScan},
    }
    given = {"make": CrossScan if "noz" in tags else GatedCrossScan, **forms.get(kind, {})}
    bias = build.get("ssm_conv_bias", True)
    acts = {"silu": nn.SiLU, "gelu": nn.GELU}
    return partial(
        given.pop("make"),
        states=build.get("ssm_d_state", build.get("d_state", 16)),
        expand=build.get("ssm_ratio", 2.0),
        conv=biased if bias else dwconv,
        act=acts[build.get("ssm_act_layer", "silu")],
        **given,
    )


class Normed(nn.Module):
    """The maps of all stages, each behind a norm of its own"""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.norms = nn.ModuleList(LayerNorm(int(width), dim=1, eps=1e-5) for width in net.backbone.widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [norm(m) for norm, m in zip(self.norms, self.net.forward_intermediates(x))]


def with_norms(net: nn.Module, table: str) -> Rebuilt:
    net.reset_classifier(0)
    net.head.before = nn.Identity()
    table = "outnorm{i} -> norms.{i}\n" + "\n".join(line.replace("-> ", "-> net.") for line in table.splitlines())
    return Rebuilt(Normed(net), table, lambda m, x: {f"feat{i}": y for i, y in enumerate(m(*x))})


def vmamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        return Rebuilt(*official(build["variant"]), single)
    if "d_model" in build:
        return Rebuilt(MapFirst(ss2d(build)(build["d_model"])), vm.scan("op", "mixer"), single)
    old = build.get("downsample_version") == "v1"
    make = vm.vmamba_v0 if old else vm.vmamba
    net = make(depths=build["depths"], dims=dims_of(build), mixer=ss2d(build), num_classes=build["num_classes"])
    table = vm.AUTHORS_V0 if old else vm.AUTHORS
    return with_norms(net, table) if "out_indices" in build else Rebuilt(net, table, single)


def official(name: str) -> tuple[nn.Module, str]:
    """An official variant by the words of its name, in any order and with any signs between them."""
    words = set(name.lower().replace("-", "_").replace(" ", "_").split("_")) - {"vmamba", "vssm"}
    words = {"v0" if word == "vanilla" else word for word in words}
    found = next(n for n in BUILDERS if n.startswith("vmamba_") and set(n.split("_")[1:]) == words)
    make, given = BUILDERS[found]
    return make(**given), vm.AUTHORS_V0 if make is vm.vmamba_v0 else vm.AUTHORS


class MapFirst(nn.Module):
    """A mixer of maps with channels last, for maps with channels second"""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        return self.mixer(x.movedim(1, -1)).movedim(-1, 1)


# ----------------------------------------------- Vim -----------------------------------------------


class Pair(nn.Module):
    """A block, and one that reads from the end; the stream counts twice, as in the authors' code"""

    def __init__(self, dim, mixer, norm, drop):
        super().__init__()
        self.ahead, self.back = vim.mixed(dim, mixer, norm, drop), vim.mixed(dim, mixer, norm, drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.ahead(x) + self.back(x.flip(1)).flip(1)


class Turned(nn.Module):
    """A block behind a rotation of its tokens"""

    def __init__(self, block: nn.Module, turn: nn.Module):
        super().__init__()
        self.turn, self.block = turn, block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.turn(x))


class MeanOfTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].mean(1)


class MaxToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1)


class LastToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1]


VIM_V1 = """
    A_log      -> space.log_decay
    A_b_log    -> space.log_decay_back
    D          -> space.skip
    in_proj    -> proj
    conv1d     -> conv
    x_proj     -> space.read
    dt_proj    -> space.dt
    out_proj   -> out
"""


def one_space(dim: int, states: int, space: Callable[..., nn.Module]) -> nn.Module:
    made = Mamba(dim, states)
    made.space = space(made.conv.out_channels, states, math.ceil(dim / 16))
    return made


def vision_mamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        size = next(s for s in ("tiny", "small", "base") if s in build["variant"])
        stride = "_stride8" if "8" in build["variant"].partition(size)[2] else ""
        make, given = BUILDERS[f"vim_{size}_patch16{stride}_224"]
        return Rebuilt(make(**given), vim.AUTHORS, single)
    kind, states, dim = build.get("bimamba_type", "v2"), build.get("d_state", 16), build["embed_dim"]
    if kind == "v2":
        share = 0.5 if build.get("if_divide_out", True) else 1.0
        mixer, table = partial(BidirectionalMamba, states=states, share=share), vim.AUTHORS
    else:
        mixer = partial(one_space, states=states, space=TwoDecays if kind == "v1" else StateSpace)
        rules = [line.strip() for line in VIM_V1.strip().splitlines()]
        named = "\n".join(f"layers.{{b}}.mixer.{r.replace('-> ', '-> backbone.blocks.{b}.mixer.')}" for r in rules)
        table = named + vim.AUTHORS
    if build.get("init_layer_scale") is not None:
        plain_mixer = mixer
        mixer = lambda d: nn.Sequential(plain_mixer(d), Scale(d))
        table = table.replace(".mixer.proj", ".mixer.0.proj").replace("{b}.mixer.convs", "{b}.mixer.0.convs")
        table = table.replace("blocks.{b}.mixer.space", "blocks.{b}.mixer.0.space").replace(
            ".mixer.out\n", ".mixer.0.out\n"
        )
        table = "layers.{b}.mixer.gamma -> backbone.blocks.{b}.mixer.1.gamma" + table
    norm = partial(RMSNorm if build.get("rms_norm") else LayerNorm, eps=1e-5)
    pools = {"mean": MeanToken, "max": MaxToken, "none": LastToken}
    tokens, order, pool = {}, vim.nowhere, pools[build.get("final_pool_type", "none")]
    if build.get("if_cls_token"):
        tokens, order, pool = {"cls": 1}, vim.middle if build.get("use_middle_cls_token") else vim.first, FirstToken
        if build.get("use_double_cls_token"):
            tokens, order, pool = {"head": 1, "tail": 1}, vim.ends, MeanOfTwo
    head = lambda dim, classes, drop, norm: TokenClassifier(dim, classes, before=norm(dim), pool=pool())
    pairs, sizes = build.get("if_bidirectional", False), build["img_size"]
    net = vim.vision_mamba(
        dim,
        depth=build["depth"] // (2 if pairs else 1),
        patch=build["patch_size"],
        stride=build.get("stride", build["patch_size"]),
        mixer=mixer,
        norm=norm,
        block=Pair if pairs else vim.mixed,
        tokens=tokens,
        order=order,
        head=head,
        img_size=tuple(sizes) if isinstance(sizes, list) else sizes,
        num_classes=build["num_classes"],
    )
    table = "cls_token_head -> backbone.prefix.head\ncls_token_tail -> backbone.prefix.tail\n" + table
    if pairs:
        table = "\n".join(map(paired, table.splitlines()))
    if build.get("if_rope"):
        trained = build.get("pt_hw_seq_len", 14)
        rotate(net, Rotary(trained), build.get("if_rope_residual", False))
        if build.get("if_rope_residual"):
            table = table.replace("backbone.blocks.{b}.", "backbone.blocks.{b}.block.")
    return Rebuilt(net, table, single)


def paired(line: str) -> str:
    """A rule for one block as rules for every block of ten pairs, the even ones ahead."""
    if "layers.{b}" not in line:
        return line
    names = ("ahead", "back")
    return "\n".join(
        line.replace("layers.{b}", f"layers.{i}").replace("blocks.{b}", f"blocks.{i // 2}.{names[i % 2]}")
        for i in range(48)
    )


def rotate(net: nn.Module, turn: nn.Module, residual: bool) -> None:
    """Turn the whole stream before each block, or only what blocks add to it and what enters the first."""
    blocks = net.backbone.blocks
    if residual:
        net.backbone.blocks = Blocks(*(Turned(block, turn) for block in blocks))
        return
    net.backbone.positions.register_forward_hook(lambda m, given, out: turn(out))
    for block in blocks[:-1]:
        block.mixer.register_forward_hook(lambda m, given, out: turn(out))


# ----------------------------------------------- PlainMamba -----------------------------------------------


class Gained(nn.Module):
    """A mixer whose channels are scaled"""

    def __init__(self, mixer: nn.Module, dim: int):
        super().__init__()
        self.mixer, self.gain = mixer, Scale(dim)

    def forward(self, x: Tensor, *given) -> Tensor:
        return self.gain(self.mixer(x, *given))


class Watched(nn.Module):
    """A network, and norms for the maps of some blocks"""

    def __init__(self, net: nn.Module, taps: list[int]):
        super().__init__()
        self.net, self.taps = net, taps
        width = net.backbone.widths[0]
        self.norms = nn.ModuleDict({str(i): LayerNorm(int(width)) for i in taps[:-1]})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        norms = [*self.norms.values(), self.net.head.before]
        maps = self.net.forward_intermediates(x, self.taps)
        feats = {f"feat{i}": norm(m.movedim(1, -1)).movedim(-1, 1) for i, norm, m in zip(self.taps, norms, maps)}
        return {"out": self.net(x), **feats}


def plain_mamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        size = build["variant"].lower().removeprefix("plainmamba").strip("_- ")
        make, given = BUILDERS[f"plainmamba_{size}"]
        return Rebuilt(make(**given), plainm.AUTHORS_L1 if size == "l1" else plainm.AUTHORS, single)
    layers = build.get("layer_cfgs", {})
    told = layers.get("mamba_cfg", {})
    names = {"d_state": "states", "expand": "expand", "conv_size": "kernel", "bias": "bias"}
    mixer = partial(SnakeMamba, **{names[k]: v for k, v in told.items() if k in names})
    conditioned = build.get("layers_with_dwconv", [])
    table = plainm.authors(conditioned)
    if told.get("init_layer_scale") is not None:
        plain_mixer = mixer
        mixer = lambda dim: Gained(plain_mixer(dim), dim)
        table = table.replace(".mixer.", ".mixer.mixer.")
        rules = [(f"layers.{i}", f"blocks.{i}.block") for i in conditioned] + [("layers.{b}", "blocks.{b}")]
        gains = [f"backbone.{a}.mamba.gamma -> backbone.{b}.mixer.gain.gamma" for a, b in rules]
        table = "\n".join([*gains, table])
    size = build["img_size"]
    net = plainm.plain_mamba(
        build["embed_dims"],
        build["num_layers"],
        build["num_convs_patch_embed"],
        conditioned,
        build["patch_size"],
        mixer,
        partial(RMSNorm if layers.get("use_rms_norm") else LayerNorm, eps=1e-5),
        tuple(size) if isinstance(size, list) else size,
        build["num_classes"],
    )
    if not build.get("out_indices"):
        return Rebuilt(net, table, single)
    table = "backbone.norm_layer{i} -> norms.{i}\n" + table.replace("-> ", "-> net.")
    taps = sorted({*build["out_indices"], build["num_layers"] - 1})
    return Rebuilt(Watched(net, taps), table, lambda m, x: m(*x))


# ------------------------------------------- EfficientVMamba -------------------------------------------


class WithMlp(nn.Sequential):
    """A block, then a pair of linear layers"""

    def __init__(self, dim: int, drop: float, ratio: float):
        super().__init__(evm.ScanAndConv(dim, drop), PreMix(LayerNorm(dim, eps=1e-5), Mlp(dim, ratio), drop))


def two_by_two(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, 2, 2), LayerNorm(cout, dim=1, eps=1e-5))


def efficient_vmamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        name = next(n for n in BUILDERS if n.startswith("efficient_vmamba_") and n.split("_")[-1] in build["variant"])
        make, given = BUILDERS[name]
        return Rebuilt(make(**given), evm.authors(given.get("depths", (2, 2, 4, 2))), single)
    ratio, depths = build.get("mlp_ratio", 0.0), build["depths"]
    block = partial(WithMlp, ratio=ratio) if ratio else evm.ScanAndConv
    down = two_by_two if build.get("downsample_version") == "v2" else evm.MapMerging
    net = evm.efficient_vmamba(dims_of(build), depths, block, down, num_classes=build["num_classes"])
    table = evm.authors(depths)
    if down is two_by_two:
        rules = [("layers.{s}.downsample", "backbone.stages.{s+1}.down")]
        rules += [(f"layers.2.{depths[2] + 2}", "backbone.stages.3.down")]
        table = "\n".join(f"{a}.{n} -> {b}.{n // 2}" for a, b in rules for n in (1, 3)) + table
    if ratio:
        table = table.replace("backbone.stages.{s}.blocks.{b}.", "backbone.stages.{s}.blocks.{b}.0.")
        at, ours = "layers.{s}.blocks.{b}", "backbone.stages.{s}.blocks.{b}.1"
        table = f"{at}.norm2 -> {ours}.norm\n{at}.mlp -> {ours}.mixer\n" + table
    return with_norms(net, table) if "out_indices" in build else Rebuilt(net, table, single)


# ----------------------------------------------- MSVMamba -----------------------------------------------


class Excited(GatedCrossScan):
    """The ordinary gated scan, whose channels are weighed before the gate"""

    def __init__(self, dim: int, states: int, expand: float):
        super().__init__(dim, states, expand, biased)
        self.excite = Excite(self.out.in_features)

    def mix(self, x: Tensor) -> Tensor:
        return self.excite(super().mix(x))


def msvmamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        words = build["variant"].lower().replace("-", "_").replace(" ", "_").split("_")
        third = any("v3" in word for word in words)
        size = next(word for word in words if word in ("nano", "micro", "tiny", "small", "base"))
        make, given = BUILDERS[f"msvmamba{'v3' if third else ''}_{size}"]
        return Rebuilt(make(**given), msv.AUTHORS_V3 if third else msv.AUTHORS, single)
    given = dict(states=build.get("ssm_d_state", 1), expand=build.get("ssm_ratio", 2.0))
    third = build.get("forward_type", "").startswith("vms")
    if third:
        scans = MultiScaleScan if "noz" in build["forward_type"] else GatedMultiScaleScan
        more = dict(mixer=partial(scans, **given), stem=vm.stem, down=vm.halve, block=msv.NormedBehind)
    else:
        scaled, plain_scan = partial(FirstMultiScaleScan, **given), partial(Excited, **given)
        stages = build.get("ms_stage", range(4))
        more = dict(mixer=[scaled if i in stages else plain_scan for i in range(4)])
    net = msv.msvmamba(build["depths"], dims_of(build), num_classes=build["num_classes"], **more)
    return Rebuilt(net, msv.AUTHORS_V3 if third else msv.AUTHORS, single)


# ---------------------------------------------- GroupMamba ----------------------------------------------


def heads_apart(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    made = net.forward_head(net.forward_features(*given), pre_logits=True)
    fc = net.head.fc
    apart = {"head": fc.fc(made), "dist_head": fc.distilled(made)} if isinstance(fc, grp.Taught) else {}
    return {"out": net(*given), **apart}


def group_mamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        size = next(s for s in ("tiny", "small", "base") if s in build["variant"].lower())
        make, given = BUILDERS[f"groupmamba_{size}"]
        return Rebuilt(make(**given), grp.authors(given["depths"]), heads_apart)
    if "dim" in build:
        width = Groups(4, Width(build["dim"] // 4))
        made = GroupScan(width, build["d_state"], build["expand"], build["reduction"])
        shape = (build["H"], build["W"])
        run = lambda m, x: {"out": m["layer"](x[0].unflatten(1, shape)).flatten(1, 2)}
        return Rebuilt(nn.ModuleDict({"layer": made}), grp.group_scan("layer", "layer"), run)
    taught = build.get("distillation", True)
    net = grp.group_mamba(
        build["embed_dims"],
        build["depths"],
        build["stem_hidden_dim"],
        build["mlp_ratios"],
        grp.TaughtClassifier if taught else Classifier,
        build["num_classes"],
    )
    table = grp.authors(build["depths"])
    return Rebuilt(net, table if taught else "head -> head.fc\n" + table, heads_apart)


# ---------------------------------------------- MobileMamba ----------------------------------------------


def mobile_mamba(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        make, given = BUILDERS[f"mobilemamba_{build['variant'].lower().replace('-', '_').split('_')[-1]}"]
        return Rebuilt(make(**given), mob.AUTHORS, single)
    if "c" in build:
        made = WaveletScan(build["c"], build["k"], build["ssm_ratio"], build["levels"])
        return Rebuilt(nn.ModuleDict({"op": made}), mob.wavelet("op", "op"), lambda m, x: {"out": m["op"](*x)})
    taught = build.get("distillation", False)
    net = mob.mobile_mamba(
        build["embed_dim"],
        build["depth"],
        build["global_ratio"],
        build["local_ratio"],
        build["kernels"],
        build["ssm_ratio"],
        mob.TaughtPair if taught else mob.NormedLinear,
        build["num_classes"],
    )
    heads = (("head", "head.fc.fc"), ("head_dist", "head.fc.distilled"))
    rules = [f"{theirs}.{part} -> {ours}.{i}" for theirs, ours in heads for i, part in enumerate(("bn", "l"))]
    return Rebuilt(net, "\n".join(rules) + mob.AUTHORS if taught else mob.AUTHORS, single)


# ------------------------------------------- diffusion networks -------------------------------------------


def diffusion(channels: int, null: int) -> Callable[[nn.Module, list[Tensor]], dict[str, Tensor]]:
    """Noise, or guided noise where twice as many images as classes' labels are meant (scale 1.5)."""

    def run(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
        x, t, *labels = given
        if channels:
            half, t = labels[0][: len(x) // 2], t[: len(x) // 2].repeat(2)
            return {"out": guided(net, x, t, torch.cat([half, torch.full_like(half, null)]), 1.5, channels)}
        return {"out": net(x, t, *labels)}

    return run


def dis(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        name = build["variant"].lower().replace("dis", "").strip("-_ ").replace("/", "_").replace("-", "_")
        make, given = BUILDERS[f"dis_{name}"]
        return Rebuilt(make(**given), dism.authors(given["depth"]), diffusion(0, 1000))
    classes = max(build.get("num_classes", -1), 0)
    states = build.get("ssm_cfg", {}).get("d_state", 16)
    net = dism.dis(
        build["embed_dim"],
        build["depth"],
        build["patch_size"],
        partial(BidirectionalMamba, states=states, share=1.0),
        dism.SkipBlock if build.get("skip", True) else dism.PlainSkipBlock,
        build.get("learn_sigma", True),
        build["img_size"],
        classes,
        build.get("channels", 4),
    )
    return Rebuilt(net, dism.authors(build["depth"]), diffusion(3 if "guidance" in case else 0, classes))


def lamamba_diff(build: dict, case: str) -> Rebuilt:
    if "variant" in build:
        make, given = BUILDERS["lamamba_diff_xl"]
        return Rebuilt(make(**given), lam.AUTHORS, diffusion(0, 1000))
    dims = build["dims"] if isinstance(build["dims"], list) else [build["dims"] * n for n in (1, 2, 4, 4)]
    heads = build["num_heads"] if isinstance(build["num_heads"], list) else [build["num_heads"]] * 4
    mixer = partial(
        GatedCrossScan,
        states=build["ssm_d_state"],
        expand=build["ssm_ratio"],
        conv=biased if build["ssm_conv_bias"] else dwconv,
        order=windings if build["continuous_scan"] else cross,
    )
    net = lam.lamamba_diff(
        1,
        dims,
        build["depths"],
        heads,
        build["bottleneck_depth"],
        int(build["sd_unet_decoder_design"]),
        build["window_size"],
        mixer,
        build["in_resolution"],
        build["num_classes"],
        in_chans=4,
    )
    return Rebuilt(net, lam.AUTHORS, diffusion(4 if "guidance" in case else 0, build["num_classes"]))


# ---------------------------------------------- ChangeMamba ----------------------------------------------


def change_mamba(build: dict, case: str) -> Rebuilt:
    names = {
        "STMambaBCD": (chm.mamba_bcd, ("out",)),
        "STMambaSCD": (chm.mamba_scd, ("change", "semantic_t1", "semantic_t2")),
        "STMambaBDA": (chm.mamba_bda, ("building", "damage")),
    }
    make, outs = names[build.get("model", "STMambaBCD")]
    mixer = partial(
        CrossScan if "noz" in build["forward_type"] else GatedCrossScan,
        states=build["ssm_d_state"],
        expand=build["ssm_ratio"],
        conv=biased if build["ssm_conv_bias"] else dwconv,
    )
    more = {}
    if make is chm.mamba_scd:
        more = {"num_classes": build.get("output_clf", 7)}
    if make is chm.mamba_bda:
        more = {"num_classes": build.get("output_damage", 5), "buildings": build.get("output_building", 2)}
    net = make(build["depths"], dims_of(build), mixer, **more)

    def run(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
        made = net(*given)
        return dict(zip(outs, made if isinstance(made, tuple) else (made,)))

    table = chm.AUTHORS_BINARY if make is chm.mamba_bcd else chm.AUTHORS_SEVERAL
    return Rebuilt(net, table, run)


# ------------------------------------------------- MHS-VM -------------------------------------------------


def mhs_vm(build: dict, case: str) -> Rebuilt:
    if "h" in build:
        named = {
            f"{name}{i}": torch.from_numpy(order(build["h"], build["w"]).there[2 * i].copy())
            for name, order in zip("CXSZ", HEADS)
            for i in range(2)
        }
        return Rebuilt(nn.Identity(), "", lambda net, x: named)
    told = build.get("para_dict", {"head_num": 4, "gfu_t": 0.5, "with_proj": True})
    form = ProjectedScan if told["with_proj"] else MultiHeadScan
    states = build.get("d_state", 16)
    heads = partial(form, states=states, heads=told["head_num"], threshold=told["gfu_t"])
    if "d_model" in build:
        block = (GatedSubspaceScan if build["gated"] else SubspaceScan)(build["d_model"], heads)
        return Rebuilt(nn.ModuleDict({"op": block}), mhs.mixer("op", "op"), lambda m, x: {"out": m["op"](*x)})
    net = mhs.mhs_vm(
        build.get("dims", (96, 192, 384, 768)),
        build.get("depths", (2, 2, 2, 2)),
        build.get("depths_decoder", (2, 2, 2, 1)),
        partial(GatedSubspaceScan, scan=heads),
        build.get("num_classes", 1),
    )

    def run(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
        logits = net(*given)
        return {"logits": logits, "out": logits.sigmoid() if logits.shape[1] == 1 else logits}

    return Rebuilt(net, mhs.AUTHORS, run)


# ----------------------------------------------- LMUFormer -----------------------------------------------


def fixed_norms(net: nn.Module, weight: float | None) -> nn.Module:
    """Every norm's gains as given, no longer parameters."""
    if weight is not None:
        for m in net.modules():
            if isinstance(m, nn.BatchNorm1d):
                gains = torch.full_like(m.weight.detach(), weight)
                del m.weight
                m.register_buffer("weight", gains)
    return net


def lmuformer(build: dict, case: str) -> Rebuilt:
    if "v_threshold" in build:
        return Rebuilt(LeakyFire(build["v_threshold"], build["tau"], 0), "", fired)
    gains = build.get("all_batch_norm_weights")
    if "memory_size" in build:
        sizes = (build["input_size"], build["hidden_size"], build["memory_size"], build["theta"])
        return Rebuilt(fixed_norms((SpikingCell if gains else LegendreCell)(*sizes), gains), lmu.CELL, cell)
    cin, dim, theta, kind = build["in_channels"], build["embed_dims"], build.get("theta", 128), build["kind"]
    ms, spiking = "ms" in kind, kind != "lmu_rnn_conv1d"
    tokens = lmu.MembraneTokenizer if ms else lmu.SpikingTokenizer if spiking else lmu.Tokenizer
    memory = lmu.MembraneMemory if ms else lmu.SpikingMemory if spiking else lmu.Memory
    attention = partial(lmu.SpikingAttention, heads=build["num_heads"])
    mixer = attention if kind.startswith("attn") else partial(memory, theta=theta)
    ffn = lmu.MembraneFfn if ms else lmu.SpikingFfn if spiking else lmu.Ffn
    mlp, behind = partial(ffn, ratio=build["mlp_ratios"]), lmu.Spoken if ms else nn.Identity
    net = lmu.lmuformer(dim, build["depths"], tokens, mixer, mlp, behind, build["num_classes"], cin)
    whole = build.get("test_mode", "normal") != "all_seq"

    def run(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
        x = given[0].mT[:, :, None]
        return {"out": net(x) if whole else lmu.so_far(net, x)}

    return Rebuilt(fixed_norms(net, gains), lmu.AUTHORS, run)


def fired(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    x, dy = given
    with torch.enable_grad():
        out = net(2 * x.requires_grad_())
        (d_x,) = torch.autograd.grad((out * dy).sum(), x)
    return {"out": out.detach(), "d_x": d_x}


def cell(net: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    x, dy = given
    with torch.enable_grad():
        out = net(x.requires_grad_())
        d_x, d_read, d_out = torch.autograd.grad((out * dy).sum(), (x, net.read.weight, net.out.weight))
    a, b = discretised(net.memory, net.theta)
    made = {"out": out.detach(), "d_x": d_x, "d:W_u.weight": d_read, "d:W_h.weight": d_out}
    made |= {"A": torch.from_numpy(a), "B": torch.from_numpy(b)[:, None]}
    made["H"] = torch.from_numpy(impulse(net.memory, net.theta, x.shape[1]))
    if not isinstance(net, SpikingCell):
        m = torch.zeros(len(x), net.memory, dtype=x.dtype)
        for i, token in enumerate(x.detach().unbind(1)):
            h, m = net.step(token, m)
            assert float((h - out[:, i]).detach().abs().max()) < 1e-10
        made["last_memory"] = m
    return made


STATE_SPACES = {
    "change_mamba": change_mamba,
    "dis": dis,
    "efficient_vmamba": efficient_vmamba,
    "group_mamba": group_mamba,
    "lamamba_diff": lamamba_diff,
    "lmuformer": lmuformer,
    "mhs_vm": mhs_vm,
    "mobile_mamba": mobile_mamba,
    "msvmamba": msvmamba,
    "plain_mamba": plain_mamba,
    "selective_scan": operator,
    "vision_mamba": vision_mamba,
    "vmamba": vmamba,
}
