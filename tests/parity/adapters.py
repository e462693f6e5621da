"""How each authors' network is rebuilt here: one entry a system, `rebuild(build, case) -> Rebuilt`."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from opsin.blocks.tokens import FirstToken, MeanToken
from opsin.families import cvt as conv
from opsin.families import ddrnet as ddr
from opsin.families import mvit as mv
from opsin.registry import BUILDERS

from .harness import Rebuilt


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
SYSTEMS = {"ddrnet": ddrnet, "mvit": mvit, "cvt": cvt}
